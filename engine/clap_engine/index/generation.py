"""Derived files of a collection: one generation is one directory, written whole and then proven.

In:  the rows of one committed state, in order.
Out: a directory of packed vectors, prefixes, row numbers and perhaps a coarse index; the same,
     opened, once every byte matched the header and the header matched the source of truth.
Knows nothing about SQLite, keys or queries.

The header, generation.json, names each file with its size and sha256 and says which collection,
space, generation and change they belong to. The digest of the header itself is kept in the
source of truth, so a file from elsewhere (an older generation, another collection, another dim)
can't pass: nothing here is trusted because it looks right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine import storage
from clap_engine.arrays import Float16, Float32, Float64, Int64, l2_normalize
from clap_engine.errors import ClapError, IntegrityError
from clap_engine.index import coarse, columns, labels, list_files, lists, scan, vectors
from clap_engine.index.labels import Labels
from clap_engine.index.lists import Listed, Lists
from clap_engine.index.mapping import mapped
from clap_engine.records import Label, Rows
from clap_engine.storage import FileDigest

FORMAT = 2
# The same with a column of prefixes for each clip, the mean of its windows, and not for each row.
FORMAT_BY_CLIP = 3
# The dims of the coarse rung where no tuned plan says otherwise.
PREFIX_DIM = 32

_HEADER = "generation.json"
_VECTORS = "vectors.f16"  # [N, D] float16
_PREFIXES = "prefixes.f32"  # [d, N] float32, or [d, C]; the header says d
_ROWS = "rows.i64"  # [2, N] int64: row numbers ascending, and the clip of each
_SPANS = "spans.f64"  # [N, 2] float64: start and end in seconds
_LABELS = "labels.bin"  # of all clips, see labels; of earlier releases none has it
_COARSE = "coarse.hnsw"  # hnswlib's own format, with labels 0..N-1, or 0..C-1


@dataclass(frozen=True)
class Block:
    """N rows ready to be searched, and the C columns of prefixes that lead to them.

    Position i is column i, or, where `starts` are given, column i leads to all windows of a clip.
    """

    vectors: Float16  # [N, D]
    prefixes: Float32  # [d, C]
    rows: Int64  # [N], ascending
    clips: Int64  # [N], never falling: a clip's windows are stored together
    spans: Float64  # [N, 2], seconds
    starts: Int64 | None = None  # [C + 1]: where each column's rows begin; None: C is N
    listed: Listed | None = None  # of the first columns of a tail, where its generation has lists

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> int:
        """C."""
        return self.prefixes.shape[1]

    def rows_of(self, chosen: Int64) -> Int64:
        """Positions of the rows that these ascending columns lead to, ascending."""
        if self.starts is None:
            return chosen
        first: Int64 = self.starts[chosen]
        return columns.runs(first, self.starts[chosen + 1] - first)

    def columns_at(self, positions: Int64) -> Int64:
        """The column that leads to each of these positions, in any order and shape."""
        if self.starts is None:
            return positions
        return np.asarray(np.searchsorted(self.starts, positions, side="right") - 1, np.int64)

    def columns_of(self, positions: Int64) -> Int64:
        """The columns, ascending, each once, that lead to these ascending positions."""
        if self.starts is None or not len(positions):
            return positions
        found = self.columns_at(positions)
        is_new = np.concatenate([[True], found[1:] != found[:-1]])
        return np.asarray(found[is_new], np.int64)

    def with_dim(self, dim: int) -> Block:
        """The same rows with prefixes of another dim."""
        if self.starts is None:
            return replace(self, prefixes=vectors.prefixes(self.vectors, dim))
        made = columns.means(self.vectors, self.starts, dim)
        return replace(self, prefixes=np.ascontiguousarray(made.T))

    def in_lists(self, lists: Lists) -> Block:
        """The same rows, as a tail of what these lists hold."""
        parts = prefix_parts(self.vectors, self.starts, self.vectors.shape[1])
        found = [(lists.owners_of(part), scan.coded(part, lists.units)) for part in parts]
        if not found:
            return replace(self, listed=None)
        owners, codes = (np.concatenate(some) for some in zip(*found, strict=True))
        return replace(self, listed=Listed(len(lists), owners, codes))

    @property
    def prefix_dim(self) -> int:
        """The dims of the coarse rung."""
        return len(self.prefixes)


@dataclass(frozen=True)
class Owner:
    """To whom a generation belongs."""

    collection: str
    space_id: str
    dim: int
    by_clip: bool = False  # whether each clip is one column of the prefixes

    @property
    def format(self) -> int:
        """Of its generations."""
        return FORMAT_BY_CLIP if self.by_clip else FORMAT


@dataclass(frozen=True)
class Generation:
    """An opened generation: memory maps whose digests were checked."""

    number: int
    change: int
    last_row: int
    block: Block
    coarse: coarse.CoarseIndex | None
    labels: Labels | None = None
    lists: Lists | None = None


def empty_block(dim: int, prefix_dim: int = PREFIX_DIM, by_clip: bool = False) -> Block:
    """No rows."""
    return new_block(0, dim, prefix_dim, by_clip)


def new_block(rows: int, dim: int, prefix_dim: int = PREFIX_DIM, by_clip: bool = False) -> Block:
    """Room for `rows` rows, and for as many columns, not yet filled."""
    return Block(
        np.empty((rows, dim), np.float16),
        np.empty((prefix_dim, rows), np.float32),
        np.empty(rows, np.int64),
        np.empty(rows, np.int64),
        np.empty((rows, 2), np.float64),
        np.zeros(rows + 1, np.int64) if by_clip else None,
    )


def path_of(directory: Path, number: int) -> Path:
    """Where generation `number` lives."""
    return directory / f"{number:08d}"


def numbers(directory: Path) -> list[int]:
    """The generations that have a directory, finished or not."""
    if not directory.is_dir():
        return []
    names = (entry.name.removesuffix(".draft") for entry in directory.iterdir())
    return sorted({int(name) for name in names if name.isdigit()})


def write(
    directory: Path,
    number: int,
    owner: Owner,
    *,
    change: int,
    last_row: int,
    batches: Iterable[Rows],
    with_coarse: bool,
    clips: Iterable[tuple[int, Label]] | None = None,
    prefix_dim: int = PREFIX_DIM,
    coarse_dim: int | None = None,
    with_lists: bool = False,
    check: Callable[[], None] | None = None,
) -> FileDigest:
    """Write generation `number` from all rows, in order; the digest of its header.

    Its prefixes have `prefix_dim` dims, and so has the graph unless `coarse_dim` says otherwise;
    where the owner wants one column for each clip, the batches are regrouped so that each holds
    whole clips.

    `clips` are all of them with what hits say of them, in order; without them searches ask the
    truth. `check` may end the building of the graph, see coarse, or that of lists over all dims
    (`with_lists`); batches may raise as well.

    It is durable when this returns, but nobody looks at it before the source of truth points
    to it: open it first.
    """
    draft = directory / f"{number:08d}.draft"
    storage.remove_tree(draft)
    if not directory.is_dir():
        storage.make_dir(directory)
    storage.make_dir(draft)
    try:
        seen: list[tuple[Rows, Float32]] = []

        def packed() -> Iterator[memoryview]:
            for batch in columns.whole_clips(batches) if owner.by_clip else batches:
                # The vectors are on disk then; the rest is small enough to wait.
                small = replace(batch, vectors=batch.vectors[:0])
                seen.append((small, prefixes_of(batch, prefix_dim, owner.by_clip)))
                yield np.ascontiguousarray(batch.vectors).data.cast("B")

        files = {}
        if clips is not None:  # the snapshot that they are read in ends with the last batch
            files[_LABELS] = storage.write_file(draft / _LABELS, labels.packed(clips))
        files[_VECTORS] = storage.write_file(draft / _VECTORS, storage.gathered(packed()))
        if not seen:
            raise IntegrityError("a generation needs at least one row")
        prefixes = np.concatenate([prefix for _, prefix in seen], axis=1)
        numbering = np.stack(
            [
                np.concatenate([batch.rows for batch, _ in seen]),
                np.concatenate([batch.clips for batch, _ in seen]),
            ]
        )
        spans = np.concatenate([batch.spans for batch, _ in seen])
        files[_PREFIXES] = storage.write_file(draft / _PREFIXES, [prefixes.data.cast("B")])
        files[_ROWS] = storage.write_file(draft / _ROWS, [numbering.data.cast("B")])
        files[_SPANS] = storage.write_file(draft / _SPANS, [spans.data.cast("B")])
        dims = {"prefix_dim": prefix_dim}
        shape = (numbering.shape[1], owner.dim)
        packed_rows = np.memmap(draft / _VECTORS, np.float16, "r", shape=shape)
        starts = columns.starts_of(numbering[1]) if owner.by_clip else None
        if with_lists:
            made = lists_of(packed_rows, starts, check)
            files |= list_files.write(draft, made)
            dims["lists"] = made.count
        if with_coarse:
            if coarse_dim in (None, prefix_dim):
                parts = _parts(prefixes.T)
            else:
                dims["coarse_dim"] = coarse_dim
                parts = prefix_parts(packed_rows, starts, coarse_dim)
            index = coarse.CoarseIndex.build_from(
                parts, prefixes.shape[1], dims.get("coarse_dim", prefix_dim), check
            )
            index.save(draft / _COARSE)
            storage.fsync_path(draft / _COARSE)
            files[_COARSE] = storage.file_digest(draft / _COARSE)
        header = {
            "format": owner.format,
            "number": number,
            "collection": owner.collection,
            "space_id": owner.space_id,
            "dim": owner.dim,
            **dims,
            "rows": numbering.shape[1],
            "change": change,
            "last_row": last_row,
            "files": {name: [file.size, file.sha256] for name, file in files.items()},
        }
        text = json.dumps(header, indent=2, sort_keys=True).encode("ascii")
        digest = storage.write_file(draft / _HEADER, [text])
        storage.fsync_dir(draft)
        storage.rename(draft, path_of(directory, number))
    except BaseException:
        storage.remove_tree(draft)
        raise
    return digest


def prefixes_of(batch: Rows, dim: int, by_clip: bool) -> Float32:
    """[dim, C]: the columns of a batch of whole clips."""
    if not by_clip:
        return vectors.prefixes(batch.vectors, dim)
    made = columns.means(batch.vectors, columns.starts_of(batch.clips), dim)
    return np.ascontiguousarray(made.T)


def prefix_parts(packed: Float16, starts: Int64 | None, dim: int) -> Iterator[Float32]:
    """Of stored rows [N, D], or of the means of those between `starts`: unit prefixes [n, dim]."""
    count = len(packed) if starts is None else len(starts) - 1
    for at in range(0, count, coarse.ROWS_AT_ONCE):
        end = min(at + coarse.ROWS_AT_ONCE, count)
        if starts is None:
            yield l2_normalize(vectors.widen(packed[at:end, :dim]))
        else:
            some = starts[at : end + 1]
            yield columns.means(packed[some[0] : some[-1]], some - some[0], dim)


def lists_of(
    packed: Float16, starts: Int64 | None, check: Callable[[], None] | None = None
) -> Lists:
    """Of stored rows [N, D], or of the means of those between `starts`: lists over all dims."""
    count, dim = len(packed) if starts is None else len(starts) - 1, packed.shape[1]
    return lists.build(lambda: prefix_parts(packed, starts, dim), count, dim, check)


def _parts(prefixes: Float32) -> Iterator[Float32]:
    for at in range(0, len(prefixes), coarse.ROWS_AT_ONCE):
        yield np.ascontiguousarray(prefixes[at : at + coarse.ROWS_AT_ONCE])


def open(directory: Path, number: int, header_digest: FileDigest, owner: Owner) -> Generation:
    """Open generation `number`; IntegrityError or NotFoundError unless it is whole and ours.

    Reads every byte once to hash it: this also warms the page cache for the first query.
    """
    path = path_of(directory, number)
    text = storage.read_exact(path / _HEADER, header_digest.size, header_digest.sha256)
    try:
        header = json.loads(text)
        count, prefix_dim, coarse_dim = _check_header(header, number, owner)
        files = {name: FileDigest(*entry) for name, entry in header["files"].items()}
        rows, clips = mapped(path, files, _ROWS, np.int64, (2, count))
        # Read off the clips: no second record of where they begin could contradict the first.
        starts = columns.starts_of(clips) if owner.by_clip else None
        width = count if starts is None else len(starts) - 1
        has_coarse = _COARSE in files and coarse.is_available()
        has_lists = "lists" in header
        is_read = not (has_coarse or has_lists)
        block = Block(
            # Beside lists, a search looks at a few dozen of them.
            mapped(path, files, _VECTORS, np.float16, (count, owner.dim), not has_lists),
            # Beside a graph or lists, only filters and long shortlists look at them.
            mapped(path, files, _PREFIXES, np.float32, (prefix_dim, width), is_read),
            rows,
            clips,
            mapped(path, files, _SPANS, np.float64, (count, 2)),
            starts,
        )
        found = None
        if _LABELS in files:
            size, sha256 = files[_LABELS].size, files[_LABELS].sha256
            found = Labels(storage.map_exact(path / _LABELS, size, sha256, touch=False))
        listed = list_files.open(path, files, header.get("lists", 0), width, owner.dim)
        change, last_row = int(header["change"]), int(header["last_row"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ClapError):
            raise
        raise IntegrityError(f"{path / _HEADER} makes no sense ({error!r}); rebuild it") from error
    if (
        (np.diff(block.rows) <= 0).any()
        or (np.diff(block.clips) < 0).any()
        or block.rows[-1] > last_row
    ):
        raise IntegrityError(f"{path / _ROWS} is out of order; rebuild the generation")
    index = None
    if has_coarse:
        if storage.file_digest(path / _COARSE) != files[_COARSE]:
            raise IntegrityError(f"{path / _COARSE} does not match its digest; rebuild it")
        index = coarse.CoarseIndex.load(path / _COARSE, coarse_dim, block.columns)
    return Generation(number, change, last_row, block, index, found, listed)


def copy(
    directory: Path,
    number: int,
    header_digest: FileDigest,
    into: Path,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Copy generation `number` as it is, every byte of it checked; durable when this returns.

    NotFoundError where another one took its place meanwhile. `check` is called now and then and
    ends it by what it raises.
    """
    source = path_of(directory, number)
    text = storage.read_exact(source / _HEADER, header_digest.size, header_digest.sha256)
    try:
        files = {name: FileDigest(*entry) for name, entry in json.loads(text)["files"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{source / _HEADER} makes no sense ({error!r})") from error
    known = {_VECTORS, _PREFIXES, _ROWS, _SPANS, _LABELS, _COARSE, *list_files.NAMES}
    if not files.keys() <= known:
        raise IntegrityError(f"{source / _HEADER} names other files than a generation has")
    if not into.is_dir():
        storage.make_dir(into)
    target = path_of(into, number)
    storage.make_dir(target)
    for name, digest in files.items():
        storage.copy_exact(source / name, target / name, digest, check)
    storage.write_file(target / _HEADER, [text])
    storage.fsync_dir(target)


def keep_only(directory: Path, number: int) -> None:
    """Remove every other generation and every draft; open maps of them stay valid."""
    if directory.is_dir():
        for entry in directory.iterdir():
            if entry != path_of(directory, number):
                storage.remove_tree(entry)


def _check_header(header: dict[str, Any], number: int, owner: Owner) -> tuple[int, int, int]:
    """Rows, the dims of their prefixes and the graph's; IntegrityError when it is of another."""
    found = {name: header[name] for name in ("format", "number", "collection", "space_id", "dim")}
    due = {
        "format": owner.format, "number": number, "collection": owner.collection,
        "space_id": owner.space_id, "dim": owner.dim,
    }  # fmt: skip
    if found != due:
        raise IntegrityError(f"the generation is of {found}, due is {due}; rebuild it")
    count = header["rows"]
    if not isinstance(count, int) or count < 1:
        raise IntegrityError(f"the generation claims {count!r} rows; rebuild it")
    prefix_dim = header["prefix_dim"]
    # Named where it is another one: earlier releases find such a graph damaged, and rebuild it.
    coarse_dim = header.get("coarse_dim", prefix_dim)
    for dim in (prefix_dim, coarse_dim):
        if not isinstance(dim, int) or not 1 <= dim <= owner.dim:
            raise IntegrityError(f"the generation claims prefixes of {dim!r}; rebuild it")
    return count, prefix_dim, coarse_dim
