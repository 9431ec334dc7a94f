"""The text tower in int8: its tables and products, rewritten node by node.

In:  a float32 model with its constants inside; sample inputs.
Out: an int8 model with the same inputs and outputs.
Knows nothing about bundles; whether a result is good enough is parity's matter.

int8 weights are kept to 7 bits (-64..64). CPUs without VNNI add pairs of products in 16 bits,
which 8-bit weights overflow: measured, the same graph then ranks differently on such a CPU
(docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from clap_engine.arrays import Float32
from clap_engine.errors import GraphError
from clap_export.graphs.builder import MICROSOFT, PRODUCTS, constants
from clap_export.smoothing import Inputs, smooth, text_smoothing

Int8 = npt.NDArray[np.int8]


def quantize_text(
    model: onnx.ModelProto,
    samples: Sequence[Inputs],
    *,
    smoothing: Callable[[str], float | None] = text_smoothing,
    bits: int = 7,
) -> onnx.ModelProto:
    """The text graph with int8 tables and products, smoothed by its activations on `samples`.

    Activations get one scale per call, so a text's embedding depends on its batch mates: run one
    text a call. `samples` must resemble what will be asked, short names and long sentences alike.
    """
    smoothed = smooth(model, samples, smoothing)
    rewriter = Rewriter(smoothed, bits)
    for node in smoothed.graph.node:
        rewriter.rewrite(node)
    return rewriter.model()


def quantize_rows(table: Float32) -> tuple[Int8, Float32]:
    """[N, D] -> int8 [N, D] and scales [N, 1], one per row; a zero row keeps scale 1."""
    scale = _scale(np.abs(table).max(axis=1, keepdims=True), 127)
    return np.rint(table / scale).astype(np.int8), scale


def quantize_columns(weight: Float32, bits: int = 7) -> tuple[Int8, Float32]:
    """[K, N] -> int8 [K, N] and scales [N], one per column; 7 bits are values in -64..64."""
    scale = _scale(np.abs(weight).max(axis=0), 64 if bits == 7 else 127)
    return np.rint(weight / scale).astype(np.int8), scale


def _scale(peak: Float32, top: int) -> Float32:
    scale = peak / np.float32(top)
    return np.where(scale > 0, scale, np.float32(1)).astype(np.float32)


class Rewriter:
    """Copies nodes, replacing those over constant weights; quantize_towers.py knows other ways."""

    def __init__(self, model: onnx.ModelProto, bits: int) -> None:
        self._source = model
        self._bits = bits
        self._constants = constants(model)
        self._nodes: list[onnx.NodeProto] = []
        self._added: dict[str, onnx.TensorProto] = {}
        self._quantized: dict[str, tuple[str, str, str]] = {}

    def rewrite(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Gather" and node.input[0] in self._constants:
            self._gather(node)
        elif node.op_type not in PRODUCTS or node.input[1] not in self._constants:
            self._nodes.append(node)
        elif node.op_type == "Attention":
            self._attention(node)
        else:
            self._product(node)

    def model(self) -> onnx.ModelProto:
        result = onnx.ModelProto()
        result.CopyFrom(self._source)
        del result.graph.node[:]
        result.graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [t for t in self._source.graph.initializer if t.name in used]
        del result.graph.initializer[:]
        result.graph.initializer.extend([*kept, *self._added.values()])
        onnx.checker.check_model(result)
        return result

    def _weight(self, node: onnx.NodeProto) -> Float32:
        """[K, N] of a product over constant weights."""
        weight = self._constants[node.input[1]]
        if node.op_type != "Gemm":
            return weight
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if len(node.input) > 2 or settings.get("transA"):
            raise GraphError(f"{node.name}: a Gemm with bias or transA can't be quantized here")
        alpha = np.float32(settings.get("alpha", 1.0))
        return (weight.T if settings.get("transB") else weight) * alpha

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)
        # Anchor keys are used twice, once transposed: same name, other content.
        if name in self._added and self._added[name] != tensor:
            tensor.name = f"{name}.{len(self._added)}"
        self._added[tensor.name] = tensor
        return str(tensor.name)

    def _node(self, op: str, inputs: Sequence[str], out: str, **attributes: Any) -> str:
        domain = MICROSOFT if op == "QAttention" else ""
        node = helper.make_node(op, list(inputs), [out], name=out, domain=domain, **attributes)
        self._nodes.append(node)
        return out

    def _activation(self, x: str) -> tuple[str, str, str]:
        """uint8 values, scale and zero point of `x`, made once for all its users."""
        if x not in self._quantized:
            outs = (f"{x}.uint8", f"{x}.range", f"{x}.zero")
            node = helper.make_node("DynamicQuantizeLinear", [x], outs, name=f"{x}.quantize")
            self._nodes.append(node)
            self._quantized[x] = outs
        return self._quantized[x]

    def _gather(self, node: onnx.NodeProto) -> None:
        """Rows are looked up as int8 and scaled after."""
        table, ids = node.input
        out = node.output[0]
        if any(a.name == "axis" and a.i == 1 for a in node.attribute):
            self._gather_columns(table, ids, out)
            return
        values, scale = quantize_rows(self._constants[table])
        rows = self._node("Gather", [self._constant(f"{table}.int8", values), ids], f"{out}.int8")
        rows = self._node("Cast", [rows], f"{out}.float", to=onnx.TensorProto.FLOAT)
        scales = self._constant(f"{table}.scale", scale)
        scales = self._node("Gather", [scales, ids], f"{out}.scale")
        self._node("Mul", [rows, scales], out)

    def _gather_columns(self, table: str, ids: str, out: str) -> None:
        """[H, V], [B, L] -> [H, B, L], of a table that a product shares: stored once for both."""
        values, scales = quantize_columns(self._constants[table], self._bits)
        weight = self._constant(f"{table}.int8", values)
        columns = self._node("Gather", [weight, ids], f"{out}.int8", axis=1)
        columns = self._node("Cast", [columns], f"{out}.float", to=onnx.TensorProto.FLOAT)
        scale = self._node(
            "Gather", [self._constant(f"{table}.scale", scales), ids], f"{out}.scale"
        )
        self._node("Mul", [columns, scale], out)

    def _product(self, node: onnx.NodeProto) -> None:
        self._tensor(node.input[0], node.input[1], self._weight(node), node.output[0])

    def _tensor(self, x: str, name: str, weight: Float32, out: str) -> None:
        """DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul, which onnxruntime fuses."""
        values, scale, zero = self._activation(x)
        weights, scales = quantize_columns(weight, self._bits)
        weights_zero = self._constant("zero.int8", np.zeros((), np.int8))
        total = self._node(
            "MatMulInteger",
            [values, self._constant(f"{name}.int8", weights), zero, weights_zero],
            f"{out}.int32",
        )
        total = self._node("Cast", [total], f"{out}.float", to=onnx.TensorProto.FLOAT)
        both = self._node("Mul", [scale, self._constant(f"{name}.scale", scales)], f"{out}.scales")
        self._node("Mul", [total, both], out)

    def _attention(self, node: onnx.NodeProto) -> None:
        """Attention -> QAttention: the product for query, key and value in int8."""
        x, name, bias = node.input[:3]
        mask = node.input[3] if len(node.input) > 3 else ""  # causal towers need none
        values, scale, zero = self._activation(x)
        weights, scales = quantize_columns(self._weight(node), self._bits)
        self._node(
            "QAttention",
            [
                values,
                self._constant(f"{name}.int8", weights),
                bias,
                scale,
                self._constant(f"{name}.scale", scales),
                mask,
                zero,
                self._constant(f"{name}.zero", np.zeros(weights.shape[1], np.int8)),
            ],
            node.output[0],
            **{a.name: helper.get_attribute_value(a) for a in node.attribute},
        )
