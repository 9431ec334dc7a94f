"""The marker of a snapshot: a file that says that its folder never changes, and what it holds.

In:  a collection's folder.
Out: the marker, checked; the digest of the database that it stands for.
Knows nothing about SQLite, clips or searching.

A collection without this file is a live one, whose readers share memory with its writer through
files beside the database. With it nothing is ever written there, and nothing needs to be.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clap_engine import storage
from clap_engine.errors import CollectionError, IntegrityError
from clap_engine.storage import FileDigest

NAME = "snapshot.json"
FORMAT = 1
_MAX_BYTES = 65_536


@dataclass(frozen=True)
class Marker:
    """Which state of which collection a snapshot holds; `size` and `sha256` are its database's."""

    collection: str
    space_id: str
    change: int
    clips: int
    windows: int
    made_s: float  # since 1970
    size: int
    sha256: str
    format: int = FORMAT


def is_marked(folder: Path) -> bool:
    """Whether this is a snapshot, whole or not."""
    return (folder / NAME).is_file()


def write(folder: Path, found: Marker) -> None:
    """Mark the folder; durable when this returns."""
    text = json.dumps(asdict(found), indent=2, sort_keys=True).encode("ascii")
    storage.write_file(folder / NAME, [text])
    storage.fsync_dir(folder)


def read(folder: Path, database: Path) -> Marker:
    """The marker; IntegrityError where it is damaged, or the database is not as long as it says."""
    path = folder / NAME
    size, _ = storage.file_facts(path)
    if size > _MAX_BYTES:
        raise IntegrityError(f"{path} has {size} bytes, more than a marker; take the snapshot anew")
    try:
        found = Marker(**_object(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(f"{path} makes no sense ({error}); take the snapshot anew") from error
    if found.format != FORMAT:
        raise CollectionError(
            f"{path} has format {found.format!r}, this release reads {FORMAT}; "
            "install the clap-engine that wrote it"
        )
    if (long := storage.file_facts(database)[0]) != found.size:
        raise IntegrityError(
            f"{database} has {long} bytes where {found.size} were written: the copy was cut off; "
            "copy the snapshot again"
        )
    return found


def _object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    due = {name: kind for name, kind in _KINDS.items() if name != "format"}
    if not isinstance(value, dict) or any(type(value.get(n)) is not k for n, k in due.items()):
        raise ValueError("a field is missing or of another kind")
    return value


_KINDS: dict[str, type] = {
    "collection": str, "space_id": str, "change": int, "clips": int, "windows": int,
    "made_s": float, "size": int, "sha256": str, "format": int,
}  # fmt: skip


def problems(folder: Path, database: Path) -> list[str]:
    """What is wrong with the database as a file, all of it read again; empty when nothing is."""
    found = read(folder, database)
    if storage.file_digest(database) == FileDigest(found.size, found.sha256):
        return []
    return [f"{database} does not have the digest that its snapshot was given; copy it again"]


def refusal(folder: Path) -> CollectionError:
    """What a writer is told."""
    return CollectionError(
        f"{folder} is a snapshot, which never changes; write to the collection that it was taken "
        "of, or to a backup of it (`clap-engine backup`)"
    )
