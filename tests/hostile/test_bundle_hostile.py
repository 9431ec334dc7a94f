"""Damaged, swapped and malicious bundles: refused before native code sees a byte."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import make_bundle, make_files, make_manifest

from clap_engine import bundle as bundles
from clap_engine import text, tower
from clap_engine.bundle import Bundle
from clap_engine.encoders import AudioEncoder, TextEncoder
from clap_engine.errors import ClapError, IntegrityError, ManifestError, NotFoundError
from clap_engine.manifest import dump

NAMES = sorted(make_files())
PAGE = 4_096

_opened: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], (str, bytes)):
        _opened.append(os.path.abspath(os.fsdecode(arguments[0])))


# An audit hook stays until the process ends; this one only notes paths inside `watching`.
sys.addaudithook(_audit)


@contextmanager
def watching() -> Iterator[list[str]]:
    """The absolute paths that Python opens inside the block."""
    global _opened
    opened: list[str] = []
    _opened = opened
    try:
        yield opened
    finally:
        _opened = None


def damaged(data: bytes, kind: str, shuffled: random.Random, other: bytes) -> bytes:
    """Another file than `data`, as rot, a torn write or a mix-up leaves it."""
    changed = bytearray(data)
    if kind == "flip":
        changed[shuffled.randrange(len(data))] ^= 1 << shuffled.randrange(8)
    elif kind == "cut":
        del changed[shuffled.randrange(len(data)) :]
    elif kind == "grown":
        changed += bytes(shuffled.randrange(1, PAGE))
    elif kind == "zeros":
        page = shuffled.randrange(0, len(data), PAGE)
        changed[page : page + PAGE] = bytes(len(changed[page : page + PAGE]))
    elif kind == "swap":
        changed[:] = other
    elif kind == "pages":
        changed = changed[PAGE:] + changed[:PAGE] if len(data) > PAGE else changed[::-1]
    return bytes(changed)


KINDS = ("flip", "flip", "flip", "flip", "cut", "grown", "zeros", "swap", "pages")


Seen = list[tuple[str, str]]


class GraphReachedError(Exception):
    """Bytes came as far as onnxruntime."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """(file, digest) of all bytes that reach onnxruntime or tokenizers; nothing is run."""
    noted: Seen = []

    def take(data: bytes, *, name: str, **_: Any) -> Any:
        noted.append((name, hashlib.sha256(data).hexdigest()))
        raise GraphReachedError

    def take_tokenizer(data: bytes) -> Any:
        noted.append(("tokenizer.json", hashlib.sha256(data).hexdigest()))

    monkeypatch.setattr(tower, "GraphSession", take)
    monkeypatch.setattr(text, "_load", take_tokenizer)
    return noted


def use_all(opened: Bundle) -> None:
    """Everything that hands bytes to a library: both towers and the goldens."""
    opened.goldens()
    for kind, graphs in (
        (TextEncoder, opened.manifest.text.graphs),
        (AudioEncoder, opened.manifest.audio.graphs),
    ):
        for precision in graphs:
            try:
                kind(opened, precision=precision).warm()
            except GraphReachedError:
                continue


def check_damage(path: Path, name: str, cases: int, seed: int, seen: Seen) -> None:
    """Every damaged version of one file is an IntegrityError, and no library saw its bytes."""
    shuffled = random.Random(seed)
    data = (path / name).read_bytes()
    others = [other for other in path.iterdir() if other.name != name]
    files = bundles.open(path).manifest.files
    for case in range(cases):
        kind = KINDS[case % len(KINDS)]
        bad = damaged(data, kind, shuffled, shuffled.choice(others).read_bytes())
        if bad == data:
            continue  # a page of zeros was zeros before
        (path / name).write_bytes(bad)
        opened = bundles.open(path)
        with pytest.raises(IntegrityError, match=name):
            opened.read(name)
        with pytest.raises(IntegrityError, match=name):
            opened.verify()
        if not name.isupper() and name != "README.md":
            with pytest.raises(IntegrityError, match=name):
                use_all(opened)
            assert all(files[file].sha256 == digest for file, digest in seen)
        seen.clear()
    (path / name).write_bytes(data)
    bundles.open(path).verify()


def test_the_control_reaches_native_code(tiny: Bundle, seen: Seen) -> None:
    """Without damage the same calls do hand over all bytes: the cases below can fail."""
    use_all(tiny)
    native = [name for name in NAMES if name.endswith((".onnx", "tokenizer.json"))]
    assert set(seen) == {(name, tiny.manifest.files[name].sha256) for name in native}


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(tiny_path: Path, seen: Seen, name: str) -> None:
    check_damage(tiny_path, name, 100, NAMES.index(name), seen)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_in_full(tiny_path: Path, seen: Seen, name: str) -> None:
    check_damage(tiny_path, name, 1_000, 100 + NAMES.index(name), seen)


def check_shipped(bundle: Bundle, copy: Path, cases: int, seed: int, seen: Seen) -> None:
    """The same for the bundle that ships, whose graphs have tens of megabytes."""
    shutil.copytree(bundle.path, copy)
    for name in bundle.manifest.files:
        check_damage(copy, name, cases, seed, seen)


def test_damaged_files_of_the_bundle_that_ships(bundle: Bundle, tmp_path: Path, seen: Seen) -> None:
    check_shipped(bundle, tmp_path / "copy", len(KINDS), seed=1, seen=seen)


@pytest.mark.slow
def test_damaged_files_of_the_bundle_that_ships_in_full(
    bundle: Bundle, tmp_path: Path, seen: Seen
) -> None:
    check_shipped(bundle, tmp_path / "copy", 200, seed=2, seen=seen)


def check_manifest_damage(path: Path, cases: int, seed: int) -> None:
    """A damaged manifest.json is refused, or says exactly what the whole one says."""
    shuffled = random.Random(seed)
    data = (path / "manifest.json").read_bytes()
    whole = bundles.open(path).manifest
    refused = 0
    for case in range(cases):
        bad = damaged(data, KINDS[case % len(KINDS)], shuffled, b"\0" * 10)
        (path / "manifest.json").write_bytes(bad)
        try:
            assert bundles.open(path).manifest == whole
        except ManifestError:
            refused += 1
    assert refused > cases * 0.8  # the rest fell on white space


def test_damaged_manifest(tiny_path: Path) -> None:
    check_manifest_damage(tiny_path, 200, seed=3)


@pytest.mark.slow
def test_damaged_manifest_in_full(tiny_path: Path) -> None:
    check_manifest_damage(tiny_path, 2_000, seed=4)


def test_manifests_of_another_bundle_do_not_fit(tmp_path: Path) -> None:
    one, two = make_bundle(tmp_path / "one", seed=1), make_bundle(tmp_path / "two", seed=2)
    shutil.copy(two / "manifest.json", one / "manifest.json")
    with pytest.raises(IntegrityError):
        bundles.open(one).verify()


ATTACKS = [
    "..",
    ".",
    "../secret",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "//host/share",
    "a/../../secret",
    "sub/file",
    "..\\secret",
    "C:\\secret",
    "C:secret",
    "\\\\host\\share",
    "a\0b",
    "\0",
    "secret\0.onnx",
    "a\nb",
    "a b",
    " secret",
    "secret ",
    "~/secret",
    "~",
    "$HOME",
    "%2e%2e%2fsecret",
    "file:///etc/passwd",
    "http://host/x",
    ".hidden",
    "-rf",
    "",
    "…/secret",
    "․․/secret",
    "se\u202ecret",
    "a" * 101,
    "a" * 100_000,
    "\ud800",
    "|sh",
    "a;b",
    "a`b`",
    "*",
    "a:b",
]


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_names_that_would_leave_the_bundle(tiny_path: Path, attack: str) -> None:
    (tiny_path.parent / "secret").write_text("not yours")
    whole = json.loads(dump(make_manifest(make_files())))
    for place in ("files", "tokenizer", "frontend", "graph", "goldens"):
        tree = json.loads(json.dumps(whole))
        tree["files"][attack] = tree["files"]["README.md"]
        if place == "tokenizer":
            tree["text"]["tokenizer"] = attack
        elif place == "frontend":
            tree["audio"]["frontend"] = attack
        elif place == "graph":
            tree["text"]["graphs"]["fp32"]["file"] = attack
        elif place == "goldens":
            tree["goldens"]["file"] = attack
        tree["revision"] = ""
        form = json.dumps(tree, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
        digest = hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()
        tree["revision"] = digest
        (tiny_path / "manifest.json").write_text(json.dumps(tree))
        with watching() as opened, pytest.raises(ManifestError):
            bundles.open(tiny_path)
        assert opened == [str(tiny_path / "manifest.json")]


def place_symlink(path: Path) -> None:
    secret = path.parent.parent / "secret"
    secret.write_bytes(path.read_bytes())  # even the right bytes, from outside
    path.unlink()
    path.symlink_to(secret)


def place_chain(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def place_dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def place_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def place_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def place_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def place_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path has at most 107 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


PLACES = [
    place_symlink,
    place_chain,
    place_dangling,
    place_device,
    place_fifo,
    place_directory,
    place_socket,
]


@pytest.mark.skipif(sys.platform == "win32", reason="links and FIFOs of POSIX")
@pytest.mark.parametrize("name", ["text.fp32.onnx", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_what_is_no_plain_file_is_never_opened(tiny_path: Path, place: Any, name: str) -> None:
    before = bundles.open(tiny_path)
    place(tiny_path / name)
    work = (
        partial(bundles.open, tiny_path) if name == "manifest.json" else partial(before.read, name)
    )
    with watching() as opened, pytest.raises(IntegrityError, match=name):
        work()
    assert opened == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_an_unreadable_file_is_a_clap_error(tiny_path: Path) -> None:
    opened = bundles.open(tiny_path)
    for name in ("README.md", "manifest.json"):
        (tiny_path / name).chmod(0)
    with pytest.raises(ClapError):
        opened.read("README.md")
    with pytest.raises(ClapError):
        bundles.open(tiny_path)


def test_a_bundle_that_vanishes_is_not_found(tiny: Bundle) -> None:
    shutil.rmtree(tiny.path)
    with pytest.raises(NotFoundError):
        TextEncoder(tiny, precision="fp32")


def test_everything_read_lies_in_the_bundle(tiny: Bundle) -> None:
    tiny.goldens()  # numpy's own lazy imports happen here, not below
    with watching() as opened:
        bundles.open(tiny.path).verify()
        tiny.goldens()
    assert {str(Path(path).parent) for path in opened} == {str(tiny.path)}
