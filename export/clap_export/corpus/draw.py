"""Seeded parameters with bands that training never sees.

In:  a numpy Generator, and whether the draw is for training or for the held-out gallery.
Out: parameters; training never draws from the held-out bands, the gallery draws only from them.
Knows nothing about sounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# Parts of the unit interval kept for the held-out gallery: two bands, 30 % in all.
HELD_OUT_BANDS = ((0.15, 0.30), (0.70, 0.85))


class Draw:
    """One clip's source of randomness.

    `rng` is for the grain of a sound (noise, phases, jitter), which is never held out;
    `uniform` and its kin are for the parameters that shape it, which are.
    """

    def __init__(self, rng: np.random.Generator, held_out: bool) -> None:
        self.rng = rng
        self.held_out = held_out

    def unit(self) -> float:
        """A number in [0, 1): inside the held-out bands or outside of them."""
        while True:
            u = float(self.rng.random())
            if any(lo <= u < hi for lo, hi in HELD_OUT_BANDS) == self.held_out:
                return u

    def uniform(self, lo: float, hi: float) -> float:
        return lo + (hi - lo) * self.unit()

    def log_uniform(self, lo: float, hi: float) -> float:
        return float(lo * (hi / lo) ** self.unit())

    def integer(self, lo: int, hi: int) -> int:
        """An integer in [lo, hi], both ends included; small ranges are not held out."""
        return int(self.rng.integers(lo, hi + 1))

    def choice(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def noise(self, n: int) -> np.ndarray:
        """White Gaussian noise, float64 [n]."""
        return self.rng.standard_normal(n)
