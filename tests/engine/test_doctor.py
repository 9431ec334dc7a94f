"""The doctor: what it finds, what it advises, and that it sees what is broken."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tiny_bundle import make_bundle

from clap_engine import bundle, doctor, session
from clap_engine.doctor import BAD, GOOD, NOTE, Check
from clap_engine.errors import DependencyError


def _machine() -> dict[str, Check]:
    return {check.name: check for check in doctor.machine()}


def test_this_machine_can_run() -> None:
    assert {check.state for check in _machine().values()} <= {GOOD, NOTE}


def test_no_onnxruntime_is_a_problem_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> list[str]:
        raise DependencyError("onnxruntime can't be imported (x); run: pip install 'it[cpu]'")

    monkeypatch.setattr(session, "default_providers", missing)
    found = _machine()["onnxruntime"]
    assert (found.state, found.remedy) == (BAD, "pip install 'it[cpu]'")
    assert found.found == "onnxruntime can't be imported (x)"


def test_no_hnswlib_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "hnswlib" else find_spec(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    found = _machine()["hnswlib"]
    assert found.state == NOTE
    assert "hnsw]" in found.remedy


def test_a_cpu_without_fast_int8_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "has_fast_int8", lambda: False)
    assert _machine()["int8"].state == NOTE


def test_no_mp3_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    formats = {"WAV": "", "FLAC": "", "OGG": ""}
    monkeypatch.setattr(soundfile, "available_formats", lambda: formats)
    found = _machine()["audio"]
    assert found.state == BAD
    assert "not MP3" in found.found


def test_the_shipped_goldens_hold() -> None:
    found = list(doctor.goldens(bundle.open(bundle.find())))
    assert found[0].name == "files"
    assert {check.state for check in found} == {GOOD}


def test_other_goldens_do_not_hold(tmp_path: Path) -> None:
    """The control: random rows, which no graph gives."""
    found = list(doctor.goldens(bundle.open(make_bundle(tmp_path / "tiny"))))
    assert [check.name for check in found[1:]] == [
        "text fp32", "text int8", "audio fp32", "audio int8",
    ]  # fmt: skip
    assert {check.state for check in found[1:]} == {BAD}
    assert all(check.remedy for check in found[1:])


def test_a_damaged_file_ends_the_examination(tmp_path: Path) -> None:
    opened = bundle.open(make_bundle(tmp_path / "tiny"))
    (opened.path / "text.fp32.onnx").write_bytes(b"torn")
    (found,) = doctor.goldens(opened)
    assert (found.name, found.state) == ("files", BAD)
