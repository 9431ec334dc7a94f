"""The installed size: what `clap-engine[cpu,hnsw]` and all it pulls put on the disk."""

from __future__ import annotations

import re
from importlib import metadata, resources
from pathlib import Path

import pytest

MAX_MB = 255
EXTRAS = ("cpu", "hnsw")


def _closure(name: str, extras: tuple[str, ...]) -> dict[str, metadata.Distribution]:
    """The distribution and, through its requirements, all others that are installed with it."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(name, extras)]
    while todo:
        name, extras = todo.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            found[key] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # a marker for another system, or an extra nobody asked for
        for requirement in found[key].requires or []:
            needed = re.match(r"[A-Za-z0-9._-]+", requirement)
            extra = re.search(r"extra *== *['\"]([^'\"]+)", requirement)
            if needed and (extra is None or extra[1] in extras):
                todo.append((needed[0], ()))
    return found


def _bytes_of(distribution: metadata.Distribution) -> int:
    files = (Path(str(file.locate())) for file in distribution.files or [])
    return sum(path.stat().st_size for path in files if path.is_file())


def test_the_lean_set_is_small() -> None:
    pytest.importorskip("hnswlib", exc_type=ImportError)
    closure = _closure("clap-engine", EXTRAS)
    sizes = {name: _bytes_of(found) / 1e6 for name, found in closure.items()}
    own = resources.files("clap_engine.models") / "clap-mini" / "manifest.json"
    assert own.is_file(), "the bundle is not installed"
    for name, megabytes in sorted(sizes.items(), key=lambda item: -item[1])[:8]:
        print(f"{megabytes:7.1f} MB  {name}")
    print(f"{sum(sizes.values()):7.1f} MB  in all, of {MAX_MB}")
    assert "torch" not in closure
    assert sum(sizes.values()) <= MAX_MB
