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
from collections.abc import Sequence
from dataclasses import dataclass
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
    """Source space [S] -> embedding space [D], one linear map for both towers."""

    matrix: Float32  # [S, D]
    kind: str  # "fitted" or "trained"


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
    """A head file: npz with `matrix` and `kind`."""
    buffer = io.BytesIO()
    np.savez(buffer, matrix=head.matrix, kind=np.frombuffer(head.kind.encode(), np.uint8))
    return buffer.getvalue()


def load(path: Path, source: int) -> Head:
    """The head in `path`; HeadError unless it fits a source space of `source` dims."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            matrix = np.asarray(file["matrix"], np.float32)
            kind = file["kind"].tobytes().decode() if "kind" in file else "trained"
    except Exception as error:  # whatever a damaged archive makes its reader say
        raise HeadError(f"{path} is no head file ({error}); give an npz with 'matrix'") from error
    if matrix.ndim != 2 or matrix.shape[0] != source or not 1 <= matrix.shape[1] <= source:
        raise HeadError(f"{path}: matrix {matrix.shape}; ({source}, 1 to {source}) is needed")
    if not np.isfinite(matrix).all():
        raise HeadError(f"{path}: matrix holds values that are not finite; fit it again")
    return Head(matrix, kind)


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
