"""What a filter means, in plain Python: the oracle of its compilers.

In:  a tree of conditions; the key, path, duration and metadata of a clip.
Out: whether the clip may be found.
Knows nothing about SQL or any backend.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from clap_engine.filters import And, Compare, Exists, Field, Filter, Has, In, Not, Or, Prefix

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def matches(
    tree: Filter,
    metadata: Mapping[str, Any],
    *,
    key: str = "",
    path: str | None = None,
    duration_s: float = 0.0,
) -> bool:
    """Whether the filter holds for a clip of these facts."""
    facts = {"key": key, "path": path, "duration_s": duration_s}

    def holds(node: Filter) -> bool:
        if isinstance(node, And):
            return all(map(holds, node.parts))
        if isinstance(node, Or):
            return any(map(holds, node.parts))
        if isinstance(node, Not):
            return not holds(node.part)
        value = facts[node.field.names[0]] if node.field.is_reserved else _at(metadata, node.field)
        if isinstance(node, Exists):
            return (value is not None) == node.wanted
        if isinstance(node, Prefix):
            return isinstance(value, str) and value.startswith(node.text)
        if isinstance(node, Has):
            return isinstance(value, list) and any(_equal(one, node.value) for one in value)
        if isinstance(node, In):
            return any(_equal(value, one) for one in node.values)
        assert isinstance(node, Compare)
        if node.op == "=":
            return _equal(value, node.value)
        if node.op == "!=":
            return value is not None and not _equal(value, node.value)
        return _kind(value) == _kind(node.value) and _OPERATORS[node.op](value, node.value)

    return holds(tree)


def _at(metadata: Mapping[str, Any], field: Field) -> Any:
    value: Any = metadata
    for name in field.names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _equal(one: Any, other: Any) -> bool:
    return _kind(one) == _kind(other) and bool(one == other)


def _kind(value: Any) -> type | None:
    """Text, number and boolean are kinds; what else there is equals nothing."""
    if isinstance(value, bool):
        return bool
    if isinstance(value, (int, float)):
        return float
    return str if isinstance(value, str) else None
