"""One graph in onnxruntime: the only module that talks to that library.

In:  the verified bytes of an ONNX graph; named numpy arrays.
Out: named numpy arrays; every failure of onnxruntime as GraphError.
Knows nothing about bundles, audio or text.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from clap_engine import hugepages, initializers
from clap_engine.errors import ClosedError, DependencyError, ForkedError, GraphError
from clap_engine.later import Later
from clap_engine.placement import ANYWHERE, CPU, CUDA, TENSORRT, Placement, user_cache_dir
from clap_engine.weights import Arrays, Weights

log = logging.getLogger("clap_engine")

# The operators that hold a tower's work. Others (shapes, ids) belong on the CPU even beside a GPU.
PRODUCTS = frozenset(
    [
        *("Attention", "GroupQueryAttention", "MultiHeadAttention", "QAttention"),
        *("Conv", "ConvInteger", "FusedConv", "QLinearConv"),
        *("FusedMatMul", "Gemm", "MatMul", "QGemm", "QLinearMatMul"),
        *("DynamicQuantizeMatMul", "MatMulInteger", "MatMulNBits"),
    ]
)

# Moving a graph to large pages copies it (20 ms for clap-mini's text graph), in the background. A
# process that asks once and ends is spared; one that goes on gains a third from then on.
_RUNS_BEFORE_MOVE = 3


# Weights are read from the verified bytes, not from a copy of them: GPT-2's int8 graph loads in
# .12 s instead of .20, and its process takes 100 MB less. Tried from this release on.
_DIRECT = "session.use_external_initializer_file_buffers_directly"
_DIRECT_SINCE = (1, 31)


class GraphSession:
    """A loaded graph. `run` is safe in many threads and bitwise equal to one thread's."""

    def __init__(
        self,
        data: bytes | memoryview,
        *,
        name: str,
        threads: int = 1,
        placement: Placement = ANYWHERE,
        precision: str = "fp32",
        again: Callable[[], memoryview] | None = None,
    ) -> None:
        """`again` reads `data` once more; with it, `data` belongs to the session from now on, and
        the memory of what onnxruntime packed copies of is given back after the first runs."""
        if threads < 1:
            raise GraphError(f"{name}: {threads} threads; give 1 or more")
        runtime = _onnxruntime()
        wanted = provider_names(placement)
        options = [(provider, _options(provider, placement, precision)) for provider in wanted]
        self.name = name
        self._pid = os.getpid()
        hugepages.give_back_freed()
        before = hugepages.resident()
        # In a thread of its own: onnxruntime sets denormals-as-zero not only for its threads. The
        # first session of a process leaves it on in the thread that made it, where numpy would
        # then flush denormals too and np.finfo would warn (seen with 1.31.1).
        self._session: Any = Later(
            lambda: _load_first(runtime, data, name, threads, options, placement)
        ).result()
        self._pages = before, hugepages.resident()
        self._runs = 0
        self._turn = threading.Lock()
        self._weights: Weights | None = None
        if again is not None and isinstance(data, memoryview) and _is_direct(self._session):
            self._weights = Weights(data, PRODUCTS, again)
        self.providers: list[str] = self._session.get_providers()
        _check_fall(self._session, name, wanted[0], placement)
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self.outputs = tuple(node.name for node in self._session.get_outputs())

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """The named outputs, in order; they own their memory."""
        session = self._session
        if session is None:
            raise ClosedError(f"{self.name} is closed; load the engine again")
        if os.getpid() != self._pid:
            raise ForkedError(
                f"{self.name} was loaded before fork(), which leaves its threads behind; "
                "load the engine in the child process"
            )
        if self._runs >= _RUNS_BEFORE_MOVE:
            return self._run(session, outputs, inputs)
        with self._turn:  # one at a time until the memory of the weights is settled
            results = self._run(session, outputs, inputs)
            if self._runs == _RUNS_BEFORE_MOVE - 1:
                self._settle(lambda: self._run(session, outputs, inputs), results)
            self._runs += 1
        return results

    def _run(
        self, session: Any, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        try:
            results: list[npt.NDArray[Any]] = session.run(list(outputs), dict(inputs))
        except Exception as error:
            raise GraphError(f"{self.name} failed: {_first_line(error)}") from error
        return results

    def _settle(self, again: Callable[[], Arrays], results: Arrays) -> None:
        """Give back what nobody reads; move what is read for each query to large pages."""
        weights, self._weights = self._weights, None
        if weights is not None:
            try:
                weights.give_back(results, again)
            except BaseException:
                self._session = None  # some weights may be gone
                raise
        threading.Thread(target=self._move_pages, name="clap-engine-pages", daemon=True).start()

    def _move_pages(self) -> None:
        """Which pages the load added is found out here, too: it takes 10 ms for GPT-2."""
        hugepages.move(hugepages.added(*self._pages))

    def close(self) -> None:
        """Let the graph go, once running calls have ended; a second close does nothing."""
        self._session = None


def provider_names(placement: Placement = ANYWHERE) -> list[str]:
    """onnxruntime's providers to try in order; DependencyError if the one named is missing."""
    available = _onnxruntime().get_available_providers()
    wanted = placement.wanted()
    if wanted is None:
        return [provider for provider in (CUDA, CPU) if provider in available]
    if placement.provider is None:
        _check_providers(wanted, available)
        return list(wanted)
    if wanted[:1] and wanted[0] not in available:
        raise DependencyError(
            f"provider {placement.provider!r} needs {wanted[0]}, this onnxruntime has "
            f"{', '.join(available)}; run: pip uninstall -y onnxruntime onnxruntime-gpu && "
            "pip install 'clap-engine[gpu]'"
        )
    return [provider for provider in wanted if provider in available]


def _onnxruntime() -> Any:
    """The library, imported on first use; one-line remedies for none and for both builds."""
    if _installed_builds() >= {"onnxruntime", "onnxruntime_gpu"}:
        raise DependencyError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; run: "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'clap-engine[cpu]'"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            f"onnxruntime can't be imported ({error}); run: pip install 'clap-engine[cpu]'"
        ) from error
    return onnxruntime


def _installed_builds() -> set[str]:
    """Distributions of onnxruntime beside the package; importlib.metadata would cost 20 ms more."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return set()
    site = Path(spec.origin).parent.parent
    return {path.name.partition("-")[0] for path in site.glob("onnxruntime*.dist-info")}


def _check_providers(wanted: Sequence[str], available: Sequence[str]) -> None:
    unknown = [provider for provider in wanted if provider not in available]
    if unknown or not wanted:
        raise GraphError(
            f"execution providers {unknown} are not in this onnxruntime; it has "
            f"{', '.join(available)}; choose among those"
        )


def _options(provider: str, placement: Placement, precision: str) -> dict[str, str]:
    """What a provider is told about memory and its cache."""
    limit = placement.gpu_mem_limit
    if provider == CUDA and limit is not None:
        # The arena's usual doubling would ask for up to twice what is needed, and hit the limit.
        return {"gpu_mem_limit": str(limit), "arena_extend_strategy": "kSameAsRequested"}
    if provider == TENSORRT:
        cache = (placement.cache_dir or user_cache_dir()) / "tensorrt"
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        options = {
            "trt_engine_cache_enable": "1",  # building an engine takes minutes, reading it seconds
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
            "trt_fp16_enable": "1" if precision == "fp16" else "0",
        }
        if limit is not None:
            options["trt_max_workspace_size"] = str(limit)
        return options
    return {}


def _load_first(
    runtime: Any,
    data: bytes | memoryview,
    name: str,
    threads: int,
    options: list[tuple[str, dict[str, str]]],
    placement: Placement,
) -> Any:
    """The graph on all of these providers, or without the first ones where those fail."""
    try:
        return _load(runtime, data, name, threads, options, placement.is_strict)
    except GraphError as error:
        if placement.is_strict or placement.providers is not None or len(options) == 1:
            raise
        log.warning("%s; trying %s", error, options[1][0])
        return _load_first(runtime, data, name, threads, options[1:], placement)


def _load(
    runtime: Any,
    data: bytes | memoryview,
    name: str,
    threads: int,
    providers: list[tuple[str, dict[str, str]]],
    is_strict: bool,
) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its errors are raised as well; printing them to stderr says everything twice.
    options.log_severity_level = 4
    # Spinning bought no latency and cost 8 times the CPU at 42 requests a second.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if is_strict:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    constants: Mapping[str, npt.NDArray[Any]] = {}
    whole = data
    if [provider for provider, _ in providers] == [CPU]:
        data, constants = initializers.taken_out(whole)
    is_direct = bool(constants) and runtime_release(runtime) >= _DIRECT_SINCE
    if is_direct:
        options.add_external_initializers_from_files_in_memory(
            [initializers.BESIDE], [whole], [len(whole)]
        )
        options.add_session_config_entry(_DIRECT, "1")
    elif constants:
        values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in constants.values()]
        options.add_external_initializers(list(constants), values)
    try:
        # Its own fallback prints to stdout and takes the CPU.
        session = runtime.InferenceSession(
            bytes(data), options, providers=providers, enable_fallback=0
        )
    except Exception as error:
        raise GraphError(f"{name} can't be loaded: {_first_line(error)}") from error
    # Kept for a second load that never comes: as large as the graph, and so are the constants.
    session._model_bytes = session._sess_options = session._sess_options_initial = None
    # Weights are used where they lie: they stay for as long as anything can run the session.
    session._clap_engine_weights = whole if is_direct else None
    return session


def _is_direct(session: Any) -> bool:
    """Does it read its weights in the bytes that it was loaded from?"""
    return session._clap_engine_weights is not None


def runtime_release(runtime: Any) -> tuple[int, ...]:
    """(1, 31) of '1.31.1'."""
    return tuple(int(part) for part in str(runtime.__version__).split(".")[:2] if part.isdigit())


def _check_fall(session: Any, name: str, first: str, placement: Placement) -> None:
    """GraphError, or a line in the log, where the graph is not where it was meant to be."""
    found = session.get_providers()
    if first not in found:
        if placement.is_strict or placement.providers is not None:
            raise GraphError(
                f"{name} runs on {found[0]}: {first} did not load; see 'clap-engine doctor', or "
                "load without strict_provider"
            )
        log.warning("%s runs on %s: %s did not load", name, found[0], first)
    elif placement.is_strict and first != CPU:
        fallen = _products_on_cpu(session)
        if fallen:
            raise GraphError(
                f"{name}: {len(fallen)} products run on the CPU and not on {first}, the first is "
                f"{fallen[0]}; take another precision, or load without strict_provider"
            )


def _products_on_cpu(session: Any) -> list[str]:
    """Nodes with a tower's work that fell to the CPU; none where onnxruntime can't tell."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    parts = [] if tell is None else [part for part in tell() if part.ep_name == CPU]
    nodes = [node for part in parts for node in part.get_nodes()]
    return [f"{node.op_type} {node.name}" for node in nodes if node.op_type in PRODUCTS]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
