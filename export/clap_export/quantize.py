"""Float graphs -> int8 graphs: the text tower by rewriting its products, the audio tower by QDQ.

In:  float32 models with constants inside; log-mels for the audio tower's calibration.
Out: int8 models with the same inputs and outputs.
Knows nothing about bundles; whether a result is good enough is parity's matter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from clap_engine.arrays import Float32
from clap_engine.errors import GraphError
from clap_export.graphs.builder import MICROSOFT, constants

Int8 = npt.NDArray[np.int8]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Dynamic:
    """uint8 activations with one scale per call, int8 weights with one scale per column.

    `bits` 7 keeps a pair of products within int16, where CPUs without VNNI add them up.
    """

    bits: Literal[7, 8] = 7


@dataclass(frozen=True)
class Blocks:
    """int8 weights in blocks along the input axis, each with its scale (MatMulNBits).

    `accuracy_level` 4 also rounds the activations to int8, per row and block: no row depends on
    its batch mates. 0 multiplies in float32.
    """

    size: int = 32
    accuracy_level: Literal[0, 4] = 4


Scheme = Dynamic | Blocks
Choice = Callable[[str], Scheme | None]  # by the name of the weights; None: stay float32


def text_scheme(weight: str) -> Scheme | None:
    """What was measured best for the text tower (docs/decisions.md)."""
    return Blocks(32, 4)


def quantize_text(model: onnx.ModelProto, choose: Choice = text_scheme) -> onnx.ModelProto:
    """The text graph with int8 tables and the products that `choose` names in int8."""
    rewriter = _Rewriter(model)
    for node in model.graph.node:
        rewriter.rewrite(node, choose)
    return rewriter.model()


def quantize_rows(table: Float32) -> tuple[Int8, Float32]:
    """[N, D] -> int8 [N, D] and scales [N, 1], one per row; a zero row keeps scale 1."""
    scale = np.abs(table).max(axis=1, keepdims=True) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    return np.rint(table / scale).astype(np.int8), scale


def quantize_columns(weight: Float32, bits: int) -> tuple[Int8, Float32]:
    """[K, N] -> int8 [K, N] and scales [N], one per column; `bits` 7 gives values in -64..64."""
    top = 64 if bits == 7 else 127
    scale = np.abs(weight).max(axis=0) / np.float32(top)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def quantize_blocks(weight: Float32, size: int) -> tuple[UInt8, Float32]:
    """[K, N] -> uint8 [N, K/size, size] around 128 and scales [N, K/size]; K is padded with 0."""
    rows = np.pad(weight.T, ((0, 0), (0, -weight.shape[0] % size)))
    blocks = rows.reshape(weight.shape[1], -1, size)
    scale = np.abs(blocks).max(axis=2) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    return (np.rint(blocks / scale[..., None]) + 128).astype(np.uint8), scale


class _Rewriter:
    """Copies nodes, replacing those over constant weights."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._source = model
        self._constants = constants(model)
        self._nodes: list[onnx.NodeProto] = []
        self._added: dict[str, onnx.TensorProto] = {}
        self._quantized: dict[str, tuple[str, str, str]] = {}

    def rewrite(self, node: onnx.NodeProto, choose: Choice) -> None:
        if node.op_type == "Gather" and node.input[0] in self._constants:
            self._gather(node)
            return
        weight = self._weight(node)
        scheme = choose(node.input[1]) if weight is not None else None
        if weight is None or scheme is None:
            self._nodes.append(node)
        elif isinstance(scheme, Dynamic):
            self._dynamic(node, weight, scheme)
        else:
            self._blocks(node, weight, scheme)

    def model(self) -> onnx.ModelProto:
        result = onnx.ModelProto()
        result.CopyFrom(self._source)
        del result.graph.node[:]
        result.graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [t for t in self._source.graph.initializer if t.name in used]
        del result.graph.initializer[:]
        result.graph.initializer.extend([*kept, *self._added.values()])
        if MICROSOFT not in {entry.domain for entry in result.opset_import}:
            result.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        onnx.checker.check_model(result)
        return result

    def _weight(self, node: onnx.NodeProto) -> Float32 | None:
        """[K, N] of a product over constant weights, else None."""
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in self._constants:
            return None
        weight = self._constants[node.input[1]]
        if node.op_type == "MatMul":
            return weight
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if len(node.input) > 2 or settings.get("transA"):
            raise GraphError(f"{node.name}: a Gemm with bias or transA is not handled")
        alpha = np.float32(settings.get("alpha", 1.0))
        return np.ascontiguousarray(weight.T if settings.get("transB") else weight) * alpha

    def _constant(self, name: str, value: npt.NDArray[Any] | np.float32) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)
        # Anchor keys are used twice, once transposed: same name, other content.
        if name in self._added and self._added[name] != tensor:
            tensor.name = f"{name}.{len(self._added)}"
        self._added[tensor.name] = tensor
        return tensor.name

    def _node(self, op: str, inputs: Sequence[str], out: str, **attributes: Any) -> str:
        domain = MICROSOFT if op == "MatMulNBits" else ""
        node = helper.make_node(op, list(inputs), [out], name=out, domain=domain, **attributes)
        self._nodes.append(node)
        return out

    def _gather(self, node: onnx.NodeProto) -> None:
        """Rows are looked up as int8 and scaled after."""
        table, ids = node.input
        out = node.output[0]
        values, scale = quantize_rows(self._constants[table])
        rows = self._node("Gather", [self._constant(f"{table}.int8", values), ids], f"{out}.int8")
        rows = self._node("Cast", [rows], f"{out}.float", to=onnx.TensorProto.FLOAT)
        scales = self._constant(f"{table}.scale", scale)
        scales = self._node("Gather", [scales, ids], f"{out}.scale")
        self._node("Mul", [rows, scales], out)

    def _dynamic(self, node: onnx.NodeProto, weight: Float32, scheme: Dynamic) -> None:
        """DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul, which onnxruntime fuses."""
        x, name = node.input[0], node.input[1]
        out = node.output[0]
        if x not in self._quantized:
            outs = (f"{x}.uint8", f"{x}.scale", f"{x}.zero")
            self._nodes.append(
                helper.make_node("DynamicQuantizeLinear", [x], outs, name=f"{x}.quantize")
            )
            self._quantized[x] = outs
        values, scale, zero = self._quantized[x]
        weights, scales = quantize_columns(weight, scheme.bits)
        total = self._node(
            "MatMulInteger",
            [
                values,
                self._constant(f"{name}.int8", weights),
                zero,
                self._constant("zero.int8", np.zeros((), np.int8)),
            ],
            f"{out}.int32",
        )
        total = self._node("Cast", [total], f"{out}.float", to=onnx.TensorProto.FLOAT)
        both = self._node(
            "Mul", [scale, self._constant(f"{name}.scale", scales)], f"{out}.scales"
        )
        self._node("Mul", [total, both], out)

    def _blocks(self, node: onnx.NodeProto, weight: Float32, scheme: Blocks) -> None:
        values, scales = quantize_blocks(weight, scheme.size)
        name = node.input[1]
        self._node(
            "MatMulNBits",
            [
                node.input[0],
                self._constant(f"{name}.uint8", values),
                self._constant(f"{name}.scale", scales),
            ],
            node.output[0],
            K=weight.shape[0],
            N=weight.shape[1],
            bits=8,
            block_size=scheme.size,
            accuracy_level=scheme.accuracy_level,
        )


def quantize_audio(
    model: onnx.ModelProto,
    log_mels: Iterable[Float32],
    *,
    keep: Sequence[str] = (),
    method: str = "MinMax",
    reduce_range: bool = True,
    **options: Any,
) -> onnx.ModelProto:
    """The audio graph as static QDQ, calibrated on the windows `log_mels` [F, M]; `keep` stays float32.

    Static scales: a window's embedding does not depend on its batch mates.
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
            _Reader(log_mels),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
            nodes_to_exclude=list(keep),
            extra_options=options,
        )
        result = onnx.load(target)
    del result.metadata_props[:]
    onnx.checker.check_model(result)
    return result


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, log_mels: Iterable[Float32]) -> None:
        self._windows = iter(log_mels)

    def get_next(self) -> dict[str, Float32] | None:
        window = next(self._windows, None)
        return None if window is None else {"log_mel": window[None]}
