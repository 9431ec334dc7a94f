"""A list of ONNX nodes under construction.

In:  operators, numpy constants, names.
Out: a checked `onnx.ModelProto` with every constant inside the file.
Knows nothing about towers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
# LayerNormalization came with opset 17; onnxruntime >= 1.16 reads all of this.
OPSET = 17
IR_VERSION = 8
# Nodes whose second input may be constant weights [K, N] (a Gemm's perhaps transposed).
PRODUCTS = ("MatMul", "Gemm", "Attention")
DTYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class GraphBuilder:
    """Nodes in order, constants stored once each; every method returns the value's name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._by_content: dict[tuple[str, str], str] = {}
        self._count = 0

    def constant(self, value: npt.ArrayLike, name: str, dtype: Any = None) -> str:
        """Store `value` (C order); the same content under the same dtype and shape is shared."""
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        if np.ndim(value) == 0:
            array = array.reshape(())
        content = (
            f"{array.dtype}{array.shape}",
            hashlib.sha256(array.tobytes()).hexdigest(),
        )
        if content not in self._by_content:
            unique = name if name not in self._constants else f"{name}.{len(self._constants)}"
            self._constants[unique] = numpy_helper.from_array(array, unique)
            self._by_content[content] = unique
        return self._by_content[content]

    def ints(self, *values: int) -> str:
        """A one-dimensional int64 constant, as Reshape and Slice want."""
        return self.constant(np.array(values, np.int64), "ints." + "_".join(map(str, values)))

    def scalar(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.float32(value), f"scalar.{value:g}")

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        *,
        out: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append one node with one output."""
        (result,) = self.nodes(op, inputs, [out], domain=domain, **attributes)
        return result

    def nodes(
        self,
        op: str,
        inputs: Sequence[str],
        outs: Sequence[str | None],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Append one node with several outputs; None asks for a made-up name."""
        names = []
        for out in outs:
            self._count += 1
            names.append(out or f"{op}.{self._count}")
        node = helper.make_node(op, list(inputs), names, domain=domain, **attributes)
        node.name = names[0]
        self._nodes.append(node)
        return names

    def model(
        self,
        inputs: Mapping[str, tuple[str, Sequence[str | int]]],
        outputs: Mapping[str, tuple[str, Sequence[str | int]]],
    ) -> onnx.ModelProto:
        """The finished model; `inputs` and `outputs` map a name to (dtype, shape)."""

        def infos(
            wanted: Mapping[str, tuple[str, Sequence[str | int]]],
        ) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, DTYPES[dtype], list(shape))
                for name, (dtype, shape) in wanted.items()
            ]

        graph = helper.make_graph(
            self._nodes,
            self._name,
            infos(inputs),
            infos(outputs),
            initializer=list(self._constants.values()),
        )
        domains = {node.domain for node in self._nodes} - {""}
        model = helper.make_model(
            graph,
            opset_imports=[
                helper.make_opsetid("", OPSET),
                *(helper.make_opsetid(domain, 1) for domain in sorted(domains)),
            ],
            producer_name="clap-export",
        )
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model


def constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Every constant of a model by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
