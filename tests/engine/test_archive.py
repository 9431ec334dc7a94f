"""Archives of bundles: one way to write them, nothing else accepted, loaded as they are."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import make_bundle

import clap_engine
from clap_engine import archive, bundle
from clap_engine.errors import IntegrityError, NotFoundError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def packed(tiny_path: Path, tmp_path: Path) -> Path:
    bundle.pack(bundle.open(tiny_path), tmp_path / "tiny.tar")
    return tmp_path / "tiny.tar"


def test_the_bytes_depend_on_the_bundle_alone(tiny_path: Path, packed: Path) -> None:
    """Not on names, times or modes around it; an archive of an archive is itself."""
    moved = tiny_path.with_name("moved")
    shutil.copytree(tiny_path, moved)
    for file in moved.iterdir():
        os.utime(file, (1, 1))
        file.chmod(0o600)
    digest = bundle.pack(bundle.open(moved), packed.with_name("again.tar"))
    assert packed.with_name("again.tar").read_bytes() == packed.read_bytes()
    assert digest.size == packed.stat().st_size
    assert bundle.pack(bundle.open(packed), packed.with_name("third.tar")) == digest


def test_it_is_a_tar_that_others_read(tiny_path: Path, packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed) as tar:
        members = tar.getmembers()
        assert all(one.isreg() and one.mode == 0o644 and one.mtime == 0 for one in members)
        assert {Path(one.name).parent for one in members} == {Path(bundle.open(packed).manifest.id)}
        found = {Path(one.name).name: (tar.extractfile(one) or io.BytesIO()).read()
                 for one in members}  # fmt: skip
    listed = {"manifest.json", *bundle.open(tiny_path).manifest.files}
    assert found == {name: (tiny_path / name).read_bytes() for name in listed}


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar here")
def test_tar_itself_makes_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    """So one can be made where nothing of this project is installed."""
    opened = bundle.open(packed)
    done = subprocess.run(["tar", "--version"], capture_output=True, text=True, check=False)
    if "GNU tar" not in done.stdout:
        pytest.skip("another tar, with other options")
    subprocess.run(["tar", "xf", str(packed), "-C", str(tmp_path)], check=True)
    names = [f"{opened.manifest.id}/{name}" for name in
             ("manifest.json", *sorted(opened.manifest.files))]  # fmt: skip
    subprocess.run(
        ["tar", "--format=ustar", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner",
         "--mode=0644", "-cf", "own.tar", *names],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    assert (tmp_path / "own.tar").read_bytes() == packed.read_bytes()


def test_a_long_name_is_split(tmp_path: Path) -> None:
    folder, names = "f" * 90, ["a" * 90, "b" * 100]
    archive.write(tmp_path / "long.tar", folder, names, lambda name: name.encode())
    found = archive.Archive(tmp_path / "long.tar")
    assert (found.folder, list(found.places)) == (folder, names)
    with tarfile.open(tmp_path / "long.tar") as tar:
        assert tar.getnames() == [f"{folder}/{name}" for name in names]


def test_an_archive_serves_as_its_folder_does(tiny_path: Path, packed: Path) -> None:
    with clap_engine.load(tiny_path) as folder, clap_engine.load(packed) as one:
        assert one.bundle.manifest == folder.bundle.manifest
        texts = ["a banjo", "rain on a roof"]
        assert np.array_equal(one.embed_text(texts), folder.embed_text(texts))
        sound = (np.sin(np.arange(16_000, dtype=np.float32) / 9), 8_000)
        assert np.array_equal(one.embed_audio([sound]), folder.embed_audio([sound]))
    opened = bundle.open(packed)
    opened.verify()
    for name in opened.manifest.files:
        assert opened.read(name) == (tiny_path / name).read_bytes()
    with pytest.raises(NotFoundError, match="not a file of this bundle"):
        opened.read("manifest.json")


def test_an_open_archive_may_lose_its_name(packed: Path) -> None:
    """Another takes its place, as `pull --replace` does: what is open stays what it was."""
    opened = bundle.open(packed)
    other = make_bundle(packed.with_name("other"), seed=1)
    bundle.pack(bundle.open(other), packed)
    opened.verify()
    assert bundle.open(packed).manifest.revision != opened.manifest.revision


def test_an_archive_is_found_by_name(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle.find("tiny", models_dir=packed.parent).is_dir()  # the folder beside it is first
    packed.rename(packed.with_name("named.tar"))
    assert bundle.find("named", models_dir=packed.parent) == packed.with_name("named.tar")
    packed.with_name("named.tar").rename(packed.with_name(".named.tar"))
    with pytest.raises(NotFoundError, match="named"):
        bundle.find("named", models_dir=packed.parent)
    monkeypatch.chdir(packed.parent)
    assert bundle.open(bundle.find(".named.tar")).manifest.id == "tiny"


def test_pack_and_its_relatives(run: Run, tiny_path: Path, tmp_path: Path) -> None:
    code, out, _ = run("pack", tiny_path, tmp_path / "t.tar", "--json")
    found = json.loads(out)
    assert (code, found["size"]) == (0, (tmp_path / "t.tar").stat().st_size)
    assert len(found["sha256"]) == 64
    code, out, _ = run("pack", tiny_path, tmp_path / "t.tar")
    assert (code, found["sha256"] in out) == (0, True)
    assert json.loads(run("info", tmp_path / "t.tar", "--json")[1])["kind"] == "bundle"
    assert run("verify", tmp_path / "t.tar")[0] == 0
    models = json.loads(run("models", "--models-dir", tmp_path, "--json")[1])
    assert {"t", "tiny"} <= {one["name"] for one in models}
    (tiny_path / "tokenizer.json").write_bytes(b"{}")
    assert run("pack", tiny_path, tmp_path / "bad.tar")[0] == 4
    assert sorted(e.name for e in tmp_path.iterdir()) == ["t.tar", "tiny"]
    (tmp_path / "t.tar").write_bytes(b"rubbish")
    models = json.loads(run("models", "--models-dir", tmp_path, "--json")[1])
    assert any("no archive of a bundle" in one.get("problem", "") for one in models)


def test_a_damaged_archive_is_told_by_its_digests(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    place = archive.Archive(packed).places["text.fp32.onnx"]
    data[place.offset + place.size // 2] ^= 1
    packed.write_bytes(data)
    opened = bundle.open(packed)
    with pytest.raises(IntegrityError, match="digest"):
        opened.verify()
