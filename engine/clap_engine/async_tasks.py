"""The tasks under asyncio: what `AsyncEngine` inherits.

In:  what the engine's own tasks take.
Out: what they give, awaited; events and evidence one by one as they are found.
Knows nothing about how any task is done.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from clap_engine.deadline import Deadline, Timeout
from clap_engine.workers import Workers

if TYPE_CHECKING:
    from clap_engine.engine import Engine

T = TypeVar("T")
_END = object()


class AsyncTasks:
    """The tasks of an engine, in its lane of sounds; arguments are those of the engine's own."""

    engine: Engine
    _workers: Workers

    async def classify(self, *given: Any, timeout_s: Timeout = None, **options: Any) -> Any:
        """Which labels fit a clip, as `Engine.classify`."""
        return await self._task(self.engine.classify, given, timeout_s, options)

    async def detect(self, *given: Any, timeout_s: Timeout = None, **options: Any) -> Any:
        """Events in long sound, as `Engine.detect`."""
        return await self._task(self.engine.detect, given, timeout_s, options)

    def detect_stream(
        self, *given: Any, timeout_s: Timeout = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Events as they are found, as `Engine.detect_stream`, by `async for`."""
        return self._stream(self.engine.detect_stream, given, timeout_s, options)

    async def moderate(self, *given: Any, timeout_s: Timeout = None, **options: Any) -> Any:
        """A verdict by a policy, as `Engine.moderate`."""
        return await self._task(self.engine.moderate, given, timeout_s, options)

    def moderate_stream(
        self, *given: Any, timeout_s: Timeout = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Evidence as it is found, as `Engine.moderate_stream`, by `async for`."""
        return self._stream(self.engine.moderate_stream, given, timeout_s, options)

    async def probe(self, *given: Any, timeout_s: Timeout = None, **options: Any) -> Any:
        """Classes of one's own from a few examples, as `Engine.probe`."""
        return await self._task(self.engine.probe, given, timeout_s, options)

    async def load_probe(self, path: str | os.PathLike[str]) -> Any:
        """A probe that was saved, as `Engine.load_probe`."""
        return await self._workers.run("audio", self.engine.load_probe, path)

    async def rank(self, *given: Any, timeout_s: Timeout = None, **options: Any) -> Any:
        """Takes by how well they fit a prompt, as `Engine.rank`."""
        return await self._task(self.engine.rank, given, timeout_s, options)

    async def rank_rows(self, *given: Any, **options: Any) -> Any:
        """The same of takes that are embedded already, as `Engine.rank_rows`."""
        return await self._workers.run("text", self.engine.rank_rows, *given, **options)

    async def separate(self, *given: Any, timeout_s: Timeout = None, **options: Any) -> Any:
        """How far classes of clips lie apart, as `Engine.separate`."""
        return await self._task(self.engine.separate, given, timeout_s, options)

    async def condition(self, *given: Any, timeout_s: Timeout = None, **options: Any) -> Any:
        """Embeddings to condition a generator on, as `Engine.condition`."""
        return await self._task(self.engine.condition, given, timeout_s, options)

    async def _task(
        self,
        work: Callable[..., T],
        given: tuple[Any, ...],
        timeout_s: Timeout,
        options: dict[str, Any],
    ) -> T:
        return await self._workers.bounded("audio", work, *given, timeout_s=timeout_s, **options)

    async def _stream(
        self,
        work: Callable[..., Iterator[T]],
        given: tuple[Any, ...],
        timeout_s: Timeout,
        options: dict[str, Any],
    ) -> AsyncIterator[T]:
        """Each item is sought when it is asked for; what nobody asks for any more is ended."""
        shared = Deadline.of(timeout_s)
        deadline = Deadline(shared.remaining_s)
        shared.watch(deadline.cancel)
        try:
            found = work(*given, timeout_s=deadline, **options)
            while (item := await self._workers.run("audio", next, found, _END)) is not _END:
                yield item
        finally:
            deadline.cancel()
            shared.unwatch(deadline.cancel)
