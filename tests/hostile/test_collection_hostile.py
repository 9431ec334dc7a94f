"""Damaged collections: every file of one, damaged in every way, is noticed; no answer is wrong.

Each case runs in a subprocess, where a crash of native code is a signal and not the end of the
tests: one child works through many cases and says which it is at.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import FakeEmbedder, child_environment, power_law, sound_of

from clap_engine import planner, storage
from clap_engine.catalogue import Catalogue
from clap_engine.collection import Collection
from clap_engine.errors import IntegrityError, RebuildWarning
from clap_engine.index import coarse, generation

CLIPS = 260
QUERIES = power_law(6, seed=2)
DERIVED = ["generation.json", "vectors.f16", "prefixes.f32", "rows.i64", "coarse.hnsw"]
DAMAGES = ["flip", "flip", "flip", "header", "truncate", "zero", "grow", "remove", "empty", "older"]

# argv: template, work folder, expected answers (JSON), target, first case, cases
CHILD = """
import json, os, random, shutil, sys, warnings
from pathlib import Path

import numpy as np
from clap_engine import planner
from clap_engine.collection import Collection
from clap_engine.errors import ClapError, RebuildWarning
from fake_embedder import FakeEmbedder, power_law

planner.HNSW_ROWS_PER_CANDIDATE = 0
template, work = Path(sys.argv[1]), Path(sys.argv[2])
answers = json.loads(Path(sys.argv[3]).read_text())
target, first, count = sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
damages = json.loads(sys.argv[7])
queries = power_law(6, seed=2)

def damage(path, how, rng):
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "header":
        data[rng.randrange(min(100, len(data)))] ^= rng.randrange(1, 256)
    elif how == "truncate":
        del data[rng.randrange(len(data)):]
    elif how == "zero":
        start = rng.randrange(0, len(data), 4096)
        data[start:start + 4096] = bytes(len(data[start:start + 4096]))
    elif how == "grow":
        data += rng.randbytes(rng.randrange(1, 5000))
    elif how == "empty":
        data.clear()
    elif how == "older":
        data = (template.parent / "older" / path.name).read_bytes()
    if how == "remove":
        path.unlink()
    else:
        path.write_bytes(data)

def answer(sounds):
    return [[[h.key, h.start_s, h.end_s, h.metadata["n"]]
             for h in sounds.search(query, k=5, shortlist=120).hits] for query in queries]

def filtered(sounds):
    return sorted(h.key for h in sounds.search(queries[0], k=1000, where={"n": {"<": 60}}).hits)

for case in range(first, first + count):
    rng = random.Random(case)
    print("case", case, flush=True)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(template, work)
    how = damages[case % len(damages)]
    if target == "collection.sqlite":
        path = work / target
    else:
        (path,) = work.glob(f"generations/*/{target}")
    before = path.read_bytes()
    damage(path, how, rng)
    is_changed = not path.exists() or path.read_bytes() != before
    if target == "collection.sqlite":
        try:
            with Collection.open(work, embedder=FakeEmbedder()) as sounds:
                found, problems = answer(sounds), sounds.verify()
                keys, few = sounds.keys(), filtered(sounds)
        except ClapError as error:
            print("refused", type(error).__name__, flush=True)
            continue
        assert found == answers["hits"], (case, how)
        assert keys == answers["keys"] or problems, (case, how)
        assert few == answers["filtered"] or problems, (case, how)
        print("served", flush=True)
        continue
    for read_only in (True, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Collection.open(work, embedder=FakeEmbedder(), read_only=read_only) as sounds:
                assert answer(sounds) == answers["hits"], (case, how, read_only)
                if not read_only:
                    assert sounds.verify() == [], (case, how)
        noticed = any(issubclass(w.category, RebuildWarning) for w in caught)
        assert noticed == is_changed, (case, how, read_only, noticed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was rebuilt: nothing to warn of any more
        with Collection.open(work, embedder=FakeEmbedder(), read_only=True) as sounds:
            assert answer(sounds) == answers["hits"], (case, how)
    print("rebuilt", flush=True)
print("end", flush=True)
"""


def run_child(made: Path, target: str, first: int, count: int, damages: list[str]) -> list[str]:
    done = subprocess.run(
        [
            sys.executable, "-c", CHILD, str(made / "template"), str(made / f"work-{target}"),
            str(made / "answers.json"), target, str(first), str(count), json.dumps(damages),
        ],
        env=child_environment(), capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (lines[-1:], done.returncode, done.stderr[-3000:])
    assert lines[-1] == "end"
    return lines


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection with a generation, an older generation, and its answers."""
    root = tmp_path_factory.mktemp("hostile")
    granularity = getattr(request, "param", "window")
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 0)
        rows = power_law(CLIPS, seed=1)
        with Collection.open(
            root / "template", embedder=FakeEmbedder(), create=True, granularity=granularity
        ) as sounds:

            def add(part: range) -> None:
                sounds.add(
                    [sound_of(rows[i : i + 1 + i % 2]) for i in part],
                    keys=[f"k{i}" for i in part],
                    metadata=[{"n": i} for i in part],
                )

            add(range(CLIPS - 60))
            sounds.rebuild()
            shutil.copytree(root / "template" / "generations" / "00000001", root / "older")
            add(range(CLIPS - 60, CLIPS - 20))
            sounds.rebuild()
            add(range(CLIPS - 20, CLIPS - 1))
            for i in range(0, CLIPS, 13):
                sounds.remove(f"k{i}")
            hits = [
                [[h.key, h.start_s, h.end_s, h.metadata["n"]]
                 for h in sounds.search(query, k=5, shortlist="all").hits]
                for query in QUERIES
            ]  # fmt: skip
            few = sorted(f"k{i}" for i in range(60) if i % 13)
            sounds.declare_filters(["n"])
            answers = {"hits": hits, "keys": sounds.keys(), "filtered": few}
            (root / "answers.json").write_text(json.dumps(answers))
    return root


@pytest.mark.parametrize("made", ["window", "both"], indirect=True)
@pytest.mark.parametrize("target", DERIVED)
def test_damaged_derived_files_are_noticed_and_rebuilt(made: Path, target: str) -> None:
    if target == "coarse.hnsw" and not coarse.is_available():
        pytest.skip("hnswlib is not installed")
    lines = run_child(made, target, 0, 20, DAMAGES)
    assert lines.count("rebuilt") == 20


@pytest.mark.slow
@pytest.mark.parametrize("target", DERIVED)
def test_damaged_derived_files_in_full(made: Path, target: str) -> None:
    if target == "coarse.hnsw" and not coarse.is_available():
        pytest.skip("hnswlib is not installed")
    run_child(made, target, 1000, 2000, DAMAGES)


SQLITE_DAMAGES = ["flip", "flip", "flip", "flip", "header", "zero", "truncate", "grow", "empty"]


@pytest.mark.parametrize("made", ["window", "both"], indirect=True)
def test_a_damaged_source_of_truth_is_refused_or_right(made: Path) -> None:
    lines = run_child(made, "collection.sqlite", 0, 108, SQLITE_DAMAGES)
    assert sum(line.startswith(("refused", "served")) for line in lines) == 108
    assert any(line.startswith("refused") for line in lines)
    assert any(line.startswith("served") for line in lines)


@pytest.mark.slow
def test_a_damaged_source_of_truth_in_full(made: Path) -> None:
    run_child(made, "collection.sqlite", 1000, 9000, SQLITE_DAMAGES)


def test_the_damage_test_can_fail(made: Path) -> None:
    """Its control: answers that differ are noticed."""
    answers = json.loads((made / "answers.json").read_text())
    answers["hits"][0][0][0] = "other"
    (made / "control").mkdir()
    (made / "control" / "answers.json").write_text(json.dumps(answers))
    shutil.copytree(made / "template", made / "control" / "template")
    shutil.copytree(made / "older", made / "control" / "older")
    with pytest.raises(AssertionError):
        run_child(made / "control", "rows.i64", 0, 1, DAMAGES)


LOAD = """
import sys, warnings
from clap_engine import planner
from clap_engine.collection import Collection
from clap_engine.errors import RebuildWarning
from fake_embedder import FakeEmbedder, power_law

planner.HNSW_ROWS_PER_CANDIDATE = 0
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with Collection.open(sys.argv[1], embedder=FakeEmbedder(), read_only=True) as sounds:
        hits = sounds.search(power_law(6, seed=2)[0], k=5, shortlist=120).hits
assert any(issubclass(w.category, RebuildWarning) for w in caught)
print([h.key for h in hits])
"""


def open_in_child(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)],
        env=child_environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    return done.stdout.strip()


def reseal(folder: Path, change: Any = None) -> None:
    """Give the header and the truth the digests of the files as they are now."""
    truth = Catalogue(folder / "collection.sqlite", read_only=False)
    state = truth.state()
    place = generation.path_of(folder / "generations", state.generation)
    header = json.loads((place / "generation.json").read_text())
    for name in header["files"]:
        found = storage.file_digest(place / name)
        header["files"][name] = [found.size, found.sha256]
    if change is not None:
        change(header)
    sealed = storage.write_file(place / "generation.json", [json.dumps(header).encode()])
    truth.publish(state.generation, sealed.size, sealed.sha256, header["change"])
    truth.close()


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "template", tmp_path / "c")
    return tmp_path / "c"


@pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")
@pytest.mark.parametrize(("dim", "rows"), [(16, None), (64, None), (32, 5), (32, 5000)])
def test_a_graph_of_another_shape_with_the_right_digest(
    made: Path, copy: Path, dim: int, rows: int | None
) -> None:
    (file,) = copy.glob("generations/*/coarse.hnsw")
    (row_file,) = copy.glob("generations/*/rows.i64")
    count = rows or row_file.stat().st_size // 16
    vectors = power_law(count, seed=3)[:, :dim]
    index = coarse.CoarseIndex.build(vectors / (vectors**2).sum(axis=1, keepdims=True) ** 0.5)
    index.save(file)
    reseal(copy)
    assert open_in_child(copy) == expected(made)


@pytest.mark.parametrize("name", ["vectors.f16", "prefixes.f32", "rows.i64"])
@pytest.mark.parametrize("by", [-1024, 1024])
def test_an_array_of_another_shape_with_the_right_digest(
    made: Path, copy: Path, name: str, by: int
) -> None:
    (file,) = copy.glob(f"generations/*/{name}")
    data = file.read_bytes()
    file.write_bytes(data[:by] if by < 0 else data + bytes(by))
    reseal(copy)
    assert open_in_child(copy) == expected(made)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 256}, {"rows": 3}, {"rows": -1}, {"rows": "many"}, {"rows": 2**62},
        {"space_id": "6" * 64}, {"collection": "0" * 32}, {"number": 1}, {"format": 9},
        {"prefix_dim": 64}, {"files": {}}, {"files": []}, {"last_row": 1}, {"change": None},
    ],
)  # fmt: skip
def test_a_header_that_lies_with_the_right_digest(
    made: Path, copy: Path, change: dict[str, Any]
) -> None:
    def lie(header: dict[str, Any]) -> None:
        header.update({name: value for name, value in change.items() if name != "change"})

    reseal(copy, lie)
    if "change" in change:
        (file,) = copy.glob("generations/*/generation.json")
        file.write_text(file.read_text().replace('"change": ', '"other": '))
    assert open_in_child(copy) == expected(made)


def test_a_stale_header_that_claims_a_newer_state(made: Path, copy: Path) -> None:
    """A generation whose rows are not those that were committed is not believed."""
    reseal(copy, lambda header: header.update(last_row=10**6))
    assert open_in_child(copy) == expected(made)


def test_generations_of_two_collections_swapped(made: Path, copy: Path, tmp_path: Path) -> None:
    with Collection.open(tmp_path / "other", embedder=FakeEmbedder(), create=True) as sounds:
        sounds.add([sound_of(row) for row in power_law(50, seed=9)],
                   keys=[str(i) for i in range(50)])  # fmt: skip
        sounds.rebuild()
        sounds.rebuild()
    place = copy / "generations" / "00000002"
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "other" / "generations" / "00000002", place)
    assert open_in_child(copy) == expected(made)


def test_a_lost_folder_of_generations_is_made_again(made: Path, copy: Path) -> None:
    shutil.rmtree(copy / "generations")
    assert open_in_child(copy) == expected(made)
    with pytest.warns(RebuildWarning):
        sounds = Collection.open(copy, embedder=FakeEmbedder())
    with sounds:
        assert sounds.info()["generation"] == 3
        assert sounds.verify() == []


def test_verify_names_what_is_wrong(made: Path, copy: Path) -> None:
    (file,) = copy.glob("generations/*/vectors.f16")
    with Collection.open(copy, embedder=FakeEmbedder(), read_only=True) as sounds:
        data = bytearray(file.read_bytes())
        data[5000] ^= 1
        replaced = file.with_name("new")
        replaced.write_bytes(data)
        replaced.rename(file)  # not in place: the open map stays what it was
        (problem,) = sounds.verify()
        assert "vectors.f16" in problem


def test_one_rotten_clip_can_be_removed_or_indexed_again(tmp_path: Path) -> None:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as sounds:
        sounds.add([b"one", b"two", b"three"], keys=["1", "2", "3"])
    with contextlib.closing(sqlite3.connect(tmp_path / "c" / "collection.sqlite")) as db, db:
        db.execute("UPDATE clips SET duration_s = 1 WHERE key = '2'")
        db.execute("UPDATE windows SET end_s = 7 WHERE clip = 3 AND start_s = 0")
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as sounds:
        assert len(sounds.verify()) == 2
        with pytest.raises(IntegrityError, match="clip '3'"):
            sounds.search("banjo")
        assert sounds.remove("3")
        with pytest.raises(IntegrityError, match="clip '2'"):
            sounds.search("banjo")
        with pytest.raises(IntegrityError, match="clip '2'"):
            sounds.keys()
        assert sounds.add([b"two"], keys=["2"]).failed == ()
        assert sounds.verify() == []
        assert {hit.key for hit in sounds.search("banjo").hits} == {"1", "2"}


def expected(made: Path) -> str:
    hits = json.loads((made / "answers.json").read_text())["hits"]
    return str([key for key, *_ in hits[0]])
