"""What the command line says about tasks before any of them runs: numbers and names.

In:  nothing.
Out: `DetectSettings`; the actions of policies, and the policies that come along.
Knows nothing about sounds, and needs no numpy: `--help` must answer at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from clap_engine.errors import TaskError

# From the mildest to the strictest; a verdict is the strictest that was called for.
PASS, ACTIONS = "pass", ("note", "review", "block")


def data_folder(kind: str) -> Path:
    """Where the `labels` or the `policies` lie that come along."""
    return Path(str(resources.files("clap_engine.tasks"))) / "data" / kind


def names(kind: str) -> tuple[str, ...]:
    """Those that come along, in alphabetical order."""
    return tuple(sorted(path.stem for path in data_folder(kind).glob("*.json")))


@dataclass(frozen=True)
class DetectSettings:
    """An event begins and ends at `release` and must reach `threshold` in between.

    Both are probabilities (see Background); events of a label less than `merge_s` apart are one;
    what is then shorter than `min_duration_s` is dropped. `hop_s` is the step from one window to
    the next, half a window where it is None. The default threshold: of those within .005 of the
    best event F1 on recordings with training-like parameters (bench/detection.py), the one where
    precision and recall are alike; the others were chosen so for an earlier bundle.
    """

    threshold: float = 0.9
    release: float = 0.05
    min_duration_s: float = 0.0
    merge_s: float = 1.0
    hop_s: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "hop_s":
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value < 0:
                raise TaskError(f"{field.name} is {value!r}; give a number, 0 or more")
        if not 0 < self.release <= self.threshold < 1:
            raise TaskError(
                f"release {self.release} and threshold {self.threshold} must be probabilities, "
                "0 < release <= threshold < 1"
            )
