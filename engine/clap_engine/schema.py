"""The tables of a collection's database, the versions of its format, and how a new one is made.

In:  a path; what the collection is bound to.
Out: an empty database, whole or not at all; an error by name for a format that is not read here.
Knows nothing about clips, rows or searching.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from clap_engine.database import Database
from clap_engine.errors import CollectionError, IntegrityError, NotFoundError
from clap_engine.filter_sql import index_sql
from clap_engine.records import Grain, Granularity, Identity, State, sealed

FORMAT = 1
# The same with indexes on fields of the metadata: releases that know no others would fail on them.
INDEXED = 2
# The same of another granularity than "window": releases that know no other would add windows.
GRAINED = 3
_APPLICATION_ID = 0x434C4150  # "CLAP", so that `file` and a stranger's tool know it

_TABLES = (
    """CREATE TABLE collection (id TEXT NOT NULL, bundle_id TEXT NOT NULL, revision TEXT NOT NULL,
        space_id TEXT NOT NULL, dim INTEGER NOT NULL, created_s REAL NOT NULL,
        crc INTEGER NOT NULL)""",
    # Row and clip numbers only grow: what was removed never comes back under another's number.
    """CREATE TABLE state (change INTEGER NOT NULL, clips INTEGER NOT NULL,
        windows INTEGER NOT NULL, last_clip INTEGER NOT NULL, last_row INTEGER NOT NULL,
        generation INTEGER NOT NULL, header_size INTEGER NOT NULL, header_sha256 TEXT NOT NULL,
        crc INTEGER NOT NULL)""",
    # A clip's windows are the rows first_row .. first_row + windows - 1.
    """CREATE TABLE clips (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, path TEXT,
        size INTEGER, mtime_ns INTEGER, digest TEXT NOT NULL, duration_s REAL NOT NULL,
        metadata TEXT NOT NULL, first_row INTEGER NOT NULL, windows INTEGER NOT NULL,
        crc INTEGER NOT NULL)""",
    """CREATE TABLE windows (row INTEGER PRIMARY KEY, clip INTEGER NOT NULL,
        start_s REAL NOT NULL, end_s REAL NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL)""",
    # What readers of an older state must drop; emptied when a generation takes its place. No
    # windows: that change amended facts of clips.
    """CREATE TABLE removed (change INTEGER NOT NULL, first_row INTEGER NOT NULL,
        windows INTEGER NOT NULL)""",
)

# Only where clips are not found by windows alone: a collection without it is of that kind.
_GRAIN = "CREATE TABLE granularity (granularity TEXT NOT NULL, crc INTEGER NOT NULL)"

# Made by the first tuning: releases that know no plans read past it, and a collection without it
# is searched by the planner's defaults.
# Each tuning makes it anew, since later releases know more of a plan.
PLAN = """CREATE TABLE plan (kind TEXT NOT NULL, coarse_dim INTEGER NOT NULL,
    shortlist INTEGER NOT NULL, middle_dim INTEGER NOT NULL, kept INTEGER NOT NULL,
    windows INTEGER NOT NULL, k INTEGER NOT NULL, target REAL NOT NULL, recall REAL NOT NULL,
    latency_ms REAL NOT NULL, queries INTEGER NOT NULL, kinds TEXT NOT NULL,
    seed INTEGER NOT NULL, tuned_s REAL NOT NULL, scan_dim INTEGER NOT NULL,
    scan_shortlist INTEGER NOT NULL, probes INTEGER NOT NULL, crc INTEGER NOT NULL)"""


def create(
    path: Path,
    *,
    bundle_id: str,
    revision: str,
    space_id: str,
    dim: int,
    granularity: Granularity = "window",
    numbers_after: int = 0,
) -> None:
    """Make the file, whole or not at all; nothing happens where it is already made.

    Its clips and rows are numbered from `numbers_after` + 1 on.
    """
    identity = Identity(uuid.uuid4().hex, bundle_id, revision, space_id, dim, time.time())
    state = State(0, 0, 0, numbers_after, numbers_after, 0, 0, "")
    db = Database(path, create=True)
    try:
        db.use_wal()
        with db.transaction():
            if db.execute("SELECT 1 FROM sqlite_master"):
                return
            for statement in _TABLES:
                db.execute(statement)
            db.execute("INSERT INTO collection VALUES (?, ?, ?, ?, ?, ?, ?)", sealed(identity))
            db.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", sealed(state))
            version = FORMAT
            if granularity != "window":
                version = GRAINED
                db.execute(_GRAIN)
                db.execute("INSERT INTO granularity VALUES (?, ?)", sealed(Grain(granularity)))
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {version}")
    finally:
        db.close()


def check(db: Database, path: Path) -> None:
    """Raise unless the file is a collection's, of a format that is read here, and runs nothing."""
    _check_format(db, path)
    _check_statements(db, path)


def _check_format(db: Database, path: Path) -> None:
    [(application,)] = db.execute("PRAGMA application_id")
    [(version,)] = db.execute("PRAGMA user_version")
    if version == 0 and application == 0:
        raise NotFoundError(f"{path} is empty: its making was cut off; open it with create=True")
    if application != _APPLICATION_ID:
        raise IntegrityError(f"{path} is not a collection's database; give another path")
    if version not in (FORMAT, INDEXED, GRAINED):
        raise CollectionError(
            f"{path} has format {version}, this release reads {FORMAT} to "
            f"{GRAINED}; install the clap-engine that wrote it, or index again"
        )


def _check_statements(db: Database, path: Path) -> None:
    """IntegrityError where the file could run anything but the indexes that we write."""
    db.trust_schema()  # to read a schema runs nothing of it
    for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master"):
        if kind in ("trigger", "view") or (
            kind == "index" and sql is not None and sql != index_sql(name)
        ):
            raise IntegrityError(
                f"{path} holds the {kind} {name!r:.80}, which clap-engine did not write; "
                "restore the file from a copy"
            )
