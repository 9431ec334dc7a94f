"""All sound-effect generators, by class.

In:  nothing.
Out: `GENERATORS`: class id -> independent generators, each `f(draw) -> waveform` at 32 kHz.
Knows nothing about rooms, captions or files.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clap_export.corpus import (
    effects_impacts,
    effects_living,
    effects_machines,
    effects_nature,
    effects_people,
    effects_signals,
    effects_synthetic,
)
from clap_export.corpus.draw import Draw

Generator = Callable[[Draw], np.ndarray]

GENERATORS: dict[str, tuple[Generator, ...]] = {
    **effects_impacts.GENERATORS,
    **effects_living.GENERATORS,
    **effects_machines.GENERATORS,
    **effects_nature.GENERATORS,
    **effects_people.GENERATORS,
    **effects_signals.GENERATORS,
    **effects_synthetic.GENERATORS,
}
