"""Readers that follow: through swaps of snapshots and generations each answer is one state.

Clips come in pairs that every commit changes together. An answer that holds half a pair, or two
halves of different age, mixes two states; one older than what was served before goes backwards.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import FakeEmbedder, power_law, sound_of

from clap_engine import following, serving
from clap_engine.collection import Collection
from clap_engine.errors import (
    ClosedError,
    CollectionError,
    IntegrityError,
    NotFoundError,
    SpaceMismatchError,
)
from clap_engine.index import generation

ROWS = power_law(400, seed=1)
SWAPS = 50
WAIT_S = 30.0
REST_S = 0.003  # the machine has other tests to run


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "live", embedder=FakeEmbedder(), create=True) as sounds:
        sounds.add([sound_of(row) for row in ROWS[:40]], keys=[f"still {i}" for i in range(40)])
        change(sounds, 0)
        yield sounds


def change(sounds: Collection, i: int) -> None:
    pair = [sound_of(ROWS[i % 300 + 41]), sound_of(ROWS[i % 300 + 42])]
    sounds.add(pair, keys=["left", "right"], metadata=[{"i": i}, {"i": i}])


def opened(place: Path, **options: Any) -> Collection:
    return Collection.open(place, embedder=FakeEmbedder(), read_only=True, **options)


def age_of(sounds: Collection, **options: Any) -> int:
    """The age of the pair; what is wrong with the answer is raised."""
    hits = sounds.search(ROWS[0], k=500, shortlist="all", **options).hits
    found = {hit.key: hit.metadata.get("i") for hit in hits}
    if len(hits) != 42 or found["left"] != found["right"]:
        raise AssertionError(f"{len(hits)} hits, {found.get('left')} and {found.get('right')}")
    age = found["left"]
    assert isinstance(age, int)
    return age


class Searchers:
    """Threads that search all the time, and what they saw; `until` waits for an age."""

    def __init__(self, sounds: Collection) -> None:
        self.sounds = sounds
        self.wrong: list[str] = []
        self.answers = 0
        self._ages = [-1] * 4
        self._news = threading.Condition()
        self._stop = threading.Event()
        filters = [{}, {}, {"where": {"key": {"!=": "x"}}}, {"where": {"i": {">=": 0}}}]
        self._threads = [
            threading.Thread(target=self._run, args=(n, options))
            for n, options in enumerate(filters)
        ]

    def __enter__(self) -> Searchers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int, options: dict[str, Any]) -> None:
        while not self._stop.wait(REST_S):
            try:
                if "i" in options.get("where", {}):
                    hits = self.sounds.search(ROWS[0], k=500, shortlist="all", **options).hits
                    (age,) = {hit.metadata["i"] for hit in hits}
                    assert len(hits) == 2
                else:
                    age = age_of(self.sounds, **options)
                assert age >= self._ages[number], f"{age} after {self._ages[number]}"
            except BaseException as error:  # noqa: BLE001 (whatever it is, the test shows it)
                with self._news:
                    self.wrong.append(repr(error))
                    self._stop.set()
                    self._news.notify_all()
            else:
                with self._news:
                    self._ages[number], self.answers = age, self.answers + 1
                    self._news.notify_all()

    def until(self, age: int) -> None:
        """Wait until every thread has seen this age."""
        with self._news:
            came = self._news.wait_for(lambda: min(self._ages) >= age or self.wrong, WAIT_S)
        assert came, self._ages


def by_link(place: Path, served: Path) -> None:
    """A link that is switched."""
    draft = served.with_name("draft")
    draft.symlink_to(place)
    os.replace(draft, served)


def by_rename(place: Path, served: Path) -> None:
    """Two renames: for a moment there is nothing."""
    if served.exists():
        served.rename(served.with_name("old"))
    place.rename(served)
    shutil.rmtree(served.with_name("old"), ignore_errors=True)


def swaps(source: Collection, searchers: Searchers, put: Callable[[Path, Path], None]) -> None:
    """Publish a snapshot after the other; what was served before is deleted while it serves."""
    served, before = source.path.parent / "served", source.path.parent / "0"
    for i in range(1, SWAPS + 1):
        change(source, i)
        place = source.path.parent / f"{i}"
        source.snapshot(place)
        put(place, served)
        shutil.rmtree(before, ignore_errors=True)
        before = place
        if i % 5 == 0:
            searchers.until(i)
        if searchers.wrong:
            return
    searchers.until(SWAPS)


def held() -> int:
    """Files that this process has open or mapped under names that are gone, where one can tell."""
    try:
        maps = Path("/proc/self/maps").read_text().count("vectors.f16")
        return maps + len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


@pytest.mark.parametrize("put", [by_link, by_rename])
def test_searches_go_on_through_50_swaps_of_snapshots(
    source: Collection, tmp_path: Path, put: Callable[[Path, Path], None]
) -> None:
    source.snapshot(tmp_path / "0")
    put(tmp_path / "0", tmp_path / "served")
    with (
        opened(tmp_path / "served", watch=True) as sounds,
        Searchers(sounds) as searchers,
    ):
        before = held()
        swaps(source, searchers, put)
        assert searchers.wrong == []
        assert searchers.answers > SWAPS
        assert held() < before + SWAPS, "what was replaced is still open"
        assert len(sounds) == 42
        assert sounds.verify() == []


def test_that_test_can_fail(
    source: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its control: where what was replaced is closed at once, requests under way fail."""

    def replace(self: serving.Loans, new: serving.Serving) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self.are_out and time.monotonic() < deadline:
            time.sleep(0)  # searches take a fraction of the time: few of 50 swaps meet one
        old, self._now = self._now, new
        self._users[new] = 0
        old.close()  # whoever has it

    monkeypatch.setattr(serving.Loans, "replace", replace)
    source.snapshot(tmp_path / "0")
    by_link(tmp_path / "0", tmp_path / "served")
    with (
        opened(tmp_path / "served", watch=True) as sounds,
        Searchers(sounds) as searchers,
    ):
        swaps(source, searchers, by_link)
    assert any("closed" in text for text in searchers.wrong)


def test_searches_go_on_through_50_generations(source: Collection) -> None:
    with opened(source.path, watch=True) as sounds, Searchers(sounds) as searchers:
        for i in range(1, SWAPS + 1):
            change(source, i)
            source.rebuild()
            if i % 10 == 0:
                searchers.until(i)
        searchers.until(SWAPS)
        assert searchers.wrong == []


def test_no_search_waits_for_what_is_opened(
    source: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the watch opens a generation, or another snapshot, answers come from the one before."""
    real, opening, go_on = generation.open, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> generation.Generation:
        if threading.current_thread().name == "clap-engine-watch":
            opening.set()
            assert go_on.wait(WAIT_S)
        return real(*arguments)

    source.snapshot(tmp_path / "0", link=tmp_path / "served")
    monkeypatch.setattr(generation, "open", slow)
    for place in (source.path, tmp_path / "served"):
        opening.clear()
        go_on.clear()
        with opened(place, watch=True) as sounds:
            before = age_of(sounds)
            change(source, before + 1)
            source.rebuild()
            if place != source.path:
                source.snapshot(tmp_path / "1", link=place)
            assert opening.wait(WAIT_S)
            for _ in range(20):
                assert before <= age_of(sounds) <= before + 1
            go_on.set()
            with Searchers(sounds) as searchers:
                searchers.until(before + 1)
            assert searchers.wrong == []


def test_refresh_by_hand(source: Collection, tmp_path: Path) -> None:
    source.snapshot(tmp_path / "0", link=tmp_path / "served")
    with opened(tmp_path / "served") as sounds:
        assert not sounds.refresh()
        change(source, 1)
        source.snapshot(tmp_path / "1", link=tmp_path / "served")
        assert age_of(sounds) == 0  # nobody asked yet
        assert sounds.refresh()
        assert not sounds.refresh()
        assert age_of(sounds) == 1
    with pytest.raises(ClosedError):
        sounds.refresh()
    with opened(source.path) as reader:
        assert not reader.refresh()
        change(source, 2)
        assert reader.refresh()
        assert age_of(reader) == 2
    assert not source.refresh()


def test_what_cannot_take_over_does_not(
    source: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another space, damage, nothing at all: what served goes on, and a good one takes over."""
    served = tmp_path / "served"
    source.snapshot(tmp_path / "0", link=served)
    change(source, 1)
    source.snapshot(tmp_path / "bad")
    (prefixes,) = (tmp_path / "bad").glob("generations/*/prefixes.f32")
    prefixes.chmod(0o644)
    prefixes.write_bytes(bytes(prefixes.stat().st_size))
    strange = FakeEmbedder("6" * 64)
    with Collection.open(tmp_path / "strange", embedder=strange, create=True) as other:
        other.add([b"one"], keys=["one"])
        other.snapshot(tmp_path / "other")
    for embedder in (FakeEmbedder(), None):
        by_link(tmp_path / "0", served)
        with Collection.open(served, embedder=embedder, read_only=True) as sounds:
            by_link(tmp_path / "bad", served)
            with pytest.warns(UserWarning, match="rebuilt"), pytest.raises(IntegrityError):
                sounds.refresh()
            by_link(tmp_path / "other", served)
            with pytest.raises(SpaceMismatchError, match=r"0|6666"):
                sounds.refresh()
            served.unlink()
            with pytest.raises(NotFoundError):
                sounds.refresh()
            assert age_of(sounds) == 0
    by_link(tmp_path / "0", served)
    with opened(served, watch=True) as sounds, Searchers(sounds) as searchers:
        by_link(tmp_path / "other", served)
        while "goes on serving" not in caplog.text:
            searchers.until(0)
            threading.Event().wait(following.WATCH_S)
        source.snapshot(tmp_path / "1", link=served)
        searchers.until(1)
        assert searchers.wrong == []


def test_a_watch_is_for_readers(source: Collection, tmp_path: Path) -> None:
    source.close()
    with pytest.raises(CollectionError, match="for readers"):
        Collection.open(source.path, embedder=FakeEmbedder(), watch=True)
    before = threading.active_count()
    with opened(source.path, watch=True):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
