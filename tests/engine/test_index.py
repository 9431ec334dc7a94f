"""Laws of the index: scores are exact, scans miss nothing, the graph agrees with the scan."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from fake_embedder import DIM, power_law

from clap_engine import storage
from clap_engine.arrays import Float16, Float32, Int64, l2_normalize
from clap_engine.errors import ArrayError, DependencyError, IntegrityError, NotFoundError
from clap_engine.index import coarse, flat, generation, vectors
from clap_engine.index.coarse import CoarseIndex
from clap_engine.index.generation import PREFIX_DIM, Owner
from clap_engine.index.tail import Tail
from clap_engine.index.view import View
from clap_engine.records import Rows

OWNER = Owner("c" * 32, "5" * 64, DIM)

needs_hnswlib = pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")


def prefix_of(query: Float32) -> Float32:
    return l2_normalize(query[None, :PREFIX_DIM])[0]


def test_packing_rounds_as_float16_and_drops_denormals() -> None:
    x = power_law(64, seed=1)
    x[0, :8] = [1e-8, -1e-8, 6e-5, -6e-5, 6.2e-5, 0, -0.0, 1.0]
    packed = vectors.pack(x)
    small = np.abs(x) < 2.0**-14
    assert (packed[small] == 0).all()
    np.testing.assert_array_equal(packed[~small], x[~small].astype(np.float16))


def test_widening_is_exact_for_every_normal_float16() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every) & ((every == 0) | (np.abs(every) >= 2.0**-14))]
    before = finite.copy()
    np.testing.assert_array_equal(vectors.widen(finite[None])[0], finite.astype(np.float32))
    np.testing.assert_array_equal(finite, before)


@pytest.mark.parametrize("rows", [1, 2, 511, 512, 513, 1500])
def test_scores_are_float32_inner_products_whatever_the_company(rows: int) -> None:
    packed, query = vectors.pack(power_law(rows, seed=2)), power_law(1, seed=3)[0]
    scores = vectors.exact_scores(packed, np.arange(rows), query)
    truth = packed.astype(np.float64) @ query.astype(np.float64)
    np.testing.assert_allclose(scores, truth, atol=2e-6)
    some = np.arange(0, rows, 3)
    # Bitwise: equal vectors must tie wherever they are stored.
    np.testing.assert_array_equal(vectors.exact_scores(packed, some, query), scores[some])


def test_prefixes_are_unit_columns() -> None:
    packed = vectors.pack(power_law(50, seed=4))
    packed[7] = 0
    columns = vectors.prefixes(packed, PREFIX_DIM)
    assert columns.shape == (PREFIX_DIM, 50)
    norms = np.linalg.norm(columns, axis=0)
    np.testing.assert_allclose(np.delete(norms, 7), 1, atol=1e-6)
    assert norms[7] == 0


@pytest.mark.parametrize("count", [1, 2, 10, 99, 100, 1000])
def test_the_best_are_all_that_reach_the_last_score(count: int) -> None:
    rng = np.random.default_rng(count)
    scores = rng.integers(0, 20, 100).astype(np.float32)  # many ties
    scores[::7] = -np.inf
    found = flat.best(scores, count)
    alive = np.sort(scores[np.isfinite(scores)])[::-1]
    last = alive[min(count, len(alive)) - 1]
    np.testing.assert_array_equal(found, np.flatnonzero(scores >= last))


@pytest.mark.parametrize("order", ["shuffled", "ascending", "periodic", "steps", "gone"])
@pytest.mark.parametrize("count", [1, 10, 300, 2000, 19_999])
def test_the_best_of_many_are_those_of_a_sort(order: str, count: int) -> None:
    """However the scores lie, also where a sample of them misleads."""
    scores = np.random.default_rng(count).normal(size=20_000).astype(np.float32)
    if order == "ascending":
        scores.sort()
    elif order == "periodic":
        scores[::16] = 9 + np.arange(len(scores[::16])) % 5  # all that is sampled is high
    elif order == "steps":
        scores = np.round(scores)
    elif order == "gone":
        scores[: len(scores) // 2] = -np.inf
    last = np.sort(scores)[-count]
    expected = np.flatnonzero((scores >= last) & np.isfinite(scores))
    np.testing.assert_array_equal(flat.best(scores, count), expected)


def stored(rows: Int64, clips: Int64, packed: Float16) -> Rows:
    """Rows of five seconds each, as the source of truth would give them."""
    starts = 5.0 * rows
    return Rows(rows, clips, np.stack([starts, starts + 5], axis=1), packed)


def block_of(packed: Float16, rows: Int64, clips: Int64) -> generation.Block:
    prefixes = vectors.prefixes(packed, PREFIX_DIM)
    return generation.Block(packed, prefixes, rows, clips, stored(rows, clips, packed).spans)


def write(folder: Path, packed: Float16, *, number: int = 1, with_coarse: bool = False) -> object:
    rows = np.arange(1, len(packed) + 1, dtype=np.int64) * 2
    batches = [stored(rows[i : i + 100], rows[i : i + 100] // 4, packed[i : i + 100])
               for i in range(0, len(packed), 100)]  # fmt: skip
    return generation.write(
        folder,
        number,
        OWNER,
        change=7,
        last_row=int(rows[-1]),
        batches=batches,
        with_coarse=with_coarse,
    )


def test_a_generation_reads_back_to_the_bit(tmp_path: Path) -> None:
    packed = vectors.pack(power_law(256, seed=5))
    header = write(tmp_path / "g", packed)
    found = generation.open(tmp_path / "g", 1, header, OWNER)
    np.testing.assert_array_equal(found.block.vectors, packed)
    np.testing.assert_array_equal(found.block.prefixes, vectors.prefixes(packed, PREFIX_DIM))
    assert (found.number, found.change, found.last_row) == (1, 7, 512)
    assert found.coarse is None
    with pytest.raises(ValueError):
        found.block.vectors[0] = 0  # a map of the file, read-only


def test_a_generation_of_another_owner_is_refused(tmp_path: Path) -> None:
    header = write(tmp_path / "g", vectors.pack(power_law(20, seed=6)))
    for other in (
        Owner("d" * 32, OWNER.space_id, DIM),
        Owner(OWNER.collection, "6" * 64, DIM),
        Owner(OWNER.collection, OWNER.space_id, 256),
    ):
        with pytest.raises(IntegrityError):
            generation.open(tmp_path / "g", 1, header, other)
    with pytest.raises(NotFoundError):
        generation.open(tmp_path / "g", 2, header, OWNER)
    generation.path_of(tmp_path / "g", 1).rename(generation.path_of(tmp_path / "g", 2))
    with pytest.raises(IntegrityError):
        generation.open(tmp_path / "g", 2, header, OWNER)


def test_an_unfinished_generation_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield stored(np.array([1]), np.array([1]), vectors.pack(power_law(1, seed=7)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generation.write(
            tmp_path / "g", 1, OWNER, change=1, last_row=1, batches=broken(), with_coarse=False
        )
    assert list((tmp_path / "g").iterdir()) == []


def view_of(packed: Float16, tail: int, index: CoarseIndex | None = None) -> View:
    """Half of the rows as a base would hold them, `tail` of them as a tail."""
    split = len(packed) - tail
    rows = np.arange(1, len(packed) + 1)
    base = block_of(packed[:split], rows[:split], rows[:split])
    growing = Tail(DIM)
    for start in range(split, len(packed), 37):
        part = slice(start, min(start + 37, len(packed)))
        growing.append(stored(rows[part], rows[part], packed[part]))
    opened = generation.Generation(1, 1, split, base, index)
    return View.of(opened, DIM).later(2, len(packed), growing.block(), [])


@pytest.mark.parametrize("tail", [0, 1, 250, 500])
def test_base_and_tail_are_searched_as_one(tail: int) -> None:
    packed = vectors.pack(power_law(500, seed=8))
    whole, split = view_of(packed, 0), view_of(packed, tail)
    for query in power_law(10, seed=9):
        a = whole.shortlist(prefix_of(query), 40)
        b = split.shortlist(prefix_of(query), 40)
        # A product's rounding may differ with the matrix's width: at most the last place swaps.
        assert len(np.intersect1d(a, b)) >= 39
        np.testing.assert_array_equal(whole.scores(b, query), split.scores(b, query))
    np.testing.assert_array_equal(split.everything(), np.arange(500))


def test_removed_rows_are_never_returned_and_older_views_keep_them() -> None:
    packed = vectors.pack(power_law(300, seed=10))
    before = view_of(packed, 100)
    after = before.later(3, 300, before.tail, [(11, 5), (150, 100), (299, 1)])
    gone = np.array([*range(10, 15), *range(149, 249), 298])
    assert (before.rows, after.rows, after.dead) == (300, 194, 106)
    assert len(before.everything()) == 300
    assert not np.isin(after.everything(), gone).any()
    for query in power_law(5, seed=11):
        found = after.shortlist(prefix_of(query), 100)
        assert len(found) == 100
        assert not np.isin(found, gone).any()


def test_older_views_do_not_see_a_growing_tail() -> None:
    packed = vectors.pack(power_law(5000, seed=12))
    tail = Tail(DIM)
    tail.append(stored(np.arange(10), np.arange(10), packed[:10]))
    first = tail.block()
    for start in range(10, 5000, 499):
        rows = np.arange(start, min(start + 499, 5000))
        tail.append(stored(rows, rows, packed[rows]))
    assert len(first) == 10
    np.testing.assert_array_equal(first.vectors, packed[:10])
    np.testing.assert_array_equal(tail.block().vectors, packed)
    np.testing.assert_array_equal(tail.block().prefixes, vectors.prefixes(packed, PREFIX_DIM))


def test_the_best_window_of_a_clip_wins_the_earliest_among_equals() -> None:
    packed = vectors.pack(power_law(6, seed=13))
    packed[4] = packed[2]
    clips = np.array([1, 1, 2, 2, 2, 3])
    base = block_of(packed, np.arange(10, 16), clips)
    view = View.of(generation.Generation(1, 1, 15, base, None), DIM)
    query = packed[2].astype(np.float32)
    found, places, scores = view.best_windows(
        view.everything(), view.scores(view.everything(), query)
    )
    assert found.tolist() == [1, 2, 3]
    assert places[1] == 2
    assert view.spans(places) == [(5.0 * row, 5.0 * row + 5) for row in places + 10]
    assert scores[1] == scores.max()


@pytest.mark.parametrize("tail", [0, 37, 300])
def test_best_windows_are_what_a_loop_over_clips_finds(tail: int) -> None:
    packed = vectors.pack(power_law(300, seed=15))
    packed[20:40] = packed[20]  # ties within clips and across them
    rng = np.random.default_rng(16)
    clips = np.sort(rng.integers(0, 90, 300))
    rows, split = np.arange(5, 305), 300 - tail
    growing = Tail(DIM)
    growing.append(stored(rows[split:], clips[split:], packed[split:]))
    base = block_of(packed[:split], rows[:split], clips[:split])
    opened = generation.Generation(1, 1, int(rows[split - 1]) if split else 0, base, None)
    view = View.of(opened, DIM).later(2, 304, growing.block(), [])
    positions = np.sort(rng.choice(300, 120, replace=False))
    scores = view.scores(positions, packed[20].astype(np.float32))
    expected: dict[int, tuple[float, int]] = {}
    for at, score in zip(positions.tolist(), scores.tolist(), strict=True):
        clip = int(clips[at])
        if clip not in expected or score > expected[clip][0]:
            expected[clip] = (score, at)
    found, places, best = view.best_windows(positions, scores)
    assert found.tolist() == sorted(expected)
    assert [(b, p) for b, p in zip(best.tolist(), places.tolist(), strict=True)] == [
        expected[clip] for clip in sorted(expected)
    ]


def found_near(view: View, query: Float32, count: int, **options: int) -> Int64:
    found = view.near(query, count, **options)
    assert found is not None
    return found


@needs_hnswlib
@pytest.mark.parametrize("rows", [1, 2, 50, 1000, 5000])
@pytest.mark.parametrize("tail", [0, 20])
def test_the_graph_agrees_with_the_scan(rows: int, tail: int) -> None:
    """Overlap of shortlists >= .98 on average (measured .996 to 1.0), one seed a size."""
    packed = vectors.pack(power_law(rows + tail, seed=rows))
    index = CoarseIndex.build(np.ascontiguousarray(vectors.prefixes(packed[:rows], PREFIX_DIM).T))
    view = view_of(packed, tail, index)
    count = max(1, rows // 5)
    overlaps = []
    for query in power_law(20, seed=14):
        scan = view.shortlist(prefix_of(query), count)
        graph = found_near(view, query, count)
        assert (np.diff(graph) > 0).all()
        assert len(graph) >= min(count, rows + tail)
        overlaps.append(len(np.intersect1d(scan, graph)) / len(scan))
    assert np.mean(overlaps) >= 0.98


@needs_hnswlib
def test_the_graph_never_returns_removed_rows() -> None:
    packed = vectors.pack(power_law(1000, seed=15))
    index = CoarseIndex.build(np.ascontiguousarray(vectors.prefixes(packed, PREFIX_DIM).T))
    view = view_of(packed, 0, index)
    thin = view.later(3, 1000, view.tail, [(1, 700)])
    for query in power_law(10, seed=16):
        found = found_near(thin, query, 100)
        assert len(found) == 100
        assert (found >= 700).all()


@needs_hnswlib
def test_the_graph_is_the_same_to_the_byte_each_time(tmp_path: Path) -> None:
    rows = np.ascontiguousarray(
        vectors.prefixes(vectors.pack(power_law(2000, seed=17)), PREFIX_DIM).T
    )
    before = rows.copy()
    for name in "ab":
        CoarseIndex.build(rows).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    np.testing.assert_array_equal(rows, before)


@needs_hnswlib
def test_the_wall_in_front_of_the_graph(tmp_path: Path) -> None:
    rows = np.ascontiguousarray(
        vectors.prefixes(vectors.pack(power_law(100, seed=18)), PREFIX_DIM).T
    )
    for bad in (rows * 2, rows[:0], np.full_like(rows, np.nan), rows[0]):
        with pytest.raises((ArrayError, IntegrityError)):
            CoarseIndex.build(bad)
    index = CoarseIndex.build(rows)
    for bad in (rows[0] * 2, rows[0, :31], np.full(PREFIX_DIM, np.inf, np.float32)):
        with pytest.raises((ArrayError, IntegrityError)):
            index.search(bad, 5)
    positions, scores = index.search(rows[3], 1_000_000)  # more than there are
    assert sorted(positions) == list(range(100))
    assert positions[0] == 3
    np.testing.assert_allclose(scores[0], 1, atol=1e-5)
    index.save(tmp_path / "index")
    for dim, count in ((16, 100), (64, 100), (PREFIX_DIM, 99), (PREFIX_DIM, 101)):
        with pytest.raises(IntegrityError):
            CoarseIndex.load(tmp_path / "index", dim, count)
    same = CoarseIndex.load(tmp_path / "index", PREFIX_DIM, 100)
    np.testing.assert_array_equal(same.search(rows[3], 10)[0], positions[:10])


@needs_hnswlib
def test_sixteen_threads_search_as_one_does() -> None:
    packed = vectors.pack(power_law(3000, seed=19))
    index = CoarseIndex.build(np.ascontiguousarray(vectors.prefixes(packed, PREFIX_DIM).T))
    view = view_of(packed, 0, index)
    queries = list(power_law(16, seed=20))
    alone = [found_near(view, query, 200) for query in queries]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(found_near(view, queries[i], 200), alone[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_hnswlib
def test_a_generation_with_a_graph_is_served_without_hnswlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = vectors.pack(power_law(300, seed=21))
    header = write(tmp_path / "g", packed, with_coarse=True)
    assert generation.open(tmp_path / "g", 1, header, OWNER).coarse is not None
    monkeypatch.setattr(coarse, "is_available", lambda: False)
    assert generation.open(tmp_path / "g", 1, header, OWNER).coarse is None


def test_without_hnswlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hnswlib", None)
    with pytest.raises(DependencyError, match="pip install"):
        CoarseIndex.build(l2_normalize(np.ones((2, PREFIX_DIM), np.float32)))


def test_a_failed_disk_leaves_no_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = vectors.pack(power_law(10, seed=22))
    calls = 0

    def fail(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage, "_fsync", fail)
    with pytest.raises(storage.StorageError):
        write(tmp_path / "g", packed)
    assert list((tmp_path / "g").iterdir()) == []
