"""A benchmark's JSON -> the README's table.

In:  the file that `pytest -m bench bench --benchmark-json=RESULT.json` wrote.
Out: markdown on stdout: a row for each measurement, then what was asserted, then the machine.
Knows nothing about how anything was measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine

# Clock and processor time tell the same ratio on a machine that does nothing else.
DISTURBED = 1.15
HEAD = ("what", "clap-engine", "torch", "ratio", "n")


def render(found: dict[str, Any]) -> str:
    """The whole table."""
    infos = [entry["extra_info"] for entry in found["benchmarks"]]
    infos = [info for info in infos if "what" in info]
    rows = [row for info in infos for row in rows_of(info)]
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    facts = found["machine_info"]["bench"]
    subjects = dict.fromkeys(info["subject"] for info in infos)
    notes = [note for info in infos for note in notes_of(info)]
    facts_line = machine.line(facts, threads_of(infos))
    machine_line = f"{facts_line}; {'; '.join(subjects)}; commit {commit(found)}."
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), "", machine_line])


def threads_of(infos: list[dict[str, Any]]) -> str:
    """How many threads both sides used."""
    used = {info.get("threads", 1) for info in infos}
    plain = "1 thread used" if 1 in used or not used else f"{max(used)} threads used"
    return plain if len(used) < 2 else f"{plain} where a row says no other number"


def rows_of(info: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row of speed, and one of memory where it was measured."""
    if "quality" in info:
        return
    threads = info.get("threads", 1)
    what = info["what"] if threads == 1 else f"{info['what']}, {threads} threads"
    ours, peer = info["ours"], info["peer"]
    ratio = f"{info['ratio']:.1f}x"
    if "ratio_by_turns" in info:
        ratio += f" ({info['ratio_by_turns']:.1f}x by turns)"
    yield (what, figure(ours, bold=True), figure(peer), ratio, str(ours["n"]))
    memory = info.get("peak_rss_mb")
    if memory:
        yield (
            f"peak memory: {what.removeprefix('cold: ')}",
            f"{memory['ours']:.0f} MB",
            f"{memory['peer']:.0f} MB",
            f"{memory['peer'] / memory['ours']:.1f}x",
            "1" if not info["what"].startswith("cold") else str(ours["n"]),
        )


def figure(summary: dict[str, Any], bold: bool = False) -> str:
    """Median and, where there are enough rounds to tell, the 99th percentile."""
    unit = summary["unit"]
    if unit.startswith("x"):
        text = f"{summary['p50']:.0f}{unit}"
        return f"**{text}**" if bold else text
    digits = 2 if summary["p50"] < 10 else 0 if summary["p50"] >= 100 else 1
    text = f"{summary['p50']:.{digits}f} {unit}"
    text = f"**{text}**" if bold else text
    return f"{text} (p99 {summary['p99']:.{digits}f})" if summary["n"] >= 100 else text


def notes_of(info: dict[str, Any]) -> Iterator[str]:
    """What a benchmark found beside time, and whether its time can be believed."""
    of_processor = info.get("processor_ratio", info["ratio"])
    if not 1 / DISTURBED < of_processor / info["ratio"] < DISTURBED:
        yield (
            f"**not quiet**: {info['what']} is {info['ratio']:.1f}x by the clock, "
            f"{of_processor:.1f}x by processor time; measure again"
        )
    if "recall_at_10" in info:
        stages = ", ".join(f"{name} {ms:.2f}" for name, ms in info["stages_ms"].items())
        yield (
            f"{info['what']}: recall@10 {info['recall_at_10']:.4f} against exact 512-d, "
            f"{info['overlap_at_10']:.3f} of torch's ten; ms by stage: {stages}; {info['gallery']}"
        )
    for wording, row in info.get("quality", {}).items():
        if isinstance(row, dict):
            name = {"known": "known wording", "report": "unseen words"}.get(wording, wording)
            yield (
                f"int8 against float32, {name}: hit@10 {row['hit_at_10_int8']:.3f} / "
                f"{row['hit_at_10_fp32']:.3f} (chance {row['chance_hit_at_10']:.3f}), top-10 "
                f"overlap {row['overlap_at_10']:.3f}, centred cosine {row['centred_text']:.4f} "
                f"text, {info['quality']['centred_audio']:.4f} audio; {row['captions']} captions, "
                f"{info['quality']['clips']} clips"
            )


def commit(found: dict[str, Any]) -> str:
    """Short, and honest about uncommitted changes."""
    known = found.get("commit_info") or {}
    name = str(known.get("id") or "unknown")[:10]
    return f"{name} with changes" if known.get("dirty") else name


def main() -> None:
    """Print the table of one result."""
    parser = argparse.ArgumentParser(description="print the README's table of a benchmark run")
    parser.add_argument("result", type=Path, help="what --benchmark-json wrote")
    args = parser.parse_args()
    print(render(json.loads(args.result.read_text())))


if __name__ == "__main__":
    main()
