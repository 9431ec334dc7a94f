"""Laws of tuning: what is promised is found, the plan is as durable as a clip, all stays exact."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_embedder import DIM, FakeEmbedder, child_environment, power_law

from clap_engine import planner, probes, tune
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.collection import Collection
from clap_engine.database import Database
from clap_engine.errors import CollectionError, RebuildWarning
from clap_engine.index import coarse, truth, vectors
from clap_engine.index.generation import Block
from clap_engine.index.view import View
from clap_engine.plan_runs import PlanRuns
from clap_engine.planner import Plan
from clap_engine.records import NewClip, Tuning
from clap_engine.trials import Trial, choose

needs_hnswlib = pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")
SPAN = np.array([[0.0, 5.0]])


def put(sounds: Collection, rows: Float32, prefix: str = "k", windows: int = 1) -> None:
    """One clip for each `windows` rows; the rest of its number by a hundred is in its metadata."""
    packed = vectors.pack(rows)
    spans = np.repeat(SPAN, windows, axis=0)
    sounds.put(
        [
            NewClip(f"{prefix}{i:06d}", None, None, None, "", 5.0, f'{{"rest": {i % 100}}}',
                    packed[i : i + windows], spans)
            for i in range(0, len(packed), windows)
        ]
    )  # fmt: skip


def made(path: Path, rows: Float32, windows: int = 1) -> None:
    with Collection.open(path, embedder=FakeEmbedder(), create=True) as sounds:
        put(sounds, rows, windows=windows)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Collection]:
    """3,000 windows, opened without an embedder."""
    made(tmp_path / "small.clap", power_law(3000, seed=1))
    with Collection.open(tmp_path / "small.clap") as opened:
        yield opened


def recall(
    sounds: Collection, queries: Float32, k: int = 10, where: dict[str, Any] | None = None
) -> float:
    """recall@k of the collection's own plan against exact search."""
    found = 0
    for query in queries:
        true = {hit.key for hit in sounds.search(query, k, shortlist="all", where=where).hits}
        found += sum(hit.key in true for hit in sounds.search(query, k, where=where).hits)
    return found / (k * len(queries))


def tuning_of(**changes: object) -> Tuning:
    base = Tuning("flat", 64, 200, 0, 0, 3000, 10, 0.9, 0.91, 0.5, 100, "given", 0, 1.0)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def view_of(rows: Float32, windows: int = 1, tail: int = 0) -> View:
    """Rows as a view, the last `tail` of them outside the generation."""

    def block(some: slice) -> Block:
        numbers = np.arange(len(rows))[some]
        packed = vectors.pack(rows[some])
        return Block(
            packed, vectors.prefixes(packed, 32), numbers, numbers // windows,
            np.zeros((len(packed), 2)),
        )  # fmt: skip

    split = len(rows) - tail
    view = View.of(None, DIM)
    return dataclasses.replace(view, base=block(slice(split)), tail=block(slice(split, None)))


# What is promised is found


@pytest.mark.parametrize("target", [0.9, 0.99])
def test_fresh_queries_find_what_was_promised(tmp_path: Path, target: float) -> None:
    """20,000 windows of a power-law spectrum; 300 queries tune, 150 others find target - .01."""
    made(tmp_path / "x.clap", power_law(20_000, seed=1))
    with Collection.open(tmp_path / "x.clap") as sounds:
        report = sounds.tune(target, queries=list(power_law(300, seed=2)))
        assert report.is_met
        assert report.tuning.recall >= target
        assert recall(sounds, power_law(150, seed=3)) >= target - 0.01


def test_filters_keep_what_was_promised(tmp_path: Path) -> None:
    """Rows that a filter lets through are fewer, but no nearer in few dims to their queries."""
    made(tmp_path / "x.clap", power_law(10_000, seed=1))
    with Collection.open(tmp_path / "x.clap") as sounds:
        sounds.tune(0.95, queries=list(power_law(200, seed=2)), graph_s=0)
        for least in (99, 90, 50):
            where = {"rest": {">=": least}}
            assert recall(sounds, power_law(60, seed=3), where=where) >= 0.95 - 0.01


def test_the_promise_can_fail(small: Collection) -> None:
    """Its control: a fifth of the tuned shortlist does not keep it."""
    report = small.tune(0.99, queries=list(power_law(200, seed=2)))
    flat = next(t for t in report.trials if t.plan.dims == (32, DIM))
    short = dataclasses.replace(flat.plan, shortlist=flat.plan.shortlist // 5)
    asked = probes.of_vectors(power_law(100, seed=3), "given")
    view = small._states.refresh()
    known = truth.nearest(view, asked.vectors, asked.own, 10)
    runs = PlanRuns(asked, known, 10, view.rows)
    assert (runs.measured(tune._with_dim(view, 32), short).recall or 0) < 0.95


@pytest.mark.parametrize("clusters", [0, 100])
def test_pseudo_queries_promise_no_more_than_texts_find(tmp_path: Path, clusters: int) -> None:
    """A gap of 45 degrees between windows and texts; texts are like one clip, and noise."""
    rng = np.random.default_rng(5)
    rows, (here, there) = power_law(6000, seed=6), power_law(2, seed=7)
    if clusters:
        centres = power_law(clusters, seed=8)
        rows = l2_normalize(centres[rng.integers(0, clusters, len(rows))] + 0.7 * rows)
    about = rows[rng.integers(0, len(rows), 150)]
    texts = l2_normalize(there + l2_normalize(about + power_law(150, seed=9)))
    made(tmp_path / "x.clap", l2_normalize(rows + here))
    with Collection.open(tmp_path / "x.clap") as sounds:
        report = sounds.tune(0.95)
        assert "mixture" in report.tuning.kinds
        assert report.tuning.recall <= recall(sounds, texts) + 0.01


def test_windows_alone_promise_too_much() -> None:
    """Why there are mixtures: in clusters, windows find .99 where texts find less than .9."""
    rng = np.random.default_rng(5)
    rows, (here, there) = power_law(6000, seed=6), power_law(2, seed=7)
    rows = l2_normalize(power_law(100, seed=8)[rng.integers(0, 100, len(rows))] + 0.7 * rows)
    texts = l2_normalize(there + l2_normalize(rows[:100] + power_law(100, seed=9)))
    view = view_of(l2_normalize(rows + here))
    windows = probes._windows(view, view.everything(), rng)
    shares = []
    for asked in (windows, probes.of_vectors(texts, "text")):
        true = truth.nearest(view, asked.vectors, asked.own, 10)
        (ranks,) = truth.ranks(view, asked.vectors, asked.own, true, [32])
        shares.append(float((ranks <= 300).mean()))
    assert shares[0] > 0.99
    assert shares[1] < 0.9


@pytest.mark.parametrize(("windows", "tail"), [(1, 0), (3, 300), (7, 1400)])
def test_the_truth_is_brute_force(monkeypatch: pytest.MonkeyPatch, windows: int, tail: int) -> None:
    """Best windows of the best clips, the own and the removed left out, whatever the blocks."""
    monkeypatch.setattr(truth, "_ROWS_AT_ONCE", 100)
    rows = power_law(1400, seed=11)
    view = dataclasses.replace(
        view_of(rows, windows, tail), base_dead=np.arange(0 if tail == 1400 else 14)
    )
    queries, own = power_law(8, seed=12), np.array([-1, 3, 5, 7, 11, 13, 17, 100])
    true = truth.nearest(view, queries, own, 4)
    (ranks,) = truth.ranks(view, queries, own, true, [32])
    stored = vectors.widen(vectors.pack(rows))
    exact, near = queries @ stored.T, l2_normalize(queries[:, :32]) @ l2_normalize(stored[:, :32]).T
    clips = np.arange(1400) // windows
    for i in range(len(queries)):
        gone = clips == own[i]
        gone[view.base_dead] = True
        scores = np.where(gone, -np.inf, exact[i])
        best = sorted((-scores[clips == c].max(), c) for c in np.unique(clips))[:4]
        places = [int(np.flatnonzero((clips == c) & (scores == -s))[0]) for s, c in best]
        assert true.positions[i].tolist() == places
        alive = np.where(gone, -np.inf, near[i])
        expected = [int((alive >= alive[place] - 2e-6).sum()) for place in places]
        np.testing.assert_allclose(ranks[i], expected, atol=1)  # ties in the last bits


# Choosing


def trial(recall: float, ms: float, dim: int = 32, index: planner.Index = "flat") -> Trial:
    return Trial(Plan(index, 1000, 10, (dim, DIM)), recall, ms, ms)


def test_the_fastest_that_meets_the_target_is_chosen() -> None:
    trials = [trial(0.98, 1.0), trial(0.99, 3.0), trial(0.995, 2.0, 64), trial(1.0, 9.0)]
    assert choose(trials, 0.99, None) == (trials[2], True)
    assert choose(trials, 0.99, 2.5) == (trials[2], True)
    assert choose(trials, 0.99, 1.5) == (trials[0], False)  # the most that the budget allows
    assert choose(trials, 0.99, 0.5) == (trials[2], False)  # nothing does: the target counts
    assert choose([*trials, Trial(trials[0].plan, skipped="why")], 0.99, None)[0] == trials[2]


def test_of_equals_the_smallest_index_is_taken() -> None:
    trials = [trial(1.0, 1.0, 32, "hnsw"), trial(1.0, 1.02, 128), trial(1.0, 1.05, 64)]
    assert choose(trials, 0.99, None)[0] == trials[2]


def test_queries_recalls_and_lengths_depend_on_the_seed_alone(small: Collection) -> None:
    def run(seed: int) -> list[tuple[object, ...]]:
        small.rebuild()
        return [
            (t.plan.index, t.plan.dims, t.plan.shortlist, t.recall)
            for t in small.tune(0.9, seed=seed, graph_s=0).trials
            if t.plan.index == "flat" and t.plan.source == "default" and t.plan.dims[0] == 64
        ]

    assert run(1)[0] == run(1)[0]
    assert run(1)[0] != run(2)[0]


def test_an_impossible_budget_is_reported(small: Collection) -> None:
    report = small.tune(0.99, budget_ms=1e-6, queries=list(power_law(30, seed=2)))
    assert not report.is_met
    assert report.tuning.recall >= 0.99
    assert small.info()["plan"] == dataclasses.asdict(report.tuning)


def test_what_makes_no_sense_is_refused(small: Collection, tmp_path: Path) -> None:
    for target in (0, 1.1, True, "all", float("nan")):
        with pytest.raises(CollectionError, match="target"):
            small.tune(target)  # type: ignore[arg-type]
    for budget in (0, -1.0, "5"):
        with pytest.raises(CollectionError, match="budget_ms"):
            small.tune(budget_ms=budget)  # type: ignore[arg-type]
    for queries in ([], list(power_law(19, seed=1))):
        with pytest.raises(CollectionError, match="20 or more"):
            small.tune(queries=queries)
    made(tmp_path / "empty.clap", power_law(0, seed=1))
    with (
        Collection.open(tmp_path / "empty.clap") as sounds,
        pytest.raises(CollectionError, match="empty"),
    ):
        sounds.tune()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_handful_of_windows_is_scored_exactly(tmp_path: Path, count: int) -> None:
    made(tmp_path / "x.clap", power_law(count, seed=1))
    with Collection.open(tmp_path / "x.clap") as sounds:
        report = sounds.tune()
        assert (report.tuning.index, report.tuning.recall, report.is_met) == ("exact", 1.0, True)
        assert len(sounds.search(power_law(1, seed=2)[0]).hits) == count


def test_texts_that_clips_carry_are_asked(tmp_path: Path) -> None:
    embedder = FakeEmbedder()
    with Collection.open(tmp_path / "x.clap", embedder=embedder, create=True) as sounds:
        rows = power_law(120, seed=4)
        facts = [
            {"caption": f"a sound of {chr(97 + i // 26)}{chr(97 + i % 26)}x"} for i in range(120)
        ]
        sounds.add([(row, 32000) for row in rows], keys=map(str, range(120)), metadata=facts)
        assert sounds.tune(0.9).tuning.kinds == "window, text"
        sounds.add([(row, 32000) for row in rows], keys=map(str, range(120)), metadata=[{}] * 120)
        kinds = sounds.tune(0.9).tuning.kinds
        assert kinds.startswith("window, mixture")
        assert "moved mixture" in kinds


# The plan is as durable as a clip


def test_the_plan_survives_reopening_and_old_collections_have_none(small: Collection) -> None:
    assert small.info()["plan"] is None
    report = small.tune(0.9, queries=list(power_law(50, seed=2)))
    small.close()
    with Collection.open(small.path, read_only=True) as again:
        assert again.info()["plan"] == dataclasses.asdict(report.tuning)
        assert again.search(power_law(1, seed=3)[0]).plan.source == "tuned"
        assert again.verify() == []
        with pytest.raises(CollectionError, match="read_only"):
            again.tune()


TUNER = """
import os, sys
from clap_engine.collection import Collection
from fake_embedder import power_law
with Collection.open(sys.argv[1]) as sounds:
    os.write(1, b"open\\n")
    for target in [.8, .9] * 1000:
        sounds.tune(target, queries=list(power_law(30, seed=2)), graph_s=0)
        os.write(1, b"tuned %a\\n" % target)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.4, 1.1])
def test_a_plan_that_was_acknowledged_survives_kill_9(tmp_path: Path, delay_s: float) -> None:
    made(tmp_path / "x.clap", power_law(2500, seed=1))
    with subprocess.Popen(
        [sys.executable, "-c", TUNER, str(tmp_path / "x.clap")],
        stdout=subprocess.PIPE, env=child_environment(),
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        acknowledged = child.stdout.readline() if delay_s else b""
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
    with Collection.open(tmp_path / "x.clap") as sounds:
        plan = sounds.info()["plan"]
        assert plan is not None or not acknowledged
        assert sounds.verify() == []
        assert len(sounds.search(power_law(1, seed=3)[0], 5).hits) == 5


def test_a_commit_that_fails_leaves_the_old_plan(
    small: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = small.tune(0.9, queries=list(power_law(30, seed=2))).tuning
    run = Database._run

    def failing(self: Database, sql: str, *rest: object, **more: object) -> object:
        if sql.startswith("INSERT INTO plan"):
            raise OSError("the disk is gone")
        return run(self, sql, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "_run", failing)
    with pytest.raises(OSError, match="gone"):
        small.tune(0.8, queries=list(power_law(30, seed=2)))
    monkeypatch.undo()
    assert small.info()["plan"] == dataclasses.asdict(old)


def test_a_rotten_plan_is_reported_and_not_obeyed(small: Collection) -> None:
    small._open_writer().put_tuning(tuning_of(coarse_dim=32))
    query = power_law(1, seed=3)[0]
    assert small.search(query).plan.source == "tuned"
    small._open_writer()._db.execute("UPDATE plan SET shortlist = 1")
    small._open_writer()._db.execute("UPDATE state SET change = change")  # a commit to look at
    assert any("plan" in problem for problem in small.verify())
    with Collection.open(small.path, read_only=True) as again:
        assert again.search(query).plan.source == "default"
        assert again.info()["plan"] is None


# The index follows the plan, and all stays exact


def check_exact(sounds: Collection, rows: Float32, query: Float32, **options: object) -> None:
    """The ten best of all rows, by brute force over float16 vectors."""
    scores = vectors.pack(rows).astype(np.float64) @ query.astype(np.float64)
    wanted = np.argsort(-scores, kind="stable")[:10]
    found = sounds.search(query, **options)  # type: ignore[arg-type]
    assert [int(hit.key[1:]) for hit in found.hits] == wanted.tolist()


def test_before_the_rebuild_the_default_serves_and_says_so(small: Collection) -> None:
    small._open_writer().put_tuning(tuning_of())
    query = power_law(1, seed=3)[0]
    found = small.search(query, explain=True)
    assert (found.plan.source, found.plan.dims) == ("default", (32, DIM))
    assert found.explain is not None
    assert "next rebuild" in found.explain.reason
    small.rebuild()
    found = small.search(query)
    assert (found.plan.source, found.plan.dims, found.plan.shortlist) == ("tuned", (64, DIM), 200)


@pytest.mark.parametrize("dim", [32, 64, 128])
def test_a_tuned_index_is_exact_where_all_is_covered(small: Collection, dim: int) -> None:
    """Also for the tail, whose prefixes have the dims of the plan."""
    rows = power_law(3000, seed=1)
    small._open_writer().put_tuning(tuning_of(coarse_dim=dim, shortlist=1500))
    small.rebuild()
    assert small.info()["prefix_dim"] == dim
    new = power_law(100, seed=20)
    packed = vectors.pack(new)
    small.put(
        [NewClip(f"k{3000 + i:06d}", None, None, None, "", 5.0, "{}", packed[i : i + 1], SPAN)
         for i in range(100)]
    )  # fmt: skip
    small.remove("k000000")
    everything = np.concatenate([rows, new])
    everything[0] = 0
    assert small.info()["tail_rows"] == 100
    for query in power_law(5, seed=21):
        check_exact(small, everything, query, shortlist="all")
    query = l2_normalize(new[:1] + 0.1 * power_law(1, seed=22))[0]
    assert small.search(query).plan.source == "tuned"
    check_exact(small, everything, query)
    assert small.verify() == []


def test_a_damaged_index_of_64_dims_is_rebuilt_as_such(small: Collection) -> None:
    small._open_writer().put_tuning(tuning_of())
    number = small.rebuild()
    small.close()
    path = small.path / "generations" / f"{number:08d}" / "prefixes.f32"
    assert path.stat().st_size == 4 * 64 * 3000
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.warns(RebuildWarning):
        again = Collection.open(small.path)
    with again:
        assert again.info()["prefix_dim"] == 64
        assert again.verify() == []
        assert again.search(power_law(1, seed=3)[0]).plan.source == "tuned"


def test_a_middle_rung_thins_out_and_covers(small: Collection) -> None:
    rows, query = power_law(3000, seed=1), power_law(1, seed=3)[0]
    small._open_writer().put_tuning(
        tuning_of(coarse_dim=32, shortlist=2000, middle_dim=128, kept=300)
    )
    found = small.search(query, explain=True)
    assert (found.plan.dims, found.plan.kept) == ((32, 128, DIM), 300)
    assert found.explain is not None
    passed = [(s.name, s.dim, s.candidates_in, s.candidates_out) for s in found.explain.stages]
    assert passed == [
        ("flat", 32, 3000, 2000), ("middle", 128, 2000, 300), ("rerank", DIM, 300, 300),
    ]  # fmt: skip
    check_exact(small, rows, query)
    view = small._states.refresh()
    some = np.arange(0, 3000, 2)
    prefix = l2_normalize(query[None, :128])[0]
    scores = vectors.prefixes(vectors.pack(rows), 128)[:, some].T @ prefix
    kept = view.narrow(some, prefix, 40)
    assert set(kept.tolist()) == set(some[np.argsort(-scores)[:40]].tolist())


def batch_equals_single(sounds: Collection, queries: Float32) -> None:
    for alone, together in zip(
        [sounds.search(query) for query in queries], sounds.search_batch(list(queries)), strict=True
    ):
        assert alone.hits == together.hits
        assert alone.plan == together.plan


@needs_hnswlib
def test_with_a_graph_and_without_hnswlib(
    small: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 0)
    monkeypatch.setattr(tune, "_GRAPH_ROWS", 0)
    small.rebuild()
    report = small.tune(0.9, queries=list(power_law(60, seed=2)))
    assert any(t.plan.index == "hnsw" and (t.recall or 0) >= 0.9 for t in report.trials)
    small._open_writer().put_tuning(tuning_of(index="hnsw", shortlist=400))
    small.rebuild()
    queries = power_law(20, seed=3)
    found = small.search(queries[0], explain=True)
    assert (found.plan.index, found.plan.dims) == ("hnsw", (64, DIM))
    assert recall(small, queries) >= 0.9
    batch_equals_single(small, queries[:4])
    monkeypatch.setattr(coarse, "is_available", lambda: False)
    with Collection.open(small.path, read_only=True) as again:
        assert again.search(queries[0]).plan.index == "flat"
        assert again.search(queries[0]).plan.source == "tuned"
        assert recall(again, queries) >= 0.9
        batch_equals_single(again, queries[:4])


def test_clips_of_many_windows_are_counted_once(tmp_path: Path) -> None:
    """recall@k counts clips: k of them are found though one clip's windows fill the shortlist."""
    made(tmp_path / "x.clap", power_law(3000, seed=1), windows=10)
    with Collection.open(tmp_path / "x.clap") as sounds:
        report = sounds.tune(0.95, k=5, queries=list(power_law(300, seed=2)))
        assert (report.tuning.k, report.tuning.rows) == (5, 3000)
        assert recall(sounds, power_law(200, seed=3), k=5) >= 0.94


def test_explain_says_what_ran_and_costs_nothing_otherwise(
    small: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = power_law(1, seed=3)[0]
    assert small.search(query).explain is None
    told = small.search(query, shortlist=500, explain=True).explain
    assert told is not None
    assert (told.source, told.expected_recall, told.widened) == ("caller", None, 0)
    told = small.search(query, shortlist="all", explain=True).explain
    assert told is not None
    assert [stage.name for stage in told.stages] == ["exact", "rerank"]
    assert told.expected_recall == 1.0
    counts: list[int] = []
    run: Callable[..., object] = Database._run

    def counted(self: Database, *rest: object, **more: object) -> object:
        counts[-1] += 1
        return run(self, *rest, **more)

    monkeypatch.setattr(Database, "_run", counted)
    counts.append(0)
    small.search(query)
    counts.append(0)
    small._open_writer().put_tuning(tuning_of(coarse_dim=32))
    small.search(query)  # sees the commit
    counts.append(0)
    assert small.search(query).plan.source == "tuned"
    assert counts[-1] == counts[0]
