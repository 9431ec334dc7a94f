"""Archives made to harm: each is refused before a byte of it is written or read as a model.

The control of all of them is the archive that they were made from, which is accepted.
"""

from __future__ import annotations

import os
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clap_engine import archive, bundle, install
from clap_engine.errors import ClapError, IntegrityError
from clap_engine.storage import file_digest

BLOCK = 512


@pytest.fixture
def files(tiny: bundle.Bundle) -> dict[str, bytes]:
    """What a good archive holds, the manifest first."""
    rest = {name: tiny.read(name) for name in sorted(tiny.manifest.files)}
    return {"manifest.json": tiny.manifest_bytes(), **rest}


def tar_of(files: dict[str, bytes], change: Callable[[tarfile.TarInfo], Any] = id,
           format: int = tarfile.USTAR_FORMAT, folder: str = "tiny") -> bytes:  # fmt: skip
    """An archive by Python's own headers, each changed on the way."""
    body = b""
    for name, data in files.items():
        info = tarfile.TarInfo(f"{folder}/{name}")
        info.size = len(data)
        change(info)
        block = bytearray(info.tobuf(format))
        if block[-183:-167] == bytes(16):  # devices: Python writes nothing, tar itself zeros
            block[-183:-167] = b"0000000\0" * 2
            block[-364:-356] = b" " * 8
            block[-364:-356] = b"%06o\0 " % sum(block[-BLOCK:])
        body += bytes(block) + (data + bytes(-len(data) % BLOCK) if info.size else b"")
    return body + bytes(archive._end(len(body)) - len(body))


def only(name: str, **changes: Any) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        if info.name.endswith(name):
            for field, value in changes.items():
                setattr(info, field, value)

    return change


def ours(files: dict[str, bytes], folder: str = "tiny") -> bytes:
    """By our own layout, whatever the names and their order."""
    body = b"".join(
        archive.header(folder, name, len(data)) + data + bytes(-len(data) % BLOCK)
        for name, data in files.items()
    )
    return body + bytes(archive._end(len(body)) - len(body))


def refused(path: Path, data: bytes) -> None:
    """By opening and by pull; neither leaves a trace."""
    path.write_bytes(data)
    start = time.monotonic()
    with pytest.raises(ClapError):
        bundle.open(path).verify()
    models = path.parent / "models"
    with pytest.raises(ClapError):
        install.pull(str(path), file_digest(path).sha256, models_dir=models)
    assert list(models.iterdir()) == []
    assert time.monotonic() - start < 5


def test_the_control_is_accepted(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(files))
    assert tar_of(files) == ours(files)
    bundle.open(tmp_path / "x.tar").verify()
    digest = file_digest(tmp_path / "x.tar").sha256
    assert install.pull(str(tmp_path / "x.tar"), digest, models_dir=tmp_path / "models").is_new


CHANGES = {
    "symlink": only("NOTICE", type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
    "hard link": only("NOTICE", type=tarfile.LNKTYPE, linkname="tiny/manifest.json", size=0),
    "device": only("NOTICE", type=tarfile.CHRTYPE, devmajor=1, devminor=8, size=0),
    "FIFO": only("NOTICE", type=tarfile.FIFOTYPE, size=0),
    "directory": only("NOTICE", type=tarfile.DIRTYPE, size=0),
    "set user id": only("NOTICE", mode=0o4755),
    "time": only("NOTICE", mtime=1),
    "owner": only("NOTICE", uid=1000),
    "owner's name": only("NOTICE", uname="root"),
}
NAMES = [
    "../../x", "/etc/x", "..", ".", "", "a/b", "tiny/../x", ".hidden", "a\\b", "a b", "-rf", "é",
    "C:x", "\n", "~",
]  # fmt: skip


@pytest.fixture
def with_notice(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "NOTICE": b"text"}


@pytest.mark.parametrize("what", sorted(CHANGES))
def test_what_is_no_plain_file(with_notice: dict[str, bytes], tmp_path: Path, what: str) -> None:
    refused(tmp_path / "x.tar", tar_of(with_notice, CHANGES[what]))


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_other_kinds_of_tar(files: dict[str, bytes], tmp_path: Path, format: int) -> None:
    change = only("tokenizer.json", pax_headers={"path": "tiny/other", "size": "1"}, mtime=1.5)
    refused(tmp_path / "x.tar", tar_of(files, change, format))


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(files: dict[str, bytes], tmp_path: Path, name: str) -> None:
    for folder in ("tiny", "../tiny", "/tiny", "", "Tiny"):
        data = tar_of({**files, name: b"x"}, folder=folder)
        refused(tmp_path / "x.tar", data)
    assert sorted(e.name for e in tmp_path.iterdir()) == ["models", "tiny", "x.tar"]


def test_twice_or_out_of_order_or_too_many(files: dict[str, bytes], tmp_path: Path) -> None:
    path, good = tmp_path / "x.tar", ours(files)
    one = archive.header("tiny", "manifest.json", 0)
    size = archive._end(len(good))
    for extra in (one, archive.header("tiny", "zzz", 0), archive.header("other", "zzz", 0)):
        used = sum(BLOCK + len(data) + -len(data) % BLOCK for data in files.values())
        refused(path, (good[:used] + extra).ljust(size, b"\0"))
    names = list(files)
    refused(path, ours({name: files[name] for name in reversed(names)}))
    refused(path, ours({name: files[name] for name in (*names[1:], names[0])}))
    refused(path, ours({name: files[name] for name in names[:-1]}))
    refused(path, ours({**files, **{f"x{i:03d}": b"" for i in range(100)}}))
    refused(path, ours(files, folder="other"))


def test_sizes_that_lie(files: dict[str, bytes], tmp_path: Path) -> None:
    """Bombs: a header may claim what it likes, nothing is set aside for it."""
    good = ours(files)
    for size in (0, 1, 2**33 - 1, len(good), len(good) * 2):
        lie = archive.header("tiny", "manifest.json", size)
        refused(tmp_path / "x.tar", lie + good[BLOCK:])
    for text in (
        b"-1          ",
        b"0x10\0       ",
        b"\xff" * 12,
        b"99999999999\0",
        b"1_0\0        ",
    ):
        block = bytearray(good[:BLOCK])
        block[124:136] = text
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        refused(tmp_path / "x.tar", bytes(block) + good[BLOCK:])


def test_something_between_or_behind_the_files(files: dict[str, bytes], tmp_path: Path) -> None:
    good = ours(files)
    for at in (len(good) - 1, BLOCK + len(files["manifest.json"])):
        data = bytearray(good)
        assert data[at] == 0
        data[at] = 1
        refused(tmp_path / "x.tar", bytes(data))
    for data in (good + bytes(BLOCK), good + bytes(20 * BLOCK), good[:-BLOCK], good + good, b"",
                 bytes(20 * BLOCK), good[: len(good) // 2], b"PK\3\4" + good[4:]):  # fmt: skip
        refused(tmp_path / "x.tar", data)


def test_no_flipped_bit_goes_unseen(files: dict[str, bytes], tmp_path: Path) -> None:
    """In headers and padding by the archive itself, in files by their digests, 300 at random."""
    good, rng, path = ours(files), random.Random(6), tmp_path / "x.tar"
    for _ in range(300):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(ClapError):
            bundle.open(path).verify()


def test_a_directory_a_link_and_a_pipe(files: dict[str, bytes], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    for place in (tmp_path, tmp_path / "pipe.tar", Path("/dev/zero")):
        with pytest.raises(ClapError):
            install.pull(str(place), "0" * 64, models_dir=tmp_path / "models")
    with pytest.raises((IntegrityError, ClapError)):
        bundle.open(tmp_path / "pipe.tar")
    assert list((tmp_path / "models").iterdir()) == []
