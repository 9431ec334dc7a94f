"""clapcap's mapper -> the ONNX graph that turns a sound's embedding into a prefix for GPT-2.

In:  the state dict of a clapcap checkpoint (keys under `clap_project.`).
Out: a float32 model, `native` float32 [B, D] -> `prefix` float32 [B, P, H].
Knows nothing about audio, decoding, quantization or files.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError
from clap_export.graphs.builder import MICROSOFT, GraphBuilder

State = Mapping[str, Float32]

EPSILON = 1e-5
HEADS = 8  # a literal in msclap's TransformerMapper; no key of a checkpoint says so


def build(state: State, prefix: str = "clap_project.", *, heads: int = HEADS) -> onnx.ModelProto:
    """The mapper, float32, with the L2 norm that msclap takes of the embedding first."""
    learned = _get(state, prefix + "prefix_const")  # [P, H]
    weight = _get(state, prefix + "linear.weight")  # [C * H, D]
    length, hidden = learned.shape
    if hidden % heads or len(weight) % hidden:
        raise ArrayError(
            f"prefix of width {hidden}, linear of {len(weight)} rows: a multiple of {heads} heads "
            "and whole places are needed; give a clapcap checkpoint with a transformer mapper"
        )
    start = f"{prefix}transformer.layers."
    layers = len({key[len(start) :].split(".")[0] for key in state if key.startswith(start)})
    clip = len(weight) // hidden
    g = GraphBuilder("caption mapper")
    norm = g.node("ReduceL2", ["native"], axes=[-1], keepdims=1)
    x = g.node("Div", ["native", g.node("Max", [norm, g.scalar(1e-12)])])
    x = _linear(g, state, prefix + "linear", x)
    x = g.node("Reshape", [x, g.ints(-1, clip, hidden)])
    batch = g.node("Shape", ["native"], start=0, end=1)
    size = g.node("Concat", [batch, g.ints(length, hidden)], axis=0)
    x = g.node("Concat", [x, g.node("Expand", [g.constant(learned, "prefix_const"), size])], axis=1)
    for i in range(layers):
        # The sound's own places are only read in the last layer: their rows end there.
        kept = clip if i == layers - 1 else 0
        x = _layer(g, state, f"{start}{i}.", x, kept, heads)
    g.node("Identity", [x], out="prefix")
    return g.model(
        {"native": ("float32", ["B", weight.shape[1]])},
        {"prefix": ("float32", ["B", length, hidden])},
    )


def _layer(g: GraphBuilder, state: State, name: str, x: str, skip: int, heads: int) -> str:
    """One pre-norm layer: [B, N, H] -> [B, N - skip, H], the first `skip` places only read."""
    y = _layer_norm(g, state, name + "norm1", x)
    queries = _get(state, name + "attn.to_queries.weight")
    others = _get(state, name + "attn.to_keys_values.weight")
    if skip:
        keys = g.constant(others.T, name + "attn.keys_values")
        key, value = g.nodes("Split", [g.node("MatMul", [y, keys])], [None] * 2, axis=-1)
        x, y = (g.node("Slice", [z, g.ints(skip), g.ints(2**31), g.ints(1)]) for z in (x, y))
        query = g.node("MatMul", [y, g.constant(queries.T, name + "attn.queries")])
    else:
        both = g.constant(np.concatenate([queries, others]).T, name + "attn.qkv")
        query, key, value = g.nodes("Split", [g.node("MatMul", [y, both])], [None] * 3, axis=-1)
    attended = g.node("MultiHeadAttention", [query, key, value], domain=MICROSOFT, num_heads=heads)
    x = g.node("Add", [x, _linear(g, state, name + "attn.project", attended)])
    y = _layer_norm(g, state, name + "norm2", x)
    y = g.node("Relu", [_linear(g, state, name + "mlp.fc1", y)])
    return g.node("Add", [x, _linear(g, state, name + "mlp.fc2", y)])


def _get(state: State, name: str) -> Float32:
    if name not in state:
        raise ArrayError(f"{name!r} is not in the state dict; give a clapcap checkpoint's")
    return state[name]


def _linear(g: GraphBuilder, state: State, name: str, x: str) -> str:
    weight = g.constant(_get(state, name + ".weight").T, name + ".weight")
    shift = g.constant(_get(state, name + ".bias"), name + ".bias")
    return g.node("Add", [g.node("MatMul", [x, weight]), shift])


def _layer_norm(g: GraphBuilder, state: State, name: str, x: str) -> str:
    scale = g.constant(_get(state, name + ".weight"), name + ".weight")
    shift = g.constant(_get(state, name + ".bias"), name + ".bias")
    return g.node("LayerNormalization", [x, scale, shift], axis=-1, epsilon=EPSILON)
