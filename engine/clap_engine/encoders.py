"""The two towers: texts or windows -> unit embeddings.

In:  texts; windows float32 [W, T_window] at the bundle's rate; an opened bundle.
Out: unit embeddings float32 [N, D], for audio also rows per frame [W, F', D] and the native rows.
Knows nothing about files of sound, collections or search.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, check_array
from clap_engine.bundle import Bundle, choose_precision, pick_graph
from clap_engine.errors import ClosedError, GraphError, PrecisionWarning
from clap_engine.later import Later
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.manifest import GraphSpec
from clap_engine.openvino_session import OpenVinoSession
from clap_engine.placement import ANYWHERE, CPU, OPENVINO, Placement
from clap_engine.session import GraphSession, has_amx, has_fast_int8, provider_names

if TYPE_CHECKING:
    from clap_engine.text import TokenIds

# Batches are padded to one of these: a graph sees few shapes, so its memory plans stay few.
BUCKETS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class TextTimings:
    """Milliseconds of one call's stages."""

    tokenize_ms: float
    text_ms: float


def best_precision(graphs: dict[str, GraphSpec], placement: Placement) -> tuple[str, str | None]:
    """(precision, warning or None): the fastest of `graphs` here; OpenVINO also does bf16."""
    providers = [OPENVINO] if placement.is_openvino else provider_names(placement)
    precision, warning = _chosen(graphs, providers)
    if placement.is_openvino and precision == "fp32" and has_amx():
        precision = "bf16"
    return precision, warning


def _chosen(graphs: dict[str, GraphSpec], providers: Sequence[str]) -> tuple[str, str | None]:
    """(precision, warning or None) on the first of these providers."""
    slow = [precision for precision, graph in graphs.items() if graph.is_slow]
    return choose_precision(graphs, providers, has_fast_int8(), slow)


class Tower:
    """A graph that is chosen at once and loaded on first use, from verified bytes."""

    def __init__(
        self,
        bundle: Bundle,
        graphs: dict[str, GraphSpec],
        precision: str | None,
        threads: int,
        placement: Placement,
        *,
        is_wanted: bool = False,
    ) -> None:
        """With `is_wanted` reading the graph that is probably chosen begins at once."""
        self._bundle = bundle
        self._is_wanted = is_wanted
        self._ahead: tuple[str, Later[memoryview]] | None = None
        if precision is None:
            # Before onnxruntime is asked, which has to be imported for that.
            if is_wanted and placement == ANYWHERE:
                likely, _ = _chosen(graphs, [CPU])
                name = graphs[likely].file
                self._ahead = name, Later(lambda: bundle.read_graph(name))
            precision, warning = best_precision(graphs, placement)
            if warning is not None:
                warnings.warn(warning, PrecisionWarning, stacklevel=3)
        self.precision = precision
        # bf16 is no graph of its own: OpenVINO computes the float32 one in it.
        is_cast = placement.is_openvino and precision == "bf16"
        self.spec = pick_graph(graphs, "fp32" if is_cast else precision)
        self.dim = bundle.manifest.dim
        self.threads = threads
        self._placement = placement
        self._lock = threading.Lock()
        self._session: GraphSession | OpenVinoSession | None = None
        self._is_closed = False

    def session(self) -> GraphSession | OpenVinoSession:
        """The graph, loaded by the first call."""
        session = self._session
        if session is not None and not self._is_closed:
            return session
        with self._lock:
            if self._is_closed:
                raise ClosedError(f"{self.spec.file} is closed; load the engine again")
            if self._session is None:
                kind = OpenVinoSession if self._placement.is_openvino else GraphSession
                self._session = kind(
                    self._bytes(),
                    name=self.spec.file,
                    threads=self.threads,
                    placement=self._placement,
                    precision=self.precision,
                )
            return self._session

    def _bytes(self) -> memoryview:
        """The graph's verified bytes, perhaps read already; they are not kept."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == self.spec.file:
            return ahead[1].result()
        return self._bundle.read_graph(self.spec.file)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Loads the graph, if it is wanted, while the body makes what else a first answer needs."""
        loaded = Later(self.session) if self._is_wanted else None
        try:
            yield
        finally:
            if loaded is not None:
                loaded.join()  # what went wrong is told to whoever asks for the session

    def close(self) -> None:
        """Free the graph; a second close does nothing."""
        with self._lock:
            self._is_closed = True
            self._ahead = None
            if self._session is not None:
                self._session.close()

    def run(
        self,
        output: str,
        inputs: dict[str, npt.NDArray[Any]],
        shape: tuple[int, ...],
        *,
        unit: bool = True,
    ) -> Float32:
        """[B, ...] inputs -> [B, *shape], unit rows or not; B is 1 where scales are dynamic."""
        n = len(next(iter(inputs.values())))
        if n == 1:  # a query: no copies, no padding
            (embedding,) = self.session().run([output], inputs)
            return self._checked(embedding, (1, *shape), unit)
        result = np.empty((n, *shape), np.float32)
        for start in range(0, n, BUCKETS[-1]):
            part = {name: array[start : start + BUCKETS[-1]] for name, array in inputs.items()}
            rows = min(BUCKETS[-1], n - start)
            bucket = next(size for size in BUCKETS if size >= rows)
            padded = {name: _pad(array, bucket) for name, array in part.items()}
            (embedding,) = self.session().run([output], padded)
            result[start : start + rows] = self._checked(embedding, (bucket, *shape), unit)[:rows]
        return result

    def _checked(self, embedding: npt.NDArray[Any], shape: tuple[int, ...], unit: bool) -> Float32:
        """What the bundle promises of a graph: its shape, finite, perhaps unit rows."""
        if embedding.shape != shape or embedding.dtype != np.float32:
            raise GraphError(
                f"{self.spec.file} gave {embedding.dtype} {list(embedding.shape)}; "
                f"float32 {list(shape)} is promised; pack the bundle again"
            )
        norms = (embedding * embedding).sum(axis=-1)  # einsum costs 0.1 ms more on cold caches
        if not np.all(np.abs(norms - 1) < 1e-2 if unit else np.isfinite(norms)):
            is_finite = bool(np.isfinite(embedding).all())
            kind = "rows that are not unit vectors" if is_finite else "NaN or infinity"
            raise GraphError(f"{self.spec.file} gave {kind}; pack the bundle again")
        return np.asarray(embedding, np.float32)


def side_by_side(work: Callable[[int], Float32], n: int, threads: int) -> Float32:
    """`work` of 0 to n - 1, each [1, ...] -> [n, ...], as many at a time as there are threads.

    For graphs with dynamic scales, which take one item a call. Calls that overlap fill the moments
    in which one has nothing for the other threads to do: HTSAT's windows take 28 ms each so, and
    35 one after the other (two threads).
    """
    from concurrent.futures import ThreadPoolExecutor  # 10 ms that a single query is spared

    with ThreadPoolExecutor(min(threads, n), "clap-engine-run") as pool:
        return np.concatenate(list(pool.map(work, range(n))))


def _pad(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """[B, ...] -> [rows, ...]: copies of the last row, which change no other's result."""
    missing = rows - len(array)
    return np.concatenate([array, array[-1:].repeat(missing, axis=0)]) if missing else array


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
    ) -> None:
        """The graph is loaded when it is first needed, or with `is_wanted` at once."""
        spec = bundle.manifest.text
        self._tower = Tower(bundle, spec.graphs, precision, threads, placement, is_wanted=is_wanted)
        with self._tower.loading():
            from clap_engine.text import TextFrontEnd

            self._front = TextFrontEnd(spec, bundle.read(spec.tokenizer), limits)
        self.dim = bundle.manifest.dim
        self.precision = self._tower.precision

    def encode(self, texts: Sequence[str]) -> Float32:
        """N texts -> [N, D] unit embeddings."""
        return self.encode_timed(texts)[0]

    def encode_timed(self, texts: Sequence[str]) -> tuple[Float32, TextTimings]:
        """As `encode`, and the milliseconds of its stages (loading the graph counts as text)."""
        start = time.perf_counter()
        tokens = self._front.tokenize(texts)
        middle = time.perf_counter()
        result = self._run(tokens)
        end = time.perf_counter()
        return result, TextTimings((middle - start) * 1e3, (end - middle) * 1e3)

    def _run(self, tokens: Sequence[TokenIds]) -> Float32:
        """Texts of one length share a batch, so none is padded and each is exact."""
        if len(tokens) == 1:
            return self._tower.run("embedding", tokens[0]._asdict(), (self.dim,))
        if tokens and self._tower.spec.dynamic_scale:
            return side_by_side(
                lambda i: self._tower.run("embedding", tokens[i]._asdict(), (self.dim,)),
                len(tokens),
                self._tower.threads,
            )
        by_length: dict[int, list[int]] = {}
        for place, token_ids in enumerate(tokens):
            by_length.setdefault(token_ids.input_ids.shape[1], []).append(place)
        result = np.empty((len(tokens), self.dim), np.float32)
        for places in by_length.values():
            inputs: dict[str, npt.NDArray[Any]] = {
                "input_ids": np.concatenate([tokens[i].input_ids for i in places]),
                "attention_mask": np.concatenate([tokens[i].attention_mask for i in places]),
            }
            result[places] = self._tower.run("embedding", inputs, (self.dim,))
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
    ) -> None:
        """The graph is loaded when it is first needed, or with `is_wanted` at once."""
        self._spec = bundle.manifest.audio
        self._tower = Tower(
            bundle, self._spec.graphs, precision, threads, placement, is_wanted=is_wanted
        )
        with self._tower.loading():
            from clap_engine.mel import LogMel

            self._mel = LogMel(self._spec, bundle.read(self._spec.frontend))
        self.dim = bundle.manifest.dim
        self.precision = self._tower.precision

    def encode(self, windows: Float32) -> Float32:
        """[W, T] -> [W, D] unit embeddings."""
        return self._run(windows, "embedding", (self.dim,))

    def encode_frames(self, windows: Float32) -> Float32:
        """[W, T] -> [W, F', D] unit rows of `frame_s` seconds each."""
        if self._spec.frame_s is None:
            raise GraphError(f"{self._tower.spec.file} has no frames; take a bundle with frame_s")
        frames = round(self._spec.window_s / self._spec.frame_s)
        return self._run(windows, "frames", (frames, self.dim))

    def encode_native(self, windows: Float32) -> Float32:
        """[W, T] -> [W, D_native], the source's own projection, not normalised."""
        if self._spec.native_dim is None:
            raise GraphError(f"{self._tower.spec.file} has no output native; convert it again")
        return self._run(windows, "native", (self._spec.native_dim,), unit=False)

    def _run(
        self, windows: Float32, output: str, shape: tuple[int, ...], *, unit: bool = True
    ) -> Float32:
        windows = check_array(windows, shape=(None, self._spec.window_samples), name="windows")
        if len(windows) > 1 and self._tower.spec.dynamic_scale:
            return side_by_side(
                lambda i: self._tower.run(
                    output, {"log_mel": self._mel(windows[i : i + 1])}, shape, unit=unit
                ),
                len(windows),
                self._tower.threads,
            )
        result = np.empty((len(windows), *shape), np.float32)
        for start in range(0, len(windows), BUCKETS[-1]):
            part = slice(start, start + BUCKETS[-1])
            log_mel = self._mel(windows[part])
            result[part] = self._tower.run(output, {"log_mel": log_mel}, shape, unit=unit)
        return result

    def warm(self) -> list[str]:
        """Load the graph now; the providers that it runs on."""
        return self._tower.session().providers

    def close(self) -> None:
        """Free the graph; a second close does nothing."""
        self._tower.close()
