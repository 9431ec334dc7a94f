"""What a comparison found, as frozen records.

In:  nothing.
Out: `Comparison` and what it is made of; `record` of one can be written as JSON.
Knows nothing about how figures are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from clap_engine.evaluation import Estimate
from clap_engine.evaluation.results import Failure
from clap_engine.tasks.separation import Separation


@dataclass(frozen=True)
class Model:
    """One side: a bundle, or a file of rows, which has neither precision nor sizes in bytes."""

    name: str
    dim: int
    ladder: tuple[int, ...]
    revision: str = ""
    precision: str = ""
    total_bytes: int | None = None
    audio_bytes: int | None = None
    text_bytes: int | None = None
    cached: int = 0
    damaged: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of both on the same clips, and a - b with the interval of the paired difference."""

    name: str
    a: Estimate
    b: Estimate
    difference: Estimate

    @property
    def is_clear(self) -> bool:
        """Does the interval of the difference leave out 0?"""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)


@dataclass(frozen=True)
class Agreement:
    """How far two models agree, in shares.

    `same_class` of the clips get the same class of both, `both`, `only_a`, `only_b` and `neither`
    say who is right; None without texts of classes. `same_first` of the captions find the same
    clip first. `neighbours` is the mean share of a clip's ten nearest that are the same.
    """

    neighbours: float
    same_class: float | None = None
    both: float | None = None
    only_a: float | None = None
    only_b: float | None = None
    neither: float | None = None
    same_first: float | None = None


@dataclass(frozen=True)
class Rung:
    """Figures of both, without intervals, at so many dims of each."""

    dim_a: int
    dim_b: int
    figures: Mapping[str, tuple[float, float]]
    agreement: Agreement


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over `classes` with the interval of a bootstrap over them."""

    rho: float
    low: float
    high: float
    classes: int


@dataclass(frozen=True)
class ClassPoint:
    """A class: its mean silhouette in the plane and in all dims, and how often it is right."""

    label: str
    count: int
    plane: float
    all_dims: float
    accuracy: float


@dataclass(frozen=True)
class Separated:
    """One side's separation, and whether it tells a class' accuracy: by the plane, by all dims.

    `accuracy_of` says which accuracy: "zero-shot", or "nearest middle" where there are no texts.
    The correlations are None below five classes, or where either side is the same for all.
    """

    figures: Separation
    classes: tuple[ClassPoint, ...]
    accuracy_of: str
    plane_tells: Correlation | None
    all_dims_tell: Correlation | None


@dataclass(frozen=True)
class Timing:
    """Medians of so many calls in alternating bursts, in milliseconds, and b's over a's."""

    a_ms: float
    b_ms: float
    calls: int

    @property
    def ratio(self) -> float:
        """How many times as long b takes."""
        return self.b_ms / self.a_ms


@dataclass(frozen=True)
class Comparison:
    """Two models on one set; see each part. `clips` could be read by both, of `listed`.

    `separation` is of `separated` clips, (a, b), None where there are no two classes; `speed` by
    what was timed, empty where nothing was. `missing` names clips without a file.
    """

    a: Model
    b: Model
    data: str
    layout: str
    split: str
    listed: int
    clips: int
    captions: int
    classes: Mapping[str, int]
    missing: tuple[str, ...]
    seed: int
    resamples: int
    level: float
    figures: tuple[Figure, ...]
    rungs: tuple[Rung, ...]
    separation: tuple[Separated, Separated] | None
    separated: int
    speed: Mapping[str, Timing]

    @property
    def is_whole(self) -> bool:
        """Is every clip of the set in the figures of both?"""
        return self.clips == self.listed

    def record(self) -> dict[str, Any]:
        """All of it as JSON has it, the points of the planes left out."""
        found = asdict(self)
        for side in found["separation"] or ():
            figures = side["figures"]
            figures["plane"] = {"share": figures["plane"]["share"]}
            del figures["labels"]
        for name, timing in self.speed.items():
            found["speed"][name]["ratio"] = timing.ratio
        return found
