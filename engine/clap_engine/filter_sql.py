"""Filters as SQL for SQLite, and the indexes that serve them.

In:  a filter's tree; a table `clips` with the columns key, path, duration_s and metadata (JSON).
Out: an expression that is true where the filter holds, with bound values; statements of indexes.
Knows nothing about connections or what else a table holds.

Values are bound. Names of fields stand in the text, because SQLite uses an index on an expression
only where the same text appears; field_of() lets nothing through that could end the quotes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clap_engine.errors import FilterError
from clap_engine.filters import (
    And,
    Condition,
    Exists,
    Field,
    Filter,
    Has,
    In,
    Not,
    Or,
    Prefix,
    Scalar,
    field_of,
)

INDEX_PREFIX = "filter:"


def expression(found: Field) -> str:
    """The SQL of a field's value, as filters use it: an index on it serves them."""
    return found.names[0] if found.is_reserved else f"json_extract(metadata, {_json_path(found)})"


def to_sql(tree: Filter) -> tuple[str, tuple[Any, ...]]:
    """(an expression that is true where the filter holds, the values to bind)."""
    compiler = _Compiler()
    return compiler.filter(tree), tuple(compiler.values)


def index_sql(name: str) -> str | None:
    """The statement that makes the index of this name; None where no filter's index has it.

    The names of indexes say which fields they are of: no table holds them.
    """
    try:
        found = field_of(name.removeprefix(INDEX_PREFIX))
    except FilterError:
        return None
    dotted = ".".join(found.names)
    return f'CREATE INDEX "{INDEX_PREFIX}{dotted}" ON clips ({expression(found)})'


@dataclass
class _Compiler:
    values: list[Any] = field(default_factory=list)

    def filter(self, tree: Filter) -> str:
        if isinstance(tree, And):
            return self._joined(tree.parts, " AND ", "1")
        if isinstance(tree, Or):
            return self._joined(tree.parts, " OR ", "0")
        if isinstance(tree, Not):
            # A missing field makes its condition NULL, which counts as false here as elsewhere.
            return f"({self.filter(tree.part)}) IS NOT TRUE"
        return self._condition(tree)

    def _joined(self, parts: tuple[Filter, ...], word: str, empty: str) -> str:
        return "(" + word.join(map(self.filter, parts)) + ")" if parts else empty

    def _condition(self, tree: Condition) -> str:
        value, kind = expression(tree.field), _kind(tree.field)
        if isinstance(tree, Exists):
            return f"{value} IS {'NOT ' if tree.wanted else ''}NULL"
        if isinstance(tree, Prefix):
            return self._prefix(value, kind, tree.text)
        if isinstance(tree, Has):
            if tree.field.is_reserved:
                return "0"  # no list is among them
            inner = self._compare("value", "type", "=", tree.value)
            listed = f"SELECT 1 FROM json_each(metadata, {_json_path(tree.field)}) WHERE {inner}"
            return f"({kind} = 'array' AND EXISTS ({listed}))"
        if isinstance(tree, In):
            return self._in(value, kind, tree.values)
        if tree.op == "!=":
            equal = self._compare(value, kind, "=", tree.value)
            return f"({value} IS NOT NULL AND {equal} IS NOT TRUE)"
        return self._compare(value, kind, tree.op, tree.value)

    def _compare(self, value: str, kind: str, op: str, operand: Scalar) -> str:
        if isinstance(operand, bool):
            return f"({kind} = '{json.dumps(operand)}')"
        if isinstance(operand, str):
            return f"({value} {op} {self._bound(operand)} AND {kind} = 'text')"
        return f"({value} {op} {self._bound(operand)} AND {kind} IN ('integer', 'real'))"

    def _in(self, value: str, kind: str, values: tuple[Scalar, ...]) -> str:
        # One bound list for each kind: statements take only so many values.
        parts = []
        tests: tuple[tuple[Callable[[Scalar], bool], str], ...] = (
            (lambda one: isinstance(one, str), "= 'text'"),
            (lambda one: not isinstance(one, (str, bool)), "IN ('integer', 'real')"),
        )
        for is_such, kinds in tests:
            if some := [one for one in values if is_such(one)]:
                listed = f"SELECT value FROM json_each({self._bound(json.dumps(some))})"
                parts.append(f"({value} IN ({listed}) AND {kind} {kinds})")
        booleans = sorted({one for one in values if isinstance(one, bool)})
        parts += [f"{kind} = '{json.dumps(one)}'" for one in booleans]
        return "(" + " OR ".join(parts) + ")" if parts else "0"

    def _prefix(self, value: str, kind: str, text: str) -> str:
        test = f"{kind} = 'text'"
        if text:
            test += f" AND {value} >= {self._bound(text)}"
        if after := _after(text):
            test += f" AND {value} < {self._bound(after)}"
        return f"({test})"

    def _bound(self, value: Any) -> str:
        self.values.append(value)
        return "?"


def _json_path(found: Field) -> str:
    # Escaped as in the stored JSON, where old releases of SQLite compare names byte by byte.
    path = "$" + "".join(f".{json.dumps(name)}" for name in found.names)
    return "'" + path.replace("'", "''") + "'"


def _kind(found: Field) -> str:
    """SQL for the kind of a field's value, in the words of json_type."""
    if not found.is_reserved:
        return f"json_type(metadata, {_json_path(found)})"
    return f"typeof({found.names[0]})"


def _after(prefix: str) -> str | None:
    """The least text above all that begin with `prefix`; None where there is none."""
    while prefix:
        last = ord(prefix[-1]) + 1
        if last <= 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD800 else last)
        prefix = prefix[:-1]
    return None
