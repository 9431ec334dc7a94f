"""Packed graphs on the held-out gallery: does int8 find what float32 finds?

In:  the corpus folder's held-out split; functions from texts and log-mels to embeddings.
Out: hit@k of each precision, their agreement, and the gate between them.
Knows nothing about ONNX, bundles or training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32
from clap_export import retrieval
from clap_export.corpus import lexicon, render
from clap_export.parity import Gate, GateError, compare_embeddings
from clap_export.weights import unpack_log_mel

# "report" captions measure: nothing was ever chosen by their hits; "dictionary" ones are a part.
WORDINGS = {"known": "known", "unseen": "report", "dictionary": "dictionary"}
MAX_DROP = 0.005  # of hit@10, int8 against float32
# Captions drawn for each clip. At one, some 30 of 1,000 queries gain or lose their hit at rank
# ten by any change at all, and a drop of half a point is within the noise.
ROUNDS = 5
LADDER = (32, 512)


@dataclass(frozen=True)
class Gallery:
    """The held-out clips and what is asked of them."""

    log_mel: Float32  # [N, F, M]
    texts: Mapping[str, Sequence[str]]  # wording -> captions
    relevant: Mapping[str, npt.NDArray[np.bool_]]  # wording -> [Q, N]


@dataclass(frozen=True)
class Towers:
    """One precision's two towers."""

    embed_texts: Callable[[Sequence[str]], Float32]
    embed_windows: Callable[[Float32], Float32]


def load(corpus: Path, rounds: int = ROUNDS) -> Gallery:
    """The gallery that `clap-export corpus` rendered into `corpus`/held_out."""
    log_mel, clips = render.load(corpus / "held_out")
    words = lexicon.load()
    asked = {
        name: [c for seed in range(rounds) for c in retrieval.queries(words, clips, kind, seed)]
        for name, kind in WORDINGS.items()
    }
    return Gallery(
        log_mel=unpack_log_mel(log_mel),
        texts={name: [caption.text for caption in captions] for name, captions in asked.items()},
        relevant={name: retrieval.relevance(rows, clips) for name, rows in asked.items()},
    )


def measure(gallery: Gallery, towers: Mapping[str, Towers]) -> dict[str, Any]:
    """Figures by precision, as JSON; `towers` maps precisions, "fp32" among them, to towers."""
    audio = {name: tower.embed_windows(gallery.log_mel) for name, tower in towers.items()}
    result: dict[str, Any] = {"clips": len(gallery.log_mel)}
    for wording, texts in gallery.texts.items():
        text = {name: tower.embed_texts(texts) for name, tower in towers.items()}
        for name in towers:
            hits = retrieval.hits(text[name], audio[name], gallery.relevant[wording], LADDER)
            row: dict[str, Any] = {key: round(value, 4) for key, value in hits.items()}
            row["queries"] = len(texts)
            if name != "fp32":
                # One side at a time changes, so that a fault shows where it is.
                texts_alone = compare_embeddings(text["fp32"], text[name], gallery=audio["fp32"])
                row["text top-10"] = round(texts_alone.top10, 4)
                row["text centred cosine"] = round(texts_alone.centred_mean, 4)
                row["both top-10"] = round(_agreement(text, audio, name), 4)
            result[f"{wording}.{name}"] = row
    for name in towers.keys() - {"fp32"}:
        clips_alone = compare_embeddings(audio["fp32"], audio[name])
        result[f"audio.{name}"] = clips_alone.as_json()
    return result


def check(figures: Mapping[str, Any], gate: Gate | None = None) -> None:
    """GateError when a precision finds less than float32, or ranks otherwise."""
    gate = Gate() if gate is None else gate
    short = []
    for name, row in figures.items():
        wording, _, precision = name.partition(".")
        if wording not in WORDINGS or precision == "fp32":
            continue
        drop = figures[f"{wording}.fp32"]["hit@10"] - row["hit@10"]
        if not drop <= MAX_DROP:
            short.append(f"{name}: hit@10 falls by {drop:.4f} (at most {MAX_DROP})")
        if not row["both top-10"] >= gate.top10:
            short.append(f"{name}: top-10 overlap {row['both top-10']} (at least {gate.top10})")
        if not row["text centred cosine"] >= gate.centred_mean:
            short.append(f"{name}: centred cosine {row['text centred cosine']}")
    for name, row in figures.items():
        if name.startswith("audio.") and not row["centred_mean"] >= gate.centred_mean:
            short.append(f"{name}: centred cosine {row['centred_mean']}")
    if short:
        raise GateError("on the held-out gallery " + "; ".join(short))


def _agreement(text: Mapping[str, Float32], audio: Mapping[str, Float32], name: str) -> float:
    """Mean share of the ten best clips that both precisions, each with both towers, agree on."""
    best = [
        np.argsort(-(text[p] @ audio[p].T), axis=1, kind="stable")[:, :10] for p in ("fp32", name)
    ]
    both = [len(np.intersect1d(a, b)) / 10 for a, b in zip(*best, strict=True)]
    return float(np.mean(both))
