"""Laws of freshness: own commits show at once, others' within 100 ms, and nobody asks in vain."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_embedder import FakeEmbedder, power_law, sound_of

from clap_engine import logwatch
from clap_engine.catalogue import Catalogue
from clap_engine.collection import Collection
from clap_engine.logwatch import Commits, LogWatch, commits_to

ROWS = power_law(40, seed=1)
OLD_S = time.time() - 100


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"one")
    os.utime(path, (OLD_S, OLD_S))
    return path


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as opened:
        opened.add([sound_of(row) for row in ROWS[:20]], keys=map(str, range(20)))
        yield opened


@pytest.mark.parametrize("in_a_row", [0, 8])
def test_a_log_that_looks_alike_is_quiet_until_something_is_told(
    log: Path, monkeypatch: pytest.MonkeyPatch, in_a_row: int
) -> None:
    monkeypatch.setattr(logwatch, "IN_A_ROW", in_a_row)
    watch = LogWatch(log)
    assert not watch.is_quiet()
    watch.keep(watch.look())
    assert watch.is_quiet()
    commits_to(log).tell()
    assert not watch.is_quiet()


@pytest.mark.parametrize("change", ["longer", "later", "gone"])
def test_a_log_that_changed_is_not_quiet(log: Path, change: str) -> None:
    watch = LogWatch(log)
    watch.keep(watch.look())
    if change == "gone":
        log.unlink()
    else:
        log.write_bytes(b"longer" if change == "longer" else b"two")
        os.utime(log, (OLD_S, OLD_S + (change == "later")))
    assert not watch.is_quiet()


def test_what_is_told_between_a_look_and_its_keeping_is_not_lost(log: Path) -> None:
    """A commit between them would have gone unseen: its log looks as it did."""
    watch = LogWatch(log)
    look = watch.look()
    commits_to(log).tell()
    watch.keep(look)
    assert not watch.is_quiet()


def test_a_log_that_was_just_written_to_is_not_trusted(log: Path) -> None:
    """A second write within a tick of the file system's clock would show no other time."""
    os.utime(log)
    watch = LogWatch(log)
    watch.keep(watch.look())
    assert not watch.is_quiet()


@pytest.mark.parametrize("just_written", [False, True])
def test_a_stream_of_commits_is_looked_at_now_and_then(
    log: Path, monkeypatch: pytest.MonkeyPatch, just_written: bool
) -> None:
    """Some at once, then one each 25 ms; after a rest some at once again."""
    now_s, number = time.monotonic(), 0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    watch = LogWatch(log)
    assert 0 < logwatch.EACH_S < logwatch.ASK_S <= 0.05

    def seen(commits: int, apart_s: float) -> int:
        nonlocal now_s, number
        found = 0
        for _ in range(commits):
            now_s, number = now_s + apart_s, number + 1
            written_s = time.time() if just_written else OLD_S
            os.utime(log, (written_s, written_s + 1e-3 * number))
            if not watch.is_quiet():
                watch.keep(watch.look())
                found += 1
        return found

    assert seen(4, 0.001) == 4
    assert seen(200, 0.001) == pytest.approx(4 + 0.2 / logwatch.EACH_S, abs=1)
    assert seen(100, 0.01) == pytest.approx(1.0 / logwatch.EACH_S, abs=2)
    now_s += 1.0
    assert seen(logwatch.IN_A_ROW, 0.001) == logwatch.IN_A_ROW
    assert seen(1, 0.0) == 0
    now_s += 1.01 * logwatch.EACH_S
    assert seen(1, 0.0) == 1


def test_the_truth_is_asked_again_after_a_while(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwatch, "ASK_S", 0.0)
    watch = LogWatch(log)
    watch.keep(watch.look())
    assert not watch.is_quiet()


def test_a_search_at_rest_asks_nothing(sounds: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwatch, "ASK_S", 60.0)
    monkeypatch.setattr(logwatch, "_TICK_S", 0.0)
    sounds.rebuild()
    first = sounds.search(ROWS[0])
    asked: list[str] = []
    for name in ("data_version", "labels", "state"):
        monkeypatch.setattr(Catalogue, name, lambda self, *rest, name=name: asked.append(name))
    assert sounds.search(ROWS[0]).hits == first.hits
    assert asked == []


def test_own_commits_show_at_once_however_alike_the_log(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adds, removals, amendments and plans, with a log that never seems to change."""
    monkeypatch.setattr(logwatch, "ASK_S", 60.0)
    monkeypatch.setattr(logwatch, "_stamp", lambda log: (0, 0))
    sounds.search(ROWS[0])
    for i in range(20, 40):
        sounds.add([sound_of(ROWS[i])], keys=[str(i)])
        assert sounds.search(ROWS[i], k=1).hits[0].key == str(i)
        sounds.remove(str(i - 20))
        assert str(i - 20) not in {hit.key for hit in sounds.search(ROWS[i - 20], k=40).hits}
    sounds.add([sound_of(ROWS[30])], keys=["30"], metadata=[{"new": 1}])
    assert sounds.search(ROWS[30], k=1).hits[0].metadata == {"new": 1}


def test_another_handle_in_the_process_sees_commits_at_once(
    sounds: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is named, with a log that never seems to change and nobody looks at."""
    monkeypatch.setattr(logwatch, "ASK_S", 60.0)
    monkeypatch.setattr(logwatch, "IN_A_ROW", 0)
    monkeypatch.setattr(logwatch, "_stamp", lambda log: (0, 0))
    (tmp_path / "link").symlink_to(sounds.path)
    with Collection.open(tmp_path / "link", embedder=FakeEmbedder(), read_only=True) as other:
        for i in range(20, 40):
            other.search(ROWS[0])
            sounds.add([sound_of(ROWS[i])], keys=[str(i)])
            assert other.search(ROWS[i], k=1).hits[0].key == str(i)


def test_logs_are_told_apart_and_forgotten(tmp_path: Path) -> None:
    kept = len(logwatch._commits)
    one, other = LogWatch(tmp_path / "one"), LogWatch(tmp_path / "other")
    for watch in (one, other):
        watch.keep(watch.look())
    commits_to(tmp_path / "one").tell()
    assert (one.is_quiet(), other.is_quiet()) == (False, True)
    del one, other, watch
    gc.collect()
    assert len(logwatch._commits) == kept


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_a_log_is_looked_up_does_not_hang(tmp_path: Path) -> None:
    with logwatch._guard:
        child = os.fork()
        if child == 0:
            commits_to(tmp_path / "log").tell()
            os._exit(7)
    end_s = time.monotonic() + 20
    while not (found := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end_s:
        time.sleep(0.01)
    if not found[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert found[0] == child
    assert os.waitstatus_to_exitcode(found[1]) == 7


def test_others_see_a_commit_within_100_ms_of_it(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in another process, whom nobody tells: after twice the time that a look may stand."""
    monkeypatch.setattr(Commits, "tell", lambda self: None)
    with Collection.open(sounds.path, embedder=FakeEmbedder(), read_only=True) as other:
        other.search(ROWS[0])
        for i in range(20, 26):
            sounds.add([sound_of(ROWS[i])], keys=[str(i)])
            sounds.remove(str(i - 20))
            deadline = time.monotonic() + 10
            seen_s = None
            start = time.monotonic()
            while seen_s is None and time.monotonic() < deadline:
                keys = {hit.key for hit in other.search(ROWS[i], k=40).hits}
                if str(i) in keys and str(i - 20) not in keys:
                    seen_s = time.monotonic() - start
            assert seen_s is not None
            assert logwatch.ASK_S <= 0.05
