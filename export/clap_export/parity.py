"""Does a quantized or exported tower rank as its reference does?

In:  two functions from the same items to unit embeddings; perhaps a gallery to rank.
Out: a `Parity` row; GateError where it falls short of a `Gate`.
Knows nothing about ONNX, bundles or what the items are.

Raw cosine is reported but not gated: embeddings share a large common part, so .999 can hide a
reshuffled ranking. The centred cosine leaves that part out, the overlaps count decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from clap_engine.arrays import Float32, check_array, l2_normalize
from clap_engine.errors import ArrayError, ClapError

Item = TypeVar("Item")
LADDER = (32, 64, 128, 256, 512)


class GateError(ClapError, ValueError):
    """A graph differs more from its reference than its gate allows."""


@dataclass(frozen=True)
class Parity:
    """How near a candidate is to its reference, over `n` items and a gallery of `gallery` rows."""

    n: int
    gallery: int
    cosine_mean: float
    cosine_min: float
    centred_mean: float
    centred_min: float
    top1: float  # share of items whose best gallery row is the same
    top10: float  # mean share of the ten best gallery rows that both have
    score_error: dict[int, float]  # rung -> 99th percentile of |score difference|

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to 5 digits, for a manifest."""
        row = {name: _rounded(value) for name, value in asdict(self).items()}
        row["score_error"] = {str(k): _rounded(error) for k, error in self.score_error.items()}
        return row

    def line(self) -> str:
        """One line of a table."""
        errors = " ".join(f"{rung}:{error:.4f}" for rung, error in self.score_error.items())
        return (
            f"n {self.n}  cosine {self.cosine_mean:.5f} min {self.cosine_min:.5f}  "
            f"centred {self.centred_mean:.4f} min {self.centred_min:.4f}  "
            f"top-1 {self.top1:.3f}  top-10 {self.top10:.3f}  score error {errors}"
        )


@dataclass(frozen=True)
class Gate:
    """The least that is allowed: the one place where thresholds stand.

    The last three are for whole models (`tower_parity`): zero-shot decisions, how near to a tie a
    decision is not counted, and how far a float32 graph may be from its source.
    """

    centred_mean: float = 0.99
    top10: float = 0.85
    zero_shot: float = 0.98
    near_tie: float = 0.01
    fp32_error: float = 1e-4

    def check(self, parity: Parity, name: str) -> None:
        """GateError that names every figure that falls short."""
        found = {
            "centred_mean": (parity.centred_mean, self.centred_mean),
            "top10": (parity.top10, self.top10),
        }
        short = [
            f"{key} {value:.4f} (at least {least})"
            for key, (value, least) in found.items()
            if not value >= least
        ]
        if short:
            raise GateError(
                f"{name} differs too much from its reference: {', '.join(short)}; "
                "keep more of it in float32 or choose finer blocks"
            )


def compare(
    reference: Callable[[Sequence[Item]], Float32],
    candidate: Callable[[Sequence[Item]], Float32],
    items: Sequence[Item],
    *,
    gallery: Float32 | None = None,
    ladder: Sequence[int] = LADDER,
) -> Parity:
    """Embed `items` both ways and compare; see `compare_embeddings`."""
    return compare_embeddings(reference(items), candidate(items), gallery=gallery, ladder=ladder)


def compare_embeddings(
    reference: Float32,
    candidate: Float32,
    *,
    gallery: Float32 | None = None,
    ladder: Sequence[int] = LADDER,
) -> Parity:
    """[N, D] twice -> Parity. `gallery` [G, D] is ranked by both.

    Without one, the reference's other rows are the gallery (each item leaves itself out).
    """
    reference = check_array(reference, shape=(None, None), name="reference")
    candidate = check_array(candidate, shape=reference.shape, name="candidate")
    if len(reference) < 2:
        raise ArrayError(f"{len(reference)} items; centred cosines need at least 2")
    cosine = np.sum(l2_normalize(reference) * l2_normalize(candidate), axis=1)
    centred = np.sum(_centred(reference) * _centred(candidate), axis=1)
    others = (
        reference
        if gallery is None
        else check_array(gallery, shape=(None, reference.shape[1]), name="gallery")
    )
    a, b = (_scores(x, others, leave_self=gallery is None) for x in (reference, candidate))
    rungs = [rung for rung in ladder if rung <= reference.shape[1]]
    return Parity(
        n=len(reference),
        gallery=len(others),
        cosine_mean=float(cosine.mean()),
        cosine_min=float(cosine.min()),
        centred_mean=float(centred.mean()),
        centred_min=float(centred.min()),
        top1=_overlap(a, b, 1),
        top10=_overlap(a, b, 10),
        score_error={
            rung: float(
                np.percentile(
                    np.abs(
                        _scores(reference[:, :rung], others[:, :rung])
                        - _scores(candidate[:, :rung], others[:, :rung])
                    ),
                    99,
                )
            )
            for rung in rungs
        },
    )


def _centred(x: Float32) -> Float32:
    """Unit rows after the mean row was taken off."""
    return l2_normalize(x - x.mean(axis=0))


def _scores(x: Float32, others: Float32, *, leave_self: bool = False) -> Float32:
    """[N, D], [G, D] -> inner products of unit rows [N, G]."""
    scores = l2_normalize(x) @ l2_normalize(others).T
    if leave_self:
        np.fill_diagonal(scores, -np.inf)
    return np.asarray(scores, np.float32)


def _overlap(a: Float32, b: Float32, k: int) -> float:
    """Mean share of the k best columns of each row that both have."""
    k = min(k, a.shape[1])
    best = [np.argsort(-scores, axis=1, kind="stable")[:, :k] for scores in (a, b)]
    both = [len(np.intersect1d(x, y)) / k for x, y in zip(*best, strict=True)]
    return float(np.mean(both))


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value
