"""Laws of a graph over other dims than the prefixes: it finds more, and changes no other answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_embedder import DIM, FakeEmbedder, power_law

from clap_engine import planner, trial_graphs, tune, writer
from clap_engine.arrays import Float32
from clap_engine.collection import Collection
from clap_engine.errors import CollectionError, NotFoundError, RebuildWarning
from clap_engine.index import coarse, vectors
from clap_engine.index.view import View
from clap_engine.records import NewClip, Tuning
from clap_engine.trials import promise

pytestmark = pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")
SPAN = np.array([[0.0, 5.0]])
COUNT = 4000
ROWS = power_law(COUNT + 400, seed=1)
QUERIES = power_law(40, seed=3)


def put(sounds: Collection, rows: Float32, first: int = 0) -> None:
    packed = vectors.pack(rows)
    sounds.put(
        [
            NewClip(f"k{first + i:06d}", None, None, None, "", 5.0, f'{{"rest": {i % 100}}}',
                    packed[i : i + 1], SPAN)
            for i in range(len(packed))
        ]
    )  # fmt: skip


def tuning_of(dim: int, **changes: int) -> Tuning:
    base = Tuning("hnsw", dim, 150, 0, 0, COUNT, 10, 0.9, 0.9, 0.5, 100, "given", 0, 1.0, 32, 600)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "x.clap", embedder=FakeEmbedder(), create=True) as opened:
        put(opened, ROWS[:COUNT])
        yield opened


def recall(sounds: Collection, where: dict[str, object] | None = None) -> float:
    found = 0
    for query in QUERIES:
        true = {hit.key for hit in sounds.search(query, shortlist="all", where=where).hits}
        found += sum(hit.key in true for hit in sounds.search(query, where=where).hits)
    return found / (10 * len(QUERIES))


@pytest.mark.parametrize(("dim", "kept"), [(64, 0), (256, 0), (DIM, 0), (DIM, 20)])
def test_a_wide_graph_serves_with_a_tail_with_removals_and_with_filters(
    sounds: Collection, dim: int, kept: int
) -> None:
    sounds._open_writer().put_tuning(tuning_of(dim, kept=kept))
    sounds.rebuild()
    info = sounds.info()
    assert (info["prefix_dim"], info["graph_dim"], info["index"]) == (32, dim, "hnsw")
    plan = sounds.search(QUERIES[0]).plan
    assert (plan.index, plan.dims, plan.kept) == ("hnsw", (dim, DIM), kept)
    assert recall(sounds) >= 0.9
    put(sounds, ROWS[COUNT:], first=COUNT)
    for i in range(0, COUNT, 40):
        sounds.remove(f"k{i:06d}")
    assert sounds.info()["tail_rows"] == 400
    assert recall(sounds) >= 0.9
    keys = {hit.key for query in QUERIES for hit in sounds.search(query).hits}
    assert not keys & {f"k{i:06d}" for i in range(0, COUNT, 40)}
    assert any(key >= f"k{COUNT:06d}" for key in keys)
    for least in (99, 90, 10):  # alone, scanned; in the graph, more of it
        assert recall(sounds, {"rest": {">=": least}}) >= 0.9
    assert len(sounds.search(QUERIES[0], k=200).hits) == 200
    result = sounds.search(QUERIES[0], shortlist=COUNT // 2, explain=True)
    assert (result.plan.index, result.plan.dims) == ("flat", (32, DIM))
    assert sounds.verify() == []


def test_a_graph_that_is_replaced_while_it_is_verified_is_not_damaged(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rebuild falls between the graph's digest and the reading of its header."""
    sounds._open_writer().put_tuning(tuning_of(DIM))
    sounds.rebuild()
    real = coarse.check_header
    seen: list[str] = []

    def replaced(path: str, dim: int, count: int) -> None:
        seen.append(str(path))
        if len(seen) == 1:
            put(sounds, ROWS[COUNT:], first=COUNT)
            sounds.rebuild()
            assert not Path(path).exists()
        real(path, dim, count)

    monkeypatch.setattr(coarse, "check_header", replaced)
    assert sounds.verify() == []
    assert len(set(seen)) == 2
    with pytest.raises(NotFoundError, match="does not exist"):
        real(seen[0], DIM, COUNT)


def test_the_scan_takes_over_where_the_graph_is_missing(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds._open_writer().put_tuning(tuning_of(DIM, kept=20))
    sounds.rebuild()
    monkeypatch.setattr(coarse, "is_available", lambda: False)
    with Collection.open(sounds.path, read_only=True) as again:
        plan = again.search(QUERIES[0]).plan
        assert (plan.index, plan.dims, plan.shortlist) == ("flat", (32, DIM), 600)
        assert recall(again) >= 0.9


def test_a_damaged_wide_graph_is_rebuilt(sounds: Collection) -> None:
    sounds._open_writer().put_tuning(tuning_of(DIM))
    sounds.rebuild()
    sounds.close()
    path = next(sounds.path.glob("generations/*/coarse.hnsw"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.warns(RebuildWarning):
        again = Collection.open(sounds.path, embedder=FakeEmbedder())
    with again:
        assert again.info()["graph_dim"] == DIM
        assert recall(again) >= 0.9


def test_by_means_the_graph_spans_clips(tmp_path: Path) -> None:
    with Collection.open(
        tmp_path / "m.clap", embedder=FakeEmbedder(), create=True, granularity="both"
    ) as sounds:
        packed = vectors.pack(ROWS[:COUNT]).reshape(COUNT // 2, 2, DIM)
        spans = np.repeat(SPAN, 2, axis=0)
        sounds.put(
            [NewClip(f"k{i}", None, None, None, "", 10.0, "{}", packed[i], spans)
             for i in range(len(packed))]
        )  # fmt: skip
        sounds._open_writer().put_tuning(tuning_of(DIM, rows=COUNT // 2, shortlist=300))
        sounds.rebuild()
        plan = sounds.search(QUERIES[0]).plan
        assert (plan.index, plan.counts, sounds.info()["graph_dim"]) == ("hnsw", "clips", DIM)
        assert recall(sounds) >= 0.9


def test_tuning_tries_them_within_the_memory_that_is_allowed(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_GRAPH_ROWS", 0)
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 1)
    monkeypatch.setattr(tune._Tuner, "_too_slow", lambda self, plan: "")
    monkeypatch.setattr(trial_graphs, "_milliseconds", lambda *arguments: 0.0)
    sounds.rebuild()
    asked = list(power_law(60, seed=2))
    report = sounds.tune(0.5, queries=asked)
    dims = [t.plan.dims[0] for t in report.trials if t.plan.index == "hnsw" and not t.skipped]
    assert {32, DIM} <= {*dims}
    small = sounds.tune(0.5, queries=asked, memory_bytes=COUNT * (2 * DIM + 32 + 4 * 64 + 232))
    left = {t.plan.dims[0]: t.skipped for t in small.trials if t.plan.index == "hnsw"}
    assert "memory" in left[DIM]
    assert "memory" in left[128]
    assert "memory" not in left[64]
    none = sounds.tune(0.5, queries=asked, memory_bytes=1)
    assert all("memory" in t.skipped for t in none.trials if t.plan.index == "hnsw")
    for bad in (0, -1, 1.5, True):
        with pytest.raises(CollectionError, match="memory_bytes"):
            sounds.tune(0.5, memory_bytes=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_fresh_queries_find_what_was_promised_to_the_point(tmp_path: Path, seed: int) -> None:
    """What 200 queries promise of every plan, 2,000 others find, give or take their own error.

    Every plan, as the clock says which one is kept; 2,000, as the error of 300 is .005 itself.
    """
    with Collection.open(tmp_path / "x", embedder=FakeEmbedder(), create=True) as sounds:
        put(sounds, power_law(5000, seed=100 + seed))
        report = sounds.tune(0.95, queries=list(power_law(200, seed=200 + seed)), graph_s=0)
        assert report.is_met
        fresh = power_law(2000, seed=300 + seed)
        exact = sounds.search_batch(list(fresh), shortlist="all")
        true = [{hit.key for hit in one.hits} for one in exact]
        kept = report.tuning
        tried = [t for t in report.trials if not t.skipped and t.plan.index == "flat"]
        assert len({t.plan.dims[0] for t in tried}) == 4
        for trial in tried:
            plan, promised = trial.plan, trial.recall
            assert promised is not None
            sounds._open_writer().put_tuning(
                dataclasses.replace(
                    kept, index="flat", coarse_dim=plan.dims[0], shortlist=plan.shortlist,
                    kept=plan.kept, middle_dim=plan.dims[1] if plan.kept else 0, recall=promised,
                )
            )  # fmt: skip
            sounds.rebuild()
            assert sounds.search(fresh[0]).plan.dims[0] == plan.dims[0]
            found = sum(
                hit.key in best
                for one, best in zip(sounds.search_batch(list(fresh)), true, strict=True)
                for hit in one.hits
            )
            assert found / 20000 >= max(0.95, promised) - 0.005, plan


def test_a_promise_is_below_what_was_found_and_nears_it() -> None:
    rng = np.random.default_rng(0)
    for count in (20, 300, 3000):
        shares = rng.binomial(10, 0.97, count) / 10
        low = promise(shares, 10)
        assert low < shares.mean()
        assert shares.mean() - low <= 2.5 * 0.06 / np.sqrt(count) + 0.01
    assert promise(np.ones(20), 10) < 1
    kept = [promise(rng.binomial(10, 0.97, 200) / 10, 10) <= 0.97 for _ in range(400)]
    assert np.mean(kept) >= 0.95


def test_no_graph_is_built_while_rows_pour_in(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood that never ends gets generations without one; once somebody waits, it is built."""
    sounds._writer.join()
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 1)
    monkeypatch.setattr(planner, "SHORTLIST_MIN_UNMEASURED", 1)
    built: list[int] = []
    real = coarse.CoarseIndex.build_from

    def build_from(*args: object, **options: object) -> object:
        built.append(1)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(coarse.CoarseIndex, "build_from", build_from)
    run = writer._Run(lambda own: None)
    assert sounds._states.is_graph_due(sounds._states.refresh())
    with monkeypatch.context() as flood:
        flood.setattr(writer, "FLOOD_ROWS_S", -1.0)
        flood.setattr(View, "stale", COUNT + 1)
        assert not sounds._writer._settle(run)
    assert sounds._writer._settle(run)  # nothing comes: no waiting for more
    sounds._writer._build(sounds._open_writer(), run.stop, with_graph=False)
    assert (sounds.info()["index"], built) == ("flat", [])
    assert sounds._states.lacks_graph(sounds._states.refresh())
    sounds._writer.rebuild_if_due()
    sounds._writer.join()
    assert sounds.info()["index"] == "hnsw"
    assert not sounds._states.lacks_graph(sounds._states.refresh())
