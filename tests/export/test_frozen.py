"""The shipped bundle finds on the committed held-out clips what it was recorded to find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clap_engine import bundle
from clap_export import frozen
from clap_export.bundle_towers import towers
from clap_export.corpus.captions import Caption
from clap_export.parity import GateError

pytestmark = pytest.mark.export

HERE = Path(__file__).parent.parent / "frozen"
SHIPPED = Path(__file__).parents[2] / "models" / "clap-mini"
MAX_BYTES = 3_000_000


def test_the_shipped_bundle_has_lost_nothing() -> None:
    asked = frozen.load(HERE / "held_out.npz")
    recorded = frozen.read_figures(HERE / "held_out.json")
    assert recorded["known hit@10"] > 0.5
    frozen.check(frozen.measure(asked, towers(bundle.open(SHIPPED), "int8")), recorded)


def test_the_clips_are_few_and_of_every_kind() -> None:
    asked = frozen.load(HERE / "held_out.npz")
    assert (HERE / "held_out.npz").stat().st_size <= MAX_BYTES
    assert len(asked.clips) == len(asked.log_mel) == frozen.CLIPS
    assert {clip["kind"] for clip in asked.clips} == {
        "instrument", "drum", "genre", "effect", "speech"
    }  # fmt: skip
    for captions in asked.captions.values():
        assert all(any(c.is_true_of(clip) for clip in asked.clips) for c in captions)


def test_more_than_two_points_are_a_failure() -> None:
    recorded = {"known hit@1": 0.5, "known hit@10": 0.8}
    frozen.check({"known hit@1": 0.481, "known hit@10": 0.9}, recorded)
    with pytest.raises(GateError, match="known hit@1 was 0.500 and is 0.470"):
        frozen.check({"known hit@1": 0.47, "known hit@10": 0.9}, recorded)
    with pytest.raises(GateError, match="known hit@10"):
        frozen.check({"known hit@1": 0.5}, recorded)
    with pytest.raises(GateError):
        frozen.check({"known hit@1": float("nan"), "known hit@10": 0.9}, recorded)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    clip = {"class": "owl", "kind": "effect"}
    log_mel = np.arange(2 * 8 * 4, dtype=np.uint8).reshape(2, 8, 4)
    asked = frozen.Frozen(log_mel, (clip, clip), {"known": (Caption("owl", {"class": "owl"}),)})
    frozen.save(tmp_path / "held_out.npz", asked)
    again = frozen.load(tmp_path / "held_out.npz")
    assert np.array_equal(again.log_mel, log_mel)
    assert (again.clips, dict(again.captions)) == (asked.clips, dict(asked.captions))
