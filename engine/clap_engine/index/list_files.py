"""Lists on disk: three files of a generation, mapped, so that processes share them.

In:  lists; a generation's folder; the digests of its files.
Out: the files with their digests; the lists again.
Knows nothing about rows, queries or when to build.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clap_engine import storage
from clap_engine.errors import IntegrityError
from clap_engine.index.lists import Lists
from clap_engine.index.mapping import mapped
from clap_engine.storage import FileDigest

CODES = "lists.i8"  # [L + C, D] int8: the centroids, then the columns, list after list
NUMBERS = "lists.i32"  # [1, L + 1 + C] int32: where each list begins; the column at each slot
UNITS = "lists.f32"  # [1, D] float32: what one in each dim of a code stands for
NAMES = (CODES, NUMBERS, UNITS)


def write(draft: Path, lists: Lists) -> dict[str, FileDigest]:
    """Write the files of `lists`; their digests."""
    numbers = np.concatenate([lists.starts.astype(np.int32), lists.columns])
    parts = [lists.centroids.data.cast("B"), lists.codes.data.cast("B")]
    return {
        CODES: storage.write_file(draft / CODES, parts),
        NUMBERS: storage.write_file(draft / NUMBERS, [numbers.data.cast("B")]),
        UNITS: storage.write_file(draft / UNITS, [lists.units.data.cast("B")]),
    }


def open(
    path: Path, files: Mapping[str, FileDigest], count: int, columns: int, dim: int
) -> Lists | None:
    """The `count` lists of so many columns of a generation; None where it has none."""
    if not isinstance(count, int) or not 0 <= count <= columns:
        raise IntegrityError(f"the generation claims {count!r:.80} lists; rebuild it")
    if not count:
        return None
    codes = mapped(path, files, CODES, np.int8, (count + columns, dim))
    numbers = mapped(path, files, NUMBERS, np.int32, (1, count + 1 + columns))[0]
    starts, places = numbers[: count + 1].astype(np.int64), numbers[count + 1 :]
    if (
        (starts[0], starts[-1]) != (0, columns)
        or (np.diff(starts) < 0).any()
        or not (np.bincount(places.clip(0, columns), minlength=columns) == 1).all()
    ):
        raise IntegrityError(f"{path / NUMBERS} contradicts itself; rebuild the generation")
    units = mapped(path, files, UNITS, np.float32, (1, dim))[0]
    return Lists(units, codes[:count], codes[count:], starts, places, columns / count)
