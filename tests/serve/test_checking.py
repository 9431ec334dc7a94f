"""The schemas on the OpenAPI page and what is refused are the same thing.

The oracle is jsonschema's own validator where it is installed.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_engine.serve.checking import check
from clap_engine.serve.replies import RequestError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["a"],
    "properties": {
        "a": {"anyOf": [
            {"type": "string", "minLength": 1, "maxLength": 3},
            {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer"}},
        ]},
        "b": {"type": "integer", "minimum": 1, "maximum": 9},
        "c": {"type": "string", "enum": ["x", "y"]},
        "d": {"type": "number", "minimum": 0},
        "e": {"type": "boolean"},
        "f": {"type": "object"},
    },
}  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.floats(-2, 12)
    | st.sampled_from(["", "x", "y", "long text", "é"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from("abcdefg"), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def _is_fine(value: Any) -> bool:
    try:
        check(value, SCHEMA)
    except RequestError:
        return False
    return True


def _has_whole_floats(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return any(map(_has_whole_floats, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({"a": VALUES}, optional=dict.fromkeys("bcdefg", VALUES)) | VALUES)
def test_it_agrees_with_jsonschema(value: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    if not _has_whole_floats(value):  # 3.0 counts as an integer there, and is refused here
        expected = jsonschema.Draft202012Validator(SCHEMA).is_valid(value)
        assert _is_fine(value) == expected


@pytest.mark.parametrize(
    ("value", "param", "said"),
    [
        ([], None, "the body is a list; object is wanted"),
        ({}, "a", "a is missing"),
        ({"a": "x", "z": 1}, "z", "a, b, c, d, e, f are allowed"),
        ({"a": [1, "2"]}, "a[1]", "integer is wanted"),
        ({"a": "long text"}, "a", "9 characters; 1 to 3 are allowed"),
        ({"a": 7}, "a", "string or array is wanted"),
        ({"a": "x", "b": 10}, "b", "1 to 9 is allowed"),
        ({"a": "x", "b": True}, "b", "integer is wanted"),
        ({"a": "x", "c": "q"}, "c", "x, y are allowed"),
        ({"a": "x", "d": -1}, "d", "0 or more is allowed"),
    ],
)
def test_a_refusal_names_the_place_and_what_is_allowed(
    value: Any, param: str | None, said: str
) -> None:
    with pytest.raises(RequestError) as refused:
        check(value, SCHEMA)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert said in str(refused.value)
