"""Two towers against two towers: do they find, and decide, the same?

In:  embeddings of the same texts and sounds by a reference and by a candidate.
Out: `TowerParity`, one row of the manifest's table; GateError where it falls short.
Knows nothing about graphs or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_export.parity import Gate, GateError, Parity, compare_embeddings


@dataclass(frozen=True)
class Embedded:
    """Texts [N, D] and sounds [M, D] by one pair of towers; the first `labels` texts are names."""

    text: Float32
    audio: Float32
    labels: int


@dataclass(frozen=True)
class TowerParity:
    """One precision against float32. `text` ranks the sounds, `audio` the other sounds."""

    text: Parity
    audio: Parity
    top1: float  # of sounds for a text, both towers changed
    top10: float
    zero_shot: float | None  # share of sounds whose best label is the same, near ties left out
    decided: int  # sounds that are no near tie
    error: dict[str, float]  # tower -> largest difference of one entry

    def as_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {
            "text": self.text.as_json(),
            "audio": self.audio.as_json(),
            "both": {"top1": round(self.top1, 4), "top10": round(self.top10, 4)},
            "zero_shot": {
                "agreement": None if self.zero_shot is None else round(self.zero_shot, 4),
                "decided": self.decided,
            },
            "max_error": {name: float(f"{value:.3g}") for name, value in self.error.items()},
        }

    def line(self) -> str:
        """One line of a table."""
        return (
            f"centred cosine text {self.text.centred_mean:.4f} audio {self.audio.centred_mean:.4f}"
            f"  top-10 {self.top10:.3f}  top-1 {self.top1:.3f}"
            f"  zero-shot {said(self.zero_shot)} of {self.decided}"
            f"  max error {max(self.error.values()):.2g}"
        )


def compare_towers(
    reference: Embedded, candidate: Embedded, ladder: Sequence[int], gate: Gate | None = None
) -> TowerParity:
    """Both must hold the same texts and sounds, in the same order."""
    gate = Gate() if gate is None else gate
    same, other = (l2_normalize(x.text) @ l2_normalize(x.audio).T for x in (reference, candidate))
    labels = reference.labels
    agreement, decided = _decisions(same[:labels].T, other[:labels].T, gate.near_tie)
    return TowerParity(
        text=compare_embeddings(
            reference.text, candidate.text, gallery=reference.audio, ladder=ladder
        ),
        audio=compare_embeddings(reference.audio, candidate.audio, ladder=ladder),
        top1=_overlap(same, other, 1),
        top10=_overlap(same, other, 10),
        zero_shot=agreement,
        decided=decided,
        error={
            "text": float(np.abs(reference.text - candidate.text).max()),
            "audio": float(np.abs(reference.audio - candidate.audio).max()),
        },
    )


def check(parity: TowerParity, name: str, gate: Gate) -> None:
    """GateError that names every figure of a quantized precision that falls short."""
    found = {
        "centred cosine of texts": (parity.text.centred_mean, gate.centred_mean),
        "centred cosine of sounds": (parity.audio.centred_mean, gate.centred_mean),
        "top-10 overlap": (parity.top10, gate.top10),
        **(
            {}
            if parity.zero_shot is None
            else {"zero-shot agreement": (parity.zero_shot, gate.zero_shot)}
        ),
    }
    short = [f"{key} {value:.4f} (at least {least})" for key, (value, least) in found.items()
             if not value >= least]  # fmt: skip
    if short:
        raise GateError(f"{name} differs too much from float32: {', '.join(short)}")


def check_recorded(parity: Mapping[str, Any], precisions: Iterable[str], gate: Gate) -> None:
    """GateError where a manifest's own table lacks a precision or says that it falls short.

    Float32 is the reference of models trained here; a converted one must have been compared with
    its source.
    """
    for precision in sorted(precisions):
        row = parity.get(precision)
        if isinstance(row, Mapping) and "against" in row:
            for name, error in row["max_error"].items():
                check_exact(float(error), f"the float32 graph ({name})", gate)
            continue
        if precision == "fp32":
            continue
        if isinstance(row, Mapping) and "both" in row:
            found = [
                (f"centred cosine of {side}", row[side]["centred_mean"], gate.centred_mean)
                for side in ("text", "audio")
            ]
            found.append(("top-10 overlap", row["both"]["top10"], gate.top10))
            if row["zero_shot"]["decided"]:
                found.append(("zero-shot agreement", row["zero_shot"]["agreement"], gate.zero_shot))
        else:
            rows = {name: parity.get(f"{name}.{precision}") for name in ("text", "audio")}
            if not all(isinstance(one, Mapping) for one in rows.values()):
                raise GateError(f"{precision} was never compared; run clap-export quantize")
            found = [
                (f"{key} of {name}", one[key], least)
                for name, one in rows.items()
                if one is not None
                for key, least in (("centred_mean", gate.centred_mean), ("top10", gate.top10))
            ]
        short = [f"{key} {value} (at least {least})" for key, value, least in found
                 if not value >= least]  # fmt: skip
        if short:
            raise GateError(f"{precision} falls short: {', '.join(short)}; convert it again")


def check_exact(error: float, name: str, gate: Gate) -> None:
    """GateError where a float32 graph is another function than its source."""
    if not error <= gate.fp32_error:
        raise GateError(
            f"{name} differs by {error:.3g} from the source model in torch (at most "
            f"{gate.fp32_error:g}): the graph is wrong for these weights; please report it"
        )


def said(share: float | None) -> str:
    """A share in a table; a dash where nothing was there to be counted, which proves nothing."""
    return "-" if share is None else f"{share:.3f}"


def _decisions(reference: Float32, candidate: Float32, near: float) -> tuple[float | None, int]:
    """[M, labels] twice -> share of rows with the same best label, and how many were counted."""
    best_two = np.sort(reference, axis=1)[:, -2:]
    decided = best_two[:, 1] - best_two[:, 0] > near
    if not decided.any():
        return None, 0
    same = reference.argmax(axis=1) == candidate.argmax(axis=1)
    return float(same[decided].mean()), int(decided.sum())


def _overlap(reference: Float32, candidate: Float32, k: int) -> float:
    """Mean share of the k best columns of each row that both have."""
    k = min(k, reference.shape[1])
    best = [np.argsort(-x, axis=1, kind="stable")[:, :k] for x in (reference, candidate)]
    return float(np.mean([len(np.intersect1d(x, y)) / k for x, y in zip(*best, strict=True)]))
