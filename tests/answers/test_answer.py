"""Answers say what was measured, cite where, and say what was not found."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worded import CLIPS, make

import clap_engine
from clap_engine import demo
from clap_engine.answers.answer import Answer, Answered, Cited, Planned, Said
from clap_engine.answers.plan import AnswerPlan
from clap_engine.answers.prose import clock, shown
from clap_engine.async_collection import AsyncCollection
from clap_engine.collection import Collection
from clap_engine.deadline import Deadline
from clap_engine.errors import CollectionError, DeadlineError, FilterError, TaskError
from clap_engine.workers import Workers

# fmt: off
WORDS = (
    "a", "banjo", "rain", "drums", "dogs", "thunder", "vuvuzela", "slow", "without", "and", "or",
    ",", "but", "three", "clips", "of", "like", "banjo.wav", "from", "the", "90s", "by genre",
    "longer than 7 seconds", "not", "two minutes",
)
# fmt: on
Run = Callable[..., tuple[int, str, str]]


def keys(found: Answer, standing: str = "found") -> list[str]:
    return [one.key for one in found.citations if one.standing == standing]


def check_laws(sounds: Collection, found: Answer) -> None:
    """What holds for every answer, whatever was asked."""
    numbers = [one.number for one in found.citations]
    assert numbers == list(range(1, len(numbers) + 1))
    for sentence in found.sentences:
        assert set(sentence.cites) <= set(numbers)
        assert {int(n) for n in re.findall(r"\[(\d+)\]", sentence.text)} == set(sentence.cites)
        assert bool(sentence.cites) == (sentence.kind != "note")
    assert found.text == " ".join(one.text for one in found.sentences)
    for one in found.citations:
        text = one.because or found.plan.query
        stored = sounds.search(text, k=1, where={"key": one.key}, shortlist="all").hits[0]
        assert (stored.score, stored.start_s, stored.end_s) == (one.score, one.start_s, one.end_s)
        assert stored.calibrated == one.calibrated
    for part in found.parts:
        for one in (*part.heard, *part.unheard):
            stored = sounds.search(part.text, k=1, where={"key": one.key}, shortlist="all").hits[0]
            assert (stored.score, stored.start_s) == (one.score, one.start_s)
    json.dumps(found.to_json(), allow_nan=False)


def test_the_best_is_cited_with_its_span(sounds: Collection) -> None:
    found = sounds.answer("a banjo")
    check_laws(sounds, found)
    assert found.met == "full"
    assert keys(found) == ["banjo.wav", "both.wav", "drums.wav"]
    both = found.citations[1]
    assert (both.start_s, both.end_s) == (5.0, 10.0)
    assert "both.wav at 0:05.0-0:10.0" in found.text
    assert found.sentences[0].text == (
        f'banjo.wav at 0:00.0-0:05.0 fits "a banjo" best, with score {found.citations[0].score:.3f}'
        ", above 99.9 % of unrelated pairs [1]."
    )
    assert found.timings_ms["first_words"] <= found.timings_ms["total"]


def test_a_plain_question_is_a_plain_search(sounds: Collection) -> None:
    """Law: where the rules take nothing, the search is that for the question's own words."""
    for question in ("a banjo", "dogs barking", "a slow banjo melody"):
        found = sounds.answer(question)
        hits = sounds.search(question, k=5).hits
        assert [(one.key, one.score) for one in found.citations] == [
            (hit.key, hit.score) for hit in hits
        ][: len(found.citations)]


def test_parts_are_told_one_by_one(sounds: Collection) -> None:
    found = sounds.answer("banjo and rain")
    check_laws(sounds, found)
    assert found.met == "full"
    assert keys(found)[0] == "both.wav"
    heard = {part.text: {one.key for one in part.heard} for part in found.parts}
    assert "both.wav" in heard["banjo"] & heard["rain"]
    assert "banjo.wav" not in heard["rain"]


def test_what_only_half_is_there_is_told(sounds: Collection) -> None:
    apart = sounds.answer("dogs barking and thunder")
    check_laws(sounds, apart)
    assert apart.met == "part"
    assert "do they stand out together" in apart.text
    half = sounds.answer("a banjo with a vuvuzela")
    check_laws(sounds, half)
    assert half.met == "part"
    assert 'By itself "vuvuzela" stands out in none of' in half.text
    assert sounds.answer("a banjo or a vuvuzela").met == "full"


def test_nothing_stands_out(sounds: Collection) -> None:
    found = sounds.answer("quarterly report")
    check_laws(sounds, found)
    assert found.met == "none"
    assert keys(found) == []
    assert found.text.startswith('Nothing stands out for "quarterly report": the best, ')


def test_what_must_not_be_heard_is_left_out(sounds: Collection) -> None:
    found = sounds.answer("a banjo without drums")
    check_laws(sounds, found)
    assert keys(found) == ["banjo.wav", "both.wav"]
    assert keys(found, "left out") == ["drums.wav"]
    assert found.citations[-1].because == "drums"
    assert '"drums" stands out in none of [1][2].' in found.text
    none = sounds.answer("a banjo without banjos")
    check_laws(sounds, none)
    assert not keys(none)
    assert none.met == "none"


def test_wanting_more_than_the_first_that_are_left_out(tmp_path: Path) -> None:
    """Law: those left out make room for those after them, however many they are."""
    clips = {f"d{i:03d}": ["banjo drums"] for i in range(60)}
    with make(tmp_path / "s.clap", {**clips, "last": ["banjo x y"]}) as sounds:
        found = sounds.answer("one clip of a banjo without drums")
        assert keys(found) == ["last"]
        assert len(keys(found, "left out")) == 3
        assert "and 57 more" in found.text


def test_conditions_and_groups(sounds: Collection) -> None:
    found = sounds.answer("a banjo from the 90s by genre")
    check_laws(sounds, found)
    assert keys(found) == ["banjo.wav", "both.wav", "drums.wav"]
    assert "meet year >= 1990 and year <= 1999" in found.text
    assert [(group.value, group.cites) for group in found.groups] == [
        ("folk", (1, 2)), ("field", (2,)), ("rock", (3,)),
    ]  # fmt: skip
    assert "By genre: folk [1][2]; field [2]; rock [3]." in found.text
    assert keys(sounds.answer("a banjo by Ann Bo")) == ["banjo.wav"]
    none = sounds.answer("a banjo before 1900")
    check_laws(sounds, none)
    assert (none.met, none.text) == ("none", "No clip of this collection meets year < 1900.")
    both = sounds.answer("a banjo from the 90s", where={"genre": "folk"}, k=2, group_by="year")
    assert keys(both) == ["banjo.wav"]
    assert "Two were asked for; one stood out." in both.text
    assert both.groups[0].value == "1994"


def test_a_filter_alone_claims_no_sound(sounds: Collection) -> None:
    found = sounds.answer("clips longer than 7 seconds")
    check_laws(sounds, found)
    assert sorted(keys(found)) == ["both.wav", "rain.wav"]
    assert "comes first for any sound" in found.text
    assert "Nothing was asked of the sound itself" in found.text


def test_like_a_stored_clip_is_another(sounds: Collection) -> None:
    found = sounds.answer("something like banjo.wav")
    check_laws(sounds, found)
    assert "banjo.wav" not in [one.key for one in found.citations]
    assert found.citations[0].key == "both.wav"
    check_laws(sounds, sounds.answer("like banjo.wav with rain"))


def test_tempo_and_mood_are_said_to_be_unmeasured(sounds: Collection) -> None:
    found = sounds.answer("a slow sad banjo")
    assert 'Tempo was not measured: "slow"' in found.text
    assert 'Mood was not measured: "sad"' in found.text


def test_no_calibration_no_certainty(tmp_path: Path) -> None:
    with make(tmp_path / "s.clap", CLIPS, calibration=None) as sounds:
        found = sounds.answer("a banjo without drums")
        check_laws(sounds, found)
        assert found.met == "unknown"
        assert "stands out" not in found.text
        assert "nothing tells how sure it is" in found.text


def test_an_empty_collection(tmp_path: Path) -> None:
    with make(tmp_path / "s.clap", {}) as sounds:
        found = sounds.answer("a banjo without drums by genre")
        assert (found.met, found.citations) == ("none", ())
        check_laws(sounds, found)


def test_chance_is_told_where_it_matters(tmp_path: Path) -> None:
    clips = {f"k{i:04d}": [f"word{i}"] for i in range(1100)}
    with make(tmp_path / "s.clap", {**clips, "banjo": ["banjo"]}) as sounds:
        assert "Of 1,101 clips some 1 would get such a score by chance." in sounds.answer(
            "a banjo"
        ).text  # fmt: skip


def test_events_come_in_order_and_the_parts_after_the_first_words(sounds: Collection) -> None:
    events = list(sounds.answer_stream("banjo and rain"))
    kinds = [type(event) for event in events]
    assert kinds[:3] == [Planned, Cited, Said]
    assert set(kinds[2:-1]) == {Said}
    answer = events[-1]
    assert isinstance(answer, Answered)
    said = [event.sentence for event in events if isinstance(event, Said)]
    assert tuple(said) == answer.answer.sentences
    stream = sounds.answer_stream("banjo and rain")
    assert [next(stream), next(stream)][1] == events[1]
    stream.close()  # type: ignore[attr-defined]


def test_a_plan_may_be_edited_and_asked(sounds: Collection) -> None:
    plan = sounds.answer_plan("a banjo from the 90s")
    assert plan.where == {"year": {">=": 1990, "<=": 1999}}
    found = sounds.answer(replace(plan, where={"year": 1999}))
    assert keys(found) == ["both.wav"]
    again = AnswerPlan.from_json(json.loads(json.dumps(found.plan.to_json())))
    assert sounds.answer(again).text == found.text
    assert keys(sounds.answer(AnswerPlan(text="rain"))) == ["rain.wav", "both.wav"]


def test_bars(sounds: Collection) -> None:
    assert keys(sounds.answer("a banjo", min_score=0.9)) == ["banjo.wav"]
    assert keys(sounds.answer("quarterly report", min_calibrated=0.0, k=6)) != []


@pytest.mark.parametrize(
    ("question", "options", "error"),
    [
        ("", {}, TaskError), (5, {}, TaskError), ("a banjo", {"k": 0}, TaskError),
        ("a banjo", {"k": 51}, TaskError), ("a banjo", {"where": {"year": {"~": 1}}}, FilterError),
        ("a banjo", {"group_by": ""}, FilterError), ("a banjo", {"min_score": "x"}, TaskError),
        ("a banjo", {"min_calibrated": 2}, TaskError),
        ("a banjo", {"min_calibrated": float("nan")}, TaskError),
        ("a banjo", {"timeout_s": -1}, ValueError), ("a banjo", {"timeout_s": 0}, DeadlineError),
        (AnswerPlan(near=("gone.wav",)), {}, CollectionError),
    ],
)  # fmt: skip
def test_bad_questions_and_options(
    sounds: Collection, question: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        sounds.answer(question, **options)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.sampled_from(WORDS),
        min_size=1, max_size=12,
    ).map(" ".join)
)  # fmt: skip
def test_every_answer_cites_what_is_there(sounds: Collection, question: str) -> None:
    """Laws of check_laws on composed questions; the same question, the same answer."""
    try:
        found = sounds.answer(question)
    except TaskError:
        assert not any(char.isalnum() for char in question)
        return
    check_laws(sounds, found)
    again = sounds.answer(question)
    assert replace(again, timings_ms={}) == replace(found, timings_ms={})


def test_names_can_not_pass_for_citations(tmp_path: Path) -> None:
    key = "evil [7].\x1b[2Jwav\n[8]"
    with make(tmp_path / "s.clap", {key: ["banjo"]}, {key: {"genre": "[9] x"}}) as sounds:
        found = sounds.answer("a banjo", group_by="genre")
        check_laws(sounds, found)
        assert found.citations[0].key == key
        assert found.text.isprintable()
    assert shown("x" * 500) == "x" * 97 + "..."
    assert clock(3661.26) == "61:01.3"


def test_awaited_and_streamed(sounds: Collection) -> None:
    async def scenario() -> None:
        workers = Workers({"search": 1, "text": 1, "upkeep": 1}, 4)
        awaited = AsyncCollection(sounds, workers)
        found = await awaited.answer("a banjo without drums")
        expected = sounds.answer("a banjo without drums")
        assert replace(found, timings_ms={}) == replace(expected, timings_ms={})
        assert await awaited.answer_plan("three banjo clips") == sounds.answer_plan(
            "three banjo clips"
        )
        events = [event async for event in awaited.answer_stream("a banjo", k=2)]
        assert [type(event) for event in events] == [
            type(event) for event in sounds.answer_stream("a banjo", k=2)
        ]
        stop = Deadline()
        stop.cancel()
        with pytest.raises(DeadlineError):
            await awaited.answer("a banjo", timeout_s=stop)
        with pytest.raises(TaskError):
            await awaited.answer("")
        await workers.close()

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def demo_path(tmp_path_factory: pytest.TempPathFactory, bundle_path: Path) -> Path:
    """A dozen of the sample clips, embedded by the bundle that ships."""
    path = tmp_path_factory.mktemp("demo") / "demo.clap"
    names = ("banjo", "rain", "thunder", "church_bell", "dog_bark", "police_siren", "polka", "harp")
    chosen = [sample for sample in demo.read_samples() if sample.label in names]
    with (
        clap_engine.load(bundle_path, threads=1) as engine,
        engine.collection(path, create=True) as sounds,
    ):
        sounds.add([s.path for s in chosen], keys=[s.path.name for s in chosen])
    return path


def test_the_verb(run: Run, demo_path: Path, bundle_path: Path, tmp_path: Path) -> None:
    given = (
        demo_path,
        "three clips of church bells without a police siren",
        "--bundle",
        bundle_path,
    )
    code, out, err = run("answer", *given, "--explain")
    assert code == 0
    first, _, *rows = out.splitlines()
    assert first.startswith("church-bell")
    assert "[1]" in first
    assert rows[0].split("\t")[0] == "1"
    assert "without a police siren" in err
    code, out, _ = run("answer", *given, "--json")
    record = json.loads(out)
    assert record["text"] == first
    assert record["plan"]["k"] == 3
    code, out, _ = run("answer", *given, "--jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines[:3]] == ["planned", "cited", "said"]
    assert lines[-1]["event"] == "answered"
    assert lines[-1]["text"] == first
    code, out, _ = run("answer", *given, "--plan")
    assert "not heard: police siren" in out
    code, out, _ = run("answer", *given, "--plan", "--json")
    file = tmp_path / "plan.json"
    file.write_text(out)
    code, out, _ = run("answer", demo_path, "--plan-file", file, "--bundle", bundle_path, "--json")
    assert json.loads(out)["text"] == first


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2), (("a banjo", "--plan-file", "x.json"), 2), (("--plan-file", "gone.json"), 3),
        (("a banjo", "--where", "{"), 2), (("a banjo", "-k", "99"), 2), (("?",), 2),
        (("a banjo", "--llm", "x", "--llm-url", "ftp://x"), 2),
    ],
)  # fmt: skip
def test_the_verb_refuses(
    run: Run, demo_path: Path, bundle_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    assert run("answer", demo_path, *arguments, "--bundle", bundle_path)[0] == code
