"""What an evaluation found, as frozen records.

In:  nothing.
Out: `Evaluation` and what it is made of; `asdict` of it can be written as JSON.
Knows nothing about how figures are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clap_engine.evaluation.bootstrap import Estimate


@dataclass(frozen=True)
class Failure:
    """A clip that is not in the figures, and why."""

    clip: str
    error: str


@dataclass(frozen=True)
class RungResult:
    """Figures of one rung by name; `tasks` by task and name. See metrics.py for each one."""

    dim: int
    text_to_audio: Mapping[str, Estimate]
    audio_to_text: Mapping[str, Estimate]
    tasks: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class PrecisionResult:
    """All rungs, smallest first, of the precision of both towers.

    `cached` different sounds were embedded in an earlier run.
    """

    precision: str
    clips: int
    cached: int
    damaged: tuple[Failure, ...]
    rungs: tuple[RungResult, ...]


@dataclass(frozen=True)
class Evaluation:
    """Figures of a bundle on a set, with what they were measured on.

    `clips` is how many the set lists (after `limit`); `missing` of them have no file. `classes` is
    how many there are to choose among, by task; `templates` what their names were put into.
    """

    bundle: str
    revision: str
    space_id: str
    folder: str
    layout: str
    split: str
    clips: int
    captions: int
    blank_captions: int
    missing: tuple[str, ...]
    classes: Mapping[str, int]
    templates: Mapping[str, tuple[str, ...]]
    seed: int
    resamples: int
    level: float
    precisions: tuple[PrecisionResult, ...]

    @property
    def is_whole(self) -> bool:
        """Is every clip of the set in the figures?"""
        return not self.missing and not any(one.damaged for one in self.precisions)
