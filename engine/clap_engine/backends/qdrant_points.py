"""Clips as Qdrant's points, filters as its conditions, and hits from the rows it finds.

In:  checked clips; a filter's tree; scored rows of an engine, best first.
Out: ids, vectors and payloads; a filter built of an engine's own classes; hits.
Knows nothing about connections; the client and the edge name their classes alike.

Qdrant takes a list for each of its elements and has no order of texts, so metadata is not
filtered as it is: every fact becomes a token such as `genre<tab>=sjazz`, and tokens are matched
whole or by their beginning, which one keyword index serves. No field's name holds a tab. Numbers
stand in the payload once more, for ranges, where they are float64.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from clap_engine.arrays import Float32
from clap_engine.backends import base
from clap_engine.backends.base import BackendHit, ClipRows, Space
from clap_engine.errors import CollectionError, FilterError
from clap_engine.filters import (
    MAX_TEXT_CHARS,
    And,
    Compare,
    Exists,
    Field,
    Filter,
    Has,
    In,
    Not,
    Or,
    Prefix,
    Scalar,
)
from clap_engine.index.generation import PREFIX_DIM
from clap_engine.matryoshka import truncate
from clap_engine.planner import Shortlist

TOKENS = "tokens"
# Of a clip's first window, so that clips can be counted; no field's name is empty.
FIRST = "\tfirst"
_NEVER = "\tnever"
_NAMESPACE = uuid.UUID("6a0f8e0c-5f0b-4d8e-9a55-3c1b7c1e2d11")
_EXACT_INTEGERS = 2**53
_RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
# Rows asked for a clip that is wanted; more where clips have many windows near the query.
_ROWS_PER_HIT = 4
_DIGITS = 6  # of a score

Find = Callable[[Float32, Float32, int | None, int, Any], list[tuple[float, dict[str, Any]]]]


def points(clip: ClipRows, metadata: str) -> Iterator[tuple[str, dict[str, list[float]], Any]]:
    """(id, vectors by name, payload) of each window."""
    facts = [*_flat((), json.loads(metadata)), *_reserved(clip)]
    tokens = [token for name, value in facts for token in _tokens(name, value)]
    numbers = {
        _plain(name): value
        for name, value in facts
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    prefixes = truncate(clip.vectors, PREFIX_DIM)
    for window, (start_s, end_s) in enumerate(clip.spans.tolist()):
        payload = {
            "key": clip.key, "window": window, "start_s": start_s, "end_s": end_s,
            "metadata": metadata, "numbers": numbers,
            TOKENS: tokens if window else [FIRST, *tokens],
        }  # fmt: skip
        vectors = {"prefix": prefixes[window].tolist(), "full": clip.vectors[window].tolist()}
        yield str(uuid.uuid5(_NAMESPACE, base.row_id(clip.key, window))), vectors, payload


def _reserved(clip: ClipRows) -> list[tuple[str, Any]]:
    facts = {"key": clip.key, "path": clip.path, "duration_s": clip.duration_s}
    return [(name, value) for name, value in facts.items() if value is not None]


def _flat(names: tuple[str, ...], value: Any) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of all that a field can name, reserved fields left out."""
    for name, inner in value.items():
        if inner is None or not name or "." in name or not name.isprintable():
            continue
        path = (*names, name)
        if not Field(path).is_reserved:
            yield ".".join(path), inner
        if isinstance(inner, dict):
            yield from _flat(path, inner)


def _tokens(name: str, value: Any) -> Iterator[str]:
    yield _token(name, "?")
    for one in value if isinstance(value, list) else ():
        if isinstance(one, (str, int, float)):
            yield _token(name, "@", one)
    if isinstance(value, (str, int, float)):
        yield _token(name, "=", value)


def _token(name: str, relation: str, value: Scalar = "") -> str:
    """The same for equal values alone, and the same beginnings for texts with the same."""
    if isinstance(value, str):
        # NUL is in no filter's text: it stands for what an engine might refuse, and for the rest.
        text = re.sub("[\ud800-\udfff]", "\0", value)
        kept = text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS] + "\0"
        return f"{name}\t{relation}s{kept}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{name}\t{relation}n{value!r}"


def _plain(name: str) -> str:
    """A field's name as a key that needs no quotes in Qdrant's paths."""
    return "n" + "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in name)


def compiled(tree: Filter, m: Any) -> Any:
    """The filter of the classes in `m`; FilterError for what Qdrant can't express."""

    def token(text: str) -> Any:
        return m.FieldCondition(key=TOKENS, match=m.MatchValue(value=text))

    def equal(name: str, relation: str, value: Scalar) -> Any:
        return token(_token(name, relation, value))

    if isinstance(tree, And):
        return m.Filter(must=[compiled(part, m) for part in tree.parts])
    if isinstance(tree, Or):
        return m.Filter(should=[compiled(part, m) for part in tree.parts] or [token(_NEVER)])
    if isinstance(tree, Not):
        return m.Filter(must_not=[compiled(tree.part, m)])
    name = ".".join(tree.field.names)
    if isinstance(tree, Exists):
        condition = token(_token(name, "?"))
        return m.Filter(must=[condition]) if tree.wanted else m.Filter(must_not=[condition])
    if isinstance(tree, Has):
        return m.Filter(must=[equal(name, "@", tree.value)])
    if isinstance(tree, In):
        values = [_token(name, "=", value) for value in tree.values] or [_NEVER]
        return m.Filter(must=[m.FieldCondition(key=TOKENS, match=m.MatchAny(any=values))])
    if isinstance(tree, Prefix):
        match = m.MatchPrefix(prefix=_token(name, "=", tree.text))
        return m.Filter(must=[m.FieldCondition(key=TOKENS, match=match)])
    if tree.op == "=":
        return m.Filter(must=[equal(name, "=", tree.value)])
    if tree.op == "!=":
        return m.Filter(must=[token(_token(name, "?"))], must_not=[equal(name, "=", tree.value)])
    return m.Filter(must=[_range(name, tree, m)])


def _range(name: str, tree: Compare, m: Any) -> Any:
    if isinstance(tree.value, str):
        raise FilterError(
            f"{name!r} {tree.op}: Qdrant has no order of texts; use prefix, or store a number"
        )
    if isinstance(tree.value, int) and abs(tree.value) > _EXACT_INTEGERS:
        raise FilterError(f"{name!r} {tree.op} {tree.value}: Qdrant orders integers up to 2^53")
    kind = m.RangeFloat if hasattr(m, "RangeFloat") else m.Range
    return m.FieldCondition(
        key=f"numbers.{_plain(name)}", range=kind(**{_RANGES[tree.op]: float(tree.value)})
    )


def search(
    find: Find, rows: int, space: Space, prefix: Float32, full: Float32, k: int, wanted: Any,
    shortlist: Shortlist,
) -> list[BackendHit]:  # fmt: skip
    """The k best clips. `find(prefix, full, shortlist, limit, filter)` gives rows, best first."""
    hits: list[BackendHit] = []
    for length in base.shortlists(max(rows, 1), k, shortlist, space.dim):
        limit = _ROWS_PER_HIT * k
        while True:
            found = find(prefix, full, length, limit, wanted)
            # Equal vectors may score a few units in the last place apart: those are ties.
            hits = _best([(round(score, _DIGITS), row) for score, row in found])
            # A clip that ties with the last may not have been seen yet, and its key decide.
            is_settled = len(hits) > k and hits[k].score < hits[k - 1].score
            if is_settled or len(found) < limit:
                break
            limit *= _ROWS_PER_HIT
        if len(hits) >= k:
            break
    return hits[:k]


def _best(found: list[tuple[float, dict[str, Any]]]) -> list[BackendHit]:
    best: dict[str, BackendHit] = {}
    for score, row in sorted(found, key=lambda one: (-one[0], one[1]["key"], one[1]["window"])):
        key = row["key"]
        if key not in best:
            metadata = json.loads(row["metadata"])
            best[key] = BackendHit(key, score, row["start_s"], row["end_s"], metadata)
    return list(best.values())


def folder_of(url: str) -> str:
    """What follows the scheme of qdrant+local:FOLDER and qdrant+edge:FOLDER."""
    folder = url.split(":", 1)[1]
    if not folder:
        raise CollectionError(f"{url} names no folder; write {url}FOLDER")
    return folder
