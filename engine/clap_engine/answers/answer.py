"""A question answered, event by event: the plan, the clips, sentences, and all of it at the end.

In:  a question or a plan, a collection, options; a language model, if one shall help.
Out: events in the order in which they become known; `Answer`.
Knows nothing about how rules read, how collections search, or how models are reached.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from clap_engine.answers import rewrite, rules
from clap_engine.answers.draft import Draft, Facts, Met, Options
from clap_engine.answers.evidence import Citation, Part, Searched
from clap_engine.answers.plan import AnswerPlan
from clap_engine.answers.prose import Group, Sentence
from clap_engine.answers.rewrite import ModelReport
from clap_engine.deadline import Deadline, Timeout
from clap_engine.search import Explanation

Writer = Literal["rules", "model"]


@dataclass(frozen=True)
class Planned:
    """What the question became; `by` the rules, or rewritten by the model."""

    plan: AnswerPlan
    by: Writer = "rules"


@dataclass(frozen=True)
class Cited:
    """The clips that the sentences after this one may name; those of an earlier event are void."""

    citations: tuple[Citation, ...]


@dataclass(frozen=True)
class Said:
    """One more sentence of the answer."""

    sentence: Sentence


@dataclass(frozen=True)
class Reworded:
    """The whole text in the model's words, instead of the claims so far."""

    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Answer:
    """A question answered: every claim of `sentences` cites clips by their numbers.

    `met` says how far the question was met. `timings_ms` has "first_words", from the call to the
    first sentence.
    """

    question: str
    text: str
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]
    parts: tuple[Part, ...]
    groups: tuple[Group, ...]
    met: Met
    plan: AnswerPlan
    timings_ms: dict[str, float]
    by: Writer = "rules"
    model: ModelReport | None = None
    explain: Explanation | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        record = asdict(self)
        record["plan"] = self.plan.to_json()
        record["timings_ms"] = {name: round(ms, 3) for name, ms in self.timings_ms.items()}
        return record


@dataclass(frozen=True)
class Answered:
    """The end: all of it."""

    answer: Answer


AnswerEvent: TypeAlias = Planned | Cited | Said | Reworded | Answered


def planned(question: str | AnswerPlan, facts: Facts) -> AnswerPlan:
    """The plan of a question by the rules; a plan is its own."""
    if isinstance(question, AnswerPlan):
        return question
    return rules.parse(question, declared=facts.declared, has_key=facts.has_key)


def events(
    sounds: Searched,
    question: str | AnswerPlan,
    options: Options,
    facts: Facts,
    timeout_s: Timeout = None,
) -> Iterator[AnswerEvent]:
    """The answer as it comes to be; nothing is searched before the first event is asked for.

    The rules' answer is complete before a language model is asked anything.
    """
    start = time.perf_counter()
    deadline = Deadline.of(timeout_s)
    timings: dict[str, float] = {}

    def lap(stage: str) -> None:
        timings[stage] = (time.perf_counter() - start) * 1e3 - sum(
            ms for name, ms in timings.items() if name != "first_words"
        )

    plan = options.over(planned(question, facts))
    lap("plan")
    yield Planned(plan)
    draft = Draft(sounds, plan, options, deadline)
    yield Cited(draft.findings.citations)
    lap("search")
    for sentence in draft.told():
        timings.setdefault("first_words", (time.perf_counter() - start) * 1e3)
        yield Said(sentence)
    lap("words")
    report: ModelReport | None = None
    by: Writer = "rules"
    if options.model is not None:
        report = ModelReport()
        for step in rewrite.steps(options.model, draft, facts, deadline):
            if isinstance(step, ModelReport):
                report = step
            else:
                draft, by = step, "model"
                if draft.is_searched_anew:
                    yield Planned(draft.findings.plan, "model")
                    yield Cited(draft.findings.citations)
                yield Reworded(tuple(draft.sentences))
        lap("model")
    timings["total"] = (time.perf_counter() - start) * 1e3
    yield Answered(_answer(draft, timings, by, report))


def _answer(
    draft: Draft, timings_ms: dict[str, float], by: Writer, report: ModelReport | None
) -> Answer:
    """All of it."""
    findings = draft.findings
    return Answer(
        findings.plan.question, " ".join(one.text for one in draft.sentences),
        tuple(draft.sentences), findings.citations, draft.parts, draft.groups, draft.met,
        findings.plan, timings_ms, by, report, findings.found.explain,
    )  # fmt: skip
