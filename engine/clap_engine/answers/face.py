"""Answers as methods: what a collection inherits.

In:  questions in words, or plans.
Out: plans, events, answers.
Knows nothing about rows, graphs or the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from clap_engine.deadline import Timeout

if TYPE_CHECKING:
    from clap_engine.answers.answer import Answer, AnswerEvent
    from clap_engine.answers.draft import Facts
    from clap_engine.answers.language_model import LanguageModel
    from clap_engine.answers.plan import AnswerPlan


class AnswerFace:
    """What a collection says to a question; from many threads at once."""

    if TYPE_CHECKING:

        def _answer_facts(self) -> Facts: ...

    def answer_plan(self, question: str) -> AnswerPlan:
        """What the rules make of a question: a value to read, edit and hand to `answer`.

        Raises TaskError for a question without a word or of more than 1000 characters.
        """
        from clap_engine.answers.answer import planned

        return planned(question, self._answer_facts())

    def answer(
        self,
        question: str | AnswerPlan,
        *,
        k: int | None = None,
        where: Mapping[str, Any] | None = None,
        group_by: str | None = None,
        min_score: float | None = None,
        min_calibrated: float | None = None,
        explain: bool = False,
        model: LanguageModel | None = None,
        timeout_s: Timeout = None,
    ) -> Answer:
        """A question in words, answered in sentences that cite clips and spans.

        The question becomes a plan by fixed rules; see `answer_plan`. `k`, `where` and `group_by`
        (a metadata field, dots leading into it) add to the plan. A clip counts as found where its
        score beats the share `min_calibrated` of what unrelated sounds get (.999; .98 of the
        collection itself where the query is a sum) and is no less than `min_score`. `model`
        may rewrite plan and text within what was found; it is asked last, and what it does not
        give in time is done without. The same question gives the same answer, without a model.

        Raises TaskError or FilterError for a question, plan or option that is not allowed,
        DeadlineError where the search takes longer than `timeout_s`.
        """
        from clap_engine.answers.answer import Answered

        for event in self.answer_stream(
            question, k=k, where=where, group_by=group_by, min_score=min_score,
            min_calibrated=min_calibrated, explain=explain, model=model, timeout_s=timeout_s,
        ):  # fmt: skip
            if isinstance(event, Answered):
                return event.answer
        raise AssertionError("a stream of events ends with the answer")

    def answer_stream(
        self,
        question: str | AnswerPlan,
        *,
        k: int | None = None,
        where: Mapping[str, Any] | None = None,
        group_by: str | None = None,
        min_score: float | None = None,
        min_calibrated: float | None = None,
        explain: bool = False,
        model: LanguageModel | None = None,
        timeout_s: Timeout = None,
    ) -> Iterator[AnswerEvent]:
        """As `answer`, event by event: Planned, Cited, Said for each sentence, ..., Answered.

        Options are checked at once, the question when the first event is asked for.
        """
        from clap_engine.answers import answer
        from clap_engine.answers.draft import Options

        options = Options(k, where, min_score, min_calibrated, group_by, explain, model)
        return answer.events(self, question, options, self._answer_facts(), timeout_s)  # type: ignore[arg-type]
