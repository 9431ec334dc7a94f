"""Many processes over one snapshot: forked they share its memory, spawned its files; none hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_embedder import FakeEmbedder, child_environment, fill, power_law

from clap_engine.collection import Collection

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# argv: folder. What every program below begins with: a collection, and children with a deadline.
HEAD = """
import os, signal, sys, threading, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork() with threads: that is the point
from clap_engine.collection import Collection
from clap_engine.errors import ForkedError
from fake_embedder import FakeEmbedder, power_law

ROWS = power_law(600, seed=4)

def answers(sounds):
    wheres = (None, {"key": {"!=": "k000001"}})
    return [sounds.search(ROWS[i], k=5, where=where).hits for i in range(9) for where in wheres]

def in_child(work):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(30)  # a child that hangs ends by this, which is a failure
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def refused(sounds):
    try:
        sounds.search(ROWS[0])
    except ForkedError as error:
        os.write(1, str(error).encode())
        sounds.close()
    else:
        raise AssertionError("it was not told")
"""


def told(folder: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program, str(folder)],
        capture_output=True, text=True, check=False, timeout=120, env=child_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot, with a graph where one can be built."""
    monkeypatch.setattr("clap_engine.planner.is_coarse_due", lambda *_: True)
    with Collection.open(tmp_path / "live", embedder=FakeEmbedder(), create=True) as sounds:
        fill(sounds, power_law(600, seed=4))
        sounds.snapshot(tmp_path / "snap")
    return tmp_path / "snap"


def test_forked_children_serve_from_the_memory_of_their_parent(snapshot: Path) -> None:
    program = """
sounds = Collection.open(sys.argv[1], embedder=FakeEmbedder())
due, view = answers(sounds), sounds._states.view

def work():
    assert answers(sounds) == due
    own = sounds._states.view
    assert own is not view and own.base is view.base and own.coarse is view.coarse
    assert sounds.verify() == [] and len(sounds) == 600
    assert in_child(lambda: (answers(sounds) == due) or os._exit(2)) == 0  # a child's child
    threads = [threading.Thread(target=answers, args=(sounds,)) for _ in range(4)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    sounds.close()

assert [in_child(work) for _ in range(20)] == [0] * 20
assert answers(sounds) == due
print("done")
"""
    assert told(snapshot, program) == "done\n"


def test_a_fork_amid_a_search_is_told_and_does_not_hang(snapshot: Path) -> None:
    """A lock of the graph may have been held at that moment."""
    program = """
inside, go_on = threading.Event(), threading.Event()

class Slow(FakeEmbedder):
    def embed_text(self, texts):
        inside.set()
        go_on.wait(60)
        return super().embed_text(texts)

sounds = Collection.open(sys.argv[1], embedder=Slow())
thread = threading.Thread(target=lambda: sounds.search("words"))
thread.start()
inside.wait(60)
codes = [in_child(lambda: refused(sounds)) for _ in range(20)]
go_on.set()
thread.join()
assert codes == [0] * 20, codes
assert in_child(lambda: answers(sounds)) == 0
"""
    assert told(snapshot, program).count("being searched or swapped at the fork") == 20


def test_a_fork_amid_a_swap_is_told_and_does_not_hang(snapshot: Path, tmp_path: Path) -> None:
    with Collection.open(tmp_path / "live", embedder=FakeEmbedder()) as live:
        live.remove("k000001")
        live.snapshot(tmp_path / "other")
    (tmp_path / "current").symlink_to("snap")
    program = """
from clap_engine import snapshots
from clap_engine.index import generation
from pathlib import Path
link, real = Path(sys.argv[1]), generation.open
inside, go_on = threading.Event(), threading.Event()

def slow(*arguments):
    inside.set()
    go_on.wait(60)
    return real(*arguments)

sounds = Collection.open(link, embedder=FakeEmbedder(), watch=True)
generation.open = slow
snapshots.switch(link, link.with_name("other"))
inside.wait(60)
codes = [in_child(lambda: refused(sounds)) for _ in range(5)]
go_on.set()
while len(sounds) != 599:
    threading.Event().wait(0.01)
sounds.close()
assert codes == [0] * 5, codes
"""
    assert told(tmp_path / "current", program).count("swapped at the fork") == 5


def test_a_live_collection_is_not_served_across_a_fork(snapshot: Path) -> None:
    program = """
sounds = Collection.open(sys.argv[1], embedder=FakeEmbedder(), read_only=True)
assert [in_child(lambda: refused(sounds)) for _ in range(20)] == [0] * 20
assert len(answers(sounds)) == 18
"""
    assert told(snapshot.with_name("live"), program).count("before fork()") == 20


def test_a_snapshot_that_was_replaced_since_is_not_mixed(snapshot: Path, tmp_path: Path) -> None:
    with Collection.open(tmp_path / "live", embedder=FakeEmbedder()) as live:
        live.remove("k000001")
        live.snapshot(tmp_path / "other")
    program = """
sounds = Collection.open(sys.argv[1], embedder=FakeEmbedder())
os.rename(sys.argv[1], sys.argv[1] + ".old")
os.rename(os.path.join(os.path.dirname(sys.argv[1]), "other"), sys.argv[1])
assert in_child(lambda: refused(sounds)) == 0
"""
    assert "taken the place" in told(snapshot, program)


def test_a_watch_goes_on_in_a_child(snapshot: Path, tmp_path: Path) -> None:
    with Collection.open(tmp_path / "live", embedder=FakeEmbedder()) as live:
        live.remove("k000001")
        live.snapshot(tmp_path / "other")
    (tmp_path / "current").symlink_to("snap")
    program = """
from clap_engine import snapshots
from pathlib import Path
link = Path(sys.argv[1])
sounds = Collection.open(link, embedder=FakeEmbedder(), watch=True)

def work():
    assert len(sounds) == 600
    snapshots.switch(link, link.with_name("other"))
    while len(sounds) != 599:
        threading.Event().wait(0.01)

assert in_child(work) == 0
while len(sounds) != 599:
    threading.Event().wait(0.01)
sounds.close()
"""
    told(tmp_path / "current", program)


def test_spawned_processes_open_it_themselves(snapshot: Path) -> None:
    program = """
due = answers(Collection.open(sys.argv[1], embedder=FakeEmbedder()))
if len(sys.argv) == 3:
    print(hash(tuple(map(str, due))))
else:
    import subprocess
    os.environ["PYTHONHASHSEED"] = "1"
    runs = [subprocess.run([sys.executable, "-c", PROGRAM, sys.argv[1], "child"],
                           capture_output=True, check=True).stdout for _ in range(5)]
    assert len(set(runs)) == 1 and runs[0].strip(), runs
"""
    text = HEAD + program
    told(snapshot, f"PROGRAM = {text!r}\n" + program)
