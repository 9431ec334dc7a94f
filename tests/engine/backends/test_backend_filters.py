"""What a filter means to an engine is what it means in plain Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_places import SPACE
from fake_embedder import power_law
from filter_oracle import matches
from filter_strategies import (
    clips_of,
    fields_of,
    metadata_of,
    ordered_of,
    scalars_of,
    small_numbers,
    texts,
    unordered_of,
    wheres_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clap_engine import filters
from clap_engine.backends import ClipRows, VectorBackend, open_backend
from clap_engine.backends.base import check_clips
from clap_engine.errors import CollectionError, FilterError
from clap_engine.ingest import metadata_text
from clap_engine.matryoshka import truncate

NAMES = ("a", "b", "c d", "e'f", "ü", "[0]", "$", "?", "%s", "#1", "a=s", "0")
scalars = scalars_of(small_numbers)
metadata = metadata_of(NAMES, scalars)
small = small_numbers.filter(lambda number: abs(number) <= 2**53)


def wheres(ordered: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Filters whose orders compare with `ordered` values."""
    conditions = st.one_of(*unordered_of(scalars), ordered_of(ordered))
    return wheres_of(fields_of(NAMES), conditions)


clips = clips_of(metadata)
stores = st.lists(clips, min_size=1, max_size=5, unique_by=lambda clip: clip["key"])


@pytest.fixture(scope="module")
def postgres_table(postgres: str) -> Iterator[VectorBackend]:
    """One table for all examples: each empties it."""
    opened = open_backend(f"{postgres}&table=filters", space=SPACE, create=True)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def edge_shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorBackend]:
    """One shard for all examples: each empties it."""
    pytest.importorskip("qdrant_edge")
    folder = tmp_path_factory.mktemp("edge")
    opened = open_backend(f"qdrant+edge:{folder}", space=SPACE, create=True)
    yield opened
    opened.close()


def agrees(backend: VectorBackend, where: Any, stored: list[dict[str, Any]]) -> None:
    """The backend finds what the oracle lets through."""
    rows = power_law(1, 1)
    backend.upsert([ClipRows(vectors=rows, spans=np.zeros((1, 2)), **clip) for clip in stored])
    try:
        found = backend.search(truncate(rows[0], 32), rows[0], 100, where, shortlist="all")
    finally:
        backend.delete([clip["key"] for clip in stored])
    tree = filters.parse(where)
    right = {
        clip["key"]
        for clip in stored
        if matches(tree, json.loads(metadata_text(clip["metadata"])), key=clip["key"],
                   path=clip["path"], duration_s=clip["duration_s"])
    }  # fmt: skip
    assert {hit.key for hit in found} == right


shared = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@shared
@given(where=wheres(st.one_of(texts, small_numbers)), stored=stores)
def test_postgresql_finds_what_the_oracle_finds(
    postgres_table: VectorBackend, where: Any, stored: list[dict[str, Any]]
) -> None:
    agrees(postgres_table, where, stored)


@shared
@given(where=wheres(small), stored=stores)
def test_qdrant_finds_what_the_oracle_finds(
    edge_shard: VectorBackend, where: Any, stored: list[dict[str, Any]]
) -> None:
    agrees(edge_shard, where, stored)


def test_the_oracle_tests_can_fail(edge_shard: VectorBackend) -> None:
    """Their control: another filter than was asked for is noticed."""
    stored = [{"key": "k", "path": None, "duration_s": 1.0, "metadata": {"a": ["x"]}}]
    agrees(edge_shard, {"a": "x"}, stored)
    rows = power_law(1, 1)
    edge_shard.upsert([ClipRows(vectors=rows, spans=np.zeros((1, 2)), **stored[0])])
    found = edge_shard.search(truncate(rows[0], 32), rows[0], 9, {"a": {"has": "x"}})
    edge_shard.delete(["k"])
    assert len(found) == 1


@pytest.mark.parametrize("where", [{"a": {"<": "m"}}, {"a": {">": 2**53 + 1}}])
def test_what_qdrant_cant_order_is_said(edge_shard: VectorBackend, where: Any) -> None:
    row = power_law(1, 1)[0]
    with pytest.raises(FilterError, match="Qdrant"):
        edge_shard.search(truncate(row, 32), row, 3, where)


def test_what_postgresql_has_no_text_for_is_said(postgres_table: VectorBackend) -> None:
    rows = power_law(1, 1)
    for text in ("a\0b", "\ud800"):
        with pytest.raises(CollectionError, match="NUL"):
            postgres_table.upsert([ClipRows("k", rows, np.zeros((1, 2)), {"t": text})])
    assert postgres_table.count() == 0


def test_odd_texts_are_stored_and_found_in_qdrant(edge_shard: VectorBackend) -> None:
    """NUL and half pairs can't be asked for, nor confused with what can."""
    for text in ("a\0b", "a\ud800", "a" * 5000):
        clip = {"key": "k", "path": None, "duration_s": 1.0, "metadata": {"t": text}}
        for where in ({"t": {"prefix": "a"}}, {"t": {"exists": True}}, {"t": "a?"}, {"t": "a"}):
            agrees(edge_shard, where, [clip])


def test_paths_are_checked_too(tmp_path: Path) -> None:
    rows = power_law(1, 1)
    for path in ("a\0", "\udc80"):
        with pytest.raises(CollectionError, match="path"):
            check_clips([ClipRows("k", rows, np.zeros((1, 2)), {}, path)], 512)
