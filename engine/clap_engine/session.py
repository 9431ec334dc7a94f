"""One graph in onnxruntime: the only module that talks to that library.

In:  the verified bytes of an ONNX graph; named numpy arrays.
Out: named numpy arrays; every failure of onnxruntime as GraphError.
Knows nothing about bundles, audio or text.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from clap_engine.errors import ClosedError, DependencyError, ForkedError, GraphError

log = logging.getLogger("clap_engine")

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

# Flags of /proc/cpuinfo: VNNI or AMX on x86-64, the dot-product instructions on aarch64.
FAST_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})

T = TypeVar("T")


class GraphSession:
    """A loaded graph. `run` is safe in many threads and bitwise equal to one thread's."""

    def __init__(
        self,
        data: bytes,
        *,
        name: str,
        threads: int = 1,
        providers: Sequence[str] | None = None,
    ) -> None:
        if threads < 1:
            raise GraphError(f"{name}: {threads} threads; give 1 or more")
        runtime = _onnxruntime()
        wanted = default_providers() if providers is None else list(providers)
        _check_providers(wanted, runtime.get_available_providers())
        self.name = name
        self._pid = os.getpid()
        self._session: Any = _elsewhere(lambda: _load(runtime, data, name, threads, wanted))
        self.providers: list[str] = self._session.get_providers()
        if wanted[0] not in self.providers:
            if providers is not None:
                raise GraphError(f"{name}: {wanted[0]} did not load; see 'clap-engine doctor'")
            log.warning("%s runs on %s: %s did not load", name, self.providers[0], wanted[0])
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
        try:
            results: list[npt.NDArray[Any]] = session.run(list(outputs), dict(inputs))
        except Exception as error:
            raise GraphError(f"{self.name} failed: {_first_line(error)}") from error
        return results

    def close(self) -> None:
        """Let the graph go, once running calls have ended; a second close does nothing."""
        self._session = None


def default_providers() -> list[str]:
    """CUDA where this onnxruntime has it, then CPU."""
    available = _onnxruntime().get_available_providers()
    return [provider for provider in (CUDA, CPU) if provider in available]


def has_fast_int8(cpuinfo: str | None = None) -> bool:
    """Whether this CPU multiplies int8 faster than float32; `cpuinfo`: text of /proc/cpuinfo."""
    if cpuinfo is None:
        if platform.system() == "Darwin":
            return platform.machine() == "arm64"  # every Apple chip since the M1 has dot-product
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                cpuinfo = file.read()
        except OSError:
            return False
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    values = [value.split() for key, _, value in lines if key.strip() in ("flags", "Features")]
    return any(not FAST_INT8_FLAGS.isdisjoint(flags) for flags in values[:1])


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


def _load(runtime: Any, data: bytes, name: str, threads: int, providers: list[str]) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its errors are raised as well; printing them to stderr says everything twice.
    options.log_severity_level = 4
    # Spinning bought no latency and cost 8 times the CPU at 42 requests a second.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        return runtime.InferenceSession(data, options, providers=providers)
    except Exception as error:
        raise GraphError(f"{name} can't be loaded: {_first_line(error)}") from error


def _elsewhere(work: Callable[[], T]) -> T:
    """`work()` in a thread of its own.

    onnxruntime sets denormals-as-zero not only for its threads: the first session of a process
    also leaves it on in the thread that made it, where numpy would then flush denormals too and
    np.finfo would warn (seen with 1.31.1).
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=body, name="clap-engine-load", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
