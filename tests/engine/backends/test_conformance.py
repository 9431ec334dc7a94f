"""The laws of every backend: what a collection finds on this machine, each engine finds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from backend_places import SPACE, Place
from fake_embedder import power_law
from filter_oracle import matches

from clap_engine import filters
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.backends import BackendHit, ClipRows, VectorBackend, clips_of, open_backend
from clap_engine.errors import (
    ArrayError,
    ClapError,
    ClosedError,
    CollectionError,
    FilterError,
    NotFoundError,
    SpaceMismatchError,
)
from clap_engine.matryoshka import truncate

SCORE = 1e-3
CLIPS = 300
KEYS = ["ключ", "鍵/é", "a b", "'; DROP TABLE clap_windows; --", '{"$ne": 1}', "x#1", "x", "%d"]


def clustered(rows: int, seed: int) -> Float32:
    """[rows, 512] unit vectors around twelve centres."""
    centres = power_law(12, seed)
    noise = power_law(rows, seed + 1)
    return l2_normalize(centres[np.arange(rows) % 12] + 0.7 * noise)


def corpus() -> list[ClipRows]:
    """Clips of one to three windows, with metadata of each kind."""
    random = np.random.default_rng(3)
    counts = 1 + np.arange(CLIPS) % 3
    vectors = np.split(clustered(int(counts.sum()), 5), np.cumsum(counts)[:-1])
    clips = []
    for i, rows in enumerate(vectors):
        key = KEYS[i] if i < len(KEYS) else f"clip{i:04d}"
        starts = 5.0 * np.arange(len(rows))
        metadata: dict[str, Any] = {
            "year": 1900 + i % 120, "genre": ["jazz", "folk", "dub", "ambient"][i % 4],
            "live": i % 2 == 0, "tags": ["a", i % 5], "artist": {"name": f"n{i % 7}"},
            "gain": float(random.normal()),
        }  # fmt: skip
        if i % 10 == 0:
            metadata["rare"] = True
        spans = np.stack([starts, starts + 5], axis=1)
        clips.append(ClipRows(key, rows, spans, metadata, f"d{i % 3}/{i}.wav", float(spans[-1, 1])))
    return clips


CORPUS = corpus()


def brute(clips: list[ClipRows], query: Float32, k: int, where: Any = None) -> list[BackendHit]:
    """What must be found."""
    tree = filters.parse(where or {})
    hits = []
    for clip in clips:
        if matches(tree, clip.metadata, key=clip.key, path=clip.path, duration_s=clip.duration_s):
            scores = clip.vectors @ query
            best = int(scores.argmax())
            span = clip.spans[best].tolist()
            hits.append(BackendHit(clip.key, float(scores[best]), *span, dict(clip.metadata)))
    return sorted(hits, key=lambda hit: (-hit.score, hit.key))[:k]


def search(
    backend: VectorBackend, query: Float32, k: int = 10, where: Any = None, shortlist: Any = "all"
) -> list[BackendHit]:
    return backend.search(truncate(query, 32), query, k, where, shortlist=shortlist)


def check(found: list[BackendHit], right: list[BackendHit]) -> None:
    """The same hits; hits whose scores differ by less than rounding may change places."""
    assert len(found) == len(right)
    by_key = {hit.key: hit for hit in right}
    for one, other in zip(found, right, strict=True):
        assert one.score == pytest.approx(other.score, abs=SCORE)
    for hit in found:
        if hit.key in by_key:
            other = by_key[hit.key]
            assert (hit.metadata, type(hit.metadata)) == (other.metadata, dict)
            assert hit.score == pytest.approx(other.score, abs=SCORE)
        else:
            assert hit.score == pytest.approx(right[-1].score, abs=SCORE)


@pytest.fixture
def filled(backend: VectorBackend) -> VectorBackend:
    """With the corpus in it."""
    backend.upsert(CORPUS)
    return backend


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shortlist", ["all", 200])
def test_hits_are_those_of_brute_force(filled: VectorBackend, seed: int, shortlist: Any) -> None:
    query = clustered(12, 5 + 100 * seed)[seed]
    found = search(filled, query, shortlist=shortlist)
    right = brute(CORPUS, query, 10)
    if shortlist == "all":
        check(found, right)
        assert [hit.key for hit in found[:3]] == [hit.key for hit in right[:3]]
        assert [(hit.start_s, hit.end_s) for hit in found[:3]] == [
            (hit.start_s, hit.end_s) for hit in right[:3]
        ]
    else:
        assert len(found) == 10
        assert len({hit.key for hit in found} & {hit.key for hit in right}) >= 8


WHERES: list[Any] = [
    {}, {"rare": True}, {"rare": {"exists": False}}, {"genre": "jazz"}, {"genre": {"!=": "jazz"}},
    {"genre": {"in": ["dub", "folk", "none", 3, True]}}, {"genre": {"in": []}},
    {"year": {">=": 1950, "<": 1960.5}}, {"year": 1950.0}, {"year": True}, {"live": 1},
    {"live": True}, {"not": {"live": True}}, {"tags": {"has": "a"}}, {"tags": {"has": 3}},
    {"tags": "a"}, {"artist.name": "n3"}, {"artist": {"exists": True}}, {"artist": "n3"},
    {"tags.0": {"exists": True}}, {"gain": {">": 0.5}}, {"path": {"prefix": "d1/"}},
    {"key": "ключ"}, {"key": {"prefix": "clip02"}}, {"duration_s": {"<=": 5}}, {"duration_s": 10},
    {"or": [{"year": 1901}, {"and": [{"rare": True}, {"live": False}]}]},
    {"not": {"or": [{"genre": "jazz"}, {"year": {"<": 1990}}]}}, {"not": {}}, {"nothing": 1},
    {"genre": {"prefix": ""}}, {"genre": {"prefix": "ja"}, "year": {">": 1.5}},
    {"key": KEYS[3]}, {"year": {"exists": True}, "nope": {"exists": False}},
]  # fmt: skip


@pytest.mark.parametrize("shortlist", ["all", 40])
def test_filters_let_through_what_the_oracle_does(filled: VectorBackend, shortlist: Any) -> None:
    """Every selectivity, from all to none; never fewer hits than exist."""
    query = clustered(1, 77)[0]
    selectivities = set()
    # The client's own mode looks at every row in Python: seconds for all of them.
    is_slow = type(filled).__name__ == "QdrantBackend"
    for where in WHERES[:: 4 if is_slow else 1]:
        right = brute(CORPUS, query, CLIPS, where)
        found = search(filled, query, CLIPS, where, shortlist)
        assert {hit.key for hit in found} == {hit.key for hit in right}, where
        check(found, right)
        selectivities.add(len(right))
        few = search(filled, query, 3, where, shortlist)
        assert len(few) == min(3, len(right)), where
    assert {0, CLIPS} < selectivities


def test_texts_are_ordered_or_refused(filled: VectorBackend) -> None:
    query, where = clustered(1, 78)[0], {"genre": {">=": "dub", "<": "jazz"}}
    if "Qdrant" in type(filled).__name__:
        with pytest.raises(FilterError, match="no order of texts"):
            search(filled, query, CLIPS, where)
    else:
        found = search(filled, query, CLIPS, where)
        assert {hit.key for hit in found} == {hit.key for hit in brute(CORPUS, query, CLIPS, where)}


def test_more_than_exist_gives_all(filled: VectorBackend) -> None:
    query = clustered(1, 79)[0]
    for shortlist in ("all", None, 10):
        assert len(search(filled, query, 1000, shortlist=shortlist)) == CLIPS
    assert filled.count() == CLIPS


def test_hits_count_clips_though_one_has_all_near_windows(backend: VectorBackend) -> None:
    query = clustered(1, 80)[0]
    near = l2_normalize(query + 0.01 * power_law(200, 81))
    backend.upsert([ClipRows("long", near, np.zeros((200, 2)))])
    backend.upsert(clips_of([f"k{i}" for i in range(20)], power_law(20, 82)))
    found = search(backend, query, 10, shortlist=50)
    assert found[0].key == "long"
    assert len({hit.key for hit in found}) == 10


def test_ties_are_ordered_by_key(backend: VectorBackend) -> None:
    row = power_law(1, 9)
    keys = [f"t{i}" for i in (5, 3, 9, 1, 7, 0, 2, 8, 6, 4)] * 4
    keys = [f"{key}-{i // 10}" for i, key in enumerate(keys)] + ["é", "Z", "a", "鍵"]
    backend.upsert(clips_of(keys, np.repeat(row, len(keys), axis=0)))
    for k in (3, 10, 44):
        assert [hit.key for hit in search(backend, row[0], k)] == sorted(keys)[:k]


def test_upserts_replace_whole_clips(filled: VectorBackend) -> None:
    rows = power_law(5, 90)
    three = next(clip for clip in CORPUS if len(clip.vectors) == 3)
    changed = ClipRows(three.key, rows[:1], np.array([[0.0, 2.0]]), {"new": 1}, None, 2.0)
    filled.upsert([changed, *clips_of(["fresh"], rows[1:2])])
    clips = [*(clip for clip in CORPUS if clip.key != three.key), changed]
    clips += clips_of(["fresh"], rows[1:2])
    assert filled.count() == CLIPS + 1
    for query in (*rows, three.vectors[1], three.vectors[2]):
        check(search(filled, query, 20), brute(clips, query, 20))
    assert search(filled, rows[0], 1, {"new": 1})[0].end_s == 2.0
    filled.upsert([three])
    hit = search(filled, three.vectors[2], 1)[0]
    assert (hit.key, hit.start_s, hit.metadata) == (three.key, 10.0, three.metadata)


def test_deleted_clips_are_gone(filled: VectorBackend) -> None:
    gone = [clip.key for clip in CORPUS[::3]]
    filled.delete([*gone, "never there", "nul\0"])
    filled.delete([])
    kept = [clip for clip in CORPUS if clip.key not in set(gone)]
    assert filled.count() == len(kept)
    query = CORPUS[0].vectors[0]
    for shortlist in ("all", 20):
        found = search(filled, query, CLIPS, shortlist=shortlist)
        assert {hit.key for hit in found} == {clip.key for clip in kept}


def test_metadata_comes_back_as_it_was(backend: VectorBackend) -> None:
    odd: dict[str, Any] = {
        "": 1, "a.b": [1, [2, {"c": None}]], "quote'\"": "\\", "large": 2**63 - 1, "tiny": 5e-324,
        "huge": 1e300, "whole": 1.0, "minus": -0.0, "unicode": "\U0010ffff\u2028é", "none": None,
        "$where": {"$gt": ""}, "nested": {"path": {"key": "k"}}, "long": "x" * 10_000,
    }  # fmt: skip
    backend.upsert(clips_of(["odd"], power_law(1, 1), [odd]))
    [hit] = search(backend, power_law(1, 1)[0])
    assert json.dumps(hit.metadata, sort_keys=True) == json.dumps(odd, sort_keys=True)
    for where, is_found in (
        ({"large": 2**63 - 1}, True), ({"large": 2**63 - 2}, False), ({"whole": 1}, True),
        ({"huge": {">": 1e299}}, True), ({"nested.path.key": "k"}, True), ({"key": "k"}, False),
        ({"long": {"prefix": "xx"}}, True), ({"long": "x" * 4096}, False), ({"$where": 1}, False),
        ({"a.b": {"exists": True}}, False), ({"none": {"exists": True}}, False),
        ({"minus": 0}, True),
    ):  # fmt: skip
        assert bool(search(backend, power_law(1, 1)[0], where=where)) == is_found, where


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE x; --", '"}', "%s", "%(a)s", "$1", "\\", "') OR TRUE --", "\t=s", "{}"]
)
def test_nothing_in_keys_or_filters_is_run(filled: VectorBackend, text: str) -> None:
    query = power_law(1, 4)[0]
    filled.upsert(clips_of([text], query[None], [{"t": text}]))
    for where in ({"t": text}, {"key": text}, {"t": {"in": [text]}}, {"t": {"prefix": text}}):
        assert [hit.key for hit in search(filled, query, where=where)] == [text]
    assert not search(filled, query, where={"t": text + "x"})
    for name in ("t' OR TRUE --", "t) OR (1=1", "%s", "t[]", "$", "a-b c"):
        assert not search(filled, query, where={name: text})
        assert len(search(filled, query, 999, {name: {"exists": False}})) == CLIPS + 1
    filled.delete([text])
    assert filled.count() == CLIPS


def test_what_is_no_vector_is_refused(filled: VectorBackend) -> None:
    good = power_law(1, 2)
    nan = good.copy()
    nan[0, 7] = np.nan
    for bad in (good[:, :64], nan, 3 * good, np.zeros_like(good), good[:0], good.astype(str)):
        with pytest.raises(ArrayError):
            filled.upsert([ClipRows("bad", bad, np.zeros((len(bad), 2)))])
    with pytest.raises(CollectionError):
        filled.upsert(clips_of(["twice", "once", "twice"], power_law(3, 2)))
    for key in ("", "nul\0", "\ud800", 3):
        with pytest.raises(CollectionError):
            filled.upsert([ClipRows(key, good, np.zeros((1, 2)))])  # type: ignore[arg-type]
    [row] = good
    for prefix, full in (
        (truncate(row, 32), row[:100]), (truncate(row, 32), nan[0]), (row[:32], row),
        (truncate(row, 64), row), (truncate(row, 32), 2 * row),
    ):  # fmt: skip
        with pytest.raises(ArrayError):
            filled.search(prefix, full, 3)
    for k in (0, -1, True, 10**9):
        with pytest.raises(CollectionError):
            filled.search(truncate(row, 32), row, k)
    with pytest.raises(FilterError):
        search(filled, row, where={"year": {"~": 1}})
    assert filled.count() == CLIPS


def test_an_empty_backend_finds_nothing(backend: VectorBackend) -> None:
    backend.upsert([])
    assert (backend.count(), search(backend, power_law(1, 3)[0], where={"a": 1})) == (0, [])


def test_the_callers_arrays_stay_as_they_are(backend: VectorBackend) -> None:
    vectors, spans = power_law(2, 6), np.array([[0.0, 5.0], [5.0, 7.0]])
    before = vectors.copy(), spans.copy()
    backend.upsert([ClipRows("k", vectors, spans)])
    search(backend, vectors[0])
    assert (vectors == before[0]).all()
    assert (spans == before[1]).all()


def test_a_place_keeps_its_space(place: Place) -> None:
    url = place()
    with pytest.raises(NotFoundError):
        open_backend(url)
    with pytest.raises(NotFoundError):
        open_backend(url, space=SPACE)
    opened = open_backend(url, space=SPACE, create=True)
    opened.upsert(CORPUS[:20])
    opened.close()
    opened.close()
    with pytest.raises(ClosedError):
        opened.count()
    for other in ("6" * 64, 512), (SPACE.space_id, 256):
        space = type(SPACE)(*other)
        for create in (False, True):
            with pytest.raises(SpaceMismatchError, match="5555"):
                open_backend(url, space=space, create=create)
    again = open_backend(url)
    try:
        assert (again.space, again.count()) == (SPACE, 20)
        query = CORPUS[3].vectors[0]
        check(search(again, query), brute(CORPUS[:20], query, 10))
    finally:
        again.close()


def test_unknown_urls_are_refused() -> None:
    for url in ("mysql://h/d", "qdrant+other://x", "http://h"):
        with pytest.raises(CollectionError, match="unknown"):
            open_backend(url)
    with pytest.raises(CollectionError, match="space"):
        open_backend("x", create=True)
    with pytest.raises(ClapError):
        open_backend("postgresql://h/d?table=a;b")
