"""Laws of filters: they parse or say why not, and SQL finds what plain Python finds."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
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
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clap_engine import filter_sql, filters
from clap_engine.errors import ClapError, CollectionError, FilterError
from clap_engine.filters import And, Compare, Exists, Field, Has, In, Not, Or, Prefix
from clap_engine.ingest import metadata_text

YEAR = Field(("year",))

# Few names and values, so that filters often hit what is stored; and some that must be quoted.
NAMES = ("a", "b", "c d", "e'f", "ü", "😀", "[0]", "$", "?", "%s", "#1", "path ")
numbers = st.one_of(small_numbers, st.integers(-(2**63) + 1, 2**63 - 1))
scalars = scalars_of(numbers)
metadata = metadata_of(NAMES, scalars)
conditions = st.one_of(*unordered_of(scalars), ordered_of(st.one_of(texts, numbers)))
wheres = wheres_of(fields_of(NAMES), conditions)
clips = clips_of(metadata)


def found_by_sql(where: Any, stored: list[dict[str, Any]], indexed: tuple[str, ...]) -> list[bool]:
    sql, values = filter_sql.to_sql(filters.parse(where))
    db = sqlite3.connect(":memory:")
    try:
        db.execute(
            "CREATE TABLE clips (id INTEGER, key TEXT, path TEXT, duration_s REAL, metadata TEXT)"
        )
        for name in indexed:
            expression = filter_sql.expression(filters.field_of(name))
            db.execute(f'CREATE INDEX "{name}" ON clips ({expression})')
        db.executemany(
            "INSERT INTO clips VALUES (?, ?, ?, ?, ?)",
            [
                (i, clip["key"], clip["path"], clip["duration_s"], metadata_text(clip["metadata"]))
                for i, clip in enumerate(stored)
            ],
        )
        found = {i for (i,) in db.execute(f"SELECT id FROM clips WHERE {sql}", values)}
    finally:
        db.close()
    return [i in found for i in range(len(stored))]


@settings(max_examples=300, deadline=None)
@given(where=wheres, stored=st.lists(clips, min_size=1, max_size=5), indexed=st.booleans())
@example(
    where={"a": 1},
    stored=[{"key": "k", "path": None, "duration_s": 1.0, "metadata": {"a": True}}],
    indexed=True,
)
def test_sql_finds_what_the_oracle_finds(
    where: Any, stored: list[dict[str, Any]], indexed: bool
) -> None:
    tree = filters.parse(where)
    right = [
        matches(tree, json.loads(metadata_text(clip["metadata"])), key=clip["key"],
                path=clip["path"], duration_s=clip["duration_s"])
        for clip in stored
    ]  # fmt: skip
    assert found_by_sql(where, stored, NAMES[:4] if indexed else ()) == right


def test_the_oracle_test_can_fail() -> None:
    """Its control: without the test of kinds, SQLite takes true for 1."""
    sql, values = filter_sql.to_sql(filters.parse({"a": 1}))
    db = sqlite3.connect(":memory:")
    for loose, expected in ((sql, 0), (sql.split(" AND ")[0] + ")", 1)):
        counted = db.execute(
            f"SELECT count(*) FROM (SELECT '{{\"a\": true}}' AS metadata) WHERE {loose}", values
        ).fetchone()
        assert counted == (expected,)
    db.close()


@pytest.mark.parametrize(
    ("where", "tree"),
    [
        ({}, And(())),
        ({"year": 1970}, Compare(YEAR, "=", 1970)),
        (
            {"year": {">=": 1970, "<": 1980.5}},
            And((Compare(YEAR, ">=", 1970), Compare(YEAR, "<", 1980.5))),
        ),
        ({"year": {"in": []}}, In(YEAR, ())),
        (
            {"a.b": {"exists": True}, "tags": {"has": "x"}},
            And((Exists(Field(("a", "b")), True), Has(Field(("tags",)), "x"))),
        ),
        (
            {"or": [{"path": {"prefix": "a/"}}, {"not": {"key": "k"}}]},
            Or((Prefix(Field(("path",)), "a/"), Not(Compare(Field(("key",)), "=", "k")))),
        ),
    ],
)
def test_a_filter_becomes_a_tree(where: Any, tree: filters.Filter) -> None:
    assert filters.parse(where) == tree


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"year": {"!=": 1970}}, [False, True, False, True, False]),
        ({"not": {"year": 1970}}, [False, True, True, True, True]),
        ({"year": {"exists": False}}, [False, False, True, False, True]),
        ({"year": {">": 0}}, [True, True, False, False, False]),
        ({"year": {">": ""}}, [False, False, False, True, False]),
        ({"not": {"not": {"year": {">": 1970}}}}, [False, True, False, False, False]),
    ],
)
def test_a_missing_field_is_false_and_not_turns_it_around(where: Any, found: list[bool]) -> None:
    stored = [
        {"key": "k", "path": None, "duration_s": 1.0, "metadata": metadata}
        for metadata in ({"year": 1970}, {"year": 1971}, {}, {"year": "1970"}, {"year": None})
    ]
    assert found_by_sql(where, stored, ()) == found
    assert [matches(filters.parse(where), clip["metadata"]) for clip in stored] == found


@pytest.mark.parametrize(
    "where",
    [
        None, "year", [], 5, {"year": None}, {"year": {}}, {"year": {"~": 1}}, {"year": {1: 1}},
        {"year": []}, {"year": {"in": 3}}, {"year": {"in": "abc"}}, {"year": {"in": [None]}},
        {"year": {"in": [[1]]}}, {"year": {"exists": 1}}, {"year": {"prefix": 1}},
        {"year": {"has": ["x"]}}, {"year": {"<": True}}, {"year": {"<": None}},
        {"year": float("nan")}, {"year": float("inf")}, {"year": 2**63}, {"year": b"x"},
        {"year": "a\0"}, {"year": "\ud800"}, {"year": "x" * 5000}, {"and": []}, {"or": {}},
        {"and": {"year": 1}}, {"not": [{"year": 1}]}, {"or": [1]}, {1: 2}, {"": 1}, {"a..b": 1},
        {".a": 1}, {'a"b': 1}, {"a\\": 1}, {"a\nb": 1}, {"a\0": 1}, {"\ud800": 1}, {"x" * 300: 1},
        {"year": {"in": list(range(20_000))}}, {"or": [{"year": 1}] * 300},
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused(where: Any) -> None:
    with pytest.raises(FilterError) as caught:
        filters.parse(where)
    assert len(str(caught.value)) < 400
    assert isinstance(caught.value, (CollectionError, ClapError, ValueError))


@pytest.mark.parametrize(
    "where",
    [
        {"a": {"in": [True, False] * (filters.MAX_VALUES // 2)}},
        {"a": {"in": [i if i % 2 else str(i) for i in range(filters.MAX_VALUES)]}},
        {"or": [{"a" * filters.MAX_NAME_CHARS: {"!=": i}} for i in range(filters.MAX_CONDITIONS)]},
        {"and": [{"not": {"a": {"prefix": "x" * 4096}}}] * filters.MAX_CONDITIONS},
    ],
)
def test_sqlite_takes_the_largest_filters_that_are_allowed(where: Any) -> None:
    clip = {"key": "k", "path": None, "duration_s": 1.0, "metadata": {"a": True}}
    assert found_by_sql(where, [clip], ()) == [matches(filters.parse(where), {"a": True})]


def test_depth_is_limited() -> None:
    where: dict[str, Any] = {"year": 1}
    for _ in range(filters.MAX_DEPTH):
        where = {"not": where}
    filter_sql.to_sql(filters.parse(where))
    for _ in range(100_000):
        where = {"not": where}
    with pytest.raises(FilterError, match="nested deeper"):
        filters.parse(where)


@given(where=st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(
        st.one_of(st.sampled_from(["and", "or", "not", "in", "=", "<", "a"]), st.text(max_size=3)),
        inner, max_size=3)),
))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_filter_or_a_filter_error(where: Any) -> None:
    try:
        tree = filters.parse(where)
    except FilterError:
        return
    assert len(found_by_sql(where, [{"key": "k", "path": None, "duration_s": 1.0,
                                     "metadata": {}}], ())) == 1  # fmt: skip
    assert hash(tree) == hash(filters.parse(where))


@pytest.mark.parametrize(
    ("where", "is_used"),
    [
        ({"year": 1970}, True),
        ({"year": {">=": 1970, "<": 1980}}, True),
        ({"year": {"in": [1970, 1971]}}, True),
        ({"year": {"prefix": "19"}}, True),
        ({"genre": "jazz", "year": 1970}, True),
        ({"genre": "jazz"}, False),
        ({"key": {"prefix": "a/"}}, True),
    ],
)
def test_an_index_on_the_expression_is_used(where: Any, is_used: bool) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE clips (key TEXT UNIQUE, path TEXT, metadata TEXT)")
    db.execute(f"CREATE INDEX by_year ON clips ({filter_sql.expression(YEAR)})")
    sql, values = filter_sql.to_sql(filters.parse(where))
    plan = db.execute(f"EXPLAIN QUERY PLAN SELECT key FROM clips WHERE {sql}", values).fetchall()
    db.close()
    assert any("USING INDEX" in str(step) or "COVERING" in str(step) for step in plan) == is_used
