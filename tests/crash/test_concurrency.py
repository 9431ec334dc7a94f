"""Readers beside a writer, in other processes and in threads: each answer is one committed state.

Clips come in pairs that every commit changes together. An answer that holds half a pair, or two
halves of different age, mixes two states.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_embedder import FakeEmbedder, child_environment, power_law, sound_of

from clap_engine import planner
from clap_engine.collection import Collection, SearchResult

ROWS = power_law(400, seed=1)
COMMITS = 500
# Between commits: beside a writer that rests less, readers look for news every 25 ms, and how many
# of the commits they see says how fast the machine is.
REST_S = 0.005

# argv: folder. A line for each change of what it sees: the age of the pair, or what is wrong.
READER = """
import os, sys
from clap_engine.collection import Collection
from fake_embedder import FakeEmbedder, power_law

query, age, answers = power_law(1, seed=5)[0], -1, 0
with Collection.open(sys.argv[1], embedder=FakeEmbedder(), read_only=True) as sounds:
    os.write(1, b"open\\n")
    while True:
        hits = sounds.search(query, k=500, shortlist="all").hits
        answers += 1
        found = {hit.key: hit.metadata.get("i") for hit in hits}
        left, right = found.get("left"), found.get("right")
        wrong = len(found) != len(hits) or left != right or not 40 <= len(hits) <= 42
        if wrong or (left is not None and left < age):
            os.write(1, f"wrong {left} {right} after {age}, {len(hits)} hits\\n".encode())
            break
        if left is not None and left != age:
            age = left
            os.write(1, f"age {age}\\n".encode())
        if "end" in found:
            os.write(1, f"end {answers}\\n".encode())
            break
"""


def followed(folder: Path, commits: int, *, torn: bool = False) -> list[list[str]]:
    """What three readers saw while the writer made that many commits."""
    readers: list[subprocess.Popen[str]] = []
    with Collection.open(folder, embedder=FakeEmbedder(), create=True) as sounds:
        sounds.add([sound_of(row) for row in ROWS[:40]], keys=[f"still {i}" for i in range(40)])
        for _ in range(3):
            reader = subprocess.Popen(
                [sys.executable, "-c", READER, str(folder)],
                stdout=subprocess.PIPE, text=True, env=child_environment(),
            )  # fmt: skip
            assert reader.stdout is not None
            assert reader.stdout.readline() == "open\n"
            readers.append(reader)
        for i in range(commits):
            pair = [sound_of(ROWS[i % 300 + 41]), sound_of(ROWS[i % 300 + 42])]
            facts = [{"i": i}, {"i": i}]
            if torn:  # the control: the halves are committed one after the other
                sounds.add(pair[:1], keys=["left"], metadata=facts[:1])
                sounds.add(pair[1:], keys=["right"], metadata=facts[1:])
            else:
                sounds.add(pair, keys=["left", "right"], metadata=facts)
            if i % 100 == 50:
                sounds.compact()
            time.sleep(REST_S)
        sounds.remove("still 0")
        sounds.add([sound_of(ROWS[0])], keys=["end"])
        told = [reader.communicate(timeout=120)[0].splitlines() for reader in readers]
        assert sounds.verify() == []
    return told


@pytest.fixture(autouse=True)
def _short_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild every 15 commits of a pair."""
    monkeypatch.setattr(planner, "TAIL_MIN_ROWS", 30)


def test_readers_follow_through_500_commits(tmp_path: Path) -> None:
    for lines in followed(tmp_path / "c", COMMITS):
        assert lines[-1].startswith("end "), lines[-3:]
        assert len(lines) > COMMITS / 10, "the reader saw next to nothing"


def test_that_test_can_fail(tmp_path: Path) -> None:
    """Its control: a writer that commits the halves of a pair apart is noticed."""
    told = followed(tmp_path / "c", 200, torn=True)
    assert any(line.startswith("wrong") for lines in told for line in lines)


# Eight threads of one process


class Crowd:
    """Threads that add, remove, search, rebuild, compact, back up and reopen, and what they saw."""

    def __init__(self, folder: Path, *, torn: bool = False) -> None:
        self.folder, self.torn = folder, torn
        self.wrong: list[str] = []
        self.counts = dict.fromkeys(("pairs", "solos", "searches", "reopened", "backups"), 0)
        self._stop, self._rng = threading.Event(), random.Random(1)
        self._ages = {"a": -1, "b": -1}  # of each pair, as acknowledged

    def run(self, seconds: float) -> None:
        with Collection.open(self.folder, embedder=FakeEmbedder(), create=True) as sounds:
            sounds.add([sound_of(row) for row in ROWS[:60]], keys=[f"still {i}" for i in range(60)])
            works: list[Callable[[Collection], None]] = [
                lambda c: self._pairs(c, "a"), lambda c: self._pairs(c, "b"), self._solos,
                self._searches, self._searches, self._reopens, self._upkeep, self._backups,
            ]  # fmt: skip
            threads = [
                threading.Thread(target=self._guarded, args=(work, sounds)) for work in works
            ]
            for thread in threads:
                thread.start()
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s and not self.wrong:
                time.sleep(0.05)
            self._stop.set()
            for thread in threads:
                thread.join()
            if not self.wrong:
                assert sounds.verify() == []
                self._check(sounds.search(ROWS[0], k=500, shortlist="all"), dict(self._ages))

    def _guarded(self, work: Callable[[Collection], None], sounds: Collection) -> None:
        try:
            while not self._stop.is_set():
                work(sounds)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the test shows it)
            self.wrong.append(repr(error))

    def _pairs(self, sounds: Collection, name: str) -> None:
        i = self._ages[name] + 1
        pair = [sound_of(ROWS[61 + i % 300]), sound_of(ROWS[62 + i % 300])]
        keys, facts = [f"{name} left", f"{name} right"], [{"i": i}, {"i": i}]
        if self.torn:
            sounds.add(pair[:1], keys=keys[:1], metadata=facts[:1])
            sounds.add(pair[1:], keys=keys[1:], metadata=facts[1:])
        else:
            sounds.add(pair, keys=keys, metadata=facts)
        self._ages[name] = i
        self.counts["pairs"] += 1

    def _solos(self, sounds: Collection) -> None:
        """What this thread removed it does not find, what it added it does."""
        sounds.add([sound_of(ROWS[399])], keys=["solo"])
        if sounds.search(ROWS[399], k=1).hits[0].key != "solo":
            self.wrong.append("an acknowledged clip was not found")
        sounds.remove("solo")
        if any(hit.key == "solo" for hit in sounds.search(ROWS[399], k=500).hits):
            self.wrong.append("a removed clip came back")
        self.counts["solos"] += 1

    def _searches(self, sounds: Collection) -> None:
        before = dict(self._ages)
        query, shortlist = ROWS[self._rng.randrange(400)], self._rng.choice(["all", None, 80])
        self._check(sounds.search(query, k=500, shortlist=shortlist), before)
        self.counts["searches"] += 1

    def _reopens(self, sounds: Collection) -> None:
        before = dict(self._ages)
        with Collection.open(self.folder, embedder=FakeEmbedder(), read_only=True) as other:
            self._check(other.search(ROWS[1], k=500, shortlist="all"), before)
        self.counts["reopened"] += 1

    def _upkeep(self, sounds: Collection) -> None:
        sounds.rebuild(wait=self._rng.random() < 0.5)
        if self._rng.random() < 0.2:
            sounds.compact()
        self._stop.wait(0.05)

    def _backups(self, sounds: Collection) -> None:
        before = dict(self._ages)
        place = self.folder.with_name(f"copy {self.counts['backups']}")
        sounds.backup(place)
        with Collection.open(place, embedder=FakeEmbedder()) as copy:
            self._check(copy.search(ROWS[2], k=500, shortlist="all"), before)
            if problems := copy.verify():
                self.wrong.append(f"backup: {problems[0]}")
        self.counts["backups"] += 1
        self._stop.wait(0.1)

    def _check(self, result: SearchResult, before: dict[str, int]) -> None:
        """One state, no older than what was acknowledged before the search began."""
        found = {hit.key: hit.metadata.get("i", -1) for hit in result.hits}
        if len(found) != len(result.hits):
            self.wrong.append("a clip was found twice")
        if sum(key.startswith("still") for key in found) != 60:
            self.wrong.append(f"{len(found)} clips, some that never change are missing")
        for name, age in before.items():
            left, right = found.get(f"{name} left", -1), found.get(f"{name} right", -1)
            if left != right or left < age:
                self.wrong.append(f"pair {name}: {left} and {right}, acknowledged was {age}")


def crowd(folder: Path, seconds: float) -> None:
    found = Crowd(folder)
    found.run(seconds)
    assert found.wrong == []
    assert min(found.counts.values()) > 3, found.counts


def test_eight_threads(tmp_path: Path) -> None:
    crowd(tmp_path / "c", 30)


@pytest.mark.slow
def test_eight_threads_in_full(tmp_path: Path) -> None:
    crowd(tmp_path / "c", 1800)


def test_eight_threads_can_fail(tmp_path: Path) -> None:
    """Its control: pairs that are committed apart are noticed."""
    found = Crowd(tmp_path / "c", torn=True)
    found.run(60)
    assert any(text.startswith("pair") for text in found.wrong)
