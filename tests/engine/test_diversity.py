"""Laws of collapse and diversity: nothing is lost, nothing alike is kept, no luck is involved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_embedder import FakeEmbedder, fill, power_law, sound_of
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.collection import Collection
from clap_engine.diversity import collapse, diversify


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as opened:
        yield opened


def families(count: int, size: int, seed: int, spread: float = 0.1) -> Float32:
    """[count * size, D]: `size` vectors around each of `count` centres, a family together."""
    centres = np.repeat(power_law(count, seed), size, axis=0)
    return l2_normalize(centres + spread * power_law(count * size, seed + 1))


candidates = st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6))


@settings(max_examples=60, deadline=None)
@given(shape=candidates, threshold=st.floats(0.0, 1.0))
def test_collapse_loses_nothing_and_keeps_nothing_alike(
    shape: tuple[int, int, int], threshold: float
) -> None:
    count, size, seed = shape
    rows = families(count, size, seed)[np.random.default_rng(seed).permutation(count * size)]
    groups = collapse(rows, threshold)
    assert sorted(i for group in groups for i in (group.kept, *group.folded)) == list(
        range(len(rows))
    )
    kept = [group.kept for group in groups]
    assert kept == sorted(kept)
    likeness = rows @ rows.T
    for group in groups:
        assert all(
            i > group.kept and likeness[i, group.kept] > threshold - 1e-5 for i in group.folded
        )
    for one in kept:
        assert all(likeness[one, other] <= threshold + 1e-5 for other in kept if other != one)
    assert groups == collapse(rows.copy(), threshold)


def greedy(scores: Float32, rows: Float32, count: int, diversity: float) -> list[int]:
    """MMR written out in float64."""
    low, high = float(scores.min()), float(scores.max())
    relevance = [(float(s) - low) / (high - low) if high > low else 0.0 for s in scores]
    likeness = rows.astype(np.float64) @ rows.astype(np.float64).T
    picked: list[int] = []
    for _ in range(min(count, len(rows))):
        gains = [
            -np.inf if i in picked
            else (1 - diversity) * relevance[i]
            - diversity * max((likeness[i, j] for j in picked), default=0.0)
            for i in range(len(rows))
        ]  # fmt: skip
        picked.append(int(np.argmax(gains)))
    return picked


@pytest.mark.parametrize("diversity", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_diversify_is_maximal_marginal_relevance(diversity: float) -> None:
    for seed in range(20):
        rows = families(10, 4, seed)
        query = power_law(1, seed + 100)[0]
        rows = rows[np.argsort(-(rows @ query), kind="stable")]
        scores = rows @ query
        assert diversify(scores, rows, 15, diversity) == greedy(scores, rows, 15, diversity)


def test_no_diversity_is_the_order_of_scores_and_few_candidates_are_all_picked() -> None:
    rows = power_law(7, seed=81)
    scores = np.sort(rows @ power_law(1, seed=82)[0])[::-1]
    assert diversify(scores, rows, 20, 0.0) == list(range(7))
    assert sorted(diversify(scores, rows, 20, 1.0)) == list(range(7))
    assert diversify(np.full(3, 0.5, np.float32), rows[:1].repeat(3, axis=0), 3, 0.5) == [0, 1, 2]
    assert diversify(np.zeros(0, np.float32), rows[:0], 3, 0.5) == []
    assert collapse(rows[:0], 0.9) == []


# In searches


@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_near_duplicates_are_folded_into_the_better_hit(
    sounds: Collection, is_rebuilt: bool
) -> None:
    rows = families(60, 20, seed=83, spread=0.05)
    keys = fill(sounds, rows)
    if is_rebuilt:
        sounds.rebuild()
    query = power_law(1, seed=85)[0]
    result = sounds.search(query, k=10, collapse=0.9)
    assert len(result.hits) == 10  # though the 100 first candidates are of five families
    assert len({keys.index(hit.key) // 20 for hit in result.hits}) == 10
    assert [hit.score for hit in result.hits] == sorted(
        (h.score for h in result.hits), reverse=True
    )
    ranks = {hit.key: i for i, hit in enumerate(sounds.search(query, k=1000).hits)}
    for hit in result.hits:
        family = keys.index(hit.key) // 20
        assert all(keys.index(key) // 20 == family for key in hit.duplicates)
        assert [ranks[key] for key in hit.duplicates] == sorted(
            ranks[key] for key in hit.duplicates
        )
        assert all(ranks[key] > ranks[hit.key] for key in hit.duplicates)
    assert len(result.hits[0].duplicates) == 19
    assert sounds.search(query, k=10, collapse=0.9).hits == result.hits
    assert sounds.search(query, k=1).hits[0].duplicates == ()


def test_all_alike_are_one_hit(sounds: Collection) -> None:
    same = power_law(1, seed=86)
    keys = [f"{i:03d}" for i in range(150)]
    sounds.add([sound_of(same)] * 150, keys=keys)
    (hit,) = sounds.search(same[0], k=10, collapse=0.99).hits
    assert (hit.key, hit.duplicates) == (keys[0], tuple(keys[1:]))


def test_a_clip_is_compared_by_its_best_window(sounds: Collection) -> None:
    a, b = power_law(2, seed=87)
    sounds.add([sound_of(np.stack([a, b])), sound_of(a), sound_of(b)], keys=["both", "a", "b"])
    first, second = sounds.search(a, collapse=0.9).hits
    assert ({first.key, *first.duplicates}, second.key) == ({"both", "a"}, "b")


def test_diversity_brings_more_families(sounds: Collection) -> None:
    rows = families(30, 10, seed=88)
    keys = fill(sounds, rows)
    query = power_law(1, seed=90)[0]

    def spread(**options: Any) -> int:
        hits = sounds.search(query, k=10, **options).hits
        assert len({hit.key for hit in hits}) == 10
        return len({keys.index(hit.key) // 10 for hit in hits})

    plain = sounds.search(query, k=10)
    assert sounds.search(query, k=10, diversity=0).hits == plain.hits
    varied = sounds.search(query, k=10, diversity=0.5)
    assert varied.hits[0] == plain.hits[0]
    assert varied.hits == sounds.search(query, k=10, diversity=0.5).hits
    assert spread() < spread(diversity=0.5) <= spread(diversity=0.9)
    both = sounds.search(query, k=8, diversity=0.5, collapse=0.9, where={"key": {"<": "k000200"}})
    assert len({keys.index(hit.key) // 10 for hit in both.hits}) == 8
    assert all(hit.key < "k000200" for hit in both.hits)
