"""Figures against their definitions, written out the slow way; ties; exact values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_engine.evaluation import metrics
from clap_engine.evaluation.bootstrap import estimates, intervals
from clap_engine.tasks.labels import Labels

DIM = 6


def ordered(scores: Any) -> list[int]:
    """Candidates best first, ties in their order: the definition that places are held against."""
    return sorted(range(len(scores)), key=lambda c: (-scores[c], c))


def by_definition(captions: Any, clips: Any, owner: list[int]) -> dict[str, dict[str, float]]:
    """Both directions from whole rankings, a query at a time."""
    t2a: dict[str, list[float]] = {f"R@{k}": [] for k in (1, 5, 10)} | {"mAP@10": []}
    a2t: dict[str, list[float]] = {f"R@{k}": [] for k in (1, 5, 10)} | {"mAP@10": []}
    for caption, clip in zip(captions, owner, strict=True):
        place = ordered(clips @ caption).index(clip) + 1
        for k in (1, 5, 10):
            t2a[f"R@{k}"].append(place <= k)
        t2a["mAP@10"].append(1 / place if place <= 10 else 0.0)
    for number, clip in enumerate(clips):
        right = {i for i, of in enumerate(owner) if of == number}
        if not right:
            continue
        ranking = ordered(captions @ clip)
        for k in (1, 5, 10):
            a2t[f"R@{k}"].append(bool(right & set(ranking[:k])))
        hits, total = 0, 0.0
        for place, caption_number in enumerate(ranking[:10], 1):
            if caption_number in right:
                hits += 1
                total += hits / place
        a2t["mAP@10"].append(total / min(len(right), 10))
    return {
        "text": {name: float(np.mean(some)) for name, some in t2a.items()},
        "audio": {name: float(np.mean(some)) for name, some in a2t.items()},
    }


def figures(sums: metrics.Sums) -> dict[str, float]:
    return {name: values.sum() / counts.sum() for name, (values, counts) in sums.items()}


def whole(rng: Any, *shape: int) -> Any:
    """Small whole numbers, so that products are exact and ties are many."""
    return rng.integers(-2, 3, size=shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(0, 13), st.booleans())
def test_figures_are_those_of_the_definition(
    seed: int, clips: int, most: int, has_ties: bool
) -> None:
    """Law: the same as whole rankings give, ties and clips without a caption included."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most + 1, size=clips)
    counts[rng.integers(clips)] += 1
    owner = np.repeat(np.arange(clips), counts)
    draw = whole if has_ties else lambda rng, *s: rng.standard_normal(s).astype(np.float32)
    texts, sounds = draw(rng, len(owner), DIM), draw(rng, clips, DIM)
    if not has_ties:
        # Products in float32 may differ by their last bit: no two are that close here.
        texts, sounds = np.round(texts * 64) / 64, np.round(sounds * 64) / 64
    wanted = by_definition(texts, sounds, owner.tolist())
    found_text = figures(metrics.text_to_audio(texts, sounds, owner))
    found_audio = figures(metrics.audio_to_text(texts, sounds, owner))
    assert found_text == pytest.approx(wanted["text"], abs=1e-12)
    assert found_audio == pytest.approx(wanted["audio"], abs=1e-12)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    texts, sounds = whole(rng, 40, DIM), whole(rng, 11, DIM)
    owner = np.sort(rng.integers(0, 11, size=40))
    before = figures(metrics.audio_to_text(texts, sounds, owner))
    monkeypatch.setattr(metrics, "BLOCK", 7)
    assert figures(metrics.audio_to_text(texts, sounds, owner)) == before


def test_a_known_case() -> None:
    """Three clips, two captions each; worked out by hand."""
    sounds = np.eye(3, dtype=np.float32)
    texts = np.array(
        [[0.9, 0.1, 0.0], [0.2, 0.8, 0.1],  # of clip 0: its first finds it, its second clip 1
         [0.1, 0.7, 0.2], [0.3, 0.6, 0.5],
         [0.5, 0.4, 0.3], [0.0, 0.0, 1.0]],
        np.float32,
    )  # fmt: skip
    owner = np.array([0, 0, 1, 1, 2, 2])
    text = figures(metrics.text_to_audio(texts, sounds, owner))
    assert text["R@1"] == pytest.approx(4 / 6)
    assert text["mAP@10"] == pytest.approx((1 + 1 / 2 + 1 + 1 + 1 / 3 + 1) / 6)
    # Clip 0 ranks captions 0, 4, 3, 1, 2, 5; clip 1: 1, 2, 3, 4, 0, 5; clip 2: 5, 3, 4, 2, 1, 0.
    audio = figures(metrics.audio_to_text(texts, sounds, owner))
    assert audio["R@1"] == pytest.approx(2 / 3)
    aps = [(1 / 1 + 2 / 4) / 2, (1 / 2 + 2 / 3) / 2, (1 / 1 + 2 / 3) / 2]
    assert audio["mAP@10"] == pytest.approx(np.mean(aps))
    assert audio["R@5"] == 1.0


def test_a_model_that_scores_all_alike_is_at_chance() -> None:
    """Law: ties go to the order of the set, so k of N clips are found, not all and not none."""
    n = 40
    same = np.ones((n, DIM), np.float32)
    found = figures(metrics.text_to_audio(same, same, np.arange(n)))
    assert {name: found[name] for name in ("R@1", "R@5", "R@10")} == pytest.approx(
        {"R@1": 1 / n, "R@5": 5 / n, "R@10": 10 / n}
    )


def test_the_same_caption_twice_ranks_in_the_order_of_the_set() -> None:
    """Law: equal rows score the same to the bit, whatever their columns in a product."""
    rng = np.random.default_rng(5)
    one = rng.standard_normal(512).astype(np.float32)
    others = rng.standard_normal((50, 512)).astype(np.float32)
    texts = np.concatenate([[one], others, [one]])
    sounds = np.stack([one, others[0], one])
    pairs = np.array([0, 2]), np.array([0, 51])
    assert metrics.places(sounds, texts, pairs).tolist() == [1, 2]


def test_zero_shot_by_definition() -> None:
    rng = np.random.default_rng(11)
    names = [f"class {i}" for i in range(8)]
    labels = Labels.of({name: [name, f"{name} again"] for name in names})
    clips, rows = whole(rng, 60, DIM), whole(rng, 16, DIM)
    true = [frozenset(rng.choice(names, size=rng.integers(0, 3))) for _ in clips]
    found = figures(metrics.zero_shot(clips, rows, labels, true))
    first, among = [], []
    for clip, some in zip(clips, true, strict=True):
        if some:
            best = (rows @ clip).reshape(8, 2).max(axis=1)
            ranking = [names[i] for i in ordered(best)]
            first.append(ranking[0] in some)
            among.append(bool(some & set(ranking[:5])))
    assert found == pytest.approx({"accuracy": np.mean(first), "top-5": np.mean(among)})
    few = Labels.of(["a", "b"])
    assert set(metrics.zero_shot(clips, rows[:2], few, true)) == {"accuracy"}


def test_intervals_cover_the_truth() -> None:
    """Law: of 300 sets of 80 clips with 1 to 5 captions, about 95 in 100 intervals hold the mean
    that they were drawn from. At 93 % true coverage, 270 or fewer comes once in 50."""
    rng = np.random.default_rng(0)
    truth, held = 0.6, 0
    for seed in range(300):
        counts = rng.integers(1, 6, size=80).astype(np.float64)
        of_clip = rng.beta(3.0, 2.0, size=80)  # captions of a clip stand or fall together
        values = rng.binomial(counts.astype(int), of_clip).astype(np.float64)
        low, high = intervals(values[:, None], counts[:, None], seed=seed, resamples=300)
        held += bool(low[0] <= truth <= high[0])
    assert 270 < held < 298


def test_intervals_repeat_and_pair() -> None:
    """Law: a seed gives the same draws for any figures, alone or beside others."""
    rng = np.random.default_rng(1)
    values, counts = rng.random((30, 2)), np.ones((30, 2))
    both = intervals(values, counts, seed=4, resamples=200)
    alone = intervals(values[:, 1:], counts[:, 1:], seed=4, resamples=200)
    assert both[0][1] == pytest.approx(alone[0][0])
    assert both[1][1] == pytest.approx(alone[1][0])
    other = intervals(values, counts, seed=5, resamples=200)
    assert both[0].tolist() != other[0].tolist()


def test_an_estimate_says_when_it_cannot_know() -> None:
    one = estimates({"x": (np.array([1.0]), np.array([1.0]))}, seed=0, resamples=100)["x"]
    assert (one.value, one.low, one.high, one.clips) == (1.0, None, None, 1)
    none = {"x": (np.zeros(3), np.zeros(3))}
    assert estimates(none, seed=0, resamples=100) == {}
    rare = {"x": (np.array([1.0, 0, 0, 1]), np.array([1.0, 0, 0, 1]))}
    found = estimates(rare, seed=0, resamples=100)["x"]
    assert (found.value, found.low, found.high, found.clips) == (1.0, 1.0, 1.0, 2)
