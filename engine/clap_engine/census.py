"""A census: what a collection is and holds.

In:  an open collection's folder, states and writer.
Out: one record of JSON values.
Knows nothing about queries, or how any of it came about.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clap_engine import marker, storage
from clap_engine.index import coarse
from clap_engine.index.view import View
from clap_engine.states import States
from clap_engine.writer import Writer


def _kind(view: View) -> str:
    if view.lists is not None:
        return "ivf"
    return "hnsw" if view.coarse is not None else "flat"


def of(folder: Path, states: States, writer: Writer) -> dict[str, Any]:
    """All that `info` shows, in one state."""
    with states.held() as view:
        state, duration_s = states.reader.state(), states.reader.duration_s()
        fields, version = states.reader.filter_fields(), states.reader.format()
        tuning = states.tuning
    identity = states.identity
    return {
        "path": os.fspath(folder),
        "snapshot": marker.is_marked(folder),
        "format": version,
        "bundle_id": identity.bundle_id,
        "revision": identity.revision,
        "space_id": identity.space_id,
        "dim": identity.dim,
        "granularity": states.reader.granularity,
        "created_s": identity.created_s,
        "clips": state.clips,
        "windows": state.windows,
        "duration_s": duration_s,
        "size_bytes": storage.tree_bytes(folder),
        "generation": view.number,
        "tail_rows": len(view.tail),
        "removed_rows": view.dead,
        "index": _kind(view),
        "hnswlib": coarse.is_available(),
        "filters": fields,
        "prefix_dim": view.prefix_dim,
        "graph_dim": view.graph_dim,
        "lists": 0 if view.lists is None else view.lists.count,
        "plan": None if tuning is None else asdict(tuning),
        "rebuilding": writer.is_rebuilding,
        "rebuild_error": writer.error or None,
    }
