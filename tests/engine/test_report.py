"""What is printed: spans that round, text that is safe to show, JSON that is JSON."""

from __future__ import annotations

import json

import pytest

from clap_engine import report


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (59.96, "1:00.0"), (3600, "60:00.0"), (5.04, "0:05.0")]
)
def test_spans_round_without_sixty_seconds(seconds: float, shown: str) -> None:
    assert report.span(seconds, seconds) == f"{shown}-{shown}"


def test_what_is_shown_holds_no_control_character() -> None:
    hostile = "a\x1b[2Jb\nc\t\ud800d\u202e\x9b"
    shown = report.printable(hostile)
    assert shown.isprintable()
    assert report.printable("Für Elise ♪") == "Für Elise ♪"


def test_a_table_is_aligned() -> None:
    lines = report.table(("#", "clip"), [("1", "a"), ("10", "longer")], right=(0,)).splitlines()
    assert lines == [" #  clip", " 1  a", "10  longer"]


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_json({"a": [1, None, "ü"]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None, "ü"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.print_json({"a": float("nan")})


def test_fields_indent_what_is_nested(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_fields({"a": 1, "b": {"c": [1, 2]}, "d\x1b": "e\n"})
    assert capsys.readouterr().out == "a: 1\nb:\n  c: 1, 2\nd\\x1b: e\\n\n"
