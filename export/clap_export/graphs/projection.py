"""A tower's projection and the head of the embedding space as ONNX nodes.

In:  pooled features [B, H] of a graph under construction; the state dict; `HeadGraph`.
Out: the graph's outputs `native` [B, N] (the source's own space) and `embedding` [B, D], unit rows.
Knows nothing about towers.

Three projections are known by the names of their weights:
msclap        `linear1`, `linear2`, `layer_norm`: e = W1 x, LayerNorm(e + W2 gelu(e)), no biases
transformers  `linear1`, `linear2` with biases: W2 relu(W1 x + b1) + b2
laion_clap    the same, called `0` and `2`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError
from clap_export.graphs.builder import MICROSOFT, GraphBuilder

# torch's own default, which msclap keeps.
EPS = 1e-5


@dataclass(frozen=True)
class HeadGraph:
    """Native space -> embedding space: y = x matrix + bias. Without a matrix, the native space."""

    matrix: Float32 | None = None  # [N, D]
    bias: Float32 | None = None  # [D]

    def dim(self, native: int) -> int:
        """D for a native space of N dims; ArrayError where the head doesn't fit it."""
        matrix, bias = self.matrix, self.bias
        if matrix is not None and (matrix.ndim != 2 or len(matrix) != native):
            raise ArrayError(f"the head has shape {matrix.shape}; ({native}, D) is needed")
        dim = native if matrix is None else int(matrix.shape[1])
        if bias is not None and bias.shape != (dim,):
            raise ArrayError(f"the head's bias has shape {bias.shape}; ({dim},) is needed")
        return dim


@dataclass(frozen=True)
class Widths:
    """Of the two outputs."""

    native: int
    embedding: int

    def outputs(self) -> dict[str, tuple[str, list[str | int]]]:
        """As `GraphBuilder.model` wants them."""
        return {
            "embedding": ("float32", ["B", self.embedding]),
            "native": ("float32", ["B", self.native]),
        }


def add_projection(
    g: GraphBuilder, x: str, state: Mapping[str, Float32], prefix: str, head: HeadGraph
) -> Widths:
    """[B, H] -> the outputs `native` and `embedding`; weights are `prefix` + their names above."""
    if prefix + "layer_norm.weight" in state:
        native = _with_norm(g, x, state, prefix)
    elif prefix + "linear1.weight" in state:
        native = _plain(g, x, state, prefix, ("linear1", "linear2"))
    else:
        native = _plain(g, x, state, prefix, ("0", "2"))
    dim = head.dim(native)
    y = "native"
    if head.matrix is not None:
        y = g.node("MatMul", [y, g.constant(head.matrix, "head.weight")])
    if head.matrix is not None or head.bias is not None:
        bias = np.zeros(dim) if head.bias is None else head.bias
        y = g.node("Add", [y, g.constant(bias, "head.bias", np.float32)])
    norm = g.node("ReduceL2", [y], axes=[-1], keepdims=1)
    g.node("Div", [y, g.node("Max", [norm, g.scalar(1e-12)])], out="embedding")
    return Widths(native, dim)


def _with_norm(g: GraphBuilder, x: str, state: Mapping[str, Float32], prefix: str) -> int:
    """msclap's projection; the width of `native`."""

    def linear(x: str, name: str) -> str:
        weight = state[f"{prefix}{name}.weight"]
        product = g.node("MatMul", [x, g.constant(weight.T, f"projection.{name}.weight")])
        # Where conditioning.py puts what it takes off the product's input.
        nothing = g.constant(np.zeros(len(weight)), f"projection.{name}.bias", np.float32)
        return g.node("Add", [product, nothing])

    first = linear(x, "linear1")
    second = linear(g.node("Gelu", [first], domain=MICROSOFT), "linear2")
    gain = g.constant(state[prefix + "layer_norm.weight"], "projection.layer_norm.weight")
    shift = g.constant(state[prefix + "layer_norm.bias"], "projection.layer_norm.bias")
    both = g.node("Add", [first, second])
    g.node("LayerNormalization", [both, gain, shift], axis=-1, epsilon=EPS, out="native")
    return len(state[prefix + "layer_norm.weight"])


def _plain(
    g: GraphBuilder, x: str, state: Mapping[str, Float32], prefix: str, names: tuple[str, str]
) -> int:
    """transformers' projection; the width of `native`."""

    def linear(x: str, name: str, out: str | None = None) -> str:
        weight = g.constant(state[f"{prefix}{name}.weight"].T, f"projection.{name}.weight")
        shift = g.constant(state[f"{prefix}{name}.bias"], f"projection.{name}.bias")
        return g.node("Add", [g.node("MatMul", [x, weight]), shift], out=out)

    linear(g.node("Relu", [linear(x, names[0])]), names[1], "native")
    return len(state[f"{prefix}{names[1]}.bias"])
