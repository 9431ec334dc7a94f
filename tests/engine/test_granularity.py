"""Laws of granularity: means lead to windows, exact stays exact, what was made so stays so."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_embedder import DIM, FakeEmbedder, power_law, sound_of

from clap_engine import planner, probes, schema, tune
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.collection import Collection, Near, SearchResult
from clap_engine.engine import clip_embedding
from clap_engine.errors import CollectionError, IntegrityError, RebuildWarning
from clap_engine.index import coarse, columns, generation, truth, vectors
from clap_engine.index.generation import PREFIX_DIM, Block
from clap_engine.index.tail import Tail
from clap_engine.index.view import View
from clap_engine.plan_runs import PlanRuns
from clap_engine.records import GRANULARITIES, Granularity, NewClip, Rows
from clap_engine.states import DATABASE

needs_hnswlib = pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")
CLIPS, TAIL = 1500, 60


def clips_of(count: int, seed: int, spread: float = 0.7) -> list[Float32]:
    """Clips of one to seven windows about a centre of their own."""
    rng = np.random.default_rng([seed, 1])
    lengths = rng.integers(1, 8, count)
    centres, noise = power_law(count, seed), power_law(int(lengths.sum()), seed + 1)
    rows = l2_normalize(np.repeat(centres, lengths, axis=0) + spread * noise)
    return np.split(rows, np.cumsum(lengths)[:-1])


def put(sounds: Collection, clips: list[Float32], start: int = 0) -> None:
    new = []
    for i, rows in enumerate(clips, start):
        ends = 5.0 * np.arange(1, len(rows) + 1)
        facts = json.dumps({"i": i, "even": i % 2 == 0})
        new.append(
            NewClip(f"k{i:06d}", None, None, None, "", float(ends[-1]), facts,
                    vectors.pack(rows), np.stack([ends - 5, ends], axis=1))
        )  # fmt: skip
    sounds.put(new)


def made(path: Path, clips: list[Float32], granularity: Granularity = "both") -> Collection:
    sounds = Collection.open(path, embedder=FakeEmbedder(), create=True, granularity=granularity)
    put(sounds, clips)
    return sounds


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collection, list[Float32]]]:
    """CLIPS in a generation with a graph, TAIL more behind it, each 50th removed."""
    clips = clips_of(CLIPS + TAIL, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 0)
        with made(tmp_path_factory.mktemp("both") / "c", clips[:CLIPS]) as sounds:
            sounds.rebuild()
            put(sounds, clips[CLIPS:], start=CLIPS)
            for i in range(0, CLIPS + TAIL, 50):
                sounds.remove(f"k{i:06d}")
            yield sounds, clips


def shortlisted(
    clips: list[Float32], query: Float32, count: int, is_allowed: Any = lambda i: True
) -> list[int]:
    """The clips whose means' prefixes are nearest, those removed left out."""
    alive = [i for i in range(len(clips)) if i % 50 and is_allowed(i)]
    means = [vectors.pack(clips[i]).astype(np.float64).mean(axis=0)[:PREFIX_DIM] for i in alive]
    near = [float(mean @ query[:PREFIX_DIM] / np.linalg.norm(mean)) for mean in means]
    return [alive[at] for at in np.argsort(-np.array(near))[:count]]


def best_of(clips: list[Float32], query: Float32, some: list[int], k: int) -> list[str]:
    """The keys of those of `some` clips whose best windows are best."""
    scores = {i: (vectors.pack(clips[i]).astype(np.float64) @ query).max() for i in some}
    return [f"k{i:06d}" for i in sorted(some, key=lambda i: -scores[i])[:k]]


def keys(result: SearchResult) -> list[str]:
    return [hit.key for hit in result.hits]


# Columns


@pytest.mark.parametrize("dim", [1, 32, DIM])
def test_a_mean_depends_on_its_own_rows_alone(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    """Bitwise: in whatever company, whatever is widened at a time."""
    packed = vectors.pack(power_law(300, seed=2))
    starts = np.array([0, 1, 3, 60, 61, 200, 300])
    whole = columns.means(packed, starts, dim)
    monkeypatch.setattr(columns, "_ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(columns.means(packed, starts, dim), whole)
    for i in range(len(starts) - 1):
        alone = packed[starts[i] : starts[i + 1]]
        (mean,) = columns.means(alone, np.array([0, len(alone)]), dim)
        np.testing.assert_array_equal(mean, whole[i])
        exact = alone.astype(np.float64)[:, :dim].mean(axis=0)
        np.testing.assert_allclose(mean, exact / np.linalg.norm(exact), atol=1e-6)


def test_rows_and_columns_lead_to_each_other() -> None:
    clips = np.array([3, 3, 3, 5, 9, 9])
    starts = columns.starts_of(clips)
    assert starts.tolist() == [0, 3, 4, 6]
    assert columns.starts_of(clips[:0]).tolist() == [0]
    packed = vectors.pack(power_law(6, seed=3))
    block = Block(
        packed, np.zeros((PREFIX_DIM, 3), np.float32), np.arange(6), clips, np.zeros((6, 2)), starts
    )
    assert block.rows_of(np.array([0, 2])).tolist() == [0, 1, 2, 4, 5]
    assert block.rows_of(np.zeros(0, np.int64)).tolist() == []
    assert block.columns_of(np.array([1, 2, 4])).tolist() == [0, 2]
    assert block.columns_of(np.zeros(0, np.int64)).tolist() == []


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
def test_batches_are_cut_between_clips(batch: int) -> None:
    clips = np.sort(np.random.default_rng(4).integers(0, 9, 60))
    packed = vectors.pack(power_law(60, seed=4))
    rows = np.arange(60)

    def part(start: int, stop: int) -> Rows:
        some = slice(start, stop)
        return Rows(rows[some], clips[some], np.zeros((len(rows[some]), 2)), packed[some])

    found = list(columns.whole_clips(part(i, i + batch) for i in range(0, 60, batch)))
    np.testing.assert_array_equal(np.concatenate([one.rows for one in found]), rows)
    np.testing.assert_array_equal(np.concatenate([one.vectors for one in found]), packed)
    owners = [clip for one in found for clip in np.unique(one.clips).tolist()]
    assert owners == sorted(set(owners))


def test_a_tail_and_a_generation_make_the_same_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise, though the tail took them commit by commit and the rebuild in batches of rows."""
    monkeypatch.setattr(planner, "is_generation_due", lambda base, stale: False)
    clips = clips_of(2000, seed=5)
    with made(tmp_path / "c", clips[:900]) as sounds:
        sounds._states.refresh()
        put(sounds, clips[900:], start=900)
        sounds.remove("k000950")
        view = sounds._states.refresh()
        assert (view.tail.columns, view.columns, len(view.base)) == (2000, 1999, 0)
        sounds.rebuild()
        base = sounds._states.refresh().base
        alive = np.arange(2000) != 950
        np.testing.assert_array_equal(base.prefixes, view.tail.prefixes[:, alive])
        assert sounds.verify() == []


def test_a_tail_grows_by_whole_clips() -> None:
    tail = Tail(DIM, by_clip=True)
    packed = vectors.pack(power_law(4000, seed=6))
    clips = np.arange(4000) // 5
    first = None
    for start in range(0, 4000, 400):
        some = slice(start, start + 400)
        tail.append(Rows(np.arange(4000)[some], clips[some], np.zeros((400, 2)), packed[some]))
        first = first or tail.block()
    assert (first.columns, tail.block().columns) == (80, 800)
    for block in (first, tail.block()):
        again = block.with_dim(PREFIX_DIM)
        np.testing.assert_array_equal(block.prefixes, again.prefixes)
        assert block.starts is not None
        assert block.starts.tolist() == list(range(0, len(block) + 1, 5))


# Searching by means


@needs_hnswlib
@pytest.mark.parametrize("rows_per_candidate", [0, 10**9], ids=["graph", "scan"])
@pytest.mark.parametrize("where", [None, {"even": True}, {"i": {"<": 120}}])
def test_means_lead_to_all_windows_of_their_clips(
    large: tuple[Collection, list[Float32]], monkeypatch: pytest.MonkeyPatch,
    rows_per_candidate: int, where: dict[str, Any] | None,
) -> None:  # fmt: skip
    """A shortlist of clips by brute force over means, then their best windows; "all" is exact."""
    sounds, clips = large
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", rows_per_candidate)
    is_allowed = {
        None: lambda i: True, "even": lambda i: i % 2 == 0, "i": lambda i: i < 120,
    }[None if where is None else next(iter(where))]  # fmt: skip
    alive = [i for i in range(len(clips)) if i % 50 and is_allowed(i)]
    same = 0
    for query in power_law(10, seed=7):
        found = sounds.search(query, where=where, shortlist="all")
        assert keys(found) == best_of(clips, query, alive, 10)
        assert (found.plan.counts, found.plan.rows) == ("clips", len(alive))
        found = sounds.search(query, where=where, shortlist=60, explain=True)
        expected = best_of(clips, query, shortlisted(clips, query, 60, is_allowed), 10)
        same += len(set(keys(found)) & set(expected))
        assert found.explain is not None
        coarse_stage, rerank = found.explain.stages
        assert coarse_stage.name == ("flat" if where and "i" in where else found.plan.index)
        assert (coarse_stage.candidates_in, coarse_stage.candidates_out) == (len(alive), 60)
        assert rerank.candidates_out == 60
        assert rerank.candidates_in > 60
    assert same >= 98  # a graph misses a few


@pytest.mark.parametrize("k", [1, 10, 200, 2000])
def test_there_are_k_hits_wherever_there_are_k_clips(
    large: tuple[Collection, list[Float32]], k: int
) -> None:
    sounds, _ = large
    for where, count in ((None, len(sounds)), ({"i": {"<": 33}}, 32)):
        assert len(sounds.search(power_law(1, seed=8)[0], k, where=where).hits) == min(k, count)


@needs_hnswlib
@pytest.mark.parametrize("rows_per_candidate", [0, 10**9], ids=["graph", "scan"])
@pytest.mark.parametrize("where", [None, {"even": True}])
def test_a_batch_finds_what_single_searches_find(
    large: tuple[Collection, list[Float32]], monkeypatch: pytest.MonkeyPatch,
    rows_per_candidate: int, where: dict[str, Any] | None,
) -> None:  # fmt: skip
    sounds, _ = large
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", rows_per_candidate)
    queries = list(power_law(9, seed=9))
    together = sounds.search_batch(queries, where=where, shortlist=200)
    for query, found in zip(queries, together, strict=True):
        alone = sounds.search(query, where=where, shortlist=200)
        # The last of a shortlist may differ by the rounding of a wider product.
        assert len(set(keys(alone)) & set(keys(found))) >= 9
        assert alone.plan == found.plan


def test_near_collapse_and_diversity_look_at_windows(tmp_path: Path) -> None:
    clips = clips_of(300, seed=10)
    clips[7] = np.concatenate([clips[3], clips[7]])  # shares its best windows with clip 3
    with made(tmp_path / "c", clips) as sounds:
        near = sounds.search(Near("k000003"), k=5)
        mean = clip_embedding(vectors.widen(vectors.pack(clips[3])))
        assert keys(near) == keys(sounds.search(mean, k=5))
        assert near.hits[0].key == "k000003"
        query = clips[3][0]
        folded = sounds.search(query, k=5, collapse=0.999)
        assert folded.hits[0].duplicates == ("k000007",)
        varied = sounds.search(query, k=5, diversity=0.9)
        assert len({*keys(varied)} & {"k000003", "k000007"}) == 1


def test_what_leads_nowhere_is_found_by_no_one(tmp_path: Path) -> None:
    """Windows that cancel out have no mean: shortlists pass them over, exact search doesn't."""
    clips = clips_of(1200, seed=11)
    clips[5] = np.concatenate([clips[5][:1], -clips[5][:1]])
    with made(tmp_path / "c", clips) as sounds:
        sounds.rebuild()
        query = clips[5][0]
        assert keys(sounds.search(query, k=1, shortlist="all")) == ["k000005"]
        assert keys(sounds.search(query, k=1, shortlist=100)) != ["k000005"]
        assert sounds.verify() == []


# Tuning


@pytest.mark.parametrize("tail", [0, 700])
def test_ranks_of_clips_are_brute_force(monkeypatch: pytest.MonkeyPatch, tail: int) -> None:
    monkeypatch.setattr(truth, "_ROWS_AT_ONCE", 100)
    monkeypatch.setattr(truth, "_CLIPS_AT_ONCE", 3)
    rows = power_law(1400, seed=12)
    packed = vectors.pack(rows)
    owners = np.arange(1400) // 7

    def block(some: slice) -> Block:
        clips = owners[some]
        empty = np.zeros((PREFIX_DIM, 0), np.float32)
        part = Block(packed[some], empty, np.arange(1400)[some], clips,
                     np.zeros((len(clips), 2)), columns.starts_of(clips))  # fmt: skip
        return part.with_dim(PREFIX_DIM)

    view = dataclasses.replace(
        View.of(None, DIM, by_clip=True), base=block(slice(1400 - tail)),
        tail=block(slice(1400 - tail, None)), base_dead=np.arange(14),
    )  # fmt: skip
    assert (view.columns, view.rows) == (198, 1386)
    queries, own = power_law(8, seed=13), np.array([-1, 3, 5, 7, 11, 13, 17, 100])
    true = truth.nearest(view, queries, own, 4)
    found = truth.clip_ranks(view, queries, own, true, [32, 64])
    for at, dim in enumerate((32, 64)):
        means = columns.means(packed, columns.starts_of(owners), dim)
        near = l2_normalize(queries[:, :dim]) @ means.T
        for i in range(len(queries)):
            alive = near[i].copy()
            alive[[0, 1, *([own[i]] if own[i] >= 0 else [])]] = -np.inf
            bars = alive[true.positions[i] // 7]
            expected = [int((alive >= bar - 2e-6).sum()) for bar in bars]
            np.testing.assert_allclose(found[at, i], expected, atol=1)


@pytest.mark.parametrize("target", [0.9, 0.99])
def test_a_tuned_plan_keeps_its_promise_against_windows(tmp_path: Path, target: float) -> None:
    """3,000 clips; 300 queries tune, 100 others find target - .015 of the exact windows' clips."""
    with made(tmp_path / "c", clips_of(3000, seed=14)) as sounds:
        report = sounds.tune(target, queries=list(power_law(300, seed=15)))
        assert report.is_met
        assert report.tuning.rows == 3000
        assert {trial.plan.counts for trial in report.trials} == {"clips"}
        found, queries = 0, power_law(100, seed=16)
        for query in queries:
            right = {*keys(sounds.search(query, shortlist="all"))}
            result = sounds.search(query, explain=True)
            found += len(right & {*keys(result)})
            assert result.plan.source == "tuned"
            assert result.explain is not None
        assert found / (10 * len(queries)) >= target - 0.015
        assert "3000 clips" in result.explain.reason


def test_a_middle_rung_thins_out_windows(tmp_path: Path) -> None:
    clips = clips_of(3000, seed=17)
    with made(tmp_path / "c", clips) as sounds:
        tuning = sounds.tune(0.9, queries=list(power_law(30, seed=18))).tuning
        kept = dataclasses.replace(
            tuning, index="flat", coarse_dim=64, shortlist=1000, middle_dim=128, kept=1500
        )
        sounds._open_writer().put_tuning(kept)
        sounds.rebuild()
        result = sounds.search(power_law(1, seed=19)[0], explain=True)
        assert result.explain is not None
        names = [(stage.name, stage.candidates_out) for stage in result.explain.stages[:2]]
        assert names == [("flat", 1000), ("middle", 1500)]
        right = sounds.search(power_law(1, seed=19)[0], shortlist="all")
        assert len({*keys(result)} & {*keys(right)}) >= 9


def test_the_promise_of_means_can_fail(tmp_path: Path) -> None:
    """Its control: where windows differ much, few clips by means hold few of the true ones."""
    with made(tmp_path / "c", clips_of(2000, seed=20, spread=2.0)) as sounds:
        view = sounds._states.refresh()
        asked = probes.of_vectors(power_law(50, seed=21), "given")
        known = truth.nearest(view, asked.vectors, asked.own, 10)
        runs = PlanRuns(asked, known, 10, view.rows)
        short = planner.Plan("flat", 2000, 40, (32, DIM), counts="clips")
        assert (runs.measured(tune._with_dim(view, 32), short).recall or 0) < 0.7


# What was made so stays so


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_it_is_recorded_and_shown(tmp_path: Path, granularity: Granularity) -> None:
    with made(tmp_path / "c", clips_of(20, seed=22), granularity) as sounds:
        assert sounds.info()["granularity"] == granularity
        expected = 20 if granularity == "clip" else sum(map(len, clips_of(20, seed=22)))
        assert sounds.info()["windows"] == expected
        sounds.declare_filters(["i"])
        sounds.declare_filters([])
    for wanted in (None, granularity):
        with Collection.open(tmp_path / "c", read_only=True, granularity=wanted) as sounds:
            assert sounds.info()["granularity"] == granularity
            assert sounds.info()["format"] == (1 if granularity == "window" else schema.GRAINED)
    for other in set(GRANULARITIES) - {granularity}:
        for create in (False, True):
            with pytest.raises(CollectionError, match=f"granularity {granularity}, and {other}"):
                Collection.open(
                    tmp_path / "c", embedder=FakeEmbedder(), create=create, granularity=other
                )


def test_another_word_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    for wrong in ("song", "", 1, True):
        with pytest.raises(CollectionError, match="window, clip, both"):
            Collection.open(
                tmp_path / "c", embedder=FakeEmbedder(), create=True,
                granularity=wrong,  # type: ignore[arg-type]
            )  # fmt: skip
    assert not (tmp_path / "c").exists()


def test_collections_without_the_record_are_of_windows(tmp_path: Path) -> None:
    """What earlier releases made has no such table; a new one by windows has neither."""
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as sounds:
        put(sounds, clips_of(20, seed=23))
        sounds.rebuild()
    db = sqlite3.connect(tmp_path / "c" / DATABASE)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    db.close()
    assert "granularity" not in tables
    (header,) = (tmp_path / "c").glob("generations/*/generation.json")
    assert json.loads(header.read_text())["format"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Collection.open(tmp_path / "c", granularity="window") as sounds:
            assert sounds.info()["generation"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE granularity SET granularity = 'window'",
        "DELETE FROM granularity",
        "INSERT INTO granularity SELECT * FROM granularity",
        "DROP TABLE granularity",
        "ALTER TABLE granularity RENAME TO other",
    ],
)
def test_a_record_that_rotted_is_refused(tmp_path: Path, damage: str) -> None:
    made(tmp_path / "c", clips_of(5, seed=24)).close()
    db = sqlite3.connect(tmp_path / "c" / DATABASE)
    db.execute(damage)
    db.commit()
    db.close()
    with pytest.raises(IntegrityError, match="granularity"):
        Collection.open(tmp_path / "c", embedder=FakeEmbedder())


def test_a_clip_is_the_mean_that_an_engine_gives(tmp_path: Path) -> None:
    """Within the rounding of float16; one window stays as it is, to the bit."""
    clips = [*clips_of(30, seed=25), power_law(1, seed=26)]
    with Collection.open(
        tmp_path / "c", embedder=FakeEmbedder(), create=True, granularity="clip"
    ) as sounds:
        report = sounds.add([sound_of(rows) for rows in clips], keys=[str(i) for i in range(31)])
        assert report.added == 31
        stored = sounds._states.refresh().tail
        assert stored.spans[:, 1].tolist() == [5.0 * len(rows) for rows in clips]
        for packed, rows in zip(stored.vectors, clips, strict=True):
            np.testing.assert_allclose(packed, clip_embedding(rows), atol=5e-4)
        np.testing.assert_array_equal(stored.vectors[-1], vectors.pack(clips[-1])[0])
        writer = sounds._open_writer()
        two = vectors.pack(power_law(2, seed=27))
        clip = NewClip("x", None, None, None, "", 1.0, "{}", two, np.zeros((2, 2)))
        with pytest.raises(CollectionError, match="stores one"):
            writer.put([clip])
        assert sounds.verify() == []


def test_a_copy_is_of_the_same_granularity(tmp_path: Path) -> None:
    with made(tmp_path / "c", clips_of(300, seed=31)) as sounds:
        sounds.rebuild()
        for i in range(0, 300, 7):
            sounds.remove(f"k{i:06d}")
        sounds.compact()
        right = [keys(sounds.search(query, shortlist=40)) for query in power_law(5, seed=32)]
        sounds.backup(tmp_path / "copy")
    with Collection.open(tmp_path / "copy", granularity="both") as copy:
        assert copy.verify() == []
        assert [keys(copy.search(q, shortlist=40)) for q in power_law(5, seed=32)] == right


# Derived files


@pytest.mark.parametrize("file", ["prefixes.f32", "rows.i64", "vectors.f16", "generation.json"])
def test_a_damaged_generation_of_means_is_rebuilt(tmp_path: Path, file: str) -> None:
    clips = clips_of(400, seed=28)
    with made(tmp_path / "c", clips) as sounds:
        sounds.rebuild()
        before = [keys(sounds.search(query, shortlist=50)) for query in power_law(5, seed=29)]
    (path,) = (tmp_path / "c").glob(f"generations/*/{file}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.warns(RebuildWarning):
        sounds = Collection.open(tmp_path / "c", embedder=FakeEmbedder())
    with sounds:
        assert sounds.verify() == []
        assert sounds._states.refresh().base.columns == 400
        again = [keys(sounds.search(query, shortlist=50)) for query in power_law(5, seed=29)]
    assert again == before


def test_a_generation_of_another_granularity_is_not_believed(tmp_path: Path) -> None:
    """Its rows are right, its columns are not what a search would take them for."""
    packed = vectors.pack(power_law(40, seed=30))
    rows = Rows(np.arange(1, 41), np.arange(40) // 4, np.zeros((40, 2)), packed)
    for by_clip in (False, True):
        owner = generation.Owner("c" * 32, "5" * 64, DIM, by_clip)
        header = generation.write(
            tmp_path / f"g{by_clip}", 1, owner, change=1, last_row=40, batches=[rows],
            with_coarse=coarse.is_available(),
        )  # fmt: skip
        found = generation.open(tmp_path / f"g{by_clip}", 1, header, owner)
        assert found.block.columns == (10 if by_clip else 40)
        assert found.coarse is None or found.coarse.count == found.block.columns
        other = dataclasses.replace(owner, by_clip=not by_clip)
        with pytest.raises(IntegrityError, match="format"):
            generation.open(tmp_path / f"g{by_clip}", 1, header, other)


@pytest.mark.parametrize("granularity", ["window", "both"])
def test_the_coarse_side_counts_columns(tmp_path: Path, granularity: Granularity) -> None:
    clips = [power_law(30, seed=i) for i in range(40)]
    with made(tmp_path / "c", clips, granularity) as sounds:
        sounds.rebuild()
    (prefixes,) = (tmp_path / "c").glob("generations/*/prefixes.f32")
    assert prefixes.stat().st_size == 4 * PREFIX_DIM * (40 if granularity == "both" else 1200)
