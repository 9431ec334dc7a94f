"""Answers under asyncio: what an awaited collection inherits.

In:  questions in words, or plans; the threads of an engine.
Out: plans, answers, awaited; events by `async for`.
Knows nothing about how a question is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from clap_engine.deadline import Deadline, Timeout
from clap_engine.workers import Workers

if TYPE_CHECKING:
    from clap_engine.answers.answer import Answer, AnswerEvent
    from clap_engine.answers.face import AnswerFace
    from clap_engine.answers.plan import AnswerPlan

_END: Any = object()


class AsyncAnswers:
    """What a collection says to a question; arguments are those of the collection's own."""

    if TYPE_CHECKING:

        @property
        def _answering(self) -> AnswerFace: ...

        _workers: Workers

    async def answer_plan(self, question: str) -> AnswerPlan:
        """What the rules make of a question, as `Collection.answer_plan`."""
        return await self._workers.run("search", self._answering.answer_plan, question)

    async def answer(
        self, question: str | AnswerPlan, *, timeout_s: Timeout = None, **options: Any
    ) -> Answer:
        """A question answered in sentences that cite clips, as `Collection.answer`."""
        from clap_engine.answers.answer import Answered

        async for event in self.answer_stream(question, timeout_s=timeout_s, **options):
            if isinstance(event, Answered):
                return event.answer
        raise AssertionError("a stream of events ends with the answer")

    async def answer_stream(
        self, question: str | AnswerPlan, *, timeout_s: Timeout = None, **options: Any
    ) -> AsyncIterator[AnswerEvent]:
        """Events as they become known, as `Collection.answer_stream`, by `async for`.

        A search that nobody waits for any more is ended. With a `model` the steps run in threads
        of the event loop's own, so that waiting for it holds up no search.
        """
        shared = Deadline.of(timeout_s)
        deadline = Deadline(shared.remaining_s)
        shared.watch(deadline.cancel)
        waits = options.get("model") is not None
        try:
            stream = self._answering.answer_stream(question, timeout_s=deadline, **options)
            while True:
                if waits:
                    event = await asyncio.to_thread(next, stream, _END)
                else:
                    event = await self._workers.run("text", next, stream, _END)
                if event is _END:
                    return
                yield event
        finally:
            deadline.cancel()
            shared.unwatch(deadline.cancel)
