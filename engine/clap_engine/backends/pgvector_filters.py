"""Filters as SQL of PostgreSQL, with every value and every name bound.

In:  a filter's tree.
Out: an SQL expression, true or false, over the columns key, path, duration_s and facts (jsonb).
Knows nothing about connections, tables or vectors.

jsonb equality is the filters' own: kinds differ, numbers are equal by value, and texts by code
point. An operator sees only values of its kind: CASE is evaluated in order, AND need not be.
"""

from __future__ import annotations

import json
from typing import Any

from clap_engine.filters import And, Compare, Exists, Field, Filter, Has, In, Not, Or, Prefix


def to_sql(tree: Filter) -> tuple[str, list[Any]]:
    """(the expression with %s for each value, the values)."""
    if isinstance(tree, (And, Or)):
        word, empty = (" AND ", "TRUE") if isinstance(tree, And) else (" OR ", "FALSE")
        parts = [to_sql(part) for part in tree.parts]
        sql = f"({word.join(part for part, _ in parts)})" if parts else empty
        return sql, [value for _, values in parts for value in values]
    if isinstance(tree, Not):
        sql, values = to_sql(tree.part)
        return f"(NOT {sql})", values
    fact, names = _fact(tree.field)
    if isinstance(tree, Exists):
        return (
            f"(coalesce(jsonb_typeof({fact}), 'null') {'<>' if tree.wanted else '='} 'null')",
            names,
        )
    if isinstance(tree, Has):
        return f"coalesce({fact} @> %s::jsonb, FALSE)", [*names, json.dumps([tree.value])]
    if isinstance(tree, In):
        return f"coalesce({fact} = ANY(%s::jsonb[]), FALSE)", [
            *names,
            list(map(json.dumps, tree.values)),
        ]
    if isinstance(tree, Prefix):
        return _guarded("string", f"starts_with({fact} #>> '{{}}', %s)", fact, names, tree.text)
    if tree.op == "=":
        return f"coalesce({fact} = %s::jsonb, FALSE)", [*names, json.dumps(tree.value)]
    if tree.op == "!=":
        exists, _ = to_sql(Exists(tree.field, True))
        equal, values = to_sql(Compare(tree.field, "=", tree.value))
        return f"({exists} AND NOT {equal})", [*names, *values]
    if isinstance(tree.value, str):
        test = f"({fact} #>> '{{}}') COLLATE \"C\" {tree.op} %s::text"
        return _guarded("string", test, fact, names, tree.value)
    test = f"({fact})::numeric {tree.op} %s::numeric"
    return _guarded("number", test, fact, names, json.dumps(tree.value))


def _guarded(
    kind: str, test: str, fact: str, names: list[Any], value: Any
) -> tuple[str, list[Any]]:
    """`test` where the fact is of this kind, false elsewhere."""
    sql = f"(CASE WHEN jsonb_typeof({fact}) = '{kind}' THEN {test} ELSE FALSE END)"
    return sql, [*names, *names, value]


def _fact(field: Field) -> tuple[str, list[Any]]:
    """The SQL of a field's value as jsonb, and the names in it; lists have no named parts."""
    if field.is_reserved:
        return f"to_jsonb({field.names[0]})", []
    return f"(facts{' -> %s::text' * len(field.names)})", list(field.names)
