"""Laws of lists: codes are exact, nothing that is there is missed once all lists are read."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_embedder import DIM, FakeEmbedder, power_law

from clap_engine import planner, storage, tune
from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.collection import Collection
from clap_engine.errors import ArrayError, ClosedError, RebuildWarning
from clap_engine.index import coarse, generation, kmeans, list_files, lists, scan, vectors
from clap_engine.index.lists import Listed, Lists
from clap_engine.index.tail import LISTED_AT_ONCE
from clap_engine.records import NewClip, Tuning

SPAN = np.array([[0.0, 5.0]])
COUNT = 3000
QUERIES = power_law(30, seed=3)


def clustered(rows: int, seed: int, dim: int = DIM) -> Float32:
    """[rows, dim] around 60 centres, the same for every seed, as sounds lie around their kinds."""
    centres = np.random.default_rng(99).standard_normal((60, dim)).astype(np.float32)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((rows, dim)).astype(np.float32)
    return l2_normalize(centres[rng.integers(0, 60, rows)] + 0.7 * noise)


ROWS = clustered(COUNT + 300, seed=1)
ASKED = clustered(30, seed=2)


def lists_of(rows: Float32) -> Lists:
    packed = vectors.pack(rows)
    return generation.lists_of(packed, None)


@pytest.fixture(params=["numkong", "numpy"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What multiplies codes; numpy must do wherever numkong is not installed."""
    if request.param == "numkong":
        pytest.importorskip("numkong")
    else:
        monkeypatch.setattr(scan, "_cdist", lambda: None)
    return str(request.param)


@pytest.mark.parametrize("dim", [1, 7, 33, 512, 1040, 1500])
def test_products_of_codes_are_exact_integers(library: str, dim: int) -> None:
    """At the largest codes, too, so that every library gives the same bits."""
    rng = np.random.default_rng(dim)
    most = scan.largest(dim)
    codes = rng.integers(-most, most + 1, (1200, dim)).astype(np.int8)
    codes[0], codes[1] = most, -most
    for query in (codes[0], codes[1], codes[5]):
        wide = codes.astype(np.int64) @ query.astype(np.int64)
        np.testing.assert_array_equal(scan.Scan(query).of(codes), wide)
        assert len(scan.Scan(query).of(codes[:0])) == 0
    with pytest.raises(ArrayError):
        scan.Scan(codes)
    with pytest.raises(ArrayError):
        scan.Scan(codes[0].astype(np.float32))


@pytest.mark.parametrize("dim", [8, 64, 512])
def test_codes_rank_nearly_as_the_vectors_do(dim: int) -> None:
    """The best ten are among the best twenty by codes, for 98 of 100."""
    rows = clustered(2000, seed=4, dim=dim)
    units = scan.scales(np.abs(rows).max(axis=0))
    codes = scan.coded(rows, units)
    assert np.abs(codes * units - rows).max() <= 0.51 * units.max()
    kept = 0
    for query in clustered(30, seed=5, dim=dim):
        scores = scan.Scan(scan.weighed(query, units)).of(codes)
        best = np.argsort(-(rows @ query))[:10]
        kept += np.isin(best, np.argsort(-scores)[:20]).sum()
    assert kept >= 0.98 * 300


def test_zeros_and_flat_dims_have_codes() -> None:
    rows = np.zeros((3, 16), np.float32)
    rows[1, 3] = 1
    units = scan.scales(np.abs(rows).max(axis=0))
    assert np.isfinite(units).all()
    assert (units > 0).all()
    codes = scan.coded(rows, units)
    assert codes[1, 3] == 127
    assert np.count_nonzero(codes) == 1
    assert not scan.weighed(rows[0], units).any()


def test_the_same_rows_give_the_same_lists_whatever_multiplies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = ROWS.copy()
    one, two = lists_of(ROWS), lists_of(ROWS)
    monkeypatch.setattr(kmeans, "_ROWS_AT_ONCE", 77)
    for other in (two, lists_of(ROWS)):
        for name in ("units", "centroids", "codes", "starts", "columns"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(ROWS, before)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 63, 500])
def test_each_column_is_in_one_list(count: int) -> None:
    """Also where rows are as few as lists, or all alike."""
    for rows in (ROWS[:count], np.repeat(ROWS[:1], count, axis=0)):
        made = lists_of(rows)
        assert made.count == lists.lists_for(count)
        assert sorted(made.columns) == list(range(count))
        assert (made.starts[0], made.starts[-1]) == (0, count)
        assert (np.diff(made.starts) >= 0).all()
        found = made.near(rows[0], 1, count)
        np.testing.assert_array_equal(found, np.arange(count))


def test_an_empty_list_takes_a_row_that_is_served_ill() -> None:
    """Ten directions, drawn unevenly: each gets a list of its own in the end."""
    base = np.eye(10, 64, dtype=np.float32)
    rows = np.repeat(base, [500, 3, 3, 3, 3, 3, 3, 3, 3, 3], axis=0)
    units = np.full(64, 1 / 127, np.float32)
    found = kmeans.train(scan.coded(rows, units), units, 10, 0, lambda: None)
    assert sorted(found.argmax(axis=1)) == list(range(10))


def test_building_ends_when_it_is_asked_to() -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise ClosedError("enough")

    with pytest.raises(ClosedError):
        generation.lists_of(vectors.pack(ROWS), None, check)
    assert len(calls) == 5


def by_codes(made: Lists, query: Float32, count: int, allowed: Int64) -> Int64:
    """What reading every list must give: all that reach the score of the last."""
    scores = np.full(len(made), -np.inf)
    whole = scan.Scan(scan.weighed(query, made.units)).of(made.codes)
    scores[made.columns] = whole
    kept = allowed[np.argsort(-scores[allowed], kind="stable")]
    bar = scores[kept[min(count, len(kept)) - 1]]
    return np.sort(allowed[scores[allowed] >= bar])


@pytest.mark.parametrize("share", [0.002, 0.01, 0.05, 0.3, 0.9, 1.0])
def test_reading_all_lists_misses_nothing_at_any_selectivity(library: str, share: float) -> None:
    made = lists_of(ROWS)
    rng = np.random.default_rng(7)
    allowed = np.sort(rng.choice(len(ROWS), max(1, int(share * len(ROWS))), replace=False))
    part = made.only(allowed)
    assert (part.slots is None) == (share <= lists.COPIED_SHARE)
    for query in ASKED[:10]:
        for count in (1, 20, len(allowed), 2 * len(allowed)):
            expected = by_codes(made, query, count, allowed)
            np.testing.assert_array_equal(part.near(query, made.count, count), expected)
        for probes in (1, 3, 17):  # few lists: others, but as many as there are
            found = part.near(query, probes, 20, is_part=True)
            assert len(found) >= min(20, len(allowed))
            assert np.isin(found, allowed).all()
            assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("count", [1, 20, 500])
def test_removed_columns_never_come_back_and_others_take_their_place(count: int) -> None:
    made = lists_of(ROWS)
    is_dead = np.zeros(len(ROWS), np.bool_)
    is_dead[np.random.default_rng(8).choice(len(ROWS), len(ROWS) - 600, replace=False)] = True
    for query in ASKED:
        for probes in (1, 8, made.count):
            found = made.near(query, probes, count, is_dead=is_dead)
            assert count <= len(found) <= 600
            assert not is_dead[found].any()
    is_dead[:] = True
    assert not len(made.near(ASKED[0], 1, count, is_dead=is_dead))


def test_more_lists_find_more_and_ranks_say_how_many_are_needed() -> None:
    made = lists_of(ROWS)
    truth = np.argsort(-(ASKED @ ROWS.T), axis=1)[:, :10]
    needed, before = made.ranks(ASKED, made.owners(truth)), 0.0
    for probes in (1, 2, 4, 8, 16, 32):
        found = [np.isin(t, made.near(q, probes, 40)) for q, t in zip(ASKED, truth, strict=True)]
        recall, bound = np.mean(found), np.mean(needed <= probes)
        assert bound - 0.02 <= recall
        assert recall >= before
        before = float(recall)
    assert before >= 0.99


@pytest.mark.parametrize("count", [1, 3, 63, 64, 200])
def test_many_queries_have_the_products_that_one_has(library: str, count: int) -> None:
    rng = np.random.default_rng(count)
    queries, codes = (rng.integers(-127, 128, (n, 96)).astype(np.int8) for n in (count, 700))
    found = scan.products(queries, codes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, queries.astype(np.int64) @ codes.T.astype(np.int64))


def test_columns_beside_the_lists_stand_where_a_query_for_them_looks_first(library: str) -> None:
    made = lists_of(ROWS[:COUNT])
    owners = made.owners_of(ROWS[COUNT:])
    more = Listed(COUNT, owners, scan.coded(ROWS[COUNT:], made.units))
    for at, row in enumerate(ROWS[COUNT:]):
        assert COUNT + at in made.near(row, 1, 20, more=more)
    assert (made.ranks(ROWS[COUNT:], owners[:, None]) == 1).all()


@pytest.mark.parametrize(("share", "owned"), [(0.0, 0), (0.01, 300), (0.3, 200), (1.0, 299)])
def test_columns_beside_the_lists_compete_and_hidden_ones_do_not(
    library: str, share: float, owned: int
) -> None:
    made = lists_of(ROWS[:COUNT])
    codes = scan.coded(ROWS[COUNT:], made.units)
    more = Listed(COUNT, made.owners_of(ROWS[COUNT : COUNT + owned]), codes)
    whole = lists.Lists(
        made.units, made.centroids, np.concatenate([made.codes, more.codes]),
        np.append(made.starts[:-1], COUNT + 300),
        np.concatenate([made.columns, np.arange(COUNT, COUNT + 300, dtype=np.int32)]), made.reach,
    )  # fmt: skip
    rng = np.random.default_rng(4)
    is_hidden = rng.random(300) < 0.4
    inside = np.sort(rng.choice(COUNT, int(share * COUNT), replace=False))
    part = made if share == 1.0 else made.only(inside)
    left = np.concatenate([inside, COUNT + np.flatnonzero(~is_hidden)])
    for query in ASKED[:10]:
        for count in (1, 20, 500):
            found = part.near(query, made.count, count, more=more, is_hidden=is_hidden)
            np.testing.assert_array_equal(found, by_codes(whole, query, count, left))
        some = part.near(query, 3, 20, is_part=True, more=more, is_hidden=is_hidden)
        assert len(some) >= 20
        assert np.isin(some, left).all()
        assert (np.diff(some) > 0).all()
    every = part.near(ASKED[0], 3, 10 * COUNT, more=more, is_hidden=is_hidden)
    np.testing.assert_array_equal(every, left)


def test_sixteen_threads_read_lists_as_one_does(library: str) -> None:
    made = lists_of(ROWS)
    part = made.only(np.arange(0, len(ROWS), 3))
    alone = [(made.near(q, 3, 20), part.near(q, 3, 20, is_part=True)) for q in ASKED[:16]]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            both = made.near(ASKED[i], 3, 20), part.near(ASKED[i], 3, 20, is_part=True)
            if not all(np.array_equal(*pair) for pair in zip(both, alone[i], strict=True)):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# In a collection


def put(sounds: Collection, rows: Float32, first: int = 0) -> None:
    packed = vectors.pack(rows)
    sounds.put(
        [
            NewClip(f"k{first + i:06d}", None, None, None, "", 5.0, f'{{"rest": {i % 100}}}',
                    packed[i : i + 1], SPAN)
            for i in range(len(packed))
        ]
    )  # fmt: skip


def tuning_of(**changes: int) -> Tuning:
    base = Tuning("ivf", DIM, 40, 0, 0, COUNT, 10, 0.9, 0.9, 0.5, 100, "given", 0, 1.0, 32, 600, 12)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "x.clap", embedder=FakeEmbedder(), create=True) as opened:
        put(opened, ROWS[:COUNT])
        opened._open_writer().put_tuning(tuning_of())
        opened.rebuild()
        yield opened


def recall(sounds: Collection, where: dict[str, object] | None = None) -> float:
    found = 0
    for query in ASKED:
        true = {hit.key for hit in sounds.search(query, shortlist="all", where=where).hits}
        found += sum(hit.key in true for hit in sounds.search(query, where=where).hits)
    return found / (10 * len(ASKED))


def test_lists_serve_with_a_tail_with_removals_and_with_filters(
    sounds: Collection, library: str
) -> None:
    info = sounds.info()
    assert (info["index"], info["lists"], info["prefix_dim"]) == ("ivf", 110, 32)
    result = sounds.search(ASKED[0], explain=True)
    assert (result.plan.index, result.plan.dims, result.plan.probes) == ("ivf", (DIM, DIM), 12)
    assert result.explain is not None
    assert [stage.name for stage in result.explain.stages] == ["ivf", "rerank"]
    assert recall(sounds) >= 0.95
    put(sounds, ROWS[COUNT:], first=COUNT)
    for i in range(0, COUNT, 40):
        sounds.remove(f"k{i:06d}")
    assert (sounds.info()["tail_rows"], sounds.info()["index"]) == (300, "ivf")
    assert recall(sounds) >= 0.95
    keys = {hit.key for query in ASKED for hit in sounds.search(query).hits}
    assert not keys & {f"k{i:06d}" for i in range(0, COUNT, 40)}
    assert any(key >= f"k{COUNT:06d}" for key in keys)
    for least in (100, 99, 97, 90, 50, 10, 0):
        where = {"rest": {">=": least}}
        assert recall(sounds, where) >= 0.95 or least == 100
        count = len(sounds.search(ASKED[0], k=1000, shortlist="all", where=where).hits)
        assert len(sounds.search(ASKED[0], k=1000, where=where).hits) == count
    assert len(sounds.search(ASKED[0], k=500).hits) == 500
    assert sounds.search(ASKED[0], shortlist=500).plan.index == "flat"
    batch = sounds.search_batch(list(ASKED))
    assert [r.hits for r in batch] == [sounds.search(query).hits for query in ASKED]
    assert sounds.verify() == []


def shortlisted(sounds: Collection) -> tuple[planner.Plan, int]:
    """The plan of a search, and how many its first stage gave."""
    result = sounds.search(ASKED[0], explain=True)
    assert result.explain is not None
    (ivf,) = (stage for stage in result.explain.stages if stage.name == "ivf")
    return result.plan, ivf.candidates_out


def finds_newer(sounds: Collection) -> None:
    newer = [sounds.search(row, k=1).hits[0].key for row in ROWS[COUNT:]]
    assert newer == [f"k{COUNT + i:06d}" for i in range(300)]


def test_many_that_come_at_once_are_shortlisted_by_their_number(sounds: Collection) -> None:
    put(sounds, ROWS[COUNT:], first=COUNT)
    plan, found = shortlisted(sounds)
    scanned = 300 - 2 * LISTED_AT_ONCE  # of which half have codes alone
    from_tail = math.ceil(plan.scan_shortlist * math.sqrt(scanned / (COUNT + 300)))
    assert found - plan.shortlist == from_tail < plan.scan_shortlist / 3
    finds_newer(sounds)


def test_a_tail_stands_in_the_lists_one_by_one_or_from_opening_on(
    sounds: Collection, tmp_path: Path
) -> None:
    def is_listed(opened: Collection) -> bool:
        plan, found = shortlisted(opened)
        return bool(found == plan.shortlist)

    for at in range(COUNT, COUNT + 100):
        put(sounds, ROWS[at : at + 1], first=at)
    assert is_listed(sounds)
    put(sounds, ROWS[COUNT + 100 :], first=COUNT + 100)
    assert sounds.info()["tail_rows"] == 300
    assert not is_listed(sounds)
    with Collection.open(tmp_path / "x.clap", embedder=FakeEmbedder(), read_only=True) as opened:
        assert is_listed(opened)
        finds_newer(opened)
        assert recall(opened) >= 0.95
        before = [opened.search(query).hits for query in ASKED]
        for i in range(COUNT, COUNT + 300, 3):
            sounds.remove(f"k{i:06d}")
        opened.refresh()
        assert is_listed(opened)
        keys = {hit.key for query in ASKED for hit in opened.search(query).hits}
        assert not keys & {f"k{i:06d}" for i in range(COUNT, COUNT + 300, 3)}
        assert keys & {hit.key for hits in before for hit in hits} - {
            f"k{i:06d}" for i in range(COUNT)
        }
        for least in (99, 97, 90, 50, 10, 0):
            assert recall(opened, {"rest": {">=": least}}) >= 0.95
    for _ in range(20):  # each commit gives lists to some more
        put(sounds, ROWS[:1], first=9000)
        sounds.search(ASKED[0])
    assert is_listed(sounds)
    finds = {hit.key for row in ROWS[COUNT + 1 :: 3] for hit in sounds.search(row, k=1).hits}
    assert finds == {f"k{i:06d}" for i in range(COUNT + 1, COUNT + 300, 3)}


def test_ties_come_by_key(tmp_path: Path) -> None:
    with Collection.open(tmp_path / "t", embedder=FakeEmbedder(), create=True) as sounds:
        put(sounds, np.concatenate([np.repeat(ROWS[:1], 200, axis=0), ROWS[:COUNT]]))
        sounds._open_writer().put_tuning(tuning_of())
        sounds.rebuild()
        plan = sounds.search(ROWS[0], k=10).plan
        found = [hit.key for hit in sounds.search(ROWS[0], k=10).hits]
        assert plan.index == "ivf"
        assert found == [f"k{i:06d}" for i in range(10)]


def test_a_new_plan_rebuilds_for_it_and_old_files_serve_until_then(tmp_path: Path) -> None:
    with Collection.open(tmp_path / "o", embedder=FakeEmbedder(), create=True) as sounds:
        put(sounds, ROWS[:COUNT])
        sounds.rebuild()
        sounds._open_writer().put_tuning(tuning_of())
        result = sounds.search(ASKED[0])
        assert (result.plan.index, result.plan.dims) == ("flat", (32, DIM))
        assert recall(sounds) >= 0.9
        sounds._writer.rebuild_if_due()
        sounds._writer.join()
        assert sounds.search(ASKED[0]).plan.index == "ivf"
        assert not list(sounds.path.glob("generations/*/coarse.hnsw"))
        sounds.backup(tmp_path / "copy")
        sounds.snapshot(tmp_path / "snapshot")
    for name in ("copy", "snapshot"):
        with Collection.open(tmp_path / name, read_only=True) as again:
            assert again.search(ASKED[0]).hits == result.hits
            assert again.info()["index"] == "ivf"


@pytest.mark.parametrize("name", list_files.NAMES)
@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_damaged_lists_are_found_before_use_and_rebuilt(
    sounds: Collection, name: str, harm: str
) -> None:
    expected = [hit.key for hit in sounds.search(ASKED[0]).hits]
    sounds.close()
    path = next(sounds.path.glob(f"generations/*/{name}"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    if harm != "gone":
        path.write_bytes(data if harm == "flip" else data[:-1])
    with pytest.warns(RebuildWarning):
        again = Collection.open(sounds.path, embedder=FakeEmbedder())
    with again:
        assert again.info()["index"] == "ivf"
        assert [hit.key for hit in again.search(ASKED[0]).hits] == expected
        assert again.verify() == []


@pytest.mark.parametrize(
    "damage",
    [lambda n: n + (n == 5), lambda n: n[::-1].copy(), lambda n: n * 0, lambda n: n - 1],
)
def test_numbers_that_contradict_each_other_are_refused(tmp_path: Path, damage: object) -> None:
    """Digests that match say that a file is ours, not that it makes sense."""
    made = lists_of(ROWS[:500])
    files = list_files.write(tmp_path, made)
    opened = list_files.open(tmp_path, files, made.count, 500, DIM)
    assert opened is not None
    np.testing.assert_array_equal(opened.near(ASKED[0], 5, 20), made.near(ASKED[0], 5, 20))
    path = tmp_path / list_files.NUMBERS
    numbers = np.frombuffer(path.read_bytes(), np.int32)
    path.unlink()
    bad = damage(numbers).astype(np.int32)  # type: ignore[operator]
    files[list_files.NUMBERS] = storage.write_file(path, [bad.tobytes()])
    with pytest.raises(Exception, match=r"rebuild"):
        list_files.open(tmp_path, files, made.count, 500, DIM)
    for count in (-1, 501, "9", None, 2.0):
        with pytest.raises(Exception, match=r"lists; rebuild"):
            list_files.open(tmp_path, files, count, 500, DIM)  # type: ignore[arg-type]


def test_by_means_lists_span_clips(tmp_path: Path) -> None:
    with Collection.open(
        tmp_path / "m.clap", embedder=FakeEmbedder(), create=True, granularity="both"
    ) as sounds:
        packed = vectors.pack(ROWS[:COUNT]).reshape(COUNT // 2, 2, DIM)
        spans = np.repeat(SPAN, 2, axis=0)
        sounds.put(
            [NewClip(f"k{i}", None, None, None, "", 10.0, "{}", packed[i], spans)
             for i in range(len(packed))]
        )  # fmt: skip
        sounds._open_writer().put_tuning(tuning_of(rows=COUNT // 2, shortlist=300, probes=70))
        sounds.rebuild()
        plan = sounds.search(ASKED[0]).plan
        assert (plan.index, plan.counts) == ("ivf", "clips")
        assert recall(sounds) >= 0.9


def test_a_plan_that_is_outgrown_reads_more_lists() -> None:
    tuning = tuning_of()
    plan = planner.tuned(tuning, COUNT, 10, has_coarse=True, dim=DIM)
    assert (plan.index, plan.probes, plan.shortlist, plan.expected_recall) == ("ivf", 12, 40, 0.9)
    grown = planner.tuned(tuning, 4 * COUNT, 10, has_coarse=True, dim=DIM)
    assert (grown.probes, grown.shortlist, grown.expected_recall) == (24, 80, None)
    wider = planner.widen(plan)
    assert (wider.index, wider.probes, wider.shortlist) == ("ivf", 48, 160)
    scan_ = planner.tuned(tuning, COUNT, 10, has_coarse=False, dim=DIM)
    assert (scan_.index, scan_.shortlist, scan_.dims) == ("flat", 600, (32, DIM))
    assert not planner.is_coarse_due(COUNT, None, tuning)
    assert planner.are_lists_due(COUNT, tuning)
    assert not planner.are_lists_due(100, tuning)
    assert not planner.are_lists_due(COUNT, None)


def test_tuning_tries_lists_and_keeps_what_it_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_GRAPH_ROWS", 2000)
    monkeypatch.setattr(coarse, "is_available", lambda: False)
    with Collection.open(tmp_path / "x", embedder=FakeEmbedder(), create=True) as sounds:
        put(sounds, clustered(6000, seed=10))
        sounds.rebuild()
        asked = list(clustered(200, seed=11))
        report = sounds.tune(0.97, queries=asked)
        tried = [trial for trial in report.trials if trial.plan.index == "ivf"]
        assert len(tried) == 2
        assert all((trial.recall or 0) >= 0.97 for trial in tried)
        best = min(tried, key=lambda trial: trial.latency_ms or 0)
        plan = best.plan
        sounds._open_writer().put_tuning(
            dataclasses.replace(
                report.tuning, index="ivf", coarse_dim=DIM, shortlist=plan.shortlist, kept=0,
                middle_dim=0, probes=plan.probes, scan_dim=plan.scan_dim,
                scan_shortlist=plan.scan_shortlist,
            )
        )  # fmt: skip
        sounds.rebuild()
        found = 0
        for query in clustered(300, seed=12):
            true = {hit.key for hit in sounds.search(query, shortlist="all").hits}
            result = sounds.search(query)
            assert result.plan.index == "ivf"
            found += sum(hit.key in true for hit in result.hits)
        assert found / 3000 >= (best.recall or 0) - 0.005
        none = sounds.tune(0.9, queries=asked, memory_bytes=1)
        assert all("memory" in t.skipped for t in none.trials if t.plan.index == "ivf")
