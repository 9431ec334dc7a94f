"""A folder in memory, for faults that are simulated: there, fsync costs nothing.

In:  pytest's own temporary folder.
Out: a folder of the test's own, removed after it.
Knows nothing about what fails in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_embedder import FAST_DISK


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    if FAST_DISK is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="clap-", dir=FAST_DISK) as folder:
        yield Path(folder)
