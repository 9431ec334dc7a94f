"""Rows of contest.py -> tables: who is soonest at equal recall, and what it costs.

In:  the folder that contest.py wrote.
Out: markdown on stdout: for each number of rows, p50 and p99 at each recall, memory, disk, build.
Knows nothing about how anything was measured.

    python bench/standings.py results
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine

LEVELS = (0.95, 0.98, 0.985, 0.99)
OURS = "ours"
# Plans of clap-engine that a user gets by tuning; the others are for comparison.
TUNED = ("ours-95", "ours-98", "ours-985", "ours-99")


def read(results: Path, rows: int | None = None) -> list[dict[str, Any]]:
    """The rows of the contest, in the order of their sizes."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*-*.json"))]
    found = [one for one in found if "name" in one and rows in (None, one["rows"])]
    return sorted(found, key=lambda one: (one["rows"], best_ms(one)))


def best_ms(row: dict[str, Any]) -> float:
    """What a row is sorted by: its p50 at .95, or at the best recall that it has."""
    point = at(row, LEVELS[0]) or (row.get("points") or [{"p50_ms": float("inf")}])[-1]
    return float(point["p50_ms"])


def at(row: dict[str, Any], recall: float) -> dict[str, Any] | None:
    """The soonest setting of a row that finds so much."""
    good = [point for point in row.get("points", []) if point["recall"] >= recall]
    return min(good, key=lambda point: point["p50_ms"]) if good else None


def leaders(rows: Sequence[dict[str, Any]], recall: float) -> list[tuple[str, dict[str, Any]]]:
    """Name and setting of each contender that finds so much, the soonest first."""
    found = [(row["name"], point) for row in rows if (point := at(row, recall)) is not None]
    return sorted(found, key=lambda one: float(one[1]["p50_ms"]))


def render(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each size, who leads, and the machine."""
    parts = []
    for size in dict.fromkeys(row["rows"] for row in rows):
        some = [row for row in rows if row["rows"] == size]
        parts.append(f"### {size:,} rows\n\n{_table(some)}\n\n{_led(some)}")
    if rows:
        facts = rows[-1]["machine"]
        loads = [row["load_average_at_start"][0] for row in rows]
        parts.append(
            f"{machine.line(facts)}, builds with 2; load at the start of a row "
            f"{min(loads):.1f} to {max(loads):.1f}; {rows[-1]['vectors']['made_of']}, grown; "
            f"bundle {rows[-1]['vectors']['revision'][:12]}."
        )
    return "\n\n".join(parts)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    head = [
        "contender", *(f"p50 (p99) ms at recall {level:g}" for level in LEVELS),
        "best recall", "memory", "disk", "build",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        if "not_finished" in row:
            lines.append(f"| {row['name']} | not finished: {row['not_finished']} |")
            continue
        best = max(point["recall"] for point in row["points"])
        cells = [row["name"], *(_cell(at(row, level)) for level in LEVELS), f"{best:.4f}"]
        cells += [_memory(row), _bytes(row["build"].get("disk")), _build(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(point: dict[str, Any] | None) -> str:
    if point is None:
        return "-"
    text = f"{point['p50_ms']:.2f} ({point['p99_ms']:.2f}), {point['ratio']:.1f}x"
    return f"{text}; cpu {point['processor_p50_ms']:.2f}, {point['processor_ratio']:.1f}x"


def _memory(row: dict[str, Any]) -> str:
    """What opening and searching added, other processes included."""
    searched, before = row["memory"]["searched"], row["memory"]["before"]
    return _bytes(searched["rss"] - before["rss"] + searched["others"])


def _build(row: dict[str, Any]) -> str:
    notes = row["build"].get("notes", {})
    if "shared_build_s" in notes:
        tuned = f" + {notes['tune_s']:.0f} s tune" if "tune_s" in notes else ""
        return f"{notes['shared_build_s']:.0f} s{tuned}"
    return f"{row['build']['build_s']:.0f} s"


def _bytes(count: int | None) -> str:
    if not count:
        return "-"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _led(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for level in LEVELS:
        found = leaders(rows, level)
        if not found:
            continue
        peers = [one for one in found if not one[0].startswith(OURS)]
        ours = [one for one in found if one[0] in TUNED]
        text = f"- recall {level:g}: {found[0][0]} is the soonest ({found[0][1]['p50_ms']:.2f} ms)"
        if ours and peers:
            ratio = peers[0][1]["p50_ms"] / ours[0][1]["p50_ms"]
            text += (
                f"; {ours[0][0]} takes {ours[0][1]['p50_ms']:.2f} ms, {peers[0][0]}, the soonest "
                f"peer, {peers[0][1]['p50_ms']:.2f} ms: {ratio:.2f} times ours"
            )
        lines.append(text)
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="print the tables of contest.py's rows")
    parser.add_argument("results", type=Path)
    parser.add_argument("--rows", type=int, help="only this size")
    arguments = parser.parse_args()
    print(render(read(arguments.results, arguments.rows)))


if __name__ == "__main__":
    main()
