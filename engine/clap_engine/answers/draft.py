"""One plan carried out over a collection, and what is said of it.

In:  a plan, a collection, options.
Out: findings, parts, groups, sentences one by one; how far the question was met.
Knows nothing about events, language models or the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from clap_engine import filters
from clap_engine.answers import evidence, prose
from clap_engine.answers.evidence import Findings, Part, Searched
from clap_engine.answers.plan import AnswerPlan, check_k
from clap_engine.answers.prose import Group, Sentence
from clap_engine.deadline import Deadline
from clap_engine.errors import TaskError

if TYPE_CHECKING:
    from clap_engine.answers.language_model import LanguageModel

# "full": something stands out and every part of the question was met; "part": not every part;
# "none": nothing stands out; "unknown": the bundle doesn't say what unrelated sounds score.
Met = Literal["full", "part", "none", "unknown"]


@dataclass(frozen=True)
class Options:
    """How to answer; checked when made."""

    k: int | None = None
    where: Mapping[str, Any] | None = None
    min_score: float | None = None
    min_calibrated: float | None = None
    group_by: str | None = None
    explain: bool = False
    model: LanguageModel | None = None

    def __post_init__(self) -> None:
        if self.k is not None:
            check_k(self.k)
        if self.where is not None:
            filters.parse(self.where)
        if self.group_by is not None:
            filters.field_of(self.group_by)
        for name, low, high in (("min_score", -math.inf, math.inf), ("min_calibrated", 0, 1)):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (is_number and low <= value <= high):
                raise TaskError(f"{name} is {value!r:.60}; give a number from {low} to {high}")

    def over(self, plan: AnswerPlan) -> AnswerPlan:
        """The plan with what the caller asks for besides; both filters must hold."""
        given = [dict(one) for one in (plan.where, self.where) if one]
        return replace(
            plan,
            k=plan.k if self.k is None else self.k,
            is_k_asked=plan.is_k_asked if self.k is None else True,
            where=None if not given else given[0] if len(given) == 1 else {"and": given},
            group_by=self.group_by or plan.group_by,
        )


@dataclass(frozen=True)
class Facts:
    """What a collection tells a question's reader: its declared fields, and which keys it holds."""

    declared: tuple[str, ...] = ()
    has_key: Callable[[str], bool] = field(default=lambda key: False)


class Draft:
    """One plan carried out, and what was said of it so far."""

    def __init__(
        self, sounds: Searched, plan: AnswerPlan, options: Options, deadline: Deadline
    ) -> None:
        self.sounds, self.options, self.deadline = sounds, options, deadline
        self.findings: Findings = evidence.find(
            sounds, plan, bar=options.min_calibrated, min_score=options.min_score,
            explain=options.explain, deadline=deadline,
        )  # fmt: skip
        self.parts: tuple[Part, ...] = ()
        self.groups: tuple[Group, ...] = ()
        self.sentences: list[Sentence] = []
        self.is_searched_anew = False

    def told(self) -> Iterator[Sentence]:
        """The sentences; the parts are looked at once the first ones were said."""
        for sentence in self._told():
            self.sentences.append(sentence)
            yield sentence

    def _told(self) -> Iterator[Sentence]:
        yield from prose.lead(self.findings)
        self.parts = evidence.parts(self.sounds, self.findings, deadline=self.deadline)
        yield from prose.of_parts(self.findings.plan, self.parts)
        field_name = self.findings.plan.group_by
        if field_name is not None:
            self.groups = prose.grouped(self.findings, field_name)
            yield from prose.of_groups(field_name, self.groups)
        yield from prose.notes(self.findings, len(self.sounds))

    @property
    def met(self) -> Met:
        """How far the question was met."""
        findings, plan = self.findings, self.findings.plan
        if not findings.strong:
            return "none"
        if findings.bar is None and plan.is_sound_asked:
            return "unknown"
        is_short = plan.is_k_asked and len(findings.strong) < plan.k
        is_whole = prose.together(plan, self.parts) and not plan.unmet
        return "full" if is_whole and not is_short else "part"
