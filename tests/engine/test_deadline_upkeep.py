"""Upkeep that is ended at any point: nothing is half done, and the next call is served.

The deadline here counts looks, not seconds, so each verb is ended at every point at which it looks
(the first ones, then at every other power of two), and is let run to its end at last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_embedder import DIM, FakeEmbedder

from clap_engine import database
from clap_engine.collection import Collection
from clap_engine.deadline import Deadline
from clap_engine.errors import DeadlineError
from clap_engine.records import NewClip

CLIPS, REMOVED = 1500, 300


class Looks(Deadline):
    """Over after so many looks."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.cancel()
        super().check()


def clip(number: int) -> NewClip:
    row = np.random.default_rng(number).standard_normal((1, DIM))
    row = (row / np.linalg.norm(row)).astype(np.float16)
    span = np.array([[0.0, 5.0]])
    text = f'{{"year": {number}}}'
    return NewClip(str(number), None, None, None, f"{number:064x}", 5.0, text, row, span)


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    """A collection with removed clips, whose statements look often."""
    monkeypatch.setattr(database, "_STEPS_AT_ONCE", 500)
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as opened:
        opened.put([clip(number) for number in range(CLIPS + REMOVED)])
        opened.rebuild()
        for number in range(REMOVED):
            opened.remove(str(number))
        yield opened


Verb = Callable[[Collection, Path, Deadline], object]
VERBS: dict[str, Verb] = {
    "backup": lambda sounds, place, end: sounds.backup(place, timeout_s=end),
    "snapshot": lambda sounds, place, end: sounds.snapshot(place, timeout_s=end),
    "compact": lambda sounds, place, end: sounds.compact(timeout_s=end),
    "declare_filters": lambda sounds, place, end: sounds.declare_filters(["year"], timeout_s=end),
    "verify": lambda sounds, place, end: sounds.verify(timeout_s=end),
}


def fields(sounds: Collection) -> list[str]:
    return list(sounds._states.reader.filter_fields())


@pytest.mark.parametrize("name", VERBS)
def test_it_can_be_ended_wherever_it_looks(sounds: Collection, tmp_path: Path, name: str) -> None:
    place, looks, ended = tmp_path / "copies" / "copy", 0, 0
    while True:
        try:
            VERBS[name](sounds, place, Looks(looks))
            break
        except DeadlineError:
            ended += 1
        assert not place.parent.exists() or not list(place.parent.iterdir())
        assert len(sounds) == CLIPS
        assert fields(sounds) == []
        assert sounds.search(np.ones(DIM, np.float32)).hits
        looks += 1 if looks < 6 else looks
    assert ended >= 6
    assert sounds.verify() == []
    if name in ("backup", "snapshot"):
        with Collection.open(place, read_only=True) as copied:
            assert (len(copied), copied.verify()) == (CLIPS, [])
    if name == "declare_filters":
        assert fields(sounds) == ["year"]


def test_searches_go_on_while_all_is_verified(sounds: Collection) -> None:
    """At each look, another search finds what was committed since."""
    found = []

    class Searching(Deadline):
        def check(self) -> None:
            if len(found) < 3:
                sounds.put([clip(10_000 + len(found))])
                where = {"key": str(10_000 + len(found))}
                found.append(len(sounds.search(np.ones(DIM, np.float32), where=where).hits))

    assert sounds.verify(timeout_s=Searching()) == []
    assert found == [1, 1, 1]
