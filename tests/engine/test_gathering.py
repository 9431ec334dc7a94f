"""Calls that share runs: each gets its own row, errors reach all, dynamic graphs never share."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import noise
from tiny_bundle import (
    RATE_HZ,
    WINDOW_S,
    make_bundle,
    make_files,
    make_manifest,
    resealed,
    write_bundle,
)

from clap_engine import tower
from clap_engine.errors import GraphError
from clap_engine.gathering import MAX_GATHERED, Gatherer
from clap_engine.loading import load

WINDOW = round(RATE_HZ * WINDOW_S)


class Counted:
    """Doubles numbers; the first run waits until it is let go, so that others gather."""

    def __init__(self, fails: BaseException | None = None) -> None:
        self.batches: list[list[int]] = []
        self.go, self.begun, self.fails = threading.Event(), threading.Event(), fails

    def __call__(self, shape: Hashable, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.go.wait(20)
        if self.fails is not None:
            raise self.fails
        return [2 * item for item in items]


def together(gatherer: Gatherer[int, int], work: Counted, count: int) -> list[Any]:
    """What each of `count` callers got, all but the first gathered behind it."""
    got: list[Any] = [None] * count

    def call(number: int) -> None:
        try:
            got[number] = gatherer.run("s", number)
        except (GraphError, KeyboardInterrupt) as error:
            got[number] = error

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    threads[0].start()
    assert work.begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    end_s = time.monotonic() + 20
    while len(gatherer._waiting["s"]) < count - 1 and time.monotonic() < end_s:
        time.sleep(0.001)
    work.go.set()
    for thread in threads:
        thread.join(20)
    return got


@pytest.mark.parametrize("count", [1, 2, 17, 40])
def test_who_comes_meanwhile_shares_the_next_run(count: int) -> None:
    work = Counted()
    gatherer: Gatherer[int, int] = Gatherer(work, latency_budget_ms=0)
    assert together(gatherer, work, count) == [2 * number for number in range(count)]
    assert len(work.batches[0]) == 1
    assert max(map(len, work.batches)) <= MAX_GATHERED
    assert len(work.batches) == 1 + -(-(count - 1) // MAX_GATHERED)
    assert gatherer._waiting == {}


def test_the_first_waits_for_company_within_the_budget() -> None:
    work = Counted()
    work.go.set()
    gatherer: Gatherer[int, int] = Gatherer(work, latency_budget_ms=300)
    threads = [threading.Thread(target=gatherer.run, args=("s", i)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [sorted(batch) for batch in work.batches] == [[0, 1, 2, 3, 4]]


def test_other_shapes_do_not_share() -> None:
    work = Counted()
    work.go.set()
    gatherer: Gatherer[int, int] = Gatherer(work, latency_budget_ms=50)
    threads = [threading.Thread(target=gatherer.run, args=(f"s{i}", i)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(work.batches) == [[0], [1], [2]]


def test_an_error_reaches_all_and_the_next_call_works() -> None:
    work = Counted(GraphError("the graph failed"))
    gatherer: Gatherer[int, int] = Gatherer(work, latency_budget_ms=0)
    got = together(gatherer, work, 5)
    assert all(isinstance(error, GraphError) for error in got)
    assert len({id(error) for error in got}) == 5  # a traceback belongs to one thread
    work.fails = None
    assert gatherer.run("s", 21) == 42


def test_what_ends_the_leader_alone_ends_no_other() -> None:
    work = Counted(KeyboardInterrupt())

    class Once(Counted):
        def __call__(self, shape: Hashable, items: Sequence[int]) -> list[int]:
            try:
                return super().__call__(shape, items)
            finally:
                self.fails = None

    work = Once(KeyboardInterrupt())
    gatherer: Gatherer[int, int] = Gatherer(work, latency_budget_ms=0)
    got = together(gatherer, work, 4)
    assert isinstance(got[0], KeyboardInterrupt)
    assert got[1:] == [2, 4, 6]


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_a_budget_is_checked(wrong: float) -> None:
    with pytest.raises(ValueError, match="latency_budget_ms"):
        Gatherer(Counted(), latency_budget_ms=wrong)


# In an engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def test_rows_are_ones_own_and_the_same(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 threads that share runs get what each gets alone, to 1e-6."""
    sizes: list[int] = []
    run = tower.Tower.run

    def counted(self: Any, output: str, inputs: Any, *rest: Any, **options: Any) -> Any:
        sizes.append(len(next(iter(inputs.values()))))
        return run(self, output, inputs, *rest, **options)

    monkeypatch.setattr(tower.Tower, "run", counted)
    texts = [f"a {word}" for word in ("dog", "banjo", "roof", "slow", "fast", "melody")]
    clips = [(noise(i, WINDOW), RATE_HZ) for i in range(6)]
    with load(tiny, precision="fp32", threads=1) as plain:
        wanted = [plain.embed_text([text])[0] for text in texts]
        heard = [plain.embed_audio([clip])[0] for clip in clips]
    with load(tiny, precision="fp32", threads=1, latency_budget_ms=20) as engine:
        assert engine.stats().lanes["text"].slots >= MAX_GATHERED
        start, wrong = threading.Barrier(12), list[int]()

        def work(number: int) -> None:
            start.wait()
            row = engine.embed_text(texts[number % 6])[0]
            sound = engine.embed_audio([clips[number % 6]])[0]
            if not np.allclose(row, wanted[number % 6], atol=1e-6):
                wrong.append(number)
            if not np.allclose(sound, heard[number % 6], atol=1e-6):
                wrong.append(number)
            row[:] = 0  # it may: the row is its own

        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not wrong
        assert max(sizes) > 1, "nothing was gathered"


def test_dynamic_scales_take_one_item_a_call(tmp_path: Path) -> None:
    files = make_files()
    manifest = make_manifest(files)
    graphs = {
        name: replace(graph, dynamic_scale=True) for name, graph in manifest.text.graphs.items()
    }
    dynamic = resealed(manifest, text=replace(manifest.text, graphs=graphs))
    path = write_bundle(tmp_path / "b", files, dynamic)
    with load(path, precision="fp32", threads=1, latency_budget_ms=5) as engine:
        assert engine._text_encoder()._tower._gatherer is None
        assert engine._audio_encoder()._tower._gatherer is not None
        assert engine.stats().lanes["text"].slots < MAX_GATHERED
