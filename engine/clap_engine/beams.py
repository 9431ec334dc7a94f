"""Beam search over a decoder that keeps keys and values, several clips at once.

In:  a decoder graph's `run`, prefixes float32 [B, P, H], how to search.
Out: for each clip its beams, best first: token ids and score.
Knows nothing about audio, tokenizers, bundles or how graphs are run.

The search is msclap's own, token for token: a beam's score is its mean log-probability, a stopped
beam stays among the candidates as it is, and one beam is greedy search. Its beams are branches of
one tree here: each step adds a place for every beam to the decoder's cache, and a place sees the
prefix and its own ancestors. So choosing beams moves rows of a small table of ancestors, never
keys and values (which grow to megabytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Int64
from clap_engine.deadline import Deadline
from clap_engine.errors import GraphError

Bool = npt.NDArray[np.bool_]

# Added to what a place must not see: exp() is exactly 0, and float16 can hold it.
MASKED = np.float32(-10_000)
# Entries of a row that are looked at together when its best are sought.
BLOCK = 128


class Runs(Protocol):
    """A loaded graph."""

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """The named outputs, in order."""


@dataclass(frozen=True)
class BeamSettings:
    """`beams` hypotheses of at most `max_tokens` ids; one ends with `stop_id`."""

    beams: int
    max_tokens: int
    stop_id: int
    temperature: float = 1.0


@dataclass(frozen=True)
class Beam:
    """One hypothesis: its ids, `stop_id` included where it ended; mean log-probability of an id."""

    tokens: tuple[int, ...]
    score: float


class Decoder:
    """The decoder graph and the cache of the clips it is at: prefix once, then tokens."""

    def __init__(self, graph: Runs, layers: int, heads: int, head_dim: int) -> None:
        self._graph = graph
        kinds = [f"{kind}.{i}" for i in range(layers) for kind in ("key", "value")]
        self._inputs = [f"past_{kind}" for kind in kinds]
        self._outputs = ["logits", *kinds]
        self._empty = (heads, 0, head_dim)
        self._cache: list[npt.NDArray[Any]] = []
        self._prefix: Float32 = np.zeros((0, 0, 0), np.float32)

    def start(self, prefix: Float32) -> Float32:
        """[B, P, H] -> scores of the first token [B, 1, V]."""
        clips, length, _ = prefix.shape
        self._prefix = prefix[:, :0]
        empty = np.zeros((clips, *self._empty), np.float32)
        self._cache = [empty] * len(self._inputs)
        sees = np.tri(length, dtype=np.bool_)
        places = np.broadcast_to(np.arange(length), (clips, length))
        ids = np.zeros((clips, 0), np.int64)
        shown = np.broadcast_to(sees, (clips, length, length))
        return self._run(prefix, ids, places, shown, np.array([length - 1]))

    def step(self, ids: Int64, place: int, sees: Bool) -> Float32:
        """One token for each of K beams, at place `place` of its sentence: [B, K] -> [B, K, V].

        `sees` [B, K, S + K]: the places of the cache, and the new ones, that each token looks at.
        """
        places = np.full(ids.shape, place)
        return self._run(self._prefix, ids, places, sees, np.arange(ids.shape[1]))

    def keep(self, clips: Int64) -> None:
        """Go on with these clips alone."""
        self._prefix = self._prefix[clips]
        self._cache = [past[clips] for past in self._cache]

    def _run(
        self,
        prefix: Float32,
        ids: Int64,
        places: npt.NDArray[Any],
        sees: Bool,
        read: npt.NDArray[Any],
    ) -> Float32:
        inputs: dict[str, npt.NDArray[Any]] = {
            "prefix": prefix,
            "input_ids": np.ascontiguousarray(ids),
            "positions": np.ascontiguousarray(places, np.int64),
            "mask": np.where(sees, np.float32(0), MASKED)[:, None],
            "read": np.asarray(read, np.int64),
            **dict(zip(self._inputs, self._cache, strict=True)),
        }
        logits, *self._cache = self._graph.run(self._outputs, inputs)
        return np.asarray(logits, np.float32)


@dataclass(frozen=True)
class _Front:
    """The K beams of each of B clips after t tokens; S = (t - 1) K places of the cache."""

    sentences: Int64  # [B, K, t]
    scores: Float32  # [B, K], sums of log-probabilities
    lengths: Float32  # [B, K], tokens up to the stop
    stopped: Bool  # [B, K]
    ancestors: Bool  # [B, K, S]: the places that a beam came by

    def only(self, clips: Int64) -> _Front:
        """The same of these clips."""
        return _Front(
            self.sentences[clips],
            self.scores[clips],
            self.lengths[clips],
            self.stopped[clips],
            self.ancestors[clips],
        )

    def with_own_places(self) -> Bool:
        """[B, K, S + K]: `ancestors` once each beam's last token has a place too."""
        clips, k = self.scores.shape
        own = np.broadcast_to(np.eye(k, dtype=np.bool_), (clips, k, k))
        return np.concatenate([self.ancestors, own], axis=2)

    def extended(self, logits: Float32, stop_id: int) -> _Front:
        """Each clip's best K continuations by their mean, from scores [B, K, V]."""
        clips, k = self.scores.shape
        # The best K of all stand among the best K of each beam.
        gains, tokens = likeliest(logits, k)  # [B, K, K]
        gains[self.stopped] = -np.inf
        gains[self.stopped, 0], tokens[self.stopped, 0] = 0, 0
        lengths = np.where(self.stopped, self.lengths, self.lengths + 1)
        means = (self.scores[:, :, None] + gains) / lengths[:, :, None]
        means, places = best(means.reshape(clips, -1), k)  # [B, K]
        source, row = places // k, np.arange(clips)[:, None]
        chosen = np.take_along_axis(tokens.reshape(clips, -1), places, axis=1)
        lengths = lengths[row, source]
        return _Front(
            np.concatenate([self.sentences[row, source], chosen[:, :, None]], axis=2),
            means * lengths,
            lengths,
            self.stopped[row, source] | (chosen == stop_id),
            self.with_own_places()[row, source],
        )

    def ranked(self, clip: int) -> list[Beam]:
        """The beams of one clip, best first; what follows a stop is filling."""
        means = self.scores[clip] / self.lengths[clip]
        return [
            Beam(
                tuple(int(id_) for id_ in self.sentences[clip, i, : int(self.lengths[clip, i])]),
                float(means[i]),
            )
            for i in np.argsort(-means, kind="stable")
        ]


def search(
    decoder: Decoder,
    prefix: Float32,
    settings: BeamSettings,
    deadline: Deadline | None = None,
) -> list[list[Beam]]:
    """[B, P, H] -> the beams of each clip, best first; the deadline is looked at at each token."""
    clips, length, _ = prefix.shape
    deadline = deadline or Deadline()
    found: list[list[Beam]] = [[] for _ in range(clips)]
    going = np.arange(clips)  # the clips whose beams have not all stopped
    logits = decoder.start(prefix)  # [B, 1, V]
    front = _first(_tempered(logits[:, 0], settings), settings)
    for t in range(1, settings.max_tokens + 1):
        ended = front.stopped.all(axis=1) | (t == settings.max_tokens)
        for row in np.flatnonzero(ended):
            found[going[row]] = front.ranked(row)
        rows = np.flatnonzero(~ended)
        if not len(rows):
            break
        deadline.check()
        if ended.any():
            decoder.keep(rows)
            front, going = front.only(rows), going[rows]
        sees = front.with_own_places()
        sees = np.concatenate([np.ones((*sees.shape[:2], length), np.bool_), sees], axis=2)
        logits = decoder.step(front.sentences[:, :, -1], length + t - 1, sees)
        front = front.extended(_tempered(logits, settings), settings.stop_id)
    return found


def _first(logits: Float32, settings: BeamSettings) -> _Front:
    """[B, V] -> the K likeliest first tokens of each clip."""
    scores, tokens = likeliest(logits, settings.beams)
    shape = scores.shape
    return _Front(
        sentences=tokens[:, :, None],
        scores=scores,
        lengths=np.ones(shape, np.float32),
        stopped=tokens == settings.stop_id,
        ancestors=np.zeros((*shape, 0), np.bool_),
    )


def _tempered(logits: Float32, settings: BeamSettings) -> Float32:
    """As msclap has it: a temperature that is not positive counts as one."""
    if settings.temperature <= 0 or settings.temperature == 1:
        return logits
    return np.asarray(logits / np.float32(settings.temperature), np.float32)


def likeliest(logits: Float32, k: int) -> tuple[Float32, Int64]:
    """[..., V] -> log-probabilities of the k likeliest of each row, and their places."""
    values, places = best(logits, k)
    top = values[..., :1]
    weights = logits - top
    np.exp(weights, out=weights)
    total = np.log(weights.sum(axis=-1, keepdims=True))
    if not np.isfinite(total).all():  # NaN would lose against every other beam, unseen
        raise GraphError("the caption decoder gave NaN or infinity; pack the bundle again")
    return np.asarray(values - (top + total), np.float32), places


def best(x: Float32, k: int) -> tuple[Float32, Int64]:
    """[..., V] -> the k largest of each row and their places, best first.

    The maxima of blocks say which few blocks can hold them: four times faster than argpartition
    over a vocabulary.
    """
    rows = x.reshape(-1, x.shape[-1])
    n, width = rows.shape
    blocks = width // BLOCK
    if blocks <= 2 * k:
        places = np.broadcast_to(np.arange(width), rows.shape)
    else:
        peaks = rows[:, : blocks * BLOCK].reshape(n, blocks, BLOCK).max(axis=2)
        chosen = np.argpartition(-peaks, k - 1, axis=1)[:, :k]
        inside = (chosen[:, :, None] * BLOCK + np.arange(BLOCK)).reshape(n, -1)
        rest = np.broadcast_to(np.arange(blocks * BLOCK, width), (n, width - blocks * BLOCK))
        places = np.concatenate([inside, rest], axis=1)
    values = np.take_along_axis(rows, places, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    shape = (*x.shape[:-1], order.shape[1])
    return (
        np.take_along_axis(values, order, axis=1).reshape(shape),
        np.take_along_axis(places, order, axis=1).reshape(shape).astype(np.int64),
    )
