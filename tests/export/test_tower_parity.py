"""Two towers against two: equal towers agree fully, near ties don't count, damage is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clap_engine.arrays import l2_normalize
from clap_export.parity import Gate, GateError
from clap_export.tower_parity import (
    Embedded,
    check,
    check_exact,
    check_recorded,
    compare_towers,
)

pytestmark = pytest.mark.export

LADDER = (8, 16)


def embedded(seed: int = 0, noise: float = 0.0) -> Embedded:
    rng = np.random.default_rng(seed)
    text, audio = (rng.standard_normal((n, 16)).astype(np.float32) for n in (30, 40))
    other = np.random.default_rng(77)
    text += noise * other.standard_normal(text.shape).astype(np.float32)
    audio += noise * other.standard_normal(audio.shape).astype(np.float32)
    return Embedded(l2_normalize(text), l2_normalize(audio), labels=10)


def test_equal_towers_agree() -> None:
    row = compare_towers(embedded(), embedded(), LADDER)
    assert (row.top1, row.top10, row.zero_shot) == (1, 1, 1)
    assert max(row.error.values()) == 0
    assert row.decided > 20
    assert set(row.as_json()["text"]["score_error"]) == {"8", "16"}
    check(row, "int8", Gate())


def test_damage_is_named() -> None:
    row = compare_towers(embedded(), embedded(noise=0.5), LADDER)
    with pytest.raises(GateError, match="centred cosine of sounds .* top-10 overlap"):
        check(row, "int8", Gate())


def test_near_ties_do_not_count() -> None:
    """Two labels alike to 1e-3: which of them wins says nothing."""
    a = embedded()
    text = a.text.copy()
    text[1] = l2_normalize(text[0] + 1e-3 * text[2])
    swapped = text.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    one, two = (Embedded(x, a.audio, labels=2) for x in (text, swapped))
    row = compare_towers(one, two, LADDER)
    assert row.decided == 0
    assert row.zero_shot is None  # nothing was proven, and nothing is claimed
    assert row.as_json()["zero_shot"] == {"agreement": None, "decided": 0}
    assert "zero-shot - of 0" in row.line()
    check(row, "int8", Gate(centred_mean=-1, top10=0))
    strict = compare_towers(one, two, LADDER, Gate(near_tie=0.0))
    assert strict.decided == 40
    assert strict.zero_shot == 0


def test_float32_has_its_own_threshold() -> None:
    check_exact(9e-5, "text", Gate())
    for error in (2e-4, float("nan")):
        with pytest.raises(GateError, match="0.0001"):
            check_exact(error, "text", Gate())


def test_what_a_manifest_records_is_held_to_the_same_gate() -> None:
    row = compare_towers(embedded(), embedded(noise=0.001), LADDER).as_json()
    table: dict[str, Any] = {
        "fp32": {"against": "torch", "max_error": {"text": 1e-6}},
        "int8": row,
    }
    check_recorded(table, {"fp32", "int8"}, Gate())
    with pytest.raises(GateError, match="never compared"):
        check_recorded(table, {"fp16"}, Gate())
    table["fp32"]["max_error"]["audio"] = 0.5
    with pytest.raises(GateError, match="audio"):
        check_recorded(table, {"fp32"}, Gate())
    low = compare_towers(embedded(), embedded(noise=0.5), LADDER).as_json()
    with pytest.raises(GateError, match="falls short"):
        check_recorded({"int8": low}, {"int8"}, Gate())
    # A bundle that was trained here has a row for each tower.
    mini = {f"{name}.int8": {"centred_mean": 0.995, "top10": 0.9} for name in ("text", "audio")}
    check_recorded(mini, {"int8", "fp32"}, Gate())
    mini["text.int8"]["top10"] = 0.5
    with pytest.raises(GateError, match="top10 of text"):
        check_recorded(mini, {"int8"}, Gate())
