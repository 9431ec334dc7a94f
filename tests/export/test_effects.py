"""Laws of the synthesized sound effects, for every generator of every class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clap_engine.mel import LogMel
from clap_export.corpus import effects, scene
from clap_export.corpus.classes import EFFECTS
from clap_export.corpus.draw import Draw
from clap_export.corpus.dsp import RATE_HZ
from clap_export.frontend import CLAP_MINI_FRONT_END, make_frontend_npz

pytestmark = pytest.mark.export

Generator = Callable[[Draw], np.ndarray]
CASES = [
    pytest.param(generator, id=f"{name}-{principle}-{index}")
    for name, by_principle in effects.SOURCES.items()
    for principle, generators in by_principle.items()
    for index, generator in enumerate(generators)
]
SHORTEST_S, LONGEST_S = 0.05, 5.0


def _draw(seed: int, held_out: bool) -> Draw:
    return Draw(np.random.default_rng(seed), held_out)


def test_every_class_has_two_generators_to_train_on() -> None:
    assert sorted(effects.SOURCES) == sorted(EFFECTS) == sorted(effects.GENERATORS)
    assert min(len(generators) for generators in effects.GENERATORS.values()) >= 2


def test_a_held_out_principle_is_in_no_generator_of_training() -> None:
    """At least a hundred classes spare one; what is kept and what is trained on make the whole."""
    kept = effects.HELD_OUT_PRINCIPLE
    assert len(kept) >= 100
    assert kept.keys() == effects.HELD_OUT_GENERATORS.keys()
    for name, by_principle in effects.SOURCES.items():
        trained = [g.__wrapped__ for g in effects.GENERATORS[name]]  # type: ignore[attr-defined]
        hidden = effects.HELD_OUT_GENERATORS.get(name, ())
        assert not set(map(id, hidden)) & set(map(id, trained))
        assert len(trained) + len(hidden) == sum(map(len, by_principle.values()))
        if name in kept:
            assert hidden == by_principle[kept[name]]


@pytest.mark.parametrize("generator", CASES)
def test_a_seed_is_a_sound(generator: Generator) -> None:
    """Finite, bounded, not silent; the same seed gives the same samples, another seed or the
    gallery another sound."""
    first = generator(_draw(7, False))
    for x in (first, other := generator(_draw(8, False)), gallery := generator(_draw(7, True))):
        assert x.ndim == 1
        assert x.dtype in (np.float32, np.float64)
        assert SHORTEST_S * RATE_HZ <= len(x) <= LONGEST_S * RATE_HZ
        assert np.isfinite(x).all()
        # Levels are the caller's to set, but a level that grows without limit is a broken filter.
        assert 1e-3 < np.abs(x).max() < 1e3
        assert np.sqrt(np.mean(np.square(x))) > 1e-4
    np.testing.assert_array_equal(first, generator(_draw(7, False)))
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, gallery)


@pytest.mark.parametrize("name", ["rain", "dog_bark", "white_noise"])
def test_a_scene_keeps_a_sound_within_five_seconds(name: str) -> None:
    """Twenty scenes: each finite and sounding, none like the bare generator's."""
    (_, (bare, *_)) = next(iter(effects.SOURCES[name].items()))
    staged = scene.varied(name, bare)
    changed = 0
    for seed in range(20):
        x = staged(_draw(seed, False))
        assert len(x) <= LONGEST_S * RATE_HZ
        assert np.isfinite(x).all()
        assert np.abs(x).max() > 1e-3
        changed += not np.array_equal(x, bare(_draw(seed, False)))
        np.testing.assert_array_equal(x, staged(_draw(seed, False)))
    assert 1 <= changed < 20 if name in scene.EXACT else changed >= 10


def _look(mel: LogMel, generator: Generator, seed: int) -> np.ndarray:
    """[F * 3] what a clip looks like: its bands' mean, spread and unrest over time, in dB."""
    x = generator(_draw(seed, False))
    x = np.resize(x / np.abs(x).max(), 5 * RATE_HZ).astype(np.float32)
    log_mel = mel(x[None])[0].reshape(-1, 64)
    steps = np.abs(np.diff(log_mel, axis=0)).mean(axis=0)
    return np.concatenate([log_mel.mean(axis=0), log_mel.std(axis=0), steps])


def _apart(mel: LogMel, name: str, seeds: range) -> float:
    """Mean distance between two principles' clips over that between clips of one principle."""
    looks = [
        np.stack([_look(mel, generators[seed % len(generators)], seed) for seed in seeds])
        for generators in effects.SOURCES[name].values()
    ]
    within, between = [], []
    for i, a in enumerate(looks):
        for j, b in enumerate(looks[i:], start=i):
            gaps = np.linalg.norm(a[:, None] - b[None], axis=-1)
            if i == j:
                within.append(gaps[np.triu_indices(len(a), 1)].mean())
            else:
                between.append(gaps.mean())
    return float(np.mean(between) / np.mean(within))


@pytest.mark.parametrize(
    ("step", "seeds"),
    [pytest.param(12, range(4), id="a-sample"), pytest.param(1, range(8), marks=pytest.mark.slow)],
)
def test_principles_differ_more_than_seeds(step: int, seeds: range) -> None:
    """Over the classes, clips of two principles lie farther apart than two clips of one."""
    mel = LogMel(CLAP_MINI_FRONT_END, make_frontend_npz())
    ratios = [_apart(mel, name, seeds) for name in sorted(effects.SOURCES)[::step]]
    assert np.mean(ratios) > 1.1
    assert np.mean(np.array(ratios) > 1) > 0.75
