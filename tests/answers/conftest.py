"""What the tests of answers share: the folder's own modules, and a few worded sounds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# pytest's importlib mode puts no folder on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from worded import CLIPS, METADATA, make

from clap_engine.collection import Collection


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Six clips, of which each sounds as its texts say."""
    path = tmp_path_factory.mktemp("answers") / "s.clap"
    with make(path, CLIPS, METADATA, ("year", "genre", "artist")) as made:
        yield made
