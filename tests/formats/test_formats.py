"""Every format of a collection that was ever written is read; a newer one is refused by name."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from formats.make import SmallEmbedder, answers

from clap_engine import bundle, schema, storage
from clap_engine.catalogue import Catalogue
from clap_engine.collection import Collection
from clap_engine.errors import CollectionError, RebuildWarning
from clap_engine.index import coarse, generation

HERE = Path(__file__).resolve().parent
ARCHIVES = sorted(HERE.glob("collection-*.zip"))


def unpacked(archive: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The collection of a fixture, and the answers that it must give."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    expected = json.loads((folder / "answers.json").read_text())
    (folder / "answers.json").unlink()
    return folder, expected


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.stem)
def fixture(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    return unpacked(request.param, tmp_path / "c")


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for text, hits in expected["hits"].items():
        same = found["hits"][text]
        assert [hit[0] for hit in same] == [hit[0] for hit in hits]
        assert [hit[2:] for hit in same] == [hit[2:] for hit in hits]
        assert [hit[1] for hit in same] == pytest.approx([hit[1] for hit in hits], abs=2e-5)
    # What plans of later releases say beside is at its default.
    plan = {"scan_dim": 0, "scan_shortlist": 0, "probes": 0, **expected["info"]["plan"]}
    info = {**expected["info"], "plan": plan}
    assert {**found, "hits": None} == {**expected, "hits": None, "info": info}


def test_each_format_has_its_fixture() -> None:
    names = {schema.FORMAT, schema.INDEXED, schema.GRAINED}
    assert [path.name for path in ARCHIVES] == [f"collection-{n}.zip" for n in sorted(names)]
    assert sum(path.stat().st_size for path in ARCHIVES) < 100_000
    headers, graphs = set(), 0
    for path in ARCHIVES:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("generation.json"))
            headers.add(json.loads(archive.read(name))["format"])
            graphs += any(name.endswith("coarse.hnsw") for name in archive.namelist())
    assert headers == {generation.FORMAT, generation.FORMAT_BY_CLIP}
    assert graphs


def test_an_older_format_is_read_as_it_is(fixture: tuple[Path, dict[str, Any]]) -> None:
    """Also its derived files: nothing is rebuilt to read them."""
    folder, expected = fixture
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Collection.open(folder, embedder=SmallEmbedder(), read_only=True) as sounds:
            check(answers(sounds), expected)
            assert sounds.verify() == []
            has_graph = coarse.is_available() and any(folder.glob("generations/*/coarse.hnsw"))
            assert sounds.info()["index"] == ("hnsw" if has_graph else "flat")


def test_an_older_format_is_written_to(fixture: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = fixture
    version = sqlite3.connect(folder / "collection.sqlite")
    with contextlib.closing(version):
        [(before,)] = version.execute("PRAGMA user_version")
    with Collection.open(folder, embedder=SmallEmbedder()) as sounds:
        sounds.rebuild()
        renewed = answers(sounds)
        changed = {"generation": expected["info"]["generation"] + 1, "tail_rows": 0}
        expected["info"] |= {**changed, "removed_rows": 0}
        check(renewed, expected)
        sounds.add([b"more"], keys=["more"])
        assert sounds.info()["format"] == before
        sounds.compact()
        sounds.backup(folder.parent / "copy")
    with Collection.open(folder.parent / "copy", embedder=SmallEmbedder()) as copy:
        assert copy.keys() == sorted([*expected["keys"], "more"])
        assert copy.verify() == []


def test_a_newer_format_is_refused_by_its_number(fixture: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = fixture
    with contextlib.closing(sqlite3.connect(folder / "collection.sqlite")) as db, db:
        db.execute("PRAGMA user_version = 4321")
    before = (folder / "collection.sqlite").read_bytes()
    for read_only in (True, False):
        with pytest.raises(CollectionError, match=r"format 4321.*reads 1 to 3.*install"):
            Collection.open(folder, embedder=SmallEmbedder(), read_only=read_only)
    assert (folder / "collection.sqlite").read_bytes() == before


def test_derived_files_of_a_newer_format_are_built_anew(
    fixture: tuple[Path, dict[str, Any]],
) -> None:
    """They are no truth: a release that does not know theirs writes its own."""
    folder, expected = fixture
    (file,) = folder.glob("generations/*/generation.json")
    header = json.loads(file.read_text()) | {"format": 4321}
    sealed = storage.write_file(file, [json.dumps(header).encode()])
    with contextlib.closing(Catalogue(folder / "collection.sqlite", read_only=False)) as truth:
        truth.publish(header["number"], sealed.size, sealed.sha256, header["change"])
    with pytest.warns(RebuildWarning, match="4321"):
        sounds = Collection.open(folder, embedder=SmallEmbedder())
    with sounds:
        assert sounds.keys() == expected["keys"]
        assert sounds.verify() == []
        assert sounds.info()["generation"] == expected["info"]["generation"] + 1


def test_a_snapshot_is_read_as_it_is(tmp_path: Path) -> None:
    folder, expected = unpacked(HERE / "snapshot-1.zip", tmp_path / "s")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    before = [(file, file.read_bytes()) for file in files]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Collection.open(folder, embedder=SmallEmbedder()) as sounds:
            assert sounds.is_snapshot
            check(answers(sounds), expected)
            assert sounds.verify() == []
    assert [(file, file.read_bytes()) for file in files] == before


def test_an_archive_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    """To the byte: digests of archives are published."""
    opened = bundle.open(HERE / "archive-1.tar")
    opened.verify()
    assert opened.manifest.id == "tiny"
    bundle.pack(opened, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == (HERE / "archive-1.tar").read_bytes()
