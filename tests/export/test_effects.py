"""Laws of the synthesized sound effects, for every generator of every class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clap_export.corpus import (
    effects_impacts,
    effects_living,
    effects_machines,
    effects_nature,
    effects_signals,
    effects_synthetic,
)
from clap_export.corpus.classes import EFFECTS
from clap_export.corpus.draw import Draw
from clap_export.corpus.dsp import RATE_HZ

pytestmark = pytest.mark.export

Generator = Callable[[Draw], np.ndarray]
MODULES = (
    effects_nature,
    effects_living,
    effects_impacts,
    effects_signals,
    effects_machines,
    effects_synthetic,
)
CASES = [
    pytest.param(generator, id=f"{name}-{index}")
    for module in MODULES
    for name, generators in module.GENERATORS.items()
    for index, generator in enumerate(generators)
]
SEEDS = range(4)
SHORTEST_S, LONGEST_S = 0.05, 5.0


def _draw(seed: int, held_out: bool) -> Draw:
    return Draw(np.random.default_rng(seed), held_out)


def test_every_class_has_a_generator_in_one_module() -> None:
    names = [name for module in MODULES for name in module.GENERATORS]
    assert sorted(names) == sorted(EFFECTS)
    assert all(module.GENERATORS[name] for module in MODULES for name in module.GENERATORS)


@pytest.mark.parametrize("held_out", [False, True], ids=["training", "held_out"])
@pytest.mark.parametrize("generator", CASES)
def test_sound_is_finite_bounded_and_not_silent(generator: Generator, held_out: bool) -> None:
    for seed in SEEDS:
        x = generator(_draw(seed, held_out))
        assert x.ndim == 1
        assert x.dtype in (np.float32, np.float64)
        assert SHORTEST_S * RATE_HZ <= len(x) <= LONGEST_S * RATE_HZ
        assert np.isfinite(x).all()
        # Levels are the caller's to set, but a level that grows without limit is a broken filter.
        assert 1e-3 < np.abs(x).max() < 1e3
        assert np.sqrt(np.mean(np.square(x))) > 1e-4


@pytest.mark.parametrize("generator", CASES)
def test_a_seed_is_a_sound(generator: Generator) -> None:
    """The same seed gives the same samples; another seed, or the gallery, another sound."""
    first = generator(_draw(7, False))
    np.testing.assert_array_equal(first, generator(_draw(7, False)))
    assert not np.array_equal(first, generator(_draw(8, False)))
    assert not np.array_equal(first, generator(_draw(7, True)))
