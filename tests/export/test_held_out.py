"""The gallery's gate: equal towers pass, a precision that finds less or ranks otherwise fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clap_engine.arrays import l2_normalize
from clap_export.held_out import WORDINGS, Gallery, Towers, check, measure
from clap_export.parity import GateError

N, D = 80, 512
RANDOM = np.random.default_rng(0)
CLIPS = l2_normalize(RANDOM.standard_normal((N, D)).astype(np.float32))
NOISE = RANDOM.standard_normal((N, D)).astype(np.float32) / np.float32(D**0.5)
ASKED = l2_normalize(CLIPS + 0.5 * NOISE)


def gallery() -> Gallery:
    """Caption i is true of clip i alone; a text is its number, a log-mel holds its own."""
    log_mel = np.arange(N, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    texts = [str(i) for i in range(N)]
    return Gallery(
        log_mel=log_mel,
        texts=dict.fromkeys(WORDINGS, texts),
        relevant=dict.fromkeys(WORDINGS, np.eye(N, dtype=bool)),
    )


def towers(text_noise: float = 0.0, audio_noise: float = 0.0) -> Towers:
    other = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
    texts = l2_normalize(ASKED + text_noise * other)
    clips = l2_normalize(CLIPS + audio_noise * other[::-1])
    return Towers(
        embed_texts=lambda rows: texts[[int(row) for row in rows]],
        embed_windows=lambda log_mel: clips[log_mel[:, 0, 0].astype(int)],
    )


def figures(**noise: float) -> dict[str, Any]:
    return measure(gallery(), {"fp32": towers(), "int8": towers(**noise)})


def test_equal_towers_pass() -> None:
    rows = figures()
    assert rows["known.fp32"]["hit@1"] == 1
    assert rows["known.int8"]["both top-10"] == rows["unseen.int8"]["text top-10"] == 1
    check(rows)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        ({"text_noise": 0.02}, "known.int8: centred cosine"),
        ({"audio_noise": 0.02}, "audio.int8: centred cosine"),
        ({"text_noise": 0.3}, "hit@10 falls by"),
        ({"audio_noise": 0.3}, "top-10 overlap"),
    ],
)
def test_what_differs_is_named(noise: dict[str, float], words: str) -> None:
    with pytest.raises(GateError, match=words):
        check(figures(**noise))


def test_float32_alone_has_nothing_to_fail() -> None:
    check(measure(gallery(), {"fp32": towers()}))
