"""Sounds -> committed clips, in small durable batches that an interruption can't undo.

In:  sources with their keys and metadata, an embedder, the catalogue to write to.
Out: a report of what was added, updated, unchanged and failed.
Knows nothing about search, derived files or models.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clap_engine import grain, storage
from clap_engine.arrays import Float16, Float32, check_array
from clap_engine.catalogue import Catalogue
from clap_engine.deadline import Deadline, within
from clap_engine.errors import (
    ArrayError,
    AudioError,
    ClapError,
    ClosedError,
    CollectionError,
    DeadlineError,
    DependencyError,
    ForkedError,
    IntegrityError,
)
from clap_engine.index.vectors import pack
from clap_engine.limits import Limits
from clap_engine.records import NewClip, Record

log = logging.getLogger("clap_engine")

# A commit costs some 3 ms: at most 32 clips, 1 s of work or 8 MiB of vectors wait for one.
BATCH_CLIPS = 32
BATCH_S = 1.0
BATCH_WINDOWS = 8192

MAX_KEY_CHARS = 4096
MAX_METADATA_CHARS = 1 << 20
MAX_METADATA_DEPTH = 32
_UNIT_TOLERANCE = 1e-3


class HasSpace(Protocol):
    """An engine or an embedder: what knows in which space its vectors are."""

    @property
    def space_id(self) -> str: ...
    @property
    def bundle_id(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dim(self) -> int: ...


class Embedder(HasSpace, Protocol):
    """What a collection needs of an engine."""

    @property
    def ladder(self) -> tuple[int, ...]: ...

    def embed_text(self, texts: list[str], /) -> Float32:
        """N texts -> [N, D] unit rows."""
        ...

    def embed_windows(self, source: Any, /) -> tuple[Float32, Any, float]:
        """One clip -> (vectors [W, D] unit rows, spans in seconds [W, 2], duration in seconds)."""
        ...


@dataclass(frozen=True)
class AddReport:
    """What became of each source; `failed` holds (key, error)."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: tuple[tuple[str, Exception], ...] = ()


@dataclass(frozen=True)
class Item:
    """One source to add; `key` and `metadata` as the caller gave them."""

    source: Any
    key: str | None
    metadata: Mapping[str, Any] | None


@dataclass
class _Batch:
    """What the next commit will make durable."""

    clips: list[NewClip] = field(default_factory=list)
    amended: list[Record] = field(default_factory=list)
    outcomes: list[tuple[str, str]] = field(default_factory=list)  # (key, field of AddReport)
    windows: int = 0
    began_s: float = 0.0

    def is_due(self) -> bool:
        return (
            len(self.outcomes) >= BATCH_CLIPS
            or self.windows >= BATCH_WINDOWS
            or (bool(self.outcomes) and time.monotonic() - self.began_s >= BATCH_S)
        )


class Ingest:
    """One run over sources. `guard` is held while the catalogue is used, never while embedding."""

    def __init__(
        self,
        catalogue: Catalogue,
        embedder: Embedder,
        *,
        limits: Limits,
        guard: threading.RLock,
        root: str | os.PathLike[str] | None,
        progress: Callable[[int, str], None] | None,
        deadline: Deadline | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._deadline = deadline or Deadline()
        self._embedder = within(embedder, self._deadline, is_patient=True)
        self._limits = limits
        self._guard = guard
        self._root = root
        self._progress = progress
        self._batch = _Batch()
        self._counts = {"added": 0, "updated": 0, "unchanged": 0}
        self._failed: list[tuple[str, Exception]] = []
        self._done = 0

    def run(self, items: Iterable[Item]) -> AddReport:
        """Take every item; whatever ends this early, finished clips are committed first."""
        try:
            for number, item in enumerate(self._deadline.checked(items)):
                self._take(number, item)
                if self._batch.is_due():
                    self._flush()
            self._flush()
        except BaseException as ended:
            self._progress = None
            try:
                self._flush()
            except ClapError as error:  # what ended the run matters more to the caller
                log.warning("the last batch could not be committed: %s", error)
            if isinstance(ended, DeadlineError):
                ended.report = self._report()
            raise
        return self._report()

    def _report(self) -> AddReport:
        return AddReport(**self._counts, failed=tuple(self._failed))

    def _take(self, number: int, item: Item) -> None:
        name = f"source {number}" if item.key is None else str(item.key)
        try:
            key = key_of(item, self._root)
            metadata = None if item.metadata is None else metadata_text(item.metadata)
        except ClapError as error:
            return self._fail(name, error)
        if any(key == waiting for waiting, _ in self._batch.outcomes):
            self._flush()
        known = self._find(key)
        try:
            clip = self._prepare(item.source, key, metadata, known)
        except (DependencyError, ClosedError, DeadlineError, ForkedError):  # so would all others
            raise
        except (ClapError, OSError) as error:
            return self._fail(key, error)
        self._queue(clip, known)

    def _find(self, key: str) -> Record | None:
        with self._guard:
            try:
                return self._catalogue.find(key)
            except IntegrityError as error:
                log.warning("%s; it is indexed again", error)
                return None

    def _prepare(
        self, source: Any, key: str, metadata: str | None, known: Record | None
    ) -> NewClip | Record:
        """The clip to store, or the record of an unchanged one with its present facts."""
        path = size = mtime_ns = None
        if isinstance(source, (str, os.PathLike)):
            path = printable(os.path.abspath(source))
            size, mtime_ns = storage.file_facts(source)
            if size > self._limits.max_bytes:
                raise AudioError(
                    f"{path} has {size} bytes, {self._limits.max_bytes} are allowed (max_bytes)"
                )
        if metadata is None:
            metadata = known.metadata if known else "{}"
        same = known and replace(known, path=path, size=size, mtime_ns=mtime_ns, metadata=metadata)
        if known and same and size is not None and (size, mtime_ns) == (known.size, known.mtime_ns):
            return same
        # Before embedding: if the file changes meanwhile, the next run sees another digest.
        digest = source_digest(source)
        if same and digest and digest == same.digest:
            return same
        vectors, spans, duration_s = self._embed(source)
        clip = NewClip(key, path, size, mtime_ns, digest, duration_s, metadata, vectors, spans)
        return grain.kept(clip, self._catalogue.granularity)

    def _embed(self, source: Any) -> tuple[Float16, npt.NDArray[np.float64], float]:
        found, found_spans, found_duration = self._embedder.embed_windows(source)
        vectors = check_array(found, shape=(None, self._embedder.dim), name="vectors")
        spans = np.asarray(found_spans, np.float64)
        duration_s = float(found_duration)
        if not len(vectors) or spans.shape != (len(vectors), 2):
            raise ArrayError(f"{len(vectors)} windows came with spans {list(spans.shape)}")
        if not (np.isfinite(spans).all() and math.isfinite(duration_s)):
            raise ArrayError("a span or the duration is not finite")
        squares = np.einsum("nd,nd->n", vectors, vectors)
        if (np.abs(squares - 1) > _UNIT_TOLERANCE).any():
            raise ArrayError("the embedder gave rows that are not unit vectors")
        return pack(vectors), spans, duration_s

    def _queue(self, clip: NewClip | Record, known: Record | None) -> None:
        batch = self._batch
        if clip == known:
            self._counts["unchanged"] += 1
            return self._tell(clip.key)
        if not batch.outcomes:
            batch.began_s = time.monotonic()
        if isinstance(clip, NewClip):
            batch.clips.append(clip)
            batch.windows += len(clip.vectors)
            batch.outcomes.append((clip.key, "updated" if known else "added"))
        else:
            batch.amended.append(clip)
            is_new = known is not None and clip.metadata != known.metadata
            batch.outcomes.append((clip.key, "updated" if is_new else "unchanged"))

    def _flush(self) -> None:
        batch = self._batch
        if not batch.outcomes:
            return
        with self._guard:
            self._catalogue.put(batch.clips, batch.amended)
        self._batch = _Batch()
        for key, outcome in batch.outcomes:
            self._counts[outcome] += 1
            self._tell(key)

    def _fail(self, key: str, error: Exception) -> None:
        log.warning("%s was not added: %s", key, error)
        self._failed.append((key, error))
        self._tell(key)

    def _tell(self, key: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, key)


def printable(path: str) -> str:
    """The path with undecodable bytes as \\xNN, so that it is text in any encoding."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def key_of(item: Item, root: str | os.PathLike[str] | None) -> str:
    """The item's key: its own, else the POSIX path relative to `root`, else as it was given."""
    key: Any = item.key
    if key is None:
        if not isinstance(item.source, (str, os.PathLike)):
            raise CollectionError("a sound that is no path has no name; give keys=[...]")
        path = Path(os.fsdecode(item.source))
        if root is not None:
            try:
                path = path.absolute().relative_to(Path(root).absolute())
            except ValueError as error:
                raise CollectionError(f"{path} is outside the root {root}; give keys") from error
        key = printable(path.as_posix())
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARS or "\0" in key:
        raise CollectionError(
            f"the key {key!r:.80} is refused; give text of 1 to {MAX_KEY_CHARS} characters"
        )
    try:
        key.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CollectionError(f"the key {key!r:.80} holds half a character pair") from error
    return key


def source_digest(source: Any) -> str:
    """sha256 of the file's bytes or of the samples; "" for what can't be read twice."""
    if isinstance(source, (str, os.PathLike)):
        return storage.file_digest(source).sha256
    if isinstance(source, (bytes, bytearray, memoryview)):
        return hashlib.sha256(source).hexdigest()
    if isinstance(source, tuple) and len(source) == 2:
        try:
            waveform = np.ascontiguousarray(source[0])
        except ValueError:  # ragged: the embedder says what is wrong with it
            return ""
        if waveform.dtype.kind in "biuf":
            facts = f"{source[1]!r} {waveform.dtype.str} {waveform.shape}"
            return hashlib.sha256(facts.encode() + waveform.tobytes()).hexdigest()
    return ""


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON text; CollectionError unless reading it gives the same back."""
    if not isinstance(metadata, Mapping):
        raise CollectionError(f"metadata is {type(metadata).__name__}; give a dict or None")
    _check_json(metadata, "metadata", 0)
    text = json.dumps(dict(metadata), ensure_ascii=True, sort_keys=True)
    if len(text) > MAX_METADATA_CHARS:
        raise CollectionError(
            f"metadata takes {len(text)} characters, {MAX_METADATA_CHARS} are allowed"
        )
    return text


def _check_json(value: Any, where: str, depth: int) -> None:
    if depth > MAX_METADATA_DEPTH:
        raise CollectionError(f"metadata is nested deeper than {MAX_METADATA_DEPTH}; flatten it")
    if isinstance(value, dict) or (depth == 0 and isinstance(value, Mapping)):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise CollectionError(f"{where} has the key {name!r}; JSON keys are text")
            _check_json(inner, f"{where}[{name!r:.40}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_json(inner, f"{where}[]", depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise CollectionError(f"{where} is {value}; JSON has no such number, give None")
    elif isinstance(value, int):
        if abs(value) >= 2**63:
            raise CollectionError(f"{where} has more than 63 bits; give it as text")
    elif value is not None and not isinstance(value, str):
        raise CollectionError(
            f"{where} is {type(value).__name__}; give text, numbers, booleans, None, lists or dicts"
        )


def items(
    sources: Iterable[Any],
    keys: Iterable[str] | None,
    metadata: Iterable[Mapping[str, Any] | None] | None,
) -> Iterator[Item]:
    """Sources with their keys and metadata, refused unless there are as many of each."""
    if isinstance(sources, (str, bytes, os.PathLike)):
        raise CollectionError("one sound was given where a list is wanted; write [sound]")
    rest: list[tuple[str, Iterator[Any]]] = []
    for name, values in (("keys", keys), ("metadata", metadata)):
        if values is None:
            continue
        if isinstance(values, (str, Mapping)):
            raise CollectionError(f"{name} must be a list, one for each sound")
        if isinstance(values, Sized) and isinstance(sources, Sized) and len(values) != len(sources):
            raise CollectionError(f"{len(values)} {name} were given for {len(sources)} sounds")
        rest.append((name, iter(values)))
    return _joined(sources, rest)


def _joined(sources: Iterable[Any], rest: list[tuple[str, Iterator[Any]]]) -> Iterator[Item]:
    for number, source in enumerate(sources):
        facts: dict[str, Any] = {"keys": None, "metadata": None}
        for name, values in rest:
            try:
                facts[name] = next(values)
            except StopIteration:
                raise CollectionError(f"there are only {number} {name}; give one a sound") from None
        yield Item(source, facts["keys"], facts["metadata"])
