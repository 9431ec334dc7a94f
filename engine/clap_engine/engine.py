"""The facade: one opened bundle, its two towers, and the collections made with them.

In:  texts, sounds (paths, bytes, waveforms with their rate), paths of collections.
Out: unit embeddings float32 [N, D], windows with their spans, opened collections.
Knows nothing about ONNX, files of sound, SQLite or the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from clap_engine import bundle as bundles
from clap_engine.arrays import Float32, Float64, l2_normalize
from clap_engine.calls import Call
from clap_engine.clips import ClipWindows, clip_embedding
from clap_engine.cores import default_threads
from clap_engine.deadline import Deadline, Timeout
from clap_engine.embedding import SILENT, Embedding, Within, lane_slots
from clap_engine.errors import AudioError
from clap_engine.events import Observer, OnEvent
from clap_engine.lanes import Lane, LaneStats
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.matryoshka import truncate
from clap_engine.placement import Placement
from clap_engine.tasks.face import TaskFace
from clap_engine.towers import Towers
from clap_engine.vector_cache import CacheStats

if TYPE_CHECKING:
    from clap_engine.audio import Source
    from clap_engine.caption import Caption, Captioner
    from clap_engine.collection import Collection
    from clap_engine.encoders import AudioEncoder, TextEncoder
    from clap_engine.records import Granularity
    from clap_engine.tasks.caption_face import GivenBank

__all__ = ["ClipWindows", "Engine", "EngineStats", "clip_embedding", "default_threads"]


Part = Literal["text", "audio", "caption"]


@dataclass(frozen=True)
class EngineStats:
    """Counts as of one moment: calls by lane, the cache of texts, the towers that are loaded."""

    lanes: dict[str, LaneStats]
    text_cache: CacheStats
    loaded: tuple[str, ...]


class Engine(TaskFace):
    """An opened bundle. Thread-safe; towers are loaded when they are first needed.

    Texts, sounds and captions each have a lane: so many calls at once, so many that wait (see
    `Limits`), none behind a call of another kind. `timeout_s` of a verb counts its waiting too; it
    may also be a `Deadline`, which any thread can cancel. A call raises DeadlineError within its
    time and the window or the text that is being computed then.
    """

    def __init__(
        self,
        bundle: bundles.Bundle,
        *,
        precision: str | None = None,
        threads: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        providers: Sequence[str] | None = None,
        provider: str | None = None,
        strict_provider: bool = False,
        gpu_mem_limit: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        idle_unload_s: float | None = None,
        latency_budget_ms: float | None = None,
        on_event: OnEvent | None = None,
        live_recall: float = 0.0,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; give at least 1, or None for the default")
        self.bundle = bundle
        self.limits = limits
        self.threads = default_threads() if threads is None else threads
        placement = Placement(
            provider=provider,
            providers=None if providers is None else tuple(providers),
            is_strict=strict_provider,
            gpu_mem_limit=gpu_mem_limit,
            cache_dir=None if cache_dir is None else Path(cache_dir),
        )
        settings = {
            "precision": precision, "threads": self.threads, "placement": placement,
            "limits": limits,
        }  # fmt: skip
        self.observer = Observer(on_event, live_recall=live_recall)
        self._towers = Towers(
            bundle, settings, self.observer, idle_unload_s=idle_unload_s,
            latency_budget_ms=latency_budget_ms,
        )  # fmt: skip
        is_gathering = latency_budget_ms is not None
        slots = lane_slots(bundle.manifest, precision, self.threads, is_gathering=is_gathering)
        self._embedding = Embedding(self._towers, limits, slots)

    @property
    def bundle_id(self) -> str:
        """The bundle's name, as its manifest says it."""
        return self.bundle.manifest.id

    @property
    def revision(self) -> str:
        """Digest over the bundle's files."""
        return self.bundle.manifest.revision

    @property
    def space_id(self) -> str:
        """What collections bind to: the digest of the embedding space."""
        return self.bundle.manifest.space_id

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.bundle.manifest.dim

    @property
    def ladder(self) -> tuple[int, ...]:
        """The dims whose prefixes work on their own."""
        return self.bundle.manifest.ladder

    @property
    def calibration(self) -> dict[str, float]:
        """What turns a score into a probability, where the bundle knows it."""
        known = dict(self.bundle.manifest.calibration)
        newer = self._towers.text_bundle.manifest.calibration
        return {**known, **{name: newer[name] for name in newer if name.startswith("text_")}}

    def warm(
        self, *parts: Part, text: bool = True, audio: bool = True, caption: bool = False
    ) -> None:
        """Load graphs now instead of with the first text or sound: `warm("text")` that one alone.

        Without names, those whose keyword is true.
        """
        chosen = {"text": text, "audio": audio, "caption": caption}
        unknown = [part for part in parts if part not in chosen]
        if unknown:
            raise ValueError(f"{unknown[0]!r} can't be warmed; give text, audio or caption")
        for part, is_wanted in chosen.items():
            if part in parts or (is_wanted and not parts):
                getattr(self._towers, part).warm()

    def swap_text(
        self,
        name_or_path: str | os.PathLike[str],
        *,
        models_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Embed texts by the text graph of another bundle from now on, while requests go on.

        It must be of the same space: then collections stay as they are. It is loaded and proven by
        its goldens first. SpaceMismatchError (see `migrate`), GraphError, NotFoundError: then all
        is as it was. Collections that are open keep the calibration that they were opened with.
        """
        from clap_engine import text_swap

        other = bundles.open(bundles.find(name_or_path, models_dir=models_dir))
        text_swap.swap(self._towers, self._embedding, other)
        self.forget_prompts()

    @property
    def text_revision(self) -> str:
        """As `revision`, of the bundle that texts are embedded by."""
        return self._towers.text_bundle.manifest.revision

    def stats(self) -> EngineStats:
        """How busy the lanes are, what the cache of texts spared, which towers are loaded."""
        parts = self._embedding
        lanes = {name: lane.stats() for name, lane in parts.lanes.items()}
        return EngineStats(lanes, parts.cache.stats(), self._towers.loaded)

    def embed_text(
        self, texts: str | Sequence[str], *, dim: int | None = None, timeout_s: Timeout = None
    ) -> Float32:
        """N texts -> [N, D] unit rows; `dim` takes a rung of the ladder instead of all of D."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        with self._call("embed_text", "text", timeout_s) as call:
            rows = self._embedding.texts(texts, call)
        return self._cut(rows, dim)

    def embed_text_timed(
        self, texts: Sequence[str], *, timeout_s: Timeout = None
    ) -> tuple[Float32, dict[str, float]]:
        """As `embed_text`, and the milliseconds of its stages: tokenize, text."""
        with self._call("embed_text", "text", timeout_s) as call:
            rows = self._embedding.texts(list(texts), call)
        return rows, dict(call.stages_ms)

    @overload
    def embed_audio(
        self, sources: Sequence[Source], *, windows: Literal[False] = ..., dim: int | None = ...,
        timeout_s: Timeout = ...,
    ) -> Float32: ...  # fmt: skip
    @overload
    def embed_audio(
        self, sources: Sequence[Source], *, windows: Literal[True], dim: int | None = ...,
        timeout_s: Timeout = ...,
    ) -> list[ClipWindows]: ...  # fmt: skip
    def embed_audio(
        self,
        sources: Sequence[Source],
        *,
        windows: bool = False,
        dim: int | None = None,
        timeout_s: Timeout = None,
    ) -> Float32 | list[ClipWindows]:
        """N clips -> [N, D] unit rows, or with `windows=True` each clip's rows and spans."""
        if isinstance(sources, (str, bytes, os.PathLike)) or _is_waveform(sources):
            raise AudioError("one clip was given where a list is wanted; write [clip]")
        with self._call("embed_audio", "audio", timeout_s) as call:
            clips = [
                self._clip(source, call, is_whole=windows)
                for source in call.deadline.checked(sources)
            ]
        if windows:
            return [
                ClipWindows(self._cut(clip.vectors, dim), clip.spans, clip.duration_s)
                for clip in clips
            ]
        # The mean is taken over whole embeddings and cut afterwards: a rung is a prefix of it.
        rows = [clip.vectors for clip in clips]
        embeddings = np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)
        return self._cut(embeddings, dim)

    def embed_windows(
        self, source: Source, *, timeout_s: Timeout = None
    ) -> tuple[Float32, Float64, float]:
        """One clip -> (vectors [W, D], spans in seconds [W, 2], duration in seconds)."""
        with self._call("embed_windows", "audio", timeout_s) as call:
            return self._embedding.windows(source, call)

    def caption(
        self,
        source: Source,
        *,
        beams: int | None = None,
        max_tokens: int | None = None,
        bank: GivenBank | None = None,
        min_confidence: float | None = None,
        timeout_s: Timeout = None,
    ) -> Caption:
        """One clip -> a sentence about it; a long clip is described by the mean of its windows.

        By the bundle's decoder; where it has none, or a `bank` or `min_confidence` is given, by
        retrieval: each claim of the sentence is from a phrase bank, the one in English unless
        another is named, and at least so sure (by default .85).

        `beams` and `max_tokens` are the decoder's: NotFoundError where there is none. Raises
        TaskError for a bank or confidence that is not allowed, AudioError for the clip.
        """
        if self._is_retrieved(beams, max_tokens, bank, min_confidence):
            (found,) = self._retrieved(source, bank, min_confidence, Deadline.of(timeout_s))
            return found
        with self._call("caption", "caption", timeout_s) as call:
            native, spans = self._native(source, call)
            mean = clip_embedding(native if len(native) == 1 else l2_normalize(native))
            (caption,) = self._towers.caption.caption(
                mean[None], beams=beams, max_tokens=max_tokens, deadline=call.deadline
            )
        return replace(caption, start_s=float(spans[0, 0]), end_s=float(spans[-1, 1]))

    def caption_windows(
        self,
        source: Source,
        *,
        beams: int | None = None,
        max_tokens: int | None = None,
        bank: GivenBank | None = None,
        min_confidence: float | None = None,
        timeout_s: Timeout = None,
    ) -> list[Caption]:
        """One clip -> a sentence about each of its windows, in order, as `caption`."""
        if self._is_retrieved(beams, max_tokens, bank, min_confidence):
            deadline = Deadline.of(timeout_s)
            return self._retrieved(source, bank, min_confidence, deadline, is_each=True)
        with self._call("caption_windows", "caption", timeout_s) as call:
            native, spans = self._native(source, call)
            captions = self._towers.caption.caption(
                native, beams=beams, max_tokens=max_tokens, deadline=call.deadline
            )
        return [
            replace(caption, start_s=float(start_s), end_s=float(end_s))
            for caption, (start_s, end_s) in zip(captions, spans, strict=True)
        ]

    def known_text(self, text: str) -> Float32 | None:
        """[D], what `embed_text` would give, if that was asked lately; else None, at once."""
        self._embedding.check_open()
        return self._embedding.cache.known(text)

    def within(
        self, deadline: Deadline, *, is_patient: bool = False, has_turn: bool = False
    ) -> Within:
        """What a collection embeds with during one call of its own; see `Within`."""
        return Within(self._embedding, deadline, is_patient, has_turn)

    @property
    def words(self) -> Lane:
        """The lane of texts, in which collections search as well: one turn for both."""
        return self._embedding.words

    def collection(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = False,
        read_only: bool = False,
        granularity: Granularity | None = None,
        watch: bool = False,
    ) -> Collection:
        """The collection at `path`; it must exist unless `create=True`.

        `granularity` is what a new one finds clips by, and stays: "window" (the default), "clip"
        (one mean vector each) or "both" (means first, then the windows of those clips). With
        `watch` a reader follows in the background what is committed, or switched to, see
        Collection.open.
        """
        from clap_engine.collection import Collection

        self._towers.check_open()
        return Collection.open(
            path, embedder=self, create=create, read_only=read_only, granularity=granularity,
            limits=self.limits, watch=watch,
        )  # fmt: skip

    def close(self) -> None:
        """Free all graphs; a second call does nothing."""
        self._towers.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._towers.is_closed else f"{self.threads} threads"
        return f"<Engine {self.bundle_id} {self.revision[:12]}, {self.dim} dims, {state}>"

    def _cut(self, embeddings: Float32, dim: int | None) -> Float32:
        return embeddings if dim is None else truncate(embeddings, dim, self.ladder)

    def _call(self, verb: str, lane: str, timeout_s: Timeout) -> Call:
        self._embedding.check_open()
        deadline = Deadline.of(timeout_s)
        return Call(verb, self._embedding.lanes[lane], deadline, self.observer)

    def _clip(self, source: Source, call: Call, *, is_whole: bool) -> ClipWindows:
        """One clip's windows, or with `is_whole` false their mean in place of them."""
        vectors, spans, duration_s = self._embedding.windows(source, call)
        if not is_whole:
            vectors = clip_embedding(vectors)[None]
        return ClipWindows(vectors, spans, duration_s)

    def _native(self, source: Source, call: Call) -> tuple[Float32, Float64]:
        """What captions are made of, embedded in the lane of sounds."""
        _ = self._towers.caption  # a bundle without caption graphs is refused before any work
        audio = Call("caption", self._embedding.lanes["audio"], call.deadline, SILENT)
        with audio:
            found = self._embedding.native(source, audio)
        call.stages_ms, call.sizes = audio.stages_ms, audio.sizes
        return found

    def _text_encoder(self) -> TextEncoder:
        return self._towers.text

    def _audio_encoder(self) -> AudioEncoder:
        return self._towers.audio

    def _caption_encoder(self) -> Captioner:
        return self._towers.caption


def _is_waveform(sources: Any) -> bool:
    """Is this one (waveform, rate_hz) pair, or a bare array, rather than a list of clips?"""
    if isinstance(sources, tuple) and len(sources) == 2:
        return isinstance(sources[1], (int, float, np.number))
    return isinstance(sources, np.ndarray)
