"""The engine under asyncio: the same verbs, awaited.

In:  an engine; texts, sounds, paths of collections.
Out: what `Engine` gives, without blocking the event loop.
Knows nothing about how anything is embedded, nor how threads are kept.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from clap_engine import loading
from clap_engine.arrays import Float32, Float64
from clap_engine.async_collection import AsyncCollection
from clap_engine.async_tasks import AsyncTasks
from clap_engine.clips import ClipWindows
from clap_engine.cores import usable_cores
from clap_engine.deadline import Timeout
from clap_engine.engine import Engine, EngineStats, Part
from clap_engine.workers import Workers

if TYPE_CHECKING:
    from clap_engine.audio import Source
    from clap_engine.caption import Caption
    from clap_engine.tasks.caption_face import GivenBank


class AsyncEngine(AsyncTasks):
    """An engine whose verbs are awaited; each lane has threads of its own, as many as slots.

    Cancelling the task that awaits a verb with `timeout_s` ends its work at the next window, text,
    token or stage of a search. Where too many calls wait, OverloadedError is raised at once.
    """

    def __init__(self, engine: Engine) -> None:
        """Takes the engine over: `close` closes it too."""
        self.engine = engine
        lanes = engine.stats().lanes
        sizes = {name: lane.slots for name, lane in lanes.items()}
        # What a collection does beside searching: opening, adding, listing, keeping in shape.
        sizes |= {"search": max(2, usable_cores()), "open": 1, "add": 1, "upkeep": 1}
        self._workers = Workers(sizes, engine.limits.max_waiting)

    @classmethod
    def load(
        cls, name_or_path: str | os.PathLike[str] | None = None, **options: Any
    ) -> AsyncEngine:
        """As `clap_engine.load`; no graph is loaded, so nothing blocks for long."""
        return cls(loading.load(name_or_path, **options))

    @property
    def bundle_id(self) -> str:
        """The bundle's name, as its manifest says it."""
        return self.engine.bundle_id

    @property
    def revision(self) -> str:
        """Digest over the bundle's files."""
        return self.engine.revision

    @property
    def text_revision(self) -> str:
        """As `revision`, of the bundle that texts are embedded by."""
        return self.engine.text_revision

    @property
    def space_id(self) -> str:
        """What collections bind to: the digest of the embedding space."""
        return self.engine.space_id

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.engine.dim

    @property
    def ladder(self) -> tuple[int, ...]:
        """The dims whose prefixes work on their own."""
        return self.engine.ladder

    def stats(self) -> EngineStats:
        """As `Engine.stats`; at once."""
        return self.engine.stats()

    async def warm(self, *parts: Part, **options: bool) -> None:
        """As `Engine.warm`."""
        await self._workers.run("open", self.engine.warm, *parts, **options)

    async def swap_text(self, name_or_path: str | os.PathLike[str], **options: Any) -> None:
        """Embed texts by another bundle's graph from now on, as `Engine.swap_text`."""
        await self._workers.run("open", self.engine.swap_text, name_or_path, **options)

    async def embed_text(
        self, texts: str | Sequence[str], *, dim: int | None = None, timeout_s: Timeout = None
    ) -> Float32:
        """N texts -> [N, D] unit rows, as `Engine.embed_text`."""
        return await self._workers.bounded(
            "text", self.engine.embed_text, texts, dim=dim, timeout_s=timeout_s
        )

    @overload
    async def embed_audio(
        self, sources: Sequence[Source], *, windows: Literal[False] = ..., dim: int | None = ...,
        timeout_s: Timeout = ...,
    ) -> Float32: ...  # fmt: skip
    @overload
    async def embed_audio(
        self, sources: Sequence[Source], *, windows: Literal[True], dim: int | None = ...,
        timeout_s: Timeout = ...,
    ) -> list[ClipWindows]: ...  # fmt: skip
    async def embed_audio(
        self,
        sources: Sequence[Source],
        *,
        windows: bool = False,
        dim: int | None = None,
        timeout_s: Timeout = None,
    ) -> Float32 | list[ClipWindows]:
        """N clips -> [N, D] unit rows or their windows, as `Engine.embed_audio`."""
        found: Float32 | list[ClipWindows] = await self._workers.bounded(
            "audio", self.engine.embed_audio, sources, windows=windows, dim=dim,
            timeout_s=timeout_s,
        )  # fmt: skip
        return found

    async def embed_windows(
        self, source: Source, *, timeout_s: Timeout = None
    ) -> tuple[Float32, Float64, float]:
        """One clip -> (vectors [W, D], spans [W, 2], duration), as `Engine.embed_windows`."""
        return await self._workers.bounded(
            "audio", self.engine.embed_windows, source, timeout_s=timeout_s
        )

    async def caption(
        self,
        source: Source,
        *,
        beams: int | None = None,
        max_tokens: int | None = None,
        bank: GivenBank | None = None,
        min_confidence: float | None = None,
        timeout_s: Timeout = None,
    ) -> Caption:
        """One clip -> a sentence about it, as `Engine.caption`."""
        return await self._workers.bounded(
            "caption", self.engine.caption, source, beams=beams, max_tokens=max_tokens,
            bank=bank, min_confidence=min_confidence, timeout_s=timeout_s,
        )  # fmt: skip

    async def caption_windows(
        self,
        source: Source,
        *,
        beams: int | None = None,
        max_tokens: int | None = None,
        bank: GivenBank | None = None,
        min_confidence: float | None = None,
        timeout_s: Timeout = None,
    ) -> list[Caption]:
        """One clip -> a sentence about each window, as `Engine.caption_windows`."""
        return await self._workers.bounded(
            "caption", self.engine.caption_windows, source, beams=beams, max_tokens=max_tokens,
            bank=bank, min_confidence=min_confidence, timeout_s=timeout_s,
        )  # fmt: skip

    def collection(self, path: str | os.PathLike[str], **options: Any) -> _Opening:
        """As `Engine.collection`, to be awaited or entered: `async with engine.collection(p)`."""
        return _Opening(self, path, options)

    async def close(self) -> None:
        """Free all graphs, once what runs has ended; a second call does nothing."""
        self.engine.close()
        await self._workers.close()

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Async{repr(self.engine)[1:]}"


class _Opening:
    """A collection that is about to be opened, by `await` or by `async with`."""

    def __init__(
        self, engine: AsyncEngine, path: str | os.PathLike[str], options: dict[str, Any]
    ) -> None:
        self._engine, self._path, self._options = engine, path, options
        self._opened: AsyncCollection | None = None

    def __await__(self) -> Generator[Any, None, AsyncCollection]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncCollection:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.close(wait=error is None)

    async def _open(self) -> AsyncCollection:
        workers = self._engine._workers
        collection = await workers.run(
            "open", self._engine.engine.collection, self._path, **self._options
        )
        return AsyncCollection(collection, workers)
