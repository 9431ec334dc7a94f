"""What a collection does beyond one query: filters, reopening, freshness, ingest, batches, threads.

In:  a folder made by vectors.py, else 10,000 vectors made of the samples that ship.
Out: the rows of service.py; what is due at a million rows.
Knows nothing about peers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import service
from service import DUE, TRIALS, Trial
from test_contest import SIZES, library_of

# These are due at any size.
EVERYWHERE = ("ingest",)
MEMORY_BYTES = 1.6e9


@pytest.mark.parametrize("name", list(TRIALS))
@pytest.mark.parametrize("size", list(SIZES))
def test_service(
    benchmark: Any,
    size: str,
    name: str,
    scale_vectors: Path | None,
    scale_results: Path,
    smoke: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Law: answers stay right, and at a million rows what is due is reached."""
    if smoke and size != "10k":
        pytest.skip("a smoke run looks at 10,000 rows alone")
    library = library_of(SIZES[size], scale_vectors, smoke, tmp_path_factory)
    trial = Trial(
        library, scale_results / "work", 40 if smoke else 300, seconds=1.0 if smoke else 8.0
    )
    row = benchmark.pedantic(service.measured, (name, trial, scale_results), rounds=1)
    benchmark.extra_info.update({key: value for key, value in row.items() if key != "machine"})
    assert row.get("is_right", True)
    if row.get("is_disturbed"):
        pytest.skip("the host stole from most of the time: remove the row and measure it again")
    if name in DUE and not smoke and (size == "1M" or name in EVERYWHERE):
        assert row["is_met"], f"{row['value']:.3g}; {row['what']} {row['due']:g}"
