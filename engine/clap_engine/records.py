"""What a collection stores, row by row, and the checksums that tell rot from truth.

In:  values of one row.
Out: frozen records; the columns of a row with its checksum; IntegrityError where it fails.
Knows nothing about SQL, files or search.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float16, Int64
from clap_engine.errors import IntegrityError

# What a collection finds clips by: their windows; one mean of these each; or the means first and
# then the windows of the clips that they lead to.
Granularity = Literal["window", "clip", "both"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)


@dataclass(frozen=True)
class Identity:
    """What a collection is, fixed when it was made."""

    id: str
    bundle_id: str
    revision: str
    space_id: str
    dim: int
    created_s: float


@dataclass(frozen=True)
class Grain:
    """What a collection finds clips by, fixed when it was made."""

    granularity: Granularity


@dataclass(frozen=True)
class State:
    """One committed state; `generation` and its header's digest name the derived files."""

    change: int
    clips: int
    windows: int
    last_clip: int
    last_row: int
    generation: int
    header_size: int
    header_sha256: str


@dataclass(frozen=True)
class Tuning:
    """The plan that `tune` chose, and what it measured: recall@k in clips, medians in ms.

    `middle_dim` and `kept` (windows that the middle rung passes on) are 0 without that rung;
    `queries` counts the sampled ones, of the kinds named, and `recall` is that of the worst kind.
    Where the graph has other dims than the index' prefixes, a scan of these takes the place of the
    graph that can't serve: `scan_dim`, `scan_shortlist`; 0 where they are those of the graph.
    So it does where lists can't; `probes` of these are read for a query.
    """

    index: str  # "exact", "flat", "hnsw" or "ivf"
    coarse_dim: int
    shortlist: int
    middle_dim: int
    kept: int
    rows: int
    k: int
    target: float
    recall: float
    latency_ms: float
    queries: int
    kinds: str
    seed: int
    tuned_s: float  # since 1970
    scan_dim: int = 0  # plans of earlier releases end before these two
    scan_shortlist: int = 0
    probes: int = 0  # and these before this one

    @property
    def prefix_dim(self) -> int:
        """The dims of the prefixes that the index must hold."""
        return self.scan_dim or self.coarse_dim


@dataclass(frozen=True)
class Record:
    """One clip as it is stored; `metadata` is JSON text."""

    id: int
    key: str
    path: str | None
    size: int | None
    mtime_ns: int | None
    digest: str
    duration_s: float
    metadata: str
    first_row: int
    windows: int


class Label(NamedTuple):
    """What a hit says of its clip; `metadata` is JSON text."""

    key: str
    metadata: str


@dataclass(frozen=True)
class NewClip:
    """One clip to store: vectors float16 [W, D], spans in seconds [W, 2]."""

    key: str
    path: str | None
    size: int | None
    mtime_ns: int | None
    digest: str
    duration_s: float
    metadata: str
    vectors: Float16
    spans: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Stored windows in order: numbers [N], clips [N], spans in seconds [N, 2], vectors [N, D]."""

    rows: Int64
    clips: Int64
    spans: npt.NDArray[np.float64]
    vectors: Float16


Fields = TypeVar("Fields", Identity, Grain, State, Tuning, Record)


def sealed(fields: Identity | Grain | State | Tuning | Record) -> tuple[Any, ...]:
    """The fields in order, and the checksum over them."""
    # Not astuple, which copies each value deeply: a third of what storing a clip took.
    values = tuple(getattr(fields, name) for name in fields.__dataclass_fields__)
    return (*values, zlib.crc32(json.dumps(values).encode("ascii")))


def unsealed(kind: type[Fields], columns: Sequence[Any], path: Path, what: str) -> Fields:
    """The record of these columns; IntegrityError unless its checksum holds."""
    if is_sealed(columns):
        with suppress(TypeError):  # columns that this release does not know
            return kind(*columns[:-1])
    raise rotten(what, path)


def is_sealed(columns: Sequence[Any]) -> bool:
    """Whether the checksum, which comes last, is that of the others."""
    try:
        return bool(zlib.crc32(json.dumps(columns[:-1]).encode("ascii")) == columns[-1])
    except TypeError:  # rot changed a column's type
        return False


def rotten(what: str, path: Path) -> IntegrityError:
    return IntegrityError(
        f"{what} in {path} does not match its checksum; "
        "remove or index that clip again, or restore the file from a copy"
    )


def window_crc(row: int, clip: int, start_s: float, end_s: float, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(struct.pack("<qqdd", row, clip, start_s, end_s)))


def is_sound(window: Sequence[Any], crc: int, vector_bytes: int) -> bool:
    """Whether the columns row, clip, start_s, end_s, vector are what was written."""
    vector = window[4]
    try:
        return (
            isinstance(vector, bytes) and len(vector) == vector_bytes and window_crc(*window) == crc
        )
    except (TypeError, struct.error):  # rot changed a column's type
        return False
