"""One graph in OpenVINO: the only module that talks to that library.

In:  the verified bytes of an ONNX graph; named numpy arrays; the type to compute in.
Out: named numpy arrays; every failure of OpenVINO as GraphError.
Knows nothing about bundles, audio or text, nor about onnxruntime.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.errors import ClosedError, DependencyError, ForkedError, GraphError
from clap_engine.placement import ANYWHERE, OPENVINO, Placement

# What a float32 graph is computed in; bf16 keeps 8 bits of every product's factors.
COMPUTED_IN = {"fp32": "f32", "bf16": "bf16", "fp16": "f32", "int8": "f32"}


# Operators that hand an index on as it is.
_CARRIERS = frozenset(
    ("Convert", "Reshape", "Slice", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze")
)


class OpenVinoSession:
    """A loaded graph. `run` is safe in many threads: each takes a request of its own."""

    def __init__(
        self,
        data: bytes | memoryview,
        *,
        name: str,
        threads: int = 1,
        placement: Placement = ANYWHERE,
        precision: str = "fp32",
    ) -> None:
        if threads < 1:
            raise GraphError(f"{name}: {threads} threads; give 1 or more")
        self.name = name
        self.providers = [OPENVINO]
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        settings = _settings(threads, precision, placement.cache_dir)
        self._model: Any
        self._model, self._rows = _compile(data, name, settings)
        self._ports = {port.any_name: _described(port) for port in self._model.inputs}
        self.inputs = tuple(self._ports)
        self.outputs = tuple(port.any_name for port in self._model.outputs)

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """The named outputs, in order; they own their memory."""
        model = self._model
        if model is None:
            raise ClosedError(f"{self.name} is closed; load the engine again")
        if os.getpid() != self._pid:
            raise ForkedError(
                f"{self.name} was loaded before fork(), which leaves its threads behind; "
                "load the engine in the child process"
            )
        self._check(outputs, inputs)
        with self._lock:
            request = self._idle.pop() if self._idle else None
        try:
            request = model.create_infer_request() if request is None else request
            request.infer({name: np.ascontiguousarray(x) for name, x in inputs.items()})
            # A tensor is the request's own memory, written again by its next run.
            results = [np.array(request.get_tensor(output).data) for output in outputs]
        except Exception as error:
            raise GraphError(f"{self.name} failed: {_first_line(error)}") from error
        with self._lock:
            if self._model is not None:  # closed meanwhile: the request goes with the graph
                self._idle.append(request)
        return results

    def close(self) -> None:
        """Let the graph go, once running calls have ended; a second close does nothing."""
        self._model = None
        with self._lock:
            self._idle = []

    def _check(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """What OpenVINO would guess, convert or read past in silence: names, types, shapes."""
        if set(inputs) != set(self.inputs) or not set(outputs) <= set(self.outputs):
            raise GraphError(
                f"{self.name} takes {', '.join(self.inputs)} and gives {', '.join(self.outputs)}; "
                f"it was given {', '.join(inputs)} and asked for {', '.join(outputs)}"
            )
        for name, (dtype, shape) in self._ports.items():
            given = inputs[name]
            fits = given.ndim == len(shape) and all(
                n is None or n == m for n, m in zip(shape, given.shape, strict=True)
            )
            if given.dtype != dtype or not fits:
                wanted = ", ".join("any" if n is None else str(n) for n in shape)
                raise GraphError(
                    f"{self.name} takes {name} as {dtype} [{wanted}], not {given.dtype} "
                    f"{list(given.shape)}"
                )
            rows = self._rows.get(name)
            if rows is not None and given.size and not 0 <= given.min() <= given.max() < rows:
                raise GraphError(
                    f"{self.name}: {name} holds {given.min()} to {given.max()}, its table has "
                    f"{rows} rows; the bundle's tokenizer is another model's: pack it again"
                )


def _described(port: Any) -> tuple[np.dtype[Any], tuple[int | None, ...]]:
    """Type and shape of an input; None: any length."""
    dims = tuple(dim.get_length() if dim.is_static else None for dim in port.partial_shape)
    return np.dtype(port.element_type.to_dtype()), dims


def _openvino() -> Any:
    """The library, imported on first use."""
    try:
        import openvino
    except ImportError as error:
        raise DependencyError(
            f"OpenVINO can't be imported ({error}); run: pip install 'clap-engine[openvino]'"
        ) from error
    return openvino


def version() -> str:
    """Of the installed library; DependencyError where there is none."""
    return str(_openvino().__version__).partition("-")[0]


def _settings(threads: int, precision: str, cache_dir: Path | None) -> dict[str, str]:
    if precision not in COMPUTED_IN:
        raise GraphError(f"OpenVINO runs {', '.join(COMPUTED_IN)}, not {precision!r}")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": COMPUTED_IN[precision],
    }
    return settings if cache_dir is None else {**settings, "CACHE_DIR": str(cache_dir / OPENVINO)}


def _compile(
    data: bytes | memoryview, name: str, settings: dict[str, str]
) -> tuple[Any, dict[str, int]]:
    """The compiled graph, and the rows of the tables that its inputs index."""
    library = _openvino()
    try:
        core = library.Core()
        model = core.read_model(model=bytes(data))
        return core.compile_model(model, "CPU", settings), _table_rows(model)
    except Exception as error:
        said = " ".join(line.strip() for line in str(error).splitlines() if "rule found" in line)
        raise GraphError(
            f"OpenVINO can't load {name}: {said or _first_line(error)}; take the fp32 graph "
            "(precision='fp32') or another provider"
        ) from error


def _table_rows(model: Any) -> dict[str, int]:
    """Input -> how many rows the smallest table has that it picks from.

    OpenVINO makes zeros of an index that is out of range, so a wrong tokenizer would go unseen.
    """
    rows: dict[str, int] = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() != "Gather":
            continue
        table, axis = op.input(0).get_partial_shape(), op.input_value(2).get_node()
        source = op.input_value(1).get_node()
        while source.get_type_name() in _CARRIERS:
            source = source.input_value(0).get_node()
        if source.get_type_name() != "Parameter" or axis.get_type_name() != "Constant":
            continue
        length = table[int(axis.get_data().reshape(-1)[0])]
        if length.is_static:
            (port,) = source.outputs()
            least = min(length.get_length(), rows.get(port.any_name, length.get_length()))
            rows[port.any_name] = least
    return rows


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
