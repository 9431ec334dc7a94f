"""The audio tower in int8: static QDQ, calibrated on log-mels.

In:  the float32 audio graph; windows as log_mel [F, M].
Out: an int8 graph with the same inputs and outputs.
Knows nothing about bundles; whether a result is good enough is parity's matter.

Weights are kept to 7 bits, for the reason that quantize.py gives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from clap_engine.arrays import Float32


def quantize_audio(
    model: onnx.ModelProto, log_mels: Iterable[Float32], *, weight_bits: int = 7
) -> onnx.ModelProto:
    """The audio graph as static QDQ, its ranges those seen on the windows `log_mels` [F, M].

    Static scales: no window's embedding depends on its batch mates. The first convolution stays
    float32 (the log-mel has the widest range, and there are next to no weights), and so do
    attention and head, whose sums nothing averages any more: a quarter more file, 4 % more time,
    a fifth of the error.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        # From a file of its own: given a model in memory, quantize_static changes it. The mark
        # says that shapes are inferred and batch norms folded, which it otherwise warns about.
        prepared = onnx.shape_inference.infer_shapes(model)
        helper.set_model_props(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})
        onnx.save(prepared, source)
        quantize_static(
            source,
            target,
            _Windows(log_mels),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_ends(model),
        )
        result = onnx.load(target)
    del result.metadata_props[:]
    onnx.checker.check_model(result)
    return result


def _ends(model: onnx.ModelProto) -> list[str]:
    """The nodes up to the first convolution, and those after the last ReLU."""
    names = [node.name for node in model.graph.node]
    kinds = [node.op_type for node in model.graph.node]
    last = len(kinds) - kinds[::-1].index("Relu")
    return names[: kinds.index("Conv") + 1] + names[last:]


class _Windows(CalibrationDataReader):  # type: ignore[misc]
    """One window a call, as onnxruntime's calibration wants them."""

    def __init__(self, log_mels: Iterable[Float32]) -> None:
        self._windows = iter(log_mels)

    def get_next(self) -> dict[str, Float32] | None:
        window = next(self._windows, None)
        return None if window is None else {"log_mel": window[None]}
