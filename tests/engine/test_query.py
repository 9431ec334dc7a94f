"""Laws of queries: sums of unit vectors, batches equal to single searches, scores with meaning."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_embedder import DIM, FakeEmbedder, fill, hashed, power_law, sound_of
from hypothesis import given
from hypothesis import strategies as st

from clap_engine import planner
from clap_engine import search as searches
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.collection import Clip, Collection, Near, Query, SearchResult, Text
from clap_engine.errors import ArrayError, CollectionError, TextError
from clap_engine.index import coarse, vectors
from clap_engine.query import MAX_TERMS, terms_of
from clap_engine.questions import NEUTRAL_TEXTS


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def sounds(tmp_path: Path, embedder: FakeEmbedder) -> Iterator[Collection]:
    with Collection.open(tmp_path / "c", embedder=embedder, create=True) as opened:
        yield opened


def text(words: str) -> Float32:
    return hashed(words.encode(), 1)[0]


def part(words: str) -> Float32:
    """A text as it counts in a sum: without what it has in common with all texts."""
    neutral = np.mean([text(one) for one in NEUTRAL_TEXTS], axis=0)
    return l2_normalize((text(words) - neutral)[None])[0]


def clip(data: bytes) -> Float32:
    return l2_normalize(hashed(data, 1 + len(data) % 4).mean(axis=0)[None])[0]


def facts(result: SearchResult) -> list[tuple[Any, ...]]:
    """All that a caller sees of the hits."""
    return [
        (hit.key, hit.score, hit.calibrated, hit.start_s, hit.duplicates) for hit in result.hits
    ]


# Queries as values


def test_a_query_is_a_value() -> None:
    made = Query("warm pad") + Clip("ref.wav", weight=0.4) - "vocals"
    assert made.terms == (Text("warm pad"), Clip("ref.wav", 0.4), Text("vocals", -1.0))
    assert made == Query("warm pad", Clip("ref.wav", weight=0.4), Text("vocals", weight=-1.0))
    assert hash(made) == hash(Query(made))
    assert (0.5 * Query("a", Near("k"))).terms == (Text("a", 0.5), Near("k", 0.5))
    assert (Query("a") - (Query("b") - "c")).terms == (Text("a"), Text("b", -1), Text("c", 1))
    with pytest.raises(AttributeError):
        made.terms = ()  # type: ignore[misc]


weights = st.floats(-4, 4, allow_nan=False).map(lambda w: round(w, 3))
terms = st.lists(st.tuples(st.sampled_from("abcd"), weights), min_size=1, max_size=4)


@given(one=terms, other=terms)
def test_adding_then_subtracting_keeps_every_term(
    one: list[tuple[str, float]], other: list[tuple[str, float]]
) -> None:
    left, right = (Query(*(Text(*term) for term in some)) for some in (one, other))
    total = left + right - right
    assert total.terms[: len(one)] == left.terms
    sums = [
        math.fsum(t.weight for t in total.terms if t == Text(name, t.weight)) for name in "abcd"
    ]
    expected = [
        math.fsum(t.weight for t in left.terms if t == Text(name, t.weight)) for name in "abcd"
    ]
    np.testing.assert_allclose(sums, expected, atol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Query(), lambda: Query(*["a"] * (MAX_TERMS + 1)), lambda: Query(5),
        lambda: Query("a", weight=math.nan), lambda: Query(Text("a", math.inf)),
        lambda: Query("a", weight=True), lambda: Query("a") + 5, lambda: Query("a") * "2",
        lambda: Query(np.zeros(DIM)), lambda: terms_of(Clip("x", weight=math.nan)),
    ],
)  # fmt: skip
def test_what_is_no_query_is_refused(make: Any) -> None:
    with pytest.raises(CollectionError):
        make()


# Resolved


def test_a_sum_is_the_weighted_sum_of_unit_vectors(
    sounds: Collection, embedder: FakeEmbedder
) -> None:
    stored = power_law(200, seed=61)
    keys = fill(sounds, stored)
    query = Query("warm pad") + Clip(b"reference", weight=0.4) - "vocals" + Near(keys[7], weight=2)
    total = part("warm pad") + 0.4 * clip(b"reference") - part("vocals") + 2 * stored[7]
    expected = sounds.search(l2_normalize(total[None])[0], k=20, shortlist="all")
    result = sounds.search(query, k=20, shortlist="all")
    assert [hit.key for hit in result.hits] == [hit.key for hit in expected.hits]
    np.testing.assert_allclose(
        [hit.score for hit in result.hits], [hit.score for hit in expected.hits], atol=2e-4
    )


def test_one_term_is_the_plain_query_whatever_its_weight(sounds: Collection) -> None:
    fill(sounds, power_law(50, seed=62))
    plain = facts(sounds.search("banjo"))
    assert facts(sounds.search(Query("banjo"))) == plain
    assert facts(sounds.search(Text("banjo", weight=3))) == plain
    assert facts(sounds.search(Query(Clip(b"x", weight=0.1)))) == facts(sounds.search(Clip(b"x")))
    away = sounds.search(Query("banjo", weight=-1), k=50)
    assert [hit.key for hit in away.hits] == [h.key for h in sounds.search("banjo", k=50).hits][
        ::-1
    ]


def test_near_is_the_mean_of_a_clips_stored_windows(
    sounds: Collection, embedder: FakeEmbedder
) -> None:
    windows = power_law(5, seed=63)
    sounds.add([sound_of(windows)], keys=["long"])
    fill(sounds, power_law(30, seed=64))
    mean = vectors.pack(windows).astype(np.float32).mean(axis=0)
    expected = sounds.search(l2_normalize(mean[None])[0], k=5)
    embedder.embedded.clear()
    for _ in range(2):  # in the tail, then in a generation
        result = sounds.search(Near("long"), k=5)
        assert [hit.key for hit in result.hits] == [hit.key for hit in expected.hits]
        assert result.hits[0].score == pytest.approx(expected.hits[0].score, abs=1e-6)
        sounds.rebuild()
    assert embedder.embedded == []
    with pytest.raises(CollectionError, match="no clip of the key"):
        sounds.search(Near("absent"))


def test_near_needs_no_embedder(tmp_path: Path, sounds: Collection) -> None:
    keys = fill(sounds, power_law(10, seed=65))
    sounds.close()
    with Collection.open(tmp_path / "c", read_only=True) as alone:
        assert alone.search(Near(keys[3]), k=1).hits[0].key == keys[3]
        with pytest.raises(CollectionError, match="without an embedder"):
            alone.search(Query(Near(keys[3])) + "words")


def test_all_texts_are_embedded_by_one_call(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    class Counting(FakeEmbedder):
        def embed_text(self, texts: list[str]) -> Float32:
            calls.append(texts)
            return super().embed_text(texts)

    with Collection.open(tmp_path / "c", embedder=Counting(), create=True) as sounds:
        fill(sounds, power_law(10, seed=66))
        sounds.search(Query("a") + "b" - "c" + "a")
        sounds.search_batch(["a", Query("b") - "d", np.ones(DIM, np.float32), "a"])
        sounds.search("b")
    # The first sum brings the neutral texts along.
    assert calls == [["a", "b", "c", *NEUTRAL_TEXTS], ["a", "b", "d"], ["b"]]


def test_terms_that_cancel_out_are_refused(sounds: Collection) -> None:
    fill(sounds, power_law(10, seed=67))
    for query in (Query("a") - "a", Query("a", weight=0.0), 3 * Query("a") - "a" - 2 * Query("a")):
        with pytest.raises(ArrayError, match="cancel"):
            sounds.search(query)
    with pytest.raises(TextError):
        sounds.search(Query("a") - " ")


# Scores


def test_the_score_of_a_sum_is_calibrated_against_the_stored_vectors(sounds: Collection) -> None:
    """Median hit near .5, the same number each time, whether or not the space was calibrated."""
    fill(sounds, power_law(3000, seed=68))
    for _ in range(2):
        hits = sounds.search(Query("warm") + "pad", k=3000, shortlist="all").hits
        shares = [hit.calibrated for hit in hits]
        assert shares == sorted(shares, reverse=True)  # type: ignore[type-var]
        assert shares[0] is not None
        assert shares[0] > 0.99
        assert shares[1500] == pytest.approx(0.5, abs=0.05)
        again = sounds.search(Query("warm") + "pad", k=3000, shortlist="all").hits
        assert [hit.calibrated for hit in again] == shares
        sounds.rebuild()
    assert sounds.search("warm").hits[0].calibrated is None  # nobody measured this space's texts


def test_weak_hits_are_left_out(tmp_path: Path) -> None:
    calibration = {"text_mean": 0.0, "text_std": 0.05}
    with Collection.open(
        tmp_path / "c", embedder=FakeEmbedder(), create=True, calibration=calibration
    ) as sounds:
        fill(sounds, power_law(300, seed=69))
        every = sounds.search("banjo", k=300).hits
        least = every[9].score
        assert facts(sounds.search("banjo", k=300, min_score=least))[-1][0] == every[9].key
        assert len(sounds.search("banjo", k=5, min_score=least).hits) == 5
        assert sounds.search("banjo", min_score=2).hits == ()
        share = every[4].calibrated
        assert share is not None
        assert len(sounds.search("banjo", k=300, min_calibrated=share).hits) == 5
        assert len(sounds.search(Query("banjo") + "x", k=300, min_calibrated=0.9).hits) < 90
        for query in (power_law(1, seed=70)[0], Clip(b"x")):
            with pytest.raises(CollectionError, match="no background"):
                sounds.search(query, min_calibrated=0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"min_score": "x"}, {"min_score": math.nan}, {"min_score": True}, {"min_calibrated": 1.5},
        {"min_calibrated": -0.1}, {"collapse": 2}, {"collapse": math.nan}, {"diversity": -0.1},
        {"diversity": None}, {"diversity": 1.1}, {"k": 1001, "diversity": 0.5},
        {"k": 1001, "collapse": 0.9},
    ],
)  # fmt: skip
def test_options_out_of_bounds_are_refused(sounds: Collection, options: dict[str, Any]) -> None:
    with pytest.raises(CollectionError):
        sounds.search("banjo", **options)


# Many at once

QUERIES: list[Any] = [
    "banjo", Query("warm") + "pad" - "voice", Clip(b"sound"), Near("k000003"), "banjo",
    *power_law(40, seed=71),
]  # fmt: skip


@pytest.mark.parametrize("is_rebuilt", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"shortlist": 200}, {"shortlist": "all"}, {"where": {"key": {">=": "k001000"}}},
        {"where": {"key": {"<": "k000100"}}}, {"collapse": 0.2}, {"diversity": 0.5},
        {"min_score": 0.1, "k": 100},
    ],
)  # fmt: skip
def test_a_batch_is_its_single_searches(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch, is_rebuilt: bool, options: dict[str, Any]
) -> None:
    fill(sounds, power_law(1500, seed=72))
    sounds.remove("k000005")
    if is_rebuilt:
        sounds.rebuild()
        fill(sounds, power_law(100, seed=73), prefix="t")
    monkeypatch.setattr(searches, "_BATCH_SCORES", 16_000)  # ten queries a scan
    results = sounds.search_batch(QUERIES, **options)
    singles = [sounds.search(query, **options) for query in QUERIES]
    assert [facts(result) for result in results] == [facts(single) for single in singles]
    assert [result.plan for result in results] == [single.plan for single in singles]
    for result in results:
        parts = sum(ms for stage, ms in result.timings_ms.items() if stage != "total")
        assert 0 < parts <= result.timings_ms["total"] * (1 + 1e-9)
    assert sounds.search_batch([]) == []
    with pytest.raises(CollectionError, match="list"):
        sounds.search_batch("banjo")


@pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")
def test_a_batch_goes_through_the_graph_too(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 0)
    fill(sounds, power_law(1500, seed=74))
    sounds.rebuild()
    results = sounds.search_batch(QUERIES)
    assert {result.plan.index for result in results} == {"hnsw"}
    assert [facts(r) for r in results] == [facts(sounds.search(query)) for query in QUERIES]


def test_eight_threads_answer_as_one(sounds: Collection) -> None:
    fill(sounds, power_law(2000, seed=75))
    wishes: list[dict[str, Any]] = [
        {}, {"where": {"key": {"<": "k000900"}}}, {"collapse": 0.3}, {"diversity": 0.3},
    ]  # fmt: skip
    alone = [[facts(sounds.search(query, **wish)) for query in QUERIES[:12]] for wish in wishes]
    failures: list[Any] = []

    def work(number: int) -> None:
        try:
            for turn in range(8):
                at = (number + turn) % len(wishes)
                found = [facts(sounds.search(query, **wishes[at])) for query in QUERIES[:12]]
                batch = [facts(r) for r in sounds.search_batch(QUERIES[:12], **wishes[at])]
                if not found == batch == alone[at]:
                    failures.append((number, at))
        except BaseException as error:  # noqa: BLE001 - told in the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
