"""The facade: one opened bundle, its two towers, and the collections made with them.

In:  texts, sounds (paths, bytes, waveforms with their rate), paths of collections.
Out: unit embeddings float32 [N, D], windows with their spans, opened collections.
Knows nothing about ONNX, files of sound, SQLite or the command line.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from clap_engine import bundle as bundles
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import AudioError, ClosedError, ForkedError
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.matryoshka import truncate
from clap_engine.placement import Placement

if TYPE_CHECKING:
    from clap_engine.audio import Source
    from clap_engine.caption import Caption, Captioner
    from clap_engine.collection import Collection
    from clap_engine.encoders import AudioEncoder, TextEncoder
    from clap_engine.records import Granularity

Float64 = npt.NDArray[np.float64]

log = logging.getLogger("clap_engine")

# One text or one window stops gaining beyond this; further cores serve further requests.
MAX_DEFAULT_THREADS = 4


@dataclass(frozen=True)
class ClipWindows:
    """One clip's windows: `vectors` float32 [W, D] unit rows, `spans` seconds [W, 2]."""

    vectors: Float32
    spans: Float64
    duration_s: float

    @property
    def embedding(self) -> Float32:
        """[D], the normalised mean of the windows."""
        return clip_embedding(self.vectors)


def clip_embedding(vectors: Float32) -> Float32:
    """[W, D] -> [D], the normalised mean; one window is returned as it is, to the bit."""
    mean = vectors[:1].copy()
    if len(vectors) > 1:
        mean = l2_normalize(vectors.mean(axis=0, dtype=np.float32, keepdims=True))
    (embedding,) = mean
    return np.asarray(embedding, np.float32)


def default_threads() -> int:
    """Physical cores that this process may use, at most MAX_DEFAULT_THREADS."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        allowed = list(range(os.cpu_count() or 1))
    cores = {_core_of(cpu) for cpu in allowed}
    return max(1, min(len(cores), MAX_DEFAULT_THREADS))


def _core_of(cpu: int) -> str:
    """The hardware threads that share a core with `cpu`, or `cpu` itself where nobody says."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text().strip()
    except OSError:
        return str(cpu)


class Engine:
    """An opened bundle. Thread-safe; towers are loaded when they are first needed."""

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
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; give at least 1, or None for the default")
        self.bundle = bundle
        self.limits = limits
        self.threads = default_threads() if threads is None else threads
        self._precision = precision
        self._placement = Placement(
            provider=provider,
            providers=None if providers is None else tuple(providers),
            is_strict=strict_provider,
            gpu_mem_limit=gpu_mem_limit,
            cache_dir=None if cache_dir is None else Path(cache_dir),
        )
        self._lock = threading.RLock()
        self._text: TextEncoder | None = None
        self._audio: AudioEncoder | None = None
        self._captioner: Captioner | None = None
        self._pid = os.getpid()
        self._closed = False

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
        return dict(self.bundle.manifest.calibration)

    def warm(self, *, text: bool = True, audio: bool = True, caption: bool = False) -> None:
        """Load these graphs now instead of with the first text or sound."""
        if text:
            self._text_encoder().warm()
        if audio:
            self._audio_encoder().warm()
        if caption:
            self._caption_encoder().warm()

    def embed_text(self, texts: str | Sequence[str], *, dim: int | None = None) -> Float32:
        """N texts -> [N, D] unit rows; `dim` takes a rung of the ladder instead of all of D."""
        self._check_open()
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            return self._cut(np.zeros((0, self.dim), np.float32), dim)
        return self._cut(self._text_encoder().encode(texts), dim)

    def embed_text_timed(self, texts: Sequence[str]) -> tuple[Float32, dict[str, float]]:
        """As `embed_text`, and the milliseconds of its stages: tokenize, text."""
        self._check_open()
        rows, timings = self._text_encoder().encode_timed(list(texts))
        return rows, {"tokenize": timings.tokenize_ms, "text": timings.text_ms}

    @overload
    def embed_audio(
        self, sources: Sequence[Source], *, windows: Literal[False] = ..., dim: int | None = ...
    ) -> Float32: ...
    @overload
    def embed_audio(
        self, sources: Sequence[Source], *, windows: Literal[True], dim: int | None = ...
    ) -> list[ClipWindows]: ...
    def embed_audio(
        self, sources: Sequence[Source], *, windows: bool = False, dim: int | None = None
    ) -> Float32 | list[ClipWindows]:
        """N clips -> [N, D] unit rows, or with `windows=True` each clip's rows and spans."""
        self._check_open()
        if isinstance(sources, (str, bytes, os.PathLike)) or _is_waveform(sources):
            raise AudioError("one clip was given where a list is wanted; write [clip]")
        clips = (self.embed_windows(source) for source in sources)
        if windows:
            return [ClipWindows(self._cut(rows, dim), spans, end_s) for rows, spans, end_s in clips]
        # The mean is taken over whole embeddings and cut afterwards: a rung is a prefix of it.
        means = [clip_embedding(rows) for rows, _, _ in clips]
        embeddings = np.stack(means) if means else np.zeros((0, self.dim), np.float32)
        return self._cut(embeddings, dim)

    def embed_windows(self, source: Source) -> tuple[Float32, Float64, float]:
        """One clip -> (vectors [W, D], spans in seconds [W, 2], duration in seconds)."""
        from clap_engine import audio

        self._check_open()
        encoder = self._audio_encoder()
        vectors, spans = [], []
        for waveforms, span in audio.windows(source, self.bundle.manifest.audio, self.limits):
            vectors.append(encoder.encode(waveforms))
            spans.append(span)
        if not vectors:
            raise AudioError("the clip holds no sample; give a sound that lasts")
        span_rows = np.concatenate(spans).astype(np.float64)
        return np.concatenate(vectors), span_rows, float(span_rows[-1, 1])

    def caption(
        self, source: Source, *, beams: int | None = None, max_tokens: int | None = None
    ) -> Caption:
        """One clip -> a sentence about it; a long clip is described by the mean of its windows."""
        native, spans = self._native(source)
        mean = clip_embedding(native if len(native) == 1 else l2_normalize(native))
        captioner = self._caption_encoder()
        (caption,) = captioner.caption(mean[None], beams=beams, max_tokens=max_tokens)
        return replace(caption, start_s=float(spans[0, 0]), end_s=float(spans[-1, 1]))

    def caption_windows(
        self, source: Source, *, beams: int | None = None, max_tokens: int | None = None
    ) -> list[Caption]:
        """One clip -> a sentence about each of its windows, in order."""
        native, spans = self._native(source)
        captioner = self._caption_encoder()
        captions = captioner.caption(native, beams=beams, max_tokens=max_tokens)
        return [
            replace(caption, start_s=float(start_s), end_s=float(end_s))
            for caption, (start_s, end_s) in zip(captions, spans, strict=True)
        ]

    def _native(self, source: Source) -> tuple[Float32, Float64]:
        """One clip -> what captions are made of [W, D_native], spans in seconds [W, 2]."""
        from clap_engine import audio

        self._check_open()
        self._caption_encoder()  # a bundle without caption graphs is refused before any work
        encoder = self._audio_encoder()
        rows, spans = [], []
        for waveforms, span in audio.windows(source, self.bundle.manifest.audio, self.limits):
            rows.append(encoder.encode_native(waveforms))
            spans.append(span)
        if not rows:
            raise AudioError("the clip holds no sample; give a sound that lasts")
        return np.concatenate(rows), np.concatenate(spans).astype(np.float64)

    def collection(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = False,
        read_only: bool = False,
        granularity: Granularity | None = None,
    ) -> Collection:
        """The collection at `path`; it must exist unless `create=True`.

        `granularity` is what a new one finds clips by, and stays: "window" (the default), "clip"
        (one mean vector each) or "both" (means first, then the windows of those clips).
        """
        from clap_engine.collection import Collection

        self._check_open()
        return Collection.open(
            path, embedder=self, create=create, read_only=read_only, granularity=granularity,
            limits=self.limits,
        )  # fmt: skip

    def close(self) -> None:
        """Free all graphs; a second call does nothing."""
        with self._lock:
            self._closed = True
            encoders = (self._text, self._audio, self._captioner)
            self._text = self._audio = self._captioner = None
        for encoder in encoders:
            if encoder is not None:
                encoder.close()

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
        state = "closed" if self._closed else f"{self.threads} threads"
        return f"<Engine {self.bundle_id} {self.revision[:12]}, {self.dim} dims, {state}>"

    def _cut(self, embeddings: Float32, dim: int | None) -> Float32:
        return embeddings if dim is None else truncate(embeddings, dim, self.ladder)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine is closed; call clap_engine.load() again")
        if os.getpid() != self._pid:
            if any((self._text, self._audio, self._captioner)):
                # onnxruntime's threads don't survive fork(): a run in the child waits for ever.
                raise ForkedError(
                    "this engine's towers were loaded before fork(); load an engine in the child, "
                    "or start processes with 'spawn'"
                )
            # Another thread of the parent may have held the lock at the fork.
            self._lock, self._pid = threading.RLock(), os.getpid()

    def _text_encoder(self) -> TextEncoder:
        from clap_engine.encoders import TextEncoder

        with self._lock:
            self._check_open()
            if self._text is None:
                self._text = TextEncoder(self.bundle, is_wanted=True, **self._settings)
            return self._text

    def _audio_encoder(self) -> AudioEncoder:
        from clap_engine.encoders import AudioEncoder

        with self._lock:
            self._check_open()
            if self._audio is None:
                self._audio = AudioEncoder(self.bundle, is_wanted=True, **self._settings)
            return self._audio

    def _caption_encoder(self) -> Captioner:
        from clap_engine.caption import Captioner

        with self._lock:
            self._check_open()
            if self._captioner is None:
                self._captioner = Captioner(self.bundle, **self._settings)
            return self._captioner

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "precision": self._precision,
            "threads": self.threads,
            "placement": self._placement,
            "limits": self.limits,
        }


def _is_waveform(sources: Any) -> bool:
    """Is this one (waveform, rate_hz) pair, or a bare array, rather than a list of clips?"""
    if isinstance(sources, tuple) and len(sources) == 2:
        return isinstance(sources[1], (int, float, np.number))
    return isinstance(sources, np.ndarray)


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    models_dir: str | os.PathLike[str] | None = None,
    precision: str | None = None,
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    providers: Sequence[str] | None = None,
    provider: str | None = None,
    strict_provider: bool = False,
    gpu_mem_limit: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Engine:
    """An engine over the bundle that ships, or over the one named or pointed at.

    A name is looked up among the installed models, then in `models_dir`. No graph is loaded
    until a text or a sound is embedded.

    `provider` is "cpu", "cuda", "tensorrt" or "openvino", or None for the best that onnxruntime
    has here; `providers` names onnxruntime's own instead. With `strict_provider` a graph that
    would fall to the CPU is an error. `gpu_mem_limit` counts bytes; `cache_dir` is where TensorRT
    and OpenVINO keep what they compiled.
    """
    bundle = bundles.open(bundles.find(name_or_path, models_dir=models_dir))
    if bundle.manifest.demonstration:
        log.warning(
            "%s is a small demonstration model; convert a larger one for serious work",
            bundle.manifest.id,
        )
    return Engine(
        bundle,
        precision=precision,
        threads=threads,
        limits=limits,
        providers=providers,
        provider=provider,
        strict_provider=strict_provider,
        gpu_mem_limit=gpu_mem_limit,
        cache_dir=cache_dir,
    )
