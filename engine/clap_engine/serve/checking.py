"""JSON values against the schemas that the OpenAPI page shows, so that both say the same.

In:  a value as json.loads gives it; a schema in the subset of JSON Schema that is used here.
Out: nothing, or a RequestError that names the place, what was found and what is allowed.
Knows nothing about requests or models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clap_engine.serve.replies import RequestError

_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def check(value: Any, schema: Mapping[str, Any], where: str = "") -> None:
    """RequestError unless `value` is what the schema describes; `where` names it in messages."""
    if "anyOf" in schema:
        _any_of(value, schema["anyOf"], where)
        return
    _kind(value, schema, where)
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(str(choice) for choice in schema["enum"])
        raise _refusal(where, f"is {_shown(value)}; {allowed} are allowed")
    if isinstance(value, str):
        _text(value, schema, where)
    elif isinstance(value, list):
        _length(len(value), "minItems", "maxItems", "items", schema, where)
        for place, item in enumerate(value):
            check(item, schema.get("items", {}), f"{where}[{place}]")
    elif isinstance(value, dict):
        _object(value, schema, where)
    elif not isinstance(value, bool):
        _number(value, schema, where)


def _any_of(value: Any, choices: list[Mapping[str, Any]], where: str) -> None:
    refusals = []
    for choice in choices:
        try:
            check(value, choice, where)
        except RequestError as error:
            refusals.append((choice, error))
        else:
            return
    for choice, refusal in refusals:  # the one of the right kind says most
        if isinstance(value, _KINDS[choice["type"]]):
            raise refusal
    kinds = " or ".join(str(choice["type"]) for choice in choices)
    raise _refusal(where, f"is {_shown(value)}; {kinds} is wanted")


def _kind(value: Any, schema: Mapping[str, Any], where: str) -> None:
    wanted = schema.get("type")
    if wanted is None:
        return
    is_one = isinstance(value, _KINDS[wanted])
    if isinstance(value, bool) and wanted in ("integer", "number"):
        is_one = False
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        is_one = False  # 3.0 is an integer for JSON Schema; nobody means it
    if not is_one:
        raise _refusal(where, f"is {_shown(value)}; {wanted} is wanted")


def _text(value: str, schema: Mapping[str, Any], where: str) -> None:
    _length(len(value), "minLength", "maxLength", "characters", schema, where)
    if not value.isascii() and any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise _refusal(where, "holds half of a surrogate pair; send Unicode")


def _object(value: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise _refusal(_at(where, name), "is missing")
    for name, part in value.items():
        if name in known:
            check(part, known[name], _at(where, name))
        elif schema.get("additionalProperties") is False:
            allowed = ", ".join(known)
            raise _refusal(_at(where, name)[:80], f"is unknown; {allowed} are allowed")


def _number(value: float, schema: Mapping[str, Any], where: str) -> None:
    low, high = schema.get("minimum"), schema.get("maximum")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"{low} or more" if high is None else f"{low} to {high}"
        raise _refusal(where, f"is {_shown(value)}; {bounds} is allowed")


def _length(
    found: int, least: str, most: str, unit: str, schema: Mapping[str, Any], where: str
) -> None:
    low, high = schema.get(least, 0), schema.get(most)
    if found < low or (high is not None and found > high):
        bounds = f"{low} or more" if high is None else f"{low} to {high}"
        raise _refusal(where, f"has {found} {unit}; {bounds} are allowed")


def _refusal(where: str, text: str) -> RequestError:
    return RequestError(f"{where or 'the body'} {text}", param=where or None)


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return f"{value!r:.60}"
