"""int8 against float32 on the held-out gallery: what does speed cost?

In:  trained weights; a rendered corpus with held_out/.
Out: hit@10 of both, the overlap of their rankings, centred cosines; raced over one query.
Knows nothing about search or the disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import clap_engine
from clap_engine.arrays import Float32, l2_normalize
from clap_export import retrieval
from clap_export.corpus import lexicon, render
from race import milliseconds, note, race
from subject import TRAINED, Subject, embed_log_mels

WORDINGS = ("known", "report")
DROP = 0.005
OVERLAP = 0.85
CENTRED = 0.99
# One caption for each of about a thousand clips leaves the drop uncertain by half a point itself.
CAPTIONS_PER_CLIP = 4


def test_int8_keeps_the_ranking(
    benchmark: Any, subject: Subject, corpus: Path | None, smoke: bool
) -> None:
    """Law: hit@10 falls by at most half a point, top tens overlap by .85, centred cosine is .99."""
    if not subject.is_trained:
        pytest.skip(f"{TRAINED.name} is not there: random weights rank at random; train first")
    if corpus is None or not any((corpus / "held_out").glob("*.npz")):
        pytest.skip("no held-out gallery: give --corpus DIR (clap-export corpus renders one)")
    log_mels, clips = render.load(corpus / "held_out")
    if smoke:
        log_mels, clips = log_mels[:100], clips[:100]
    decibels = log_mels.astype(np.float32) * render.DB_STEP - 80.0
    audio = {
        "int8": embed_log_mels(subject.bundle, "int8", decibels),
        "fp32": embed_log_mels(subject.reference, "fp32", decibels),
    }
    facts: dict[str, Any] = {"clips": len(clips), "centred_audio": centred(audio)}
    with (
        clap_engine.load(subject.bundle.path, precision="int8", threads=1) as int8,
        clap_engine.load(subject.reference.path, precision="fp32", threads=1) as fp32,
    ):
        for wording in WORDINGS:
            asked = [
                caption
                for seed in range(1 if smoke else CAPTIONS_PER_CLIP)
                for caption in retrieval.queries(lexicon.load(), clips, wording, seed)
            ]
            # Captions of one class meet in the same words: each is embedded once.
            texts, place = np.unique([caption.text for caption in asked], return_inverse=True)
            text = {
                "int8": int8.embed_text(texts.tolist())[place],
                "fp32": fp32.embed_text(texts.tolist())[place],
            }
            facts[wording] = compared(text, audio, retrieval.relevance(asked, clips))
        result = race(
            benchmark,
            lambda query: int8.embed_text([query]),
            lambda query: fp32.embed_text([query]),
            texts[:50].tolist(),
            rounds=10 if smoke else 200,
        )
    note(
        benchmark,
        "embed one caption, int8 against float32",
        "the same engine in float32",
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        quality=facts,
        subject=subject.name,
    )
    if smoke:
        return  # a hundred captions can't tell half a point
    assert facts["centred_audio"] >= CENTRED, facts
    for wording in WORDINGS:
        found = facts[wording]
        assert found["hit_at_10_fp32"] - found["hit_at_10_int8"] <= DROP, found
        assert found["overlap_at_10"] >= OVERLAP, found
        assert found["centred_text"] >= CENTRED, found


def compared(
    text: dict[str, Float32], audio: dict[str, Float32], relevant: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """One wording: hit@10 of both precisions, the overlap of their rankings, centred cosine."""
    hit = {
        name: retrieval.hits(text[name], audio[name], relevant, ks=(10,))["hit@10"] for name in text
    }
    return {
        "captions": len(relevant),
        "hit_at_10_int8": hit["int8"],
        "hit_at_10_fp32": hit["fp32"],
        "chance_hit_at_10": retrieval.chance(relevant, 10),
        "overlap_at_10": overlap(text, audio),
        "centred_text": centred(text),
    }


def centred(rows: dict[str, Float32]) -> float:
    """Mean cosine of int8 and float32 rows once float32's mean row is taken off both."""
    mean = rows["fp32"].mean(axis=0)
    a, b = (l2_normalize(rows[name] - mean) for name in ("int8", "fp32"))
    return float(np.einsum("nd,nd->n", a, b).mean())


def overlap(text: dict[str, Float32], audio: dict[str, Float32], k: int = 10) -> float:
    """Mean share of float32's ten best clips that int8, both towers of it, has too."""
    tops = {
        name: np.argpartition(-(text[name] @ audio[name].T), k - 1, axis=1)[:, :k] for name in text
    }
    pairs = zip(tops["int8"], tops["fp32"], strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs]))
