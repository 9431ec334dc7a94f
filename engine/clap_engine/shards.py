"""Shards: embedded clips in files, made anywhere, checked and merged later.

In:  clips with their vectors; a folder; a backend to merge into.
Out: for each shard NAME.npz with the arrays and NAME.json with all else and their digests.
Knows nothing about who embeds.

The .json is written last and by rename: a shard is there once its .json is. Arrays of an .npz:
vectors float16 [N, D], spans in seconds float64 [N, 2], windows of each clip int64 [C].
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine import storage
from clap_engine.backends import ClipRows, Space, VectorBackend
from clap_engine.backends.local import LocalBackend
from clap_engine.errors import IntegrityError, NotFoundError, SpaceMismatchError
from clap_engine.index.vectors import widen
from clap_engine.records import NewClip

FORMAT = 1
_FACTS = ("key", "path", "size", "mtime_ns", "digest", "duration_s", "metadata")


@dataclass(frozen=True)
class SoundFile:
    """A file to embed, as it was when it was listed."""

    key: str
    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Shard:
    """What one shard holds; `failed` are (key, error)."""

    clips: tuple[NewClip, ...]
    failed: tuple[tuple[str, str], ...]


def name_of(space: Space, files: Sequence[SoundFile]) -> str:
    """The name of the shard of these files in this space: other files, another name."""
    facts = [(one.key, one.size, one.mtime_ns) for one in files]
    return hashlib.sha256(json.dumps([space.space_id, facts]).encode()).hexdigest()[:32]


def write(folder: Path, name: str, space: Space, shard: Shard) -> None:
    """Write a shard, whole or not at all; durable when this returns."""
    arrays = io.BytesIO()
    none = np.zeros((0, space.dim), np.float16)
    np.savez(
        arrays,
        vectors=np.concatenate([none, *(clip.vectors for clip in shard.clips)]),
        spans=np.concatenate([np.zeros((0, 2)), *(clip.spans for clip in shard.clips)]),
        windows=np.array([len(clip.vectors) for clip in shard.clips], np.int64),
    )
    storage.make_dir(folder, parents=True)
    digest = storage.write_file(folder / f"{name}.npz", [arrays.getvalue()])
    body = {
        "format": FORMAT, "space_id": space.space_id, "dim": space.dim,
        "size": digest.size, "sha256": digest.sha256, "failed": shard.failed,
        "clips": [[getattr(clip, fact) for fact in _FACTS] for clip in shard.clips],
    }  # fmt: skip
    text = json.dumps(body)
    sealed = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text}
    storage.write_atomic(folder / f"{name}.json", json.dumps(sealed).encode())


def read(folder: Path, name: str, space: Space) -> Shard:
    """A shard, every byte of it checked; IntegrityError where it is damaged."""
    body = _body(folder / f"{name}.json", space)
    data = storage.read_exact(folder / f"{name}.npz", body["size"], body["sha256"])
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        vectors, spans, windows = arrays["vectors"], arrays["spans"], arrays["windows"]
    ends = np.cumsum(windows)[:-1]
    parts = zip(np.split(vectors, ends), np.split(spans, ends), strict=True)
    clips = (
        NewClip(**dict(zip(_FACTS, facts, strict=True)), vectors=rows, spans=span)
        for facts, (rows, span) in zip(body["clips"], parts if len(windows) else (), strict=True)
    )
    return Shard(tuple(clips), tuple((key, error) for key, error in body["failed"]))


def names(folder: Path) -> list[str]:
    """The shards in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.json"))


def embedded(folder: Path, space: Space) -> dict[SoundFile, str]:
    """Each file that a whole shard holds, as it was then, and that shard's name."""
    found = {}
    for name in names(folder):
        try:
            shard = read(folder, name, space)
        except (IntegrityError, NotFoundError):
            continue  # it is made again
        for clip in shard.clips:
            file = SoundFile(clip.key, str(clip.path), int(clip.size or 0), int(clip.mtime_ns or 0))
            found[file] = name
    return found


def merge(
    folder: Path, chosen: Iterable[str], files: Iterable[SoundFile], into: VectorBackend
) -> int:
    """Store what these shards hold of `files`, shard by shard; the clips that were stored."""
    wanted, stored = set(files), 0
    for name in chosen:
        clips = [
            clip
            for clip in read(folder, name, into.space).clips
            if SoundFile(clip.key, clip.path or "", clip.size or 0, clip.mtime_ns or 0) in wanted
        ]
        if isinstance(into, LocalBackend):
            into.collection.put(clips)  # with the facts that let `index` skip unchanged files
        else:
            into.upsert([_rows(clip) for clip in clips])
        stored += len(clips)
    return stored


def _rows(clip: NewClip) -> ClipRows:
    metadata = json.loads(clip.metadata)
    return ClipRows(clip.key, widen(clip.vectors), clip.spans, metadata, clip.path, clip.duration_s)


def _body(path: Path, space: Space) -> dict[str, Any]:
    try:
        sealed = json.loads(path.read_text("utf-8"))
        text = str(sealed["body"])
        is_sound = hashlib.sha256(text.encode()).hexdigest() == sealed["sha256"]
        body: dict[str, Any] = json.loads(text) if is_sound else {}
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist; index again") from error
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged ({error}); remove it, and index again") from error
    if not is_sound or body["format"] != FORMAT:
        raise IntegrityError(f"{path} is damaged, or another release's; remove it and index again")
    if (body["space_id"], body["dim"]) != (space.space_id, space.dim):
        raise SpaceMismatchError(
            f"{path} holds vectors of space {body['space_id'][:12]}, not of {space.space_id[:12]}; "
            "give another folder for shards"
        )
    return body
