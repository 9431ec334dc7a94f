"""All sound-effect generators, by class: those training hears, and those it never does.

In:  nothing.
Out: `GENERATORS` and `HELD_OUT_GENERATORS`: class id -> generators, each `f(draw) -> waveform` at
     32 kHz.
Knows nothing about rooms, captions or files.

The sources of a class differ in principle (`principles`), and it is a principle that is held out:
of each class one, drawn by lot among those that leave at least two generators to train on. How
well a model does on it plays no part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clap_export.corpus import (
    effects_impacts,
    effects_living,
    effects_machines,
    effects_motors,
    effects_nature,
    effects_people,
    effects_signals,
    effects_strikes,
    effects_synthetic,
    effects_textures,
    effects_tones,
    effects_voices,
    scene,
)
from clap_export.corpus.draw import Draw

Generator = Callable[[Draw], np.ndarray]
LOT_SEED = 2026

# Oscillators and noise through filters: the principle of the modules that came first.
FILTERED = "filtered"


def _gathered() -> dict[str, dict[str, tuple[Generator, ...]]]:
    """Class id -> principle -> generators."""
    sources: dict[str, dict[str, tuple[Generator, ...]]] = {}
    for first in (
        effects_impacts, effects_living, effects_machines, effects_nature, effects_people,
        effects_signals, effects_synthetic,
    ):  # fmt: skip
        for name, generators in first.GENERATORS.items():
            sources.setdefault(name, {})[FILTERED] = tuple(generators)
    for later in (
        effects_motors, effects_strikes, effects_textures, effects_tones, effects_voices,
    ):  # fmt: skip
        for name, pairs in later.SOURCES.items():
            for principle, generator in pairs:
                known = sources[name].get(principle, ())
                sources[name][principle] = (*known, generator)
    return sources


def _drawn() -> dict[str, str]:
    """Class id -> the principle its lot keeps from training; classes without a spare have none."""
    rng = np.random.default_rng([LOT_SEED, 6])
    kept = {}
    for name in sorted(SOURCES):
        by_principle = SOURCES[name]
        count = sum(map(len, by_principle.values()))
        spare = [p for p in sorted(by_principle) if count - len(by_principle[p]) >= 2]
        if spare and len(by_principle) > 1:
            kept[name] = spare[int(rng.integers(len(spare)))]
    return kept


SOURCES: dict[str, dict[str, tuple[Generator, ...]]] = _gathered()
HELD_OUT_PRINCIPLE: dict[str, str] = _drawn()

GENERATORS: dict[str, tuple[Generator, ...]] = {
    name: tuple(
        scene.varied(name, generator)
        for principle, generators in by_principle.items()
        if principle != HELD_OUT_PRINCIPLE.get(name)
        for generator in generators
    )
    for name, by_principle in SOURCES.items()
}

HELD_OUT_GENERATORS: dict[str, tuple[Generator, ...]] = {
    name: SOURCES[name][principle] for name, principle in HELD_OUT_PRINCIPLE.items()
}
