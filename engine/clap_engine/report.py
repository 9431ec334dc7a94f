"""What a command prints: a table on a terminal, tab-separated lines in a pipe, or JSON.

In:  rows of plain values, or one JSON-able record.
Out: text on standard output, safe to show whatever a file name holds.
Knows nothing about engines or collections.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

Row = Sequence[str]


def printable(text: str) -> str:
    """`text` with control characters, line ends and lone surrogates spelled out.

    File names come from anywhere: an escape sequence in one must not reach the terminal.
    """
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _spelled(c)
        for c in text
    )


def _spelled(character: str) -> str:
    """The escape that Python would write: \\xNN, \\uNNNN or \\UNNNNNNNN."""
    return character.encode("unicode_escape").decode("ascii")


def span(start_s: float, end_s: float) -> str:
    """Seconds as `m:ss.s-m:ss.s`."""
    return f"{_minutes(start_s)}-{_minutes(end_s)}"


def _minutes(seconds: float) -> str:
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def milliseconds(timings_ms: dict[str, float]) -> str:
    """`tokenize 0.1, text 4.2 ms`, in the order given."""
    return ", ".join(f"{name} {value:.2f}" for name, value in timings_ms.items()) + " ms"


def table(header: Row, rows: Sequence[Row], *, right: Sequence[int] = ()) -> str:
    """Aligned columns; those whose number is in `right` are set to the right."""
    lines = [tuple(printable(cell) for cell in row) for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def print_rows(header: Row, rows: Sequence[Row], *, right: Sequence[int] = ()) -> None:
    """A table on a terminal, else one tab-separated line per row without a header."""
    if sys.stdout.isatty():
        print(table(header, rows, right=right))
        return
    for row in rows:
        print("\t".join(printable(cell) for cell in row))


def print_fields(fields: dict[str, Any]) -> None:
    """`name: value` lines, nested records indented."""
    for line in _field_lines(fields, ""):
        print(line)


def _field_lines(fields: dict[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            lines.append(f"{indent}{printable(name)}:")
            lines.extend(_field_lines(value, indent + "  "))
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            lines.append(f"{indent}{printable(name)}: {printable(shown)}")
    return lines


def print_json(record: Any) -> None:
    """One JSON document; a number that is not finite is an error, not invalid JSON."""
    print(json.dumps(record, allow_nan=False, indent=2, sort_keys=False))
