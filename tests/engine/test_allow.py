"""Laws of filtered searches: what brute force over the allowed rows finds, never fewer hits."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_embedder import FakeEmbedder, hashed, power_law, sound_of
from filter_oracle import matches
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from clap_engine import allow, filters, planner
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.collection import Clip, Collection, SearchResult
from clap_engine.errors import CollectionError, FilterError, IntegrityError
from clap_engine.index import coarse, vectors
from clap_engine.records import Granularity
from clap_engine.states import DATABASE

needs_hnswlib = pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")
ROWS = 4000


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as opened:
        yield opened


def numbered(sounds: Collection, packed: Float32, start: int = 0) -> None:
    """Clip i of one window, with metadata {"i": i, "even": ..., "tags": [...]}."""
    count = range(start, start + len(packed))
    report = sounds.add(
        [sound_of(row) for row in packed],
        keys=[f"k{i:06d}" for i in count],
        metadata=[{"i": i, "even": i % 2 == 0, "tags": [f"t{i % 5}"]} for i in count],
    )
    assert not report.failed


def brute_force(
    packed: Float32, query: Float32, k: int, is_allowed: Callable[[int], bool]
) -> list[str]:
    scores = vectors.pack(packed).astype(np.float64) @ query.astype(np.float64)
    ranked = sorted((-score, f"k{i:06d}") for i, score in enumerate(scores) if is_allowed(i))
    return [key for _, key in ranked[:k]]


def keys(result: SearchResult) -> list[str]:
    return [hit.key for hit in result.hits]


# Any selectivity, any plan


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collection, Float32]]:
    """ROWS clips in a generation, 200 more in the tail, each 50th removed; with a graph."""
    packed = power_law(ROWS + 200, seed=41)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 0)
        path = tmp_path_factory.mktemp("large") / "c"
        with Collection.open(path, embedder=FakeEmbedder(), create=True) as sounds:
            numbered(sounds, packed[:ROWS])
            sounds.rebuild()
            numbered(sounds, packed[ROWS:], start=ROWS)
            for i in range(0, ROWS + 200, 50):
                sounds.remove(f"k{i:06d}")
            yield sounds, packed


SHARES = [0.001, 0.003, 0.01, 0.05, 0.1, 0.3, 0.6, 0.999, 1.0]


@needs_hnswlib
@pytest.mark.parametrize("rows_per_candidate", [0, 10**9], ids=["graph", "scan"])
@pytest.mark.parametrize("share", SHARES)
def test_a_filtered_search_finds_what_brute_force_finds(
    large: tuple[Collection, Float32], monkeypatch: pytest.MonkeyPatch,
    rows_per_candidate: int, share: float,
) -> None:  # fmt: skip
    """Exactly with shortlist="all"; at least .99 of it by default; k hits whenever there are."""
    sounds, packed = large
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", rows_per_candidate)
    chosen = np.flatnonzero(np.random.default_rng(42).random(len(packed)) < share)
    chosen = chosen if share < 1 else np.arange(len(packed))
    alive = {int(i) for i in chosen if i % 50}
    where: dict[str, Any] = {"i": {"in": chosen.tolist()}}
    found = 0
    queries = power_law(10, seed=43)
    for query in queries:
        truth = brute_force(packed, query, 10, alive.__contains__)
        assert keys(sounds.search(query, where=where, shortlist="all")) == truth
        result = sounds.search(query, where=where)
        assert len(result.hits) == min(10, len(alive))
        assert {int(key[1:]) for key in keys(result)} <= alive
        assert result.plan.rows == len(alive)
        found += len({*truth} & {*keys(result)})
    assert found / (len(queries) * min(10, max(1, len(alive)))) >= 0.99
    is_graph = rows_per_candidate == 0 and share >= 0.3
    assert result.plan.index == ("hnsw" if is_graph else "flat" if len(alive) > 1000 else "exact")


@needs_hnswlib
@pytest.mark.parametrize("far", [True, False])
def test_the_graph_gives_way_where_what_is_near_is_not_allowed(
    large: tuple[Collection, Float32], far: bool
) -> None:
    """A filter that lets through the half farthest from the query: a graph finds none of it."""
    sounds, packed = large
    query = power_law(1, seed=44)[0]
    scores = packed @ query
    half = np.flatnonzero((scores < np.median(scores)) == far)
    allowed = {int(i) for i in half if i % 50}
    result = sounds.search(query, where={"i": {"in": half.tolist()}})
    assert keys(result) == brute_force(packed, query, 10, allowed.__contains__)
    assert result.plan.index == ("flat" if far else "hnsw")


def test_without_hnswlib_the_scan_serves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse, "is_available", lambda: False)
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 0)
    packed = power_law(1500, seed=45)
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as sounds:
        numbered(sounds, packed)
        sounds.rebuild()
        for where, count in (({"even": True}, 750), ({"tags": {"has": "t3"}}, 300), ({}, 1500)):
            result = sounds.search(packed[3], k=400, where=where)
            assert len(result.hits) == min(400, count)
            assert result.plan.index in ("flat", "exact")


def test_a_filter_counts_clips_not_windows(sounds: Collection) -> None:
    """Long clips are allowed whole; one of 3,000 windows does not fill the shortlist."""
    query = power_law(1, seed=46)[0]
    long = l2_normalize(query + 0.02 * power_law(3000, seed=47))
    others = power_law(40, seed=48)
    sounds.add([sound_of(long), *map(sound_of, others)], keys=["long", *map(str, range(40))],
               metadata=[{"in": True}] + [{"in": i % 2 == 0} for i in range(40)])  # fmt: skip
    result = sounds.search(query, k=10, where={"in": True}, shortlist=50)
    assert len({*keys(result)}) == 10
    assert keys(result) == keys(sounds.search(query, k=10, where={"in": True}, shortlist="all"))
    assert len(sounds.search(query, k=50, where={"in": True}).hits) == 21


def test_reserved_fields_are_facts_of_the_clip(tmp_path: Path, sounds: Collection) -> None:
    files = []
    for name in ("a/one.wav", "a/two.wav", "b/three.wav"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode())
        files.append(file)
    sounds.add(files, root=tmp_path, metadata=[{"key": "x", "path": "y"}] * 3)
    assert {*keys(sounds.search("q", where={"key": {"prefix": "a/"}}))} == {
        "a/one.wav",
        "a/two.wav",
    }
    assert keys(sounds.search("q", where={"path": str(files[2])})) == ["b/three.wav"]
    assert keys(sounds.search("q", where={"key": "x"})) == []
    longest = max(1 + len(file.read_bytes()) % 4 for file in files) * 5.0
    assert len(sounds.search("q", where={"duration_s": {"<=": longest}}).hits) == 3


def test_what_is_no_filter_is_refused_before_anything_is_embedded(sounds: Collection) -> None:
    with pytest.raises(FilterError):
        sounds.search(Clip("no such file"), where={"year": {"near": 5}})


# After changes


def test_a_kept_filter_follows_adds_removals_amendments_and_generations(sounds: Collection) -> None:
    packed = power_law(300, seed=49)
    numbered(sounds, packed[:100])
    where = {"even": True}

    def found() -> set[str]:
        return {*keys(sounds.search(packed[0], k=1000, where=where))}

    def expected(count: int, gone: set[int] = frozenset()) -> set[str]:  # type: ignore[assignment]
        return {f"k{i:06d}" for i in range(0, count, 2) if i not in gone}

    assert found() == expected(100)
    numbered(sounds, packed[100:200], start=100)
    assert found() == expected(200)
    sounds.remove("k000004")
    sounds.remove("k000150")
    assert found() == expected(200, {4, 150})
    sounds.rebuild()
    assert found() == expected(200, {4, 150})
    numbered(sounds, packed[200:], start=200)
    sounds.remove("k000006")
    assert found() == expected(300, {4, 150, 6})
    # The same sound with other metadata: no row changes, what may be found does.
    sounds.add([sound_of(packed[8])], keys=["k000008"], metadata=[{"even": False}])
    sounds.add([sound_of(packed[9])], keys=["k000009"], metadata=[{"even": True}])
    assert found() == expected(300, {4, 150, 6, 8}) | {"k000009"}


def test_a_filter_that_is_kept_asks_only_for_new_clips(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    matching = allow.Catalogue.matching

    def counted(self: Any, tree: filters.Filter, after_clip: int = 0) -> Any:
        asked.append(after_clip)
        return matching(self, tree, after_clip)

    monkeypatch.setattr(allow.Catalogue, "matching", counted)
    packed = power_law(60, seed=50)
    numbered(sounds, packed[:50])
    for _ in range(3):
        sounds.search(packed[0], where={"even": True})
    assert asked == [0, 50]  # all clips, on the own connection; then those since, of which none
    numbered(sounds, packed[50:], start=50)
    sounds.remove("k000002")
    sounds.search(packed[0], where={"even": True})
    assert asked[2:] == [50]
    for i in range(allow.KEPT_FILTERS):
        sounds.search(packed[0], where={"i": i})
    asked.clear()
    sounds.search(packed[0], where={"even": True})
    assert 0 in asked  # forgotten: others were used later


def test_filters_that_differ_by_one_and_true_are_not_mixed_up(sounds: Collection) -> None:
    sounds.add(
        [b"a", b"b", b"c"], keys=["a", "b", "c"], metadata=[{"x": 1}, {"x": True}, {"x": 1.0}]
    )
    assert {*keys(sounds.search("q", where={"x": 1}))} == {"a", "c"}
    assert {*keys(sounds.search("q", where={"x": True}))} == {"b"}
    assert {*keys(sounds.search("q", where={"x": 1.0}))} == {"a", "c"}


class Program(RuleBasedStateMachine):
    """Random changes; after each, filtered searches equal the oracle over what is stored."""

    granularity: Granularity = "window"
    WHERES = ({"a": 1}, {"a": {"!=": 1}}, {"not": {"a": 1}}, {"a": {"exists": False}}, {})

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.sounds = Collection.open(
            self.folder / "c", embedder=FakeEmbedder(), create=True, granularity=self.granularity
        )
        self.stored: dict[str, dict[str, Any]] = {}

    def teardown(self) -> None:
        self.sounds.close()
        shutil.rmtree(self.folder)

    names = st.sampled_from([f"k{i}" for i in range(8)])
    facts = st.dictionaries(st.just("a"), st.sampled_from([0, 1, True, None]), max_size=1)

    @initialize(count=st.integers(0, 8))
    def begin(self, count: int) -> None:
        for i in range(count):
            self.add(f"k{i}", {"a": i % 2}, i)

    @rule(key=names, facts=facts, seed=st.integers(0, 2))
    def add(self, key: str, facts: dict[str, Any], seed: int) -> None:
        self.sounds.add([f"{key}{seed}".encode()], keys=[key], metadata=[facts])
        self.stored[key] = facts

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.stored)))
        assert self.sounds.remove(key)
        del self.stored[key]

    @rule()
    def rebuild(self) -> None:
        self.sounds.rebuild()

    @rule(field=st.sampled_from([[], ["a"], ["a", "key"]]))
    def declare(self, field: list[str]) -> None:
        self.sounds.declare_filters(field)

    @rule(where=st.sampled_from(WHERES))
    def search(self, where: dict[str, Any]) -> None:
        tree = filters.parse(where)
        right = {key for key, facts in self.stored.items() if matches(tree, facts, key=key)}
        assert {*keys(self.sounds.search("q", k=20, where=where))} == right


Program.TestCase.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
TestProgram = Program.TestCase


class ProgramByMeans(Program):
    """The same where means lead to windows."""

    granularity: Granularity = "both"


ProgramByMeans.TestCase.settings = Program.TestCase.settings
TestProgramByMeans = ProgramByMeans.TestCase


def test_eight_threads_filter_while_one_writes(sounds: Collection) -> None:
    """Each answer is of one committed state: whole batches of 32, each key with its metadata."""
    packed = power_law(640, seed=51)
    numbered(sounds, packed[:320])
    errors: list[BaseException] = []
    is_done = threading.Event()

    def read(number: int) -> None:
        where = {"even": number % 2 == 0}
        try:
            while not is_done.is_set():
                result = sounds.search(packed[number], k=1000, where=where)
                assert all(hit.metadata["even"] == where["even"] for hit in result.hits)
                assert len(result.hits) >= 160 - 40
        except BaseException as error:  # noqa: BLE001 - told in the main thread
            errors.append(error)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    try:
        for start in range(320, 640, 40):
            numbered(sounds, packed[start : start + 40], start=start)
            sounds.remove(f"k{start - 320:06d}")
        sounds.add([sound_of(packed[1])], keys=["k000001"], metadata=[{"even": True}])
        sounds.rebuild()
    finally:
        is_done.set()
        for thread in threads:
            thread.join(60)
    assert not errors, errors
    assert len(sounds.search(packed[0], k=1000, where={"even": True}).hits) == 320 - 8 + 1


# Declared fields


def test_declared_fields_stay_with_the_collection_and_change_no_answer(tmp_path: Path) -> None:
    packed = power_law(50, seed=52)
    path = tmp_path / "c"
    with Collection.open(path, embedder=FakeEmbedder(), create=True) as sounds:
        numbered(sounds, packed)
        before = keys(sounds.search(packed[0], k=50, where={"i": {">=": 10}}))
        sounds.declare_filters(["i", "deep.er", "it's", "key"])
        assert sounds.info()["filters"] == ["deep.er", "i", "it's", "key"]
        assert keys(sounds.search(packed[0], k=50, where={"i": {">=": 10}})) == before
    with Collection.open(path, embedder=FakeEmbedder()) as sounds:
        assert sounds.info()["filters"] == ["deep.er", "i", "it's", "key"]
        sounds.declare_filters(["i"])
        assert sounds.info()["filters"] == ["i"]
        assert sounds.verify() == []
        with pytest.raises(FilterError):
            sounds.declare_filters(['i"'])
        with pytest.raises(CollectionError, match="list"):
            sounds.declare_filters("i")
        numbered(sounds, power_law(10, seed=53), start=50)
        assert len(sounds.search(packed[0], k=99, where={"i": {">=": 10}}).hits) == 50
    with Collection.open(path, read_only=True) as sounds:
        assert len(sounds.search(packed[0], k=99, where={"i": {">=": 10}}).hits) == 50
        with pytest.raises(CollectionError, match="read_only"):
            sounds.declare_filters(["i"])


def with_index(tmp_path: Path) -> sqlite3.Connection:
    """A collection of five clips with an index on `i`, closed; a stranger's connection to it."""
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as sounds:
        numbered(sounds, power_law(5, seed=54))
        sounds.declare_filters(["i"])
    db = sqlite3.connect(tmp_path / "c" / DATABASE)
    db.execute("PRAGMA writable_schema = ON")
    return db


def test_an_index_that_lost_an_entry_is_found_by_verify(tmp_path: Path) -> None:
    db = with_index(tmp_path)
    [row] = db.execute("SELECT * FROM sqlite_master WHERE name = 'filter:i'").fetchall()
    db.execute("DELETE FROM sqlite_master WHERE name = 'filter:i'")
    db.commit()
    db.close()
    # Without its line in the schema the index is not kept up: a clip that goes leaves its entry.
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as sounds:
        sounds.remove("k000002")
    db = sqlite3.connect(tmp_path / "c" / DATABASE)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
    db.commit()
    db.close()
    with Collection.open(tmp_path / "c", read_only=True) as sounds:
        assert "filter:i" in " ".join(sounds.verify())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sqlite_master SET sql = replace(sql, 'i', 'j') WHERE name = 'filter:i'",
        "UPDATE sqlite_master SET name = 'other' WHERE name = 'filter:i'",
        "CREATE TRIGGER t AFTER INSERT ON clips BEGIN DELETE FROM windows; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX n ON clips (path)",
    ],
)
def test_a_schema_that_could_run_what_we_did_not_write_is_refused(
    tmp_path: Path, change: str
) -> None:
    db = with_index(tmp_path)
    db.execute(change)
    db.commit()
    db.close()
    with pytest.raises(IntegrityError):
        Collection.open(tmp_path / "c", read_only=True)


def test_only_declared_fields_change_the_format(sounds: Collection) -> None:
    """An older release refuses the other format by its number; SQLite 3.40 could not read it."""
    assert sounds.info()["format"] == 1
    sounds.declare_filters(["i"])
    assert sounds.info()["format"] == 2
    sounds.declare_filters([])
    assert (sounds.info()["format"], sounds.info()["filters"]) == (1, [])


def test_a_rotten_record_that_a_filter_meets_is_told(tmp_path: Path) -> None:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as sounds:
        numbered(sounds, power_law(5, seed=55))
    db = sqlite3.connect(tmp_path / "c" / DATABASE)
    db.execute("UPDATE clips SET metadata = substr(metadata, 2) WHERE key = 'k000003'")
    db.commit()
    db.close()
    with (
        Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as sounds,
        pytest.raises(IntegrityError),
    ):
        sounds.search(hashed(b"x", 1)[0], where={"i": 1})
