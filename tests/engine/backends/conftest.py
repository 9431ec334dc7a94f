"""The backends that are installed here, each with a fresh place of its own."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
from backend_places import NEEDS, SPACE, Place

from clap_engine.backends import VectorBackend, open_backend

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a running PostgreSQL."""
    for module in NEEDS["pgvector"]:
        pytest.importorskip(module)
    with postgres_server.running() as url:
        yield url


@pytest.fixture(params=NEEDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """New places of one kind of backend; skipped where its library isn't installed."""
    kind = request.param
    for module in NEEDS[kind]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    if kind == "pgvector":
        base = request.getfixturevalue("postgres")
        return lambda: f"{base}&table=t{next(_numbers)}"
    prefix = "" if kind == "local" else f"{kind.replace('-', '+')}:"
    return lambda: f"{prefix}{tmp_path / f'place{next(_numbers)}'}"


@pytest.fixture
def backend(place: Place) -> Iterator[VectorBackend]:
    """A new, empty backend."""
    url = place()
    if url.startswith("qdrant+local:"):  # whose files are slow, and are for one test alone
        url = "qdrant+local::memory:"
    opened = open_backend(url, space=SPACE, create=True)
    yield opened
    opened.close()
