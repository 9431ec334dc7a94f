"""Queries to tune with: given ones, texts that the clips carry, windows, and mixtures of windows.

In:  a state of a collection; an embedder, if there is one; a seed.
Out: unit query vectors with their kinds, and for each the clips that are no answer to it.
Knows nothing about plans, recall or time.

Texts and sounds live apart in every model of this kind (the modality gap), and a stored window
is a poor stand-in for a text: something much like it is always there, so its best clips stand
out on any rung, and a plan that was measured on windows alone promises too much for words. Hence:
- texts that clips carry (a caption, a title, the words of a key) are real queries; where enough
  of them are found, they and windows are measured;
- otherwise mixtures stand for texts: a window, less the mean of all, and noise that varies as
  windows do. How much of a window a text has in it is unknown, and the worst case is in between
  (in clusters a faint likeness chooses the cluster, and noise its best clips), so there are three
  strengths. With a text tower each is also moved to where texts are, by the mean of neutral ones;
- the clip of a window is no answer to it. That of a mixture is: a text that is faintly like one
  clip has it among its best, and only long prefixes show it.
What is promised is the recall of the kind that did worst.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32, Int64, check_array, l2_normalize
from clap_engine.errors import ClapError, CollectionError
from clap_engine.index.view import View
from clap_engine.ingest import Embedder
from clap_engine.questions import NEUTRAL_TEXTS
from clap_engine.records import Record
from clap_engine.states import States

log = logging.getLogger("clap_engine")

TEXTS, WINDOWS, MIXTURES = 200, 100, 100
# How much of a mixture is its window, beside noise of norm 1; how many windows make the noise.
STRENGTHS = (0.0, 0.4, 1.0)
_NOISE_WINDOWS = 512
# Fewer texts than this say too little about the others that will be asked for.
TEXTS_MIN = 50
# A plan is not measured on fewer given queries than this: each is 5 % of the promise.
GIVEN_MIN, GIVEN_MAX = 20, 1000
# Texts embedded by one call.
_TEXTS_AT_ONCE = 32
_TEXT_CHARS = 200
# What people name the field in which they describe a sound.
_TEXT_FIELDS = ("caption", "description", "text", "title", "name", "label", "tags", "labels")
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Probes:
    """Queries [M, D], the kind of each, and the clip [M] that is no answer to it; -1 is none."""

    vectors: Float32
    kinds: tuple[str, ...]
    own: Int64

    def __len__(self) -> int:
        return len(self.vectors)


def of_vectors(vectors: Float32, kind: str, own: Int64 | None = None) -> Probes:
    """Probes [M, D] of one kind."""
    none = np.full(len(vectors), -1, np.int64)
    return Probes(vectors, (kind,) * len(vectors), none if own is None else own)


def given(vectors: Float32, seed: int) -> Probes:
    """The caller's own queries [M, D], at most GIVEN_MAX of them; CollectionError for too few."""
    if len(vectors) < GIVEN_MIN:
        raise CollectionError(
            f"{len(vectors)} queries were given; {GIVEN_MIN} or more make a measurement"
        )
    if len(vectors) > GIVEN_MAX:
        drawn = np.random.default_rng(seed).choice(len(vectors), GIVEN_MAX, replace=False)
        vectors = vectors[np.sort(drawn)]
    return of_vectors(vectors, "given")


def joined(parts: Sequence[Probes]) -> Probes:
    """All of them, in order."""
    return Probes(
        np.concatenate([part.vectors for part in parts]),
        tuple(kind for part in parts for kind in part.kinds),
        np.concatenate([part.own for part in parts]),
    )


def sampled(states: States, view: View, embedder: Embedder | None, seed: int) -> Probes:
    """Probes of all kinds that this collection allows; the same ones for the same state."""
    rng = np.random.default_rng(seed)
    everything = view.everything()
    texts = _texts(states, view, everything, rng)
    found = [_windows(view, everything, rng)]
    embedded = None
    if embedder is not None and len(texts) >= TEXTS_MIN:
        embedded = _embedded(embedder, texts)
    if embedded is not None:
        found.append(of_vectors(embedded, "text"))
    else:
        neutral = None if embedder is None else _embedded(embedder, NEUTRAL_TEXTS)
        places = (None,) if neutral is None else (None, neutral)
        found += [
            _mixtures(view, everything, place, strength, rng)
            for place in places
            for strength in STRENGTHS
        ]
    return joined(found)


def _clips_at(view: View, positions: Int64) -> Int64:
    split = len(view.base)
    clips = np.concatenate([view.base.clips, view.tail.clips]) if split else view.tail.clips
    return clips[positions]


def _windows(view: View, everything: Int64, rng: np.random.Generator) -> Probes:
    drawn = rng.choice(everything, min(WINDOWS, len(everything)), replace=False)
    return of_vectors(l2_normalize(view.vectors_at(drawn)), "window", _clips_at(view, drawn))


def _mixtures(
    view: View,
    everything: Int64,
    neutral: Float32 | None,
    strength: float,
    rng: np.random.Generator,
) -> Probes:
    """Windows and noise about their mean, or about that of texts [T, D] where it is known."""
    drawn = rng.choice(everything, min(MIXTURES, len(everything)), replace=False)
    pool = view.vectors_at(rng.choice(everything, min(_NOISE_WINDOWS, len(everything))))
    mean = pool.mean(axis=0)
    weights = rng.standard_normal((len(drawn), len(pool))).astype(np.float32)
    noise = l2_normalize(weights @ (pool - mean))
    mixed = l2_normalize(strength * l2_normalize(view.vectors_at(drawn) - mean) + noise)
    if neutral is not None:
        centre = neutral.mean(axis=0)
        # As far from their centre as texts are from theirs.
        mixed = centre + mixed * np.linalg.norm(neutral - centre, axis=1).mean()
    kind = "mixture" if neutral is None else "moved mixture"
    return of_vectors(l2_normalize(mixed), f"{kind} {strength:g}")


def _texts(
    states: States, view: View, everything: Int64, rng: np.random.Generator
) -> tuple[str, ...]:
    """Different texts that a sample of the clips carries."""
    drawn = rng.choice(everything, min(2 * TEXTS, len(everything)), replace=False)
    clips = list(dict.fromkeys(_clips_at(view, drawn).tolist()))
    with states.guard:
        records = states.reader.records(clips)
    found = (_text_of(records[clip]) for clip in clips if clip in records)
    return tuple(dict.fromkeys(text for text in found if text))[:TEXTS]


def _text_of(record: Record) -> str:
    """What the clip says of itself in words, or nothing."""
    facts = json.loads(record.metadata)
    for name in _TEXT_FIELDS:
        value = facts.get(name)
        if isinstance(value, list):
            value = " ".join(part for part in value if isinstance(part, str))
        if isinstance(value, str) and _WORD.search(value):
            return value[:_TEXT_CHARS]
    stem = record.key.rpartition("/")[2].rpartition(".")[0] or record.key
    return " ".join(_WORD.findall(stem))[:_TEXT_CHARS].lower()


def _embedded(embedder: Embedder, texts: tuple[str, ...]) -> Float32 | None:
    """[T, D], or None where there is no text tower that works."""
    rows = []
    try:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            some = list(texts[start : start + _TEXTS_AT_ONCE])
            found = embedder.embed_text(some)
            rows.append(check_array(found, shape=(len(some), embedder.dim)))
    except ClapError as error:
        log.info("no texts to tune with: %s", error)
        return None
    return l2_normalize(np.concatenate(rows))
