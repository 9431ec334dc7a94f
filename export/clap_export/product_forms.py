"""The forms in which a product with constant weights can be stored and multiplied.

In:  a float32 model with its constants inside; the form of each product, by its weight's name.
Out: a model with the same inputs and outputs.
Knows nothing about which form is good enough.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from clap_engine.arrays import Float32
from clap_export.graphs.builder import MICROSOFT
from clap_export.quantize import Rewriter, quantize_columns

Uint8 = npt.NDArray[np.uint8]

BLOCK = 32  # values that share a scale in Form.BLOCKS
# uint8 values of symmetric scales: of rows of an input, of blocks of weights.
NOTHING, TOP = 128, 127
MIDDLE = 64
INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy level


class Form(Enum):
    """How one product is stored and multiplied."""

    TENSOR = "int8, one scale for the whole input"
    ROWS = "int8, one scale for each row of the input: batch mates don't matter"
    BLOCKS = "int8, one scale for each block of weights and of input"
    FLOAT = "float32"


FormOf = Callable[[str], Form]


def rewrite(model: onnx.ModelProto, form: FormOf, *, bits: int = 7) -> onnx.ModelProto:
    """Tables become int8, products what `form` of their weight's name says.

    `bits`: of weights with one scale a column; 8 overflow on CPUs without VNNI (quantize.py).
    """
    rewriter = _Forms(model, form, bits)
    for node in model.graph.node:
        rewriter.rewrite(node)
    result = rewriter.model()
    if any(node.domain == MICROSOFT for node in result.graph.node):
        domains = {entry.domain for entry in result.opset_import}
        if MICROSOFT not in domains:
            result.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return result


def pack_blocks(weight: Float32) -> tuple[Uint8, Float32]:
    """[K, N] -> uint8 [N, K / 32, 32] in 0..128, scales [N, K / 32], as MatMulNBits has them.

    64 is nothing: two products of 128 with an int8 fit into int16, which CPUs without VNNI add in.
    """
    width, columns = weight.shape
    padded = np.zeros((-(-width // BLOCK) * BLOCK, columns), np.float32)
    padded[:width] = weight
    blocks = padded.T.reshape(columns, -1, BLOCK)
    scale = np.abs(blocks).max(axis=2) / MIDDLE
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    values = np.rint(blocks / scale[..., None]) + MIDDLE
    return values.astype(np.uint8), scale


class _Forms(Rewriter):
    """A rewriter that asks of each product."""

    def __init__(self, model: onnx.ModelProto, form: FormOf, bits: int) -> None:
        super().__init__(model, bits)
        self._form = form

    def _product(self, node: onnx.NodeProto) -> None:
        if self._form(node.input[1]) is Form.FLOAT:
            self._nodes.append(node)
        else:
            self._multiply(node.input[0], node.input[1], self._weight(node), node.output[0])

    def _attention(self, node: onnx.NodeProto) -> None:
        """Its product, and attention apart: QAttention multiplies head by head.

        768 wide, 8 tokens, one thread: QAttention 310 us, the two 130 us.
        """
        if self._form(node.input[1]) is Form.FLOAT:
            self._nodes.append(node)
            return
        x, name, bias = node.input[:3]
        out = node.output[0]
        product = f"{out}.product"
        self._multiply(x, name, self._constants[name], product)
        both = self._node("Add", [product, bias], f"{out}.qkv")
        parts = [f"{out}.{part}" for part in ("query", "key", "value")]
        self._nodes.append(helper.make_node("Split", [both], parts, name=f"{out}.split", axis=-1))
        mask = ["", node.input[3]] if len(node.input) > 3 else []
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._nodes.append(
            helper.make_node(
                "MultiHeadAttention", [*parts, *mask], [out], name=out, domain=MICROSOFT, **settings
            )
        )

    def _multiply(self, x: str, name: str, weight: Float32, out: str) -> None:
        form = self._form(name)
        if form is Form.TENSOR:
            self._tensor(x, name, weight, out)
        elif form is Form.ROWS:
            self._rows(x, name, weight, out)
        else:
            self._blocks(x, name, weight, out)

    def _blocks(self, x: str, name: str, weight: Float32, out: str) -> None:
        values, scale = pack_blocks(weight)
        inputs = [
            x,
            self._constant(f"{name}.blocks", values),
            self._constant(f"{name}.block_scales", scale),
            self._constant(f"{name}.middle", np.full(scale.shape, MIDDLE, np.uint8)),
        ]
        settings: dict[str, Any] = {"K": weight.shape[0], "N": weight.shape[1], "bits": 8}
        settings |= {"block_size": BLOCK, "accuracy_level": INT8_ACTIVATIONS}
        node = helper.make_node(
            "MatMulNBits", inputs, [out], name=out, domain=MICROSOFT, **settings
        )
        self._nodes.append(node)

    def _rows(self, x: str, name: str, weight: Float32, out: str) -> None:
        """x is divided by its rows' peaks, multiplied in int8, and multiplied by them again."""
        values, peak = self._unit_rows(x)
        weights, scales = quantize_columns(weight, self._bits)
        total = self._node(
            "MatMulInteger",
            [
                values,
                self._constant(f"{name}.int8", weights),
                self._nothing(),
                self._constant("zero.int8", np.zeros((), np.int8)),
            ],
            f"{out}.int32",
        )
        total = self._node("Cast", [total], f"{out}.float", to=onnx.TensorProto.FLOAT)
        scale = self._constant(f"{name}.scale", scales / np.float32(TOP))
        total = self._node("Mul", [total, scale], f"{out}.columns")
        self._node("Mul", [total, peak], out)

    def _unit_rows(self, x: str) -> tuple[str, str]:
        """uint8 values of x over its rows' largest magnitudes, and those; once for all users."""
        key = f"{x}.rows"
        if key not in self._quantized:
            size = self._node("Abs", [x], f"{x}.magnitude")
            peak = self._node("ReduceMax", [size], f"{x}.peak", axes=[-1], keepdims=1)
            least = self._constant("least.peak", np.array(1e-20, np.float32))
            peak = self._node("Max", [peak, least], f"{x}.scale")
            unit = self._node("Div", [x, peak], f"{x}.unit")
            step = self._constant("step.unit", np.array(1 / TOP, np.float32))
            values = self._node("QuantizeLinear", [unit, step, self._nothing()], f"{x}.uint8")
            self._quantized[key] = (values, peak, "")
        values, peak, _ = self._quantized[key]
        return values, peak

    def _nothing(self) -> str:
        return self._constant("nothing.uint8", np.array(NOTHING, np.uint8))
