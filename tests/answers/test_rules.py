"""Questions in words become plans, by rules that lose no word and always give the same."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_engine import filters
from clap_engine.answers.page import QUOTED, TAKEN
from clap_engine.answers.plan import MAX_CHARS, MAX_K, ROLES, AnswerPlan, Word
from clap_engine.answers.rules import parse
from clap_engine.errors import FilterError, TaskError

DECLARED = ("year", "artist.name", "genre", "live")
KEYS = {"takes/07.wav", "my song.wav", "banjo.ogg"}


def plan(question: str, declared: tuple[str, ...] = DECLARED) -> AnswerPlan:
    return parse(question, declared=declared, has_key=KEYS.__contains__)


@pytest.mark.parametrize(
    ("question", "text", "without"),
    [
        ("a slow banjo melody", "a slow banjo melody", ()),
        ("piano but not jazz, no drums", "piano", ("jazz", "drums")),
        ("guitar without drums, bass or vocals, slow", "guitar, slow", ("drums", "bass", "vocals")),
        ("no drums but a guitar", "a guitar", ("drums",)),
        ("music that doesn't have drums", "music", ("drums",)),
        ("church bells that are not too loud?", "church bells", ("loud",)),
        ("rain except for thunder; please", "rain", ("thunder",)),
        ("strings with no brass and with a harp", "strings with a harp", ("brass",)),
        ('rain without "the big drum"', "rain", ("big drum",)),
        ("not only rain but also wind", "rain but also wind", ()),
        ("symphony no. 5", "symphony no. 5", ()),
        ("no longer a piano", "no longer a piano", ()),
        ('a "church organ without pedals"', "a church organ without pedals", ()),
        ("without vocals", "", ("vocals",)),
        ("show tunes", "show tunes", ()),
        ("what?", "what?", ()),
    ],
)
def test_what_is_wanted_and_what_is_not(question: str, text: str, without: tuple[str, ...]) -> None:
    found = plan(question)
    assert (found.text, found.without) == (text, without)


@pytest.mark.parametrize(
    ("question", "where"),
    [
        ("rain from the 90s", {"year": {">=": 1990, "<=": 1999}}),
        ("rain from the 1920s", {"year": {">=": 1920, "<=": 1929}}),
        ("rain in the nineties", {"year": {">=": 1990, "<=": 1999}}),
        ("rain from 1994", {"year": 1994}),
        ("rain before 2001", {"year": {"<": 2001}}),
        ("rain after the 80s", {"year": {">": 1989}}),
        ("rain since 1990", {"year": {">=": 1990}}),
        ("rain until 1995", {"year": {"<=": 1995}}),
        ("rain between 1995 and 1990", {"year": {">=": 1990, "<=": 1995}}),
        ("rain from 1990 to 1995", {"year": {">=": 1990, "<=": 1995}}),
        ("rain not from the 90s", {"not": {"year": {">=": 1990, "<=": 1999}}}),
        ("rain longer than 30 seconds", {"duration_s": {">": 30.0}}),
        ("rain that is under a minute", {"duration_s": {"<": 60.0}}),
        ("rain over half an hour", {"duration_s": {">": 1800.0}}),
        ("rain of at least 1:30", {"duration_s": {">=": 90.0}}),
        ("rain, not longer than two minutes", {"duration_s": {"<=": 120.0}}),
        ("rain between 5 and 10 seconds long", {"duration_s": {">=": 5.0, "<=": 10.0}}),
        ("genre:jazz rain", {"genre": "jazz"}),
        ("rain -genre:jazz", {"not": {"genre": "jazz"}}),
        ("rain genre:[jazz, folk]", {"genre": {"in": ["jazz", "folk"]}}),
        ("rain year:1990", {"year": {"in": [1990, "1990"]}}),
        ("rain year:>=1990", {"year": {">=": 1990}}),
        ("rain year:1990..1995", {"year": {">=": 1990, "<=": 1995}}),
        ("rain live:true", {"live": {"in": [True, "true"]}}),
        ('rain artist.name:"Miles Davis"', {"artist.name": "Miles Davis"}),
        ("rain by Miles Davis", {"artist.name": "Miles Davis"}),
        ('rain by "miles"', {"artist.name": "miles"}),
    ],
)
def test_conditions(question: str, where: Any) -> None:
    """Law: what was taken as a condition is a filter that search takes, and no longer text."""
    found = plan(question)
    assert found.where == where
    assert found.text == "rain"
    filters.parse(found.where)


@pytest.mark.parametrize(
    ("question", "text", "unmet"),
    [
        ("rain from the 90s", "rain from the 90s", ("from the 90s",)),
        ("rain not from the 90s", "rain", ("not from the 90s",)),
        ("rain by Miles Davis", "rain by Miles Davis", ()),
        ("genre:jazz rain", "genre:jazz rain", ()),
        ("rain by genre", "rain by genre", ()),
    ],
)
def test_what_no_field_can_check_is_no_filter(
    question: str, text: str, unmet: tuple[str, ...]
) -> None:
    found = plan(question, ())
    assert (found.text, found.unmet, found.where) == (text, unmet, None)


@pytest.mark.parametrize(
    ("question", "k", "text"),
    [
        ("three banjo clips", 3, "banjo"),
        ("show me the top 5 rain sounds", 5, "rain"),
        ("give me the best three clips of a harp", 3, "a harp"),
        ("a dozen slow banjo recordings", 12, "slow banjo"),
        ("find two dogs barking", None, "two dogs barking"),
        ("two dogs barking", None, "two dogs barking"),
        ("top 500 dogs", MAX_K, "dogs"),
        ("five sad songs", 5, "sad songs"),
    ],
)
def test_how_many(question: str, k: int | None, text: str) -> None:
    found = plan(question)
    assert (found.k if found.is_k_asked else None, found.text) == (k, text)


@pytest.mark.parametrize(
    ("question", "near", "text"),
    [
        ("something like takes/07.wav", ("takes/07.wav",), ""),
        ('clips like "my song.wav"', ("my song.wav",), ""),
        ("like banjo.ogg.", ("banjo.ogg",), ""),
        ("like banjo.ogg, but slower", ("banjo.ogg",), "slower"),
        ("like a banjo", (), "like a banjo"),
        ("what sounds like a theremin?", (), "a theremin"),
    ],
)
def test_like_a_stored_clip(question: str, near: tuple[str, ...], text: str) -> None:
    found = plan(question)
    assert (found.near, found.text) == (near, text)


def test_parts_moods_and_tempi() -> None:
    found = plan("a slow sad banjo with church bells and dogs barking")
    assert found.parts == ("slow sad banjo", "church bells", "dogs barking")
    assert (found.moods, found.tempos) == (("sad",), ("slow",))
    assert plan("a slow banjo melody").parts == ("banjo",)
    assert plan("a banjo").parts == ()
    assert plan("guitar, slow and sad").parts == ()
    assert plan("rain by genre").group_by == "genre"
    assert plan("rain grouped by artist").group_by is None  # its field is artist.name
    roles = {word.words: word.role for word in plan("slow banjo by genre without drums").words}
    assert roles == {
        "slow": "tempo", "banjo": "source", "by genre": "group", "without drums": "without",
    }  # fmt: skip


_SOME = """
a the slow sad banjo rain dogs drums vocals without no not but and or , ; ? ! like banjo.ogg from
the 90s before 2001 between 1990 and 1995 longer than 30 seconds under minute top 5 three clips of
show me which genre:jazz -genre:folk by Miles Davis genre "my song.wav" " only also except for with
per unmet 1:30 ’s é 雨
"""
_WORDS = st.sampled_from(_SOME.split())


@settings(max_examples=300, deadline=None)
@given(st.lists(_WORDS, min_size=1, max_size=25).map(" ".join))
def test_no_word_is_lost(question: str) -> None:
    """Laws: words in their order, each once, are the question; JSON gives the plan back."""
    try:
        found = plan(question)
    except TaskError:
        assert not any(char.isalnum() for char in question)
        return
    said = "".join("".join(word.words for word in found.words).split())
    assert said == "".join(found.question.split())
    assert {word.role for word in found.words} <= set(ROLES)
    assert plan(question) == found
    assert AnswerPlan.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.query.terms
    if found.filter is not None:
        filters.parse(found.filter)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_question_or_an_error(text: str) -> None:
    try:
        found = plan(text)
    except TaskError:
        return
    assert TAKEN not in found.text
    assert QUOTED not in found.text


@pytest.mark.parametrize(
    "unit",
    ["no ", "a ", "between ", "from 1 ", "not only ", "that is ", "like ", "by A ", "three ",
     "which ", "without a, ", "(", "1:30 ", "in 1990 - ", "genre:[", "-", '"', "no a, ", "1", "x"],
)  # fmt: skip
def test_long_questions_take_no_time(unit: str) -> None:
    """No pattern is slow on any text within the limits: some .05 s at most, a second is due."""
    start = time.perf_counter()
    plan((unit * MAX_CHARS + "a")[-MAX_CHARS:])
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    "question", ["", " ", "?!", "a\0b", "\ud800 rain", "x" * (MAX_CHARS + 1), None, 5, ["rain"]]
)
def test_bad_questions(question: Any) -> None:
    with pytest.raises(TaskError):
        parse(question)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"k": 0}, TaskError), ({"k": MAX_K + 1}, TaskError), ({"k": True}, TaskError),
        ({"text": 5}, TaskError), ({"text": "a" * 2000}, TaskError), ({"text": "\0"}, TaskError),
        ({"parts": "banjo"}, TaskError), ({"parts": ("",)}, TaskError),
        ({"parts": ("a",) * 9}, TaskError), ({"without": (None,)}, TaskError),
        ({"where": {"year": {"~": 5}}}, FilterError), ({"where": []}, FilterError),
        ({"group_by": "a..b"}, FilterError), ({"words": ("a",)}, TaskError),
        ({"words": (Word("a", "nonsense"),)}, TaskError),  # type: ignore[arg-type]
        ({"is_k_asked": 1}, TaskError), ({"text": ""}, TaskError),
    ],
)  # fmt: skip
def test_bad_plans(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        replace(AnswerPlan(text="rain"), **changes)


@pytest.mark.parametrize(
    "record", [None, [], "rain", {"txt": "rain"}, {"text": "rain", "words": [{"a": 1}]},
               {"text": "rain", "words": 5}, {}]
)  # fmt: skip
def test_bad_json_plans(record: Any) -> None:
    with pytest.raises(TaskError):
        AnswerPlan.from_json(record)


def test_a_plan_keeps_its_own_filter() -> None:
    where = {"year": {">=": 1990}}
    found = AnswerPlan(text="rain", where=where)
    where["year"][">="] = 0
    assert found.where == {"year": {">=": 1990}}
