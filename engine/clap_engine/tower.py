"""One graph of a bundle: chosen at once, loaded when first needed, run in batches of few shapes.

In:  an opened bundle, the forms that a graph comes in, named arrays [B, ...].
Out: checked rows float32 [B, ...].
Knows nothing about texts, sounds or what the rows mean.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32
from clap_engine.bundle import Bundle, choose_precision, pick_graph, slow_ones
from clap_engine.deadline import Deadline
from clap_engine.errors import ClosedError, GraphError, PrecisionWarning
from clap_engine.gathering import Gatherer
from clap_engine.later import Later
from clap_engine.manifest import GraphSpec
from clap_engine.openvino_session import OpenVinoSession
from clap_engine.placement import ANYWHERE, CPU, OPENVINO, Placement
from clap_engine.processor import has_amx, has_fast_int8
from clap_engine.session import GraphSession, provider_names

# Batches are padded to one of these: a graph sees few shapes, so its memory plans stay few.
BUCKETS = (1, 2, 4, 8, 16)


def best_precision(graphs: dict[str, GraphSpec], placement: Placement) -> tuple[str, str | None]:
    """(precision, warning or None): the fastest of `graphs` here; OpenVINO also does bf16."""
    providers = [OPENVINO] if placement.is_openvino else provider_names(placement)
    precision, warning = _chosen(graphs, providers)
    if placement.is_openvino and precision == "fp32" and has_amx():
        precision = "bf16"
    return precision, warning


def _chosen(graphs: dict[str, GraphSpec], providers: Sequence[str]) -> tuple[str, str | None]:
    """(precision, warning or None) on the first of these providers."""
    return choose_precision(graphs, providers, has_fast_int8(), slow_ones(graphs))


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
        latency_budget_ms: float | None = None,
    ) -> None:
        """With `is_wanted` reading the graph that is probably chosen begins at once.

        With a `latency_budget_ms` single items of different calls share a run, and wait so long
        for company; where scales are dynamic they can't.
        """
        self._bundle = bundle
        self._is_wanted = is_wanted
        if precision is None:
            # Before onnxruntime is asked, which has to be imported for that.
            if is_wanted and placement == ANYWHERE:
                likely, _ = _chosen(graphs, [CPU])
                bundle.begin(graphs[likely].file)
            precision, warning = best_precision(graphs, placement)
            if warning is not None:
                warnings.warn(warning, PrecisionWarning, stacklevel=3)
        self.precision = precision
        # bf16 is no graph of its own: OpenVINO computes the float32 one in it.
        is_cast = placement.is_openvino and precision == "bf16"
        self.spec = pick_graph(graphs, "fp32" if is_cast else precision)
        for graph in graphs.values():
            if graph.file != self.spec.file:
                bundle.forget(graph.file)
        self.dim = bundle.manifest.dim
        self.threads = threads
        self._gatherer: Gatherer[Any, Any] | None = None
        if latency_budget_ms is not None and not self.spec.dynamic_scale:
            self._gatherer = Gatherer(self._gathered, latency_budget_ms=latency_budget_ms)
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
                settings: dict[str, Any] = {
                    "name": self.spec.file,
                    "threads": self.threads,
                    "placement": self._placement,
                    "precision": self.precision,
                }
                data = self._read()
                if self._placement.is_openvino:
                    self._session = OpenVinoSession(data, **settings)
                else:
                    self._session = GraphSession(data, again=self._read, **settings)
            return self._session

    def _read(self) -> memoryview:
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
            self._bundle.forget(self.spec.file)
            if self._session is not None:
                self._session.close()

    def run(
        self,
        output: str,
        inputs: dict[str, npt.NDArray[Any]],
        shape: tuple[int, ...],
        *,
        unit: bool = True,
        deadline: Deadline | None = None,
    ) -> Float32:
        """[B, ...] inputs -> [B, *shape], unit rows or not; B is 1 where scales are dynamic."""
        n = len(next(iter(inputs.values())))
        if deadline is not None:
            deadline.check()
        if n == 1:  # a query: no copies, no padding
            if self._gatherer is not None:
                shapes = tuple(array.shape for array in inputs.values())
                row: Float32 = self._gatherer.run((output, shape, unit, shapes), inputs)
                return row
            (embedding,) = self.session().run([output], inputs)
            return self._checked(embedding, (1, *shape), unit)
        result = np.empty((n, *shape), np.float32)
        for start in range(0, n, BUCKETS[-1]):
            if deadline is not None:
                deadline.check()
            part = {name: array[start : start + BUCKETS[-1]] for name, array in inputs.items()}
            rows = min(BUCKETS[-1], n - start)
            bucket = next(size for size in BUCKETS if size >= rows)
            padded = {name: _pad(array, bucket) for name, array in part.items()}
            (embedding,) = self.session().run([output], padded)
            result[start : start + rows] = self._checked(embedding, (bucket, *shape), unit)[:rows]
        return result

    def _gathered(
        self,
        like: tuple[str, tuple[int, ...], bool, Any],
        items: Sequence[dict[str, npt.NDArray[Any]]],
    ) -> list[Float32]:
        """Single items of one shape, each [1, ...] -> the row of each [1, *shape], its own."""
        output, shape, unit, _ = like
        if len(items) == 1:
            (embedding,) = self.session().run([output], items[0])
            return [self._checked(embedding, (1, *shape), unit)]
        inputs = {name: np.concatenate([item[name] for item in items]) for name in items[0]}
        rows = self.run(output, inputs, shape, unit=unit)
        return [rows[i : i + 1].copy() for i in range(len(items))]

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
