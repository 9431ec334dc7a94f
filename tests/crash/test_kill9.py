"""A writer is killed at a random moment: every acknowledged change is there, nothing is mixed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_embedder import FakeEmbedder, child_environment, hashed

from clap_engine.collection import Collection

# Adds, updates, removes, rebuilds (also in the background), compacts and backs up for ever; a line
# on stdout acknowledges what is durable.
WRITER = """
import os, random, sys
from clap_engine import ingest, planner
from clap_engine.collection import Collection
from fake_embedder import FakeEmbedder

folder, name, is_early = sys.argv[1], sys.argv[2], sys.argv[3] == "early"
rng = random.Random(name)
planner.TAIL_MIN_ROWS = 30
ingest.BATCH_CLIPS = 4

def tell(line):
    os.write(1, (line + "\\n").encode())

def run(sounds):
    number = copies = 0
    while True:
        keys = [f"{name}-{number + i}" for i in range(rng.randint(1, 12))]
        number += len(keys)
        if is_early:  # the control: what is not durable yet is acknowledged
            for key in keys:
                tell(f"+{key}")
        sounds.add([key.encode() for key in keys], keys=keys,
                   progress=None if is_early else lambda done, key: tell(f"+{key}"))
        if rng.random() < 0.5:
            sounds.add([f"shared {name} {number}".encode()], keys=["shared"],
                       metadata=[{"text": f"shared {name} {number}"}])
            tell(f"={name} {number}")
        if rng.random() < 0.3:
            key = f"{name}-{rng.randrange(number)}"
            if sounds.remove(key):
                tell(f"-{key}")
        if rng.random() < 0.2:
            sounds.rebuild()
        if rng.random() < 0.1:
            sounds.compact()
        if rng.random() < 0.05:
            copies += 1
            sounds.snapshot(f"{folder}-{name}-{copies}.copy", link=f"{folder}-current")
            tell(f"#{name}-{copies}")
        if rng.random() < 0.15:
            copies += 1
            sounds.backup(f"{folder}-{name}-{copies}.copy")
            tell(f"#{name}-{copies}")

sounds = Collection.open(folder, embedder=FakeEmbedder(), create=True)
tell("open")
run(sounds)
"""


def killed_writer(folder: Path, name: str, delay_s: float, mode: str = "late") -> list[str]:
    """Run the writer, kill it after a while; the lines that it finished."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, mode],
        stdout=subprocess.PIPE,
        env=child_environment(),
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        assert first == b"open\n", "the collection did not open at once"
        time.sleep(delay_s)
        child.kill()
        rest = child.stdout.read().decode()
    return rest.splitlines() if rest.endswith("\n") else rest.splitlines()[:-1]


def lost(folder: Path, there: set[str], gone: set[str], shared: tuple[str, int]) -> list[str]:
    """What was acknowledged and isn't so; and whatever verify() says."""
    start = time.monotonic()
    with Collection.open(folder, embedder=FakeEmbedder()) as sounds:
        assert time.monotonic() - start < 5, "it did not open at once"
        keys = sounds.keys()
        faults = [f"lost {key}" for key in there - set(keys)]
        faults += [f"back again {key}" for key in gone & set(keys)]
        faults += sounds.verify()
        for key in random.Random(0).sample(sorted(there), min(20, len(there))):
            if key in keys and sounds.search(hashed(key.encode(), 1)[0], k=1).hits[0].key != key:
                faults.append(f"wrong vector for {key}")
        name, number = shared
        if name:
            (hit,) = [h for h in sounds.search("x", k=10_000).hits if h.key == "shared"]
            text = hit.metadata["text"]
            if text.split()[1] == name and int(text.split()[2]) < number:
                faults.append(f"an older update came back: {text}")
            if sounds.search(hashed(text.encode(), 4)[0], k=1).hits[0].key != "shared":
                faults.append("metadata and vectors of an update are mixed")
        assert sounds.add([b"after"], keys=["after"]).failed == ()  # the lock is free
        return faults


def rounds(folder: Path, count: int) -> None:
    rng = random.Random(20)
    there: set[str] = set()
    gone: set[str] = set()
    shared, told = ("", 0), 0
    for i in range(count):
        for line in killed_writer(folder, f"r{i}", rng.uniform(0, 0.6)):
            if line[0] == "+":
                there.add(line[1:])
            elif line[0] == "-":
                there.discard(line[1:])
                gone.add(line[1:])
            elif line[0] == "#":
                told += 1
                assert folder.with_name(f"{folder.name}-{line[1:]}.copy").is_dir()
            else:
                name, number = line[1:].split()
                shared = (name, int(number))
        # A removal that was not acknowledged may have happened; the last add can't tell.
        faults = [fault for fault in lost(folder, there, gone, shared) if fault]
        unsure = [fault for fault in faults if fault.startswith(f"lost r{i}-")]
        assert faults == unsure[:1], (i, faults)
        there -= {fault.removeprefix("lost ") for fault in unsure[:1]}
        # A backup or snapshot that was cut off has no name: whatever has one is whole.
        for copy in folder.parent.glob(f"{folder.name}-*.copy"):
            with Collection.open(copy, embedder=FakeEmbedder()) as sounds:
                assert sounds.verify() == []
                assert not (sounds.is_snapshot and sounds.info()["tail_rows"])
            shutil.rmtree(copy)
    assert len(there) > count, "the writers were killed before they did anything"
    assert told, "no backup was ever finished"


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    rounds(tmp_path / "c", 30)


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9_in_full(tmp_path: Path) -> None:
    rounds(tmp_path / "c", 2000)


def test_the_kill_test_can_fail(tmp_path: Path) -> None:
    """Its control: a writer that acknowledges before it commits is caught."""
    caught = 0
    for i in range(8):
        lines = killed_writer(tmp_path / str(i), "early", 0.02 * i, mode="early")
        removed = {line[1:] for line in lines if line[0] == "-"}
        there = {line[1:] for line in lines if line[0] == "+"} - removed
        caught += any("lost" in fault for fault in lost(tmp_path / str(i), there, set(), ("", 0)))
    assert caught
