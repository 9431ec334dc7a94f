"""A real server on loopback, started by the command line, over a real collection.

In:  the bundle that ships; tones and noises made here.
Out: fixtures: the collection's folder, running servers, clients.
Knows nothing about what is tested.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served import Client, Serving, fill_sounds, serving

HAS_SERVE = all(
    importlib.util.find_spec(name) for name in ("starlette", "uvicorn", "python_multipart")
)
collect_ignore_glob = [] if HAS_SERVE else ["test_*.py"]


@pytest.fixture(scope="session")
def sounds_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sounds, and beside it the collection that holds them."""
    root = tmp_path_factory.mktemp("served") / "sounds"
    root.mkdir()
    fill_sounds(root)
    return root


@pytest.fixture(scope="session")
def collection_path(sounds_root: Path) -> Path:
    """The collection."""
    return sounds_root.parent / "sounds.clap"


@pytest.fixture(scope="session")
def server(sounds_root: Path, collection_path: Path) -> Iterator[Serving]:
    """One server that the quiet tests share."""
    with serving(collection_path, "--sounds", sounds_root) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Serving) -> Client:
    """Requests to it."""
    return server.client


@pytest.fixture
def start(collection_path: Path) -> Callable[..., object]:
    """`with start("--option", value) as serving:` runs a server of the test's own."""
    return lambda *options, **more: serving(collection_path, *options, **more)
