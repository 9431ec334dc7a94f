"""Cosines -> scores that mean something: shares among labels, or a probability for each alone.

In:  cosines of sounds with labels; a bundle's logit scale and bias, and its calibration.
Out: float64 of the same shape, from 0 to 1.
Knows nothing about texts, sounds or what the labels are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.errors import TaskError

Float64 = npt.NDArray[np.float64]

# A label is as likely true as false where its cosine lies so many standard deviations over the
# mean of unrelated pairs, and how steeply that changes: a logistic regression over 1,000 clips of
# clap-mini's validation split and the labels of their kind, one true among twenty. On the held-out
# gallery .5 then has recall .92 at precision .90 for effects (docs/decisions.md).
LEVEL = 3.7
SLOPE = 2.4


def shares(cosines: npt.NDArray[Any], scale: float, bias: float = 0.0) -> Float64:
    """[..., L] -> [..., L] that sum to 1: the softmax of the scaled cosines."""
    logits = np.asarray(cosines, np.float64) * scale + bias
    logits -= logits.max(axis=-1, keepdims=True)
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float64)


@dataclass(frozen=True)
class Background:
    """What unrelated texts and sounds score: mean and standard deviation of their cosines.

    `level` (in standard deviations over the mean) is where a label counts as heard, the border to
    "none of these"; `slope` says how fast doubt ends beside it.
    """

    mean: float
    std: float
    level: float = LEVEL
    slope: float = SLOPE

    @classmethod
    def of(cls, calibration: Mapping[str, float]) -> Background:
        """From a bundle's calibration; TaskError where it has none."""
        mean, std = calibration.get("text_mean"), calibration.get("text_std")
        if mean is None or std is None or not std > 0:
            raise TaskError(
                "the bundle doesn't say what unrelated sounds score (calibration text_mean and "
                "text_std), so nothing tells a label that is true from one that isn't; convert "
                "the bundle again"
            )
        return cls(
            mean, std, calibration.get("label_level", LEVEL), calibration.get("label_slope", SLOPE)
        )

    def deviations(self, cosines: npt.NDArray[Any]) -> Float64:
        """Cosines -> standard deviations over what unrelated pairs score."""
        return np.asarray((np.asarray(cosines, np.float64) - self.mean) / self.std, np.float64)

    def probabilities(self, cosines: npt.NDArray[Any]) -> Float64:
        """Cosines -> the probability that the label is true of the sound, each label alone."""
        doubt = np.clip(-self.slope * (self.deviations(cosines) - self.level), -700, 700)
        return np.asarray(1.0 / (1.0 + np.exp(doubt)), np.float64)

    def cosine(self, probability: float) -> float:
        """The cosine that has this probability, strictly between 0 and 1."""
        logit = float(np.log(probability / (1.0 - probability)))
        return self.mean + self.std * (self.level + logit / self.slope)
