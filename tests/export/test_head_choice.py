"""Which head is packed: enough to fit on, and what to do where the corpus can't be rendered."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from clap_engine.arrays import Float32
from clap_export import cli, head_choice, probes, rotation
from clap_export.corpus import synth
from clap_export.errors import SourceError
from clap_export.head_choice import CLIPS, HeadPlan, check_sounds

pytestmark = pytest.mark.export


def embedded(n: int, seed: int) -> Float32:
    return np.random.default_rng(seed).standard_normal((n, 24)).astype(np.float32)


@pytest.mark.parametrize(("clips", "is_enough"), [(None, True), (2_000, False)])
def test_what_is_held_out_leaves_enough_to_fit_on(
    monkeypatch: pytest.MonkeyPatch, clips: int | None, is_enough: bool
) -> None:
    """At least 2,000 clips and captions, those that measure the loss not among them."""
    plan = HeadPlan() if clips is None else HeadPlan(clips=clips)
    monkeypatch.setattr(
        head_choice, "_data", lambda plan, *_: (embedded(plan.clips, 0), embedded(plan.clips, 1))
    )
    native: Any = None
    facts = head_choice.choose(plan, 24, native, lambda _: None).facts["head"]
    assert (min(facts["texts"], facts["sounds"]) >= rotation.LEAST_ITEMS == 2_000) == is_enough
    assert facts["is_enough"] == is_enough
    assert facts["held_out"] == [plan.clips - facts["texts"], plan.clips - facts["sounds"]]
    assert min(facts["held_out"]) >= 500


def test_as_many_captions_can_be_drawn() -> None:
    assert len(set(probes.caption_texts(CLIPS, probes.SEED + 1))) == CLIPS


def no_font(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(synth, "TRAINING_FONTS", (Path("/nowhere/FluidR3_GM.sf2"),))
    return "FluidR3_GM.sf2 is not installed"


def no_library(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    return "fluidsynth"


def no_voice(monkeypatch: pytest.MonkeyPatch) -> str:
    fonts = tuple(Path(__file__) for _ in synth.TRAINING_FONTS)
    monkeypatch.setattr(synth, "TRAINING_FONTS", fonts)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return "espeak-ng is not installed"


@pytest.mark.parametrize("missing", [no_font, no_library, no_voice])
def test_a_corpus_that_cannot_be_rendered_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    missing: Any,
) -> None:
    """Before the checkpoint is read, which here isn't there either."""
    monkeypatch.setitem(sys.modules, "fluidsynth", ModuleType("fluidsynth"))
    said = missing(monkeypatch)
    words = ["convert", "msclap", "--checkpoint", str(tmp_path / "none.pth")]
    words += ["--out", str(tmp_path / "out")]
    assert cli.main(words) == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert "--fit-on DIR" in shown
    assert "--heads none" in shown
    for plan in (HeadPlan(fit=False), HeadPlan(folder=tmp_path), HeadPlan(file=tmp_path)):
        check_sounds(plan)


@pytest.mark.parametrize("error", [RuntimeError("espeak-ng"), FileNotFoundError("font"), OSError()])
def test_what_fails_on_the_way_names_them_too(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def clips(n: int, seed: int) -> Any:
        yield np.zeros(4, np.float32)
        raise error

    monkeypatch.setattr(probes, "corpus_clips", clips)
    with pytest.raises(SourceError, match="--fit-on DIR.*--heads none"):
        list(head_choice._rendered(2))
