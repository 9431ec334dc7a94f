"""hit@k, chance and zero-shot accuracy against cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clap_export import retrieval
from clap_export.corpus import lexicon
from clap_export.corpus.captions import Caption
from clap_export.corpus.classes import CLASSES

pytestmark = pytest.mark.export

CLIPS = [
    {"class": "rain", "kind": "effect"},
    {"class": "rain", "kind": "effect", "quality": "noisy"},
    {"class": "owl", "kind": "effect"},
    {"class": "piano", "kind": "instrument", "tempo": "slow"},
]


def test_a_caption_is_satisfied_by_every_clip_with_all_it_claims() -> None:
    asked = [Caption("", {"class": "rain"}), Caption("", {"class": "rain", "quality": "noisy"})]
    relevant = retrieval.relevance(asked, CLIPS)
    assert relevant.tolist() == [[True, True, False, False], [False, True, False, False]]
    assert retrieval.chance(relevant) == pytest.approx((2 / 4 + 1 / 4) / 2)


def test_hits_count_the_best_k() -> None:
    relevant = np.array([[False, False, True], [True, False, False]])
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], dtype=np.float32)
    assert [retrieval.hit_at(scores, relevant, k) for k in (1, 2, 3)] == [0.0, 0.0, 1.0]
    assert retrieval.hit_at(-scores, relevant, 1) == 1.0


def test_rungs_are_normalised_prefixes() -> None:
    audio = np.array([[1, 0, 9, 0], [4, 4, 0, 0]], dtype=np.float32)
    text = np.array([[1, 0, 0, 0]], dtype=np.float32)
    relevant = np.array([[True, False]])
    found = retrieval.hits(text, audio, relevant, (2, 4), (1,))
    assert found["hit@1 d=2"] == 1.0  # by the prefix alone the first row is parallel
    assert found["hit@1"] == 0.0  # by all four the second is nearer


def test_zero_shot_chooses_among_the_classes_of_the_kind() -> None:
    rng = np.random.default_rng(0)
    names = {
        name: rng.standard_normal(512).astype(np.float32)
        for kind in CLASSES.values()
        for name in kind
    }
    audio = np.stack([names[clip["class"]] for clip in CLIPS])
    table = retrieval.zero_shot(names, audio, CLIPS)
    assert set(table) == {"effect", "instrument"}
    assert table["effect"]["top1"] == 1.0
    assert table["effect"]["clips"] == 3
    audio = -audio
    assert retrieval.zero_shot(names, audio, CLIPS)["effect"]["top5"] == 0.0


def test_queries_name_the_exact_class_and_repeat_with_the_seed() -> None:
    words = lexicon.load()
    for wording in ("known", "held", "development", "report"):
        first = retrieval.queries(words, CLIPS, wording)
        assert first == retrieval.queries(words, CLIPS, wording)
        # Not every class can spare a third phrase, which is the one for development.
        asked = (
            CLIPS
            if wording != "development"
            else [clip for clip in CLIPS if words.development[clip["class"]]]
        )
        assert [c.claims["class"] for c in first] == [clip["class"] for clip in asked]
    assert retrieval.queries(words, CLIPS, "known", seed=1) != retrieval.queries(
        words, CLIPS, "known"
    )


def test_the_second_sound_of_a_clip_satisfies_its_bare_class_alone() -> None:
    scene = {"class": "owl", "kind": "effect", "then": "rain", "quality": "noisy"}
    claims = ({"class": "rain"}, {"class": "rain", "quality": "noisy"}, {"class": "owl"})
    relevant = retrieval.relevance([Caption("", claim) for claim in claims], [scene])
    assert relevant[:, 0].tolist() == [True, False, True]


def test_held_phrasings_are_none_that_training_reads() -> None:
    words = lexicon.load()
    drawn = retrieval.asked(words, CLIPS * 20, "held")
    for caption in drawn:
        assert caption is not None
        phrases = [p for p in words.held[caption.claims["class"]] if p in caption.text]
        assert phrases
        assert not set(phrases) & set(words.known[caption.claims["class"]])
