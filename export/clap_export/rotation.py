"""The fitted head: an orthogonal rotation that puts the energy of a source space first.

In:  embeddings of captions and of clips in the source space, unpaired, [N, S] each.
Out: an orthogonal matrix [S, S]; what its prefixes lose; head files.
Knows nothing about towers or training.

A rotation leaves every score as it is until dims are cut off, so this is the honest baseline that
a trained head must beat. Directions are ordered by the geometric mean of the two modalities'
second moments: only what texts *and* sounds vary in makes scores differ. Not centred: where the
means lie is part of every score.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, check_array, l2_normalize
from clap_engine.errors import ArrayError
from clap_export.errors import HeadError

Float64 = npt.NDArray[np.float64]

LEAST_ITEMS = 2_000  # of each modality; second moments of 1,024 dims settle no sooner
RIDGE = 1e-6  # of the largest eigenvalue: directions that a sample never showed


@dataclass(frozen=True)
class Head:
    """Source space [S] -> embedding space [D]: one linear map for both towers, or one for each."""

    matrix: Float32  # [S, D]; of sounds alone where `text` is given
    kind: str  # "fitted" or "trained"
    text: Float32 | None = None  # [S, D]
    ladder: tuple[int, ...] = ()  # the rungs it was made for; empty: the usual ones
    shortlist_per_sqrt_row: float | None = None  # as the planner wants it, where it was measured
    logit_scale: float | None = None  # learned with it
    provenance: Mapping[str, Any] = field(default_factory=dict)  # digests of pairs and source, ...

    def calibration(self) -> dict[str, float]:
        """What a manifest tells the planner of this space."""
        factor = self.shortlist_per_sqrt_row
        return {} if factor is None else {"shortlist_per_sqrt_row": factor}

    def of_sounds(self) -> bytes:
        """What of a head decides where sounds lie, for the id of a space: other texts, however
        they were made, need no re-embedding."""
        return save(Head(self.matrix, "fitted"))

    def licences(self, before: Mapping[str, str]) -> dict[str, str]:
        """A manifest's licences with the pairs among the training data."""
        name = self.provenance.get("pairs", {}).get("file")
        if name is None:
            return dict(before)
        return {**before, "training_data": f"{before['training_data']}; head {self.kind} on {name}"}


def fit(text: Float32, audio: Float32) -> Float32:
    """[N, S], [M, S] -> orthogonal [S, S], columns in falling order of what scores need."""
    text = check_array(text, shape=(None, None), name="text")
    audio = check_array(audio, shape=(None, text.shape[1]), name="audio")
    if min(len(text), len(audio)) < 2:
        raise ArrayError(f"{len(text)} texts and {len(audio)} sounds; at least 2 of each")
    root, inverse = _roots(_second_moment(text))
    middle, _ = _roots(inverse @ _second_moment(audio) @ inverse)
    values, vectors = np.linalg.eigh(root @ middle @ root)
    vectors = vectors[:, np.argsort(-values, kind="stable")]
    # An eigenvector's sign is free; fixed here, so that the same data give the same head.
    largest = np.abs(vectors).argmax(axis=0)
    vectors *= np.sign(vectors[largest, np.arange(len(vectors))])
    return np.ascontiguousarray(vectors, np.float32)


def loss(matrix: Float32, text: Float32, audio: Float32, ladder: Sequence[int]) -> dict[str, Any]:
    """What each rung keeps of the source space's ranking of `audio` for `text`, for a manifest.

    rung -> `top10` and `top1` (share kept of the best clips), `error` (99th percentile of the
    change of a score).
    """
    source = l2_normalize(text), l2_normalize(audio)
    rows: dict[str, Any] = {}
    for rung in ladder:
        turned = [l2_normalize(x @ matrix[:, :rung]) for x in source]
        same, other = (x[0] @ x[1].T for x in (source, turned))
        rows[str(rung)] = {
            "top10": round(_kept(same, other, 10), 4),
            "top1": round(_kept(same, other, 1), 4),
            "error": round(float(np.percentile(np.abs(same - other), 99)), 5),
        }
    return rows


def shortlist_factor(
    text: Float32, audio: Float32, prefix: int = 32, recall: float = 0.99
) -> float:
    """K / sqrt(N): how long a shortlist by the first `prefix` dims must be to hold `recall` of the
    ten best of N sounds, as the planner's `shortlist_per_sqrt_row` wants it."""
    unit = l2_normalize(text), l2_normalize(audio)
    short = [l2_normalize(x[:, :prefix]) for x in unit]
    scores, coarse = unit[0] @ unit[1].T, short[0] @ short[1].T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    place = np.argsort(np.argsort(-coarse, axis=1, kind="stable"), axis=1)
    needed = np.quantile(np.take_along_axis(place, best, axis=1) + 1, recall)
    return float(np.ceil(100 * needed / len(audio) ** 0.5) / 100)


def save(head: Head) -> bytes:
    """A head file: npz with `matrix` and `kind`; `text` where texts have a map of their own, and
    `facts`, the rest as JSON, where there are any. The same head gives the same bytes."""
    arrays: dict[str, npt.NDArray[Any]] = {"matrix": head.matrix, "kind": _bytes(head.kind)}
    if head.text is not None:
        arrays["text"] = head.text
    facts: dict[str, Any] = {**head.calibration()}
    if head.logit_scale is not None:
        facts["logit_scale"] = head.logit_scale
    if head.ladder:
        facts["ladder"] = list(head.ladder)
    if head.provenance:
        facts["provenance"] = dict(head.provenance)
    if facts:
        arrays["facts"] = _bytes(json.dumps(facts, sort_keys=True, allow_nan=False))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def load(path: Path, source: int) -> Head:
    """The head in `path`; HeadError unless it fits a source space of `source` dims."""
    if not path.is_file():
        raise HeadError(f"{path} is not there; make one: clap-export fit rotation or train heads")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            matrix = np.asarray(file["matrix"], np.float32)
            kind = file["kind"].tobytes().decode() if "kind" in file else "trained"
            text = np.asarray(file["text"], np.float32) if "text" in file else None
            facts = json.loads(file["facts"].tobytes()) if "facts" in file else {}
            ladder = tuple(int(rung) for rung in facts.get("ladder", ()))
            factor, scale = (
                None if name not in facts else float(facts[name])
                for name in ("shortlist_per_sqrt_row", "logit_scale")
            )
            provenance = dict(facts.get("provenance", {}))
    except Exception as error:  # whatever a damaged archive makes its reader say
        raise HeadError(f"{path} is no head file ({error}); give an npz with 'matrix'") from error
    for name, array in (("matrix", matrix), ("text", matrix if text is None else text)):
        if array.ndim != 2 or array.shape[0] != source or not 1 <= array.shape[1] <= source:
            raise HeadError(f"{path}: {name} {array.shape}; ({source}, 1 to {source}) is needed")
        if not np.isfinite(array).all():
            raise HeadError(f"{path}: {name} holds values that are not finite; fit it again")
    if text is not None and text.shape != matrix.shape:
        raise HeadError(f"{path}: text {text.shape} beside matrix {matrix.shape}; make them alike")
    if ladder and not is_ladder(ladder, matrix.shape[1]):
        raise HeadError(f"{path}: ladder {ladder}; rising dims that end with {matrix.shape[1]}")
    return Head(matrix, kind, text, ladder, factor, scale, provenance)


def is_ladder(ladder: Sequence[int], dim: int) -> bool:
    """Do the rungs rise from at least 1 and end with `dim`?"""
    rises = all(a < b for a, b in pairwise(ladder))
    return bool(ladder) and rises and ladder[0] >= 1 and ladder[-1] == dim


def _bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _second_moment(x: Float32) -> Float64:
    """[N, S] -> mean outer product of unit rows [S, S]."""
    rows = l2_normalize(x).astype(np.float64)
    return np.asarray(rows.T @ rows / len(rows), np.float64)


def _roots(matrix: Float64) -> tuple[Float64, Float64]:
    """The symmetric square root of a positive semidefinite matrix, and its inverse."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, values[-1] * RIDGE))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _kept(reference: Float32, candidate: Float32, k: int) -> float:
    """Mean share of the k best columns of each row that both have."""
    k = min(k, reference.shape[1])
    best = [np.argsort(-x, axis=1, kind="stable")[:, :k] for x in (reference, candidate)]
    return float(np.mean([len(np.intersect1d(x, y)) / k for x, y in zip(*best, strict=True)]))
