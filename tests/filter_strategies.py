"""What filters and the metadata they look at may be, for hypothesis.

In:  which names and numbers to draw from.
Out: strategies of texts, scalars, metadata and fields; filters around given conditions.
Knows nothing about SQL or any backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from clap_engine import filters

Strategy = st.SearchStrategy[Any]

texts = st.one_of(
    st.sampled_from(["", "a", "A", "ab", "a/", "ä", "a'b", '"', "%", "😀", "\ud7ff", "\U0010ffff"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
)
small_numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([-0.0, 0.5, 1.0, 1e300, -1e-300, 0.1 + 0.2, 2.0**53, 2**53 + 1, 2**63 - 1]),
    st.integers(-(10**6), 10**6).map(lambda n: n / 1000),
)


def scalars_of(numbers: Strategy) -> Strategy:
    """Texts, numbers and booleans."""
    return st.one_of(texts, numbers, st.booleans())


def metadata_of(names: Sequence[str], scalars: Strategy) -> Strategy:
    """What a clip may carry: few names, so that filters often hit what is stored."""
    inner = st.recursive(
        st.one_of(st.none(), scalars),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(names), inner, max_size=3)
        ),
        max_leaves=4,
    )
    return st.dictionaries(st.sampled_from(names), inner, max_size=4)


def clips_of(metadata: Strategy) -> Strategy:
    """The facts of a clip that filters look at."""
    return st.fixed_dictionaries(
        {
            "key": texts.filter(bool),
            "path": st.one_of(st.none(), texts),
            "duration_s": st.integers(0, 5).map(float),
            "metadata": metadata,
        }
    )


def fields_of(names: Sequence[str]) -> Strategy:
    """Names, ways through nested metadata, and the reserved fields."""
    return st.one_of(
        st.lists(st.sampled_from(names), min_size=1, max_size=2).map(".".join),
        st.sampled_from(filters.RESERVED),
    )


def unordered_of(scalars: Strategy) -> list[Strategy]:
    """Every condition that compares without an order."""
    return [
        scalars,
        st.dictionaries(st.sampled_from(["=", "!="]), scalars, min_size=1),
        st.fixed_dictionaries({"in": st.lists(scalars, max_size=4)}),
        st.fixed_dictionaries({"has": scalars}),
        st.fixed_dictionaries({"prefix": texts}),
        st.fixed_dictionaries({"exists": st.booleans()}),
    ]


def ordered_of(values: Strategy) -> Strategy:
    """Conditions that compare by order with these values."""
    orders = st.sampled_from(["<", "<=", ">", ">="])
    return st.dictionaries(orders, values, min_size=1, max_size=2)


def wheres_of(fields: Strategy, conditions: Strategy) -> Strategy:
    """Filters: conditions on fields under and, or, not."""
    return st.recursive(
        st.dictionaries(fields, conditions, max_size=2),
        lambda inner: st.one_of(
            st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"not": inner}),
        ),
        max_leaves=4,
    )
