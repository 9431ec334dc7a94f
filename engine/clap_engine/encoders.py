"""The two towers: texts or windows -> unit embeddings.

In:  texts; windows float32 [W, T_window] at the bundle's rate; an opened bundle.
Out: unit embeddings float32 [N, D], for audio also rows per frame [W, F', D] and the native rows.
Knows nothing about files of sound, collections or search.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, check_array
from clap_engine.bundle import Bundle
from clap_engine.deadline import Deadline
from clap_engine.errors import GraphError
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.placement import ANYWHERE, Placement
from clap_engine.tower import BUCKETS, Tower, side_by_side

if TYPE_CHECKING:
    from clap_engine.text import TokenIds


@dataclass(frozen=True)
class TextTimings:
    """Milliseconds of one call's stages; which texts were surely read to their end."""

    tokenize_ms: float
    text_ms: float
    is_whole: tuple[bool, ...] = ()


class TextEncoder:
    """Texts -> embeddings. Safe in many threads."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        threads: int = 1,
        placement: Placement = ANYWHERE,
        limits: Limits = DEFAULT_LIMITS,
        is_wanted: bool = False,
        latency_budget_ms: float | None = None,
    ) -> None:
        """The graph is loaded when it is first needed, or with `is_wanted` at once."""
        spec = bundle.manifest.text
        self._tower = Tower(
            bundle, spec.graphs, precision, threads, placement, is_wanted=is_wanted,
            latency_budget_ms=latency_budget_ms,
        )  # fmt: skip
        with self._tower.loading():
            from clap_engine.text import TextFrontEnd

            self._front = TextFrontEnd(spec, bundle.read(spec.tokenizer), limits)
        self._max_tokens, self._native_dim = spec.max_tokens, spec.native_dim
        self.dim = bundle.manifest.dim
        self.precision = self._tower.precision

    def encode(self, texts: Sequence[str]) -> Float32:
        """N texts -> [N, D] unit embeddings."""
        return self.encode_timed(texts)[0]

    def encode_timed(
        self, texts: Sequence[str], deadline: Deadline | None = None
    ) -> tuple[Float32, TextTimings]:
        """As `encode`, and the milliseconds of its stages (loading the graph counts as text).

        The deadline is looked at before each run of the graph.
        """
        start = time.perf_counter()
        tokens = self._front.tokenize(texts)
        middle = time.perf_counter()
        result = self._run(tokens, deadline)
        end = time.perf_counter()
        is_whole = tuple(ids.input_ids.shape[1] < self._max_tokens for ids in tokens)
        return result, TextTimings((middle - start) * 1e3, (end - middle) * 1e3, is_whole)

    def encode_native(self, texts: Sequence[str], deadline: Deadline | None = None) -> Float32:
        """N texts -> [N, D_native], the source's own projection, not normalised."""
        if self._native_dim is None:
            raise GraphError(f"{self._tower.spec.file} has no output native; convert it again")
        return self._run(self._front.tokenize(texts), deadline, "native", self._native_dim)

    def _run(
        self,
        tokens: Sequence[TokenIds],
        deadline: Deadline | None,
        output: str = "embedding",
        dim: int | None = None,
    ) -> Float32:
        """Texts of one length share a batch, so none is padded and each is exact."""
        shape, unit = (dim or self.dim,), output == "embedding"

        def run(inputs: dict[str, npt.NDArray[Any]]) -> Float32:
            return self._tower.run(output, inputs, shape, deadline=deadline, unit=unit)

        def alone(i: int) -> Float32:
            return run(tokens[i]._asdict())

        if len(tokens) == 1:
            return alone(0)
        if tokens and self._tower.spec.dynamic_scale:
            return side_by_side(alone, len(tokens), self._tower.threads)
        by_length: dict[int, list[int]] = {}
        for place, token_ids in enumerate(tokens):
            by_length.setdefault(token_ids.input_ids.shape[1], []).append(place)
        result = np.empty((len(tokens), *shape), np.float32)
        for places in by_length.values():
            inputs: dict[str, npt.NDArray[Any]] = {
                "input_ids": np.concatenate([tokens[i].input_ids for i in places]),
                "attention_mask": np.concatenate([tokens[i].attention_mask for i in places]),
            }
            result[places] = run(inputs)
        return result

    def warm(self) -> list[str]:
        """Load the graph now; the providers that it runs on."""
        return self._tower.session().providers

    def close(self) -> None:
        """Free the graph; a second close does nothing."""
        self._tower.close()


class AudioEncoder:
    """Windows -> embeddings. Safe in many threads."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        threads: int = 1,
        placement: Placement = ANYWHERE,
        limits: Limits = DEFAULT_LIMITS,
        is_wanted: bool = False,
        latency_budget_ms: float | None = None,
    ) -> None:
        """The graph is loaded when it is first needed, or with `is_wanted` at once."""
        self._spec = bundle.manifest.audio
        self._tower = Tower(
            bundle, self._spec.graphs, precision, threads, placement, is_wanted=is_wanted,
            latency_budget_ms=latency_budget_ms,
        )  # fmt: skip
        with self._tower.loading():
            from clap_engine.mel import LogMel

            self._mel = LogMel(self._spec, bundle.read(self._spec.frontend))
        self._window_s = np.inf  # what a window took last time, until then long
        self.dim = bundle.manifest.dim
        self.precision = self._tower.precision

    def encode(self, windows: Float32, deadline: Deadline | None = None) -> Float32:
        """[W, T] -> [W, D] unit embeddings; the deadline is looked at between windows."""
        return self._run(windows, "embedding", (self.dim,), deadline)

    def encode_frames(self, windows: Float32, deadline: Deadline | None = None) -> Float32:
        """[W, T] -> [W, F', D] unit rows of `frame_s` seconds each."""
        if self._spec.frame_s is None:
            raise GraphError(f"{self._tower.spec.file} has no frames; take a bundle with frame_s")
        frames = round(self._spec.window_s / self._spec.frame_s)
        return self._run(windows, "frames", (frames, self.dim), deadline)

    def encode_native(self, windows: Float32, deadline: Deadline | None = None) -> Float32:
        """[W, T] -> [W, D_native], the source's own projection, not normalised."""
        if self._spec.native_dim is None:
            raise GraphError(f"{self._tower.spec.file} has no output native; convert it again")
        return self._run(windows, "native", (self._spec.native_dim,), deadline, unit=False)

    def _run(
        self,
        windows: Float32,
        output: str,
        shape: tuple[int, ...],
        deadline: Deadline | None,
        *,
        unit: bool = True,
    ) -> Float32:
        windows = check_array(windows, shape=(None, self._spec.window_samples), name="windows")

        def some(part: slice) -> Float32:
            if deadline is not None:
                deadline.check()
            log_mel = self._mel(windows[part])
            return self._tower.run(output, {"log_mel": log_mel}, shape, unit=unit)

        if len(windows) > 1 and self._tower.spec.dynamic_scale:
            return side_by_side(lambda i: some(slice(i, i + 1)), len(windows), self._tower.threads)
        result = np.empty((len(windows), *shape), np.float32)
        start = 0
        while start < len(windows):
            began_s = time.perf_counter()
            part = slice(start, min(start + self._at_once(deadline), len(windows)))
            result[part] = some(part)
            self._window_s = (time.perf_counter() - began_s) / (part.stop - start)
            start = part.stop
        return result

    def _at_once(self, deadline: Deadline | None) -> int:
        """Windows for the next run: no more than there seems to be time for, but one."""
        left_s = None if deadline is None else deadline.remaining_s
        if left_s is None:
            return BUCKETS[-1]
        return max((size for size in BUCKETS if size * self._window_s <= left_s), default=1)

    def warm(self) -> list[str]:
        """Load the graph now; the providers that it runs on."""
        return self._tower.session().providers

    def close(self) -> None:
        """Free the graph; a second close does nothing."""
        self._tower.close()
