"""clapcap's GPT-2 -> one ONNX graph that reads a prefix, then one token at a time.

In:  the state dict of a clapcap checkpoint (keys under `gpt.`).
Out: a float32 model: prefix, token ids, mask and past keys and values -> scores of the next token
     at the places asked for, and the keys and values of all places.
Knows nothing about beams, tokenizing, quantization or files.

The mask comes from outside. So the beams of a search are branches of one tree, each place of
which sees its ancestors only: a beam that another one replaces moves no keys or values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError
from clap_export.graphs.builder import MICROSOFT, GraphBuilder

State = Mapping[str, Float32]

EPSILON = 1e-5
# Every GPT-2 has heads of 64; no key of a checkpoint says so.
HEAD_DIM = 64
# Constant [H, V] that is the table of token embeddings and, as msclap ties them, the last product.
TOKENS = "tokens"


@dataclass(frozen=True)
class DecoderShape:
    """What the state dict says of the decoder's sizes."""

    layers: int
    heads: int
    head_dim: int
    hidden: int
    vocabulary: int
    positions: int


def shape(state: State, prefix: str = "gpt.") -> DecoderShape:
    """The sizes of the decoder in `state`; ArrayError where its keys don't make a GPT-2."""
    places = f"{prefix}transformer.wpe.weight"
    if places not in state:
        raise ArrayError(f"{places!r} is not in the state dict; give a clapcap checkpoint's")
    positions, hidden = state[places].shape
    start = f"{prefix}transformer.h."
    blocks = {int(key[len(start) :].split(".")[0]) for key in state if key.startswith(start)}
    if sorted(blocks) != list(range(len(blocks))) or not blocks or hidden % HEAD_DIM:
        raise ArrayError(
            f"blocks {sorted(blocks)} of width {hidden}; blocks from 0 on and a width that is a "
            f"multiple of {HEAD_DIM} are needed"
        )
    return DecoderShape(
        layers=len(blocks),
        heads=hidden // HEAD_DIM,
        head_dim=HEAD_DIM,
        hidden=hidden,
        vocabulary=len(_tokens(state, prefix)),
        positions=positions,
    )


def build(state: State, prefix: str = "gpt.") -> onnx.ModelProto:
    """The decoder, float32: B clips, P places of prefix, L tokens, S places before, R read.

    prefix [B, P, H], input_ids [B, L], positions [B, P+L], mask [B, 1, P+L, S+P+L] (added to the
    scores), read [R], past_key.i and past_value.i [B, heads, S, 64]
    -> logits [B, R, V], key.i and value.i [B, heads, S+P+L, 64]. P, L or S may be 0.
    """
    sizes = shape(state, prefix)
    g = GraphBuilder("caption decoder")
    tokens = g.constant(_tokens(state, prefix).T, TOKENS)  # [H, V], for the product at the end
    rows = g.node("Transpose", [g.node("Gather", [tokens, "input_ids"], axis=1)], perm=[1, 2, 0])
    x = g.node("Concat", ["prefix", rows], axis=1)
    places = g.constant(state[f"{prefix}transformer.wpe.weight"], "positions.weight")
    x = g.node("Add", [x, g.node("Gather", [places, "positions"])])
    for i in range(sizes.layers):
        x = _block(g, state, f"{prefix}transformer.", i, x, sizes)
    # Only what is read goes through the largest product of all.
    x = g.node("Gather", [x, "read"], axis=1)
    x = _layer_norm(g, state, f"{prefix}transformer.", "ln_f", x)
    g.node("MatMul", [x, tokens], out="logits")
    kinds = [f"{kind}.{i}" for i in range(sizes.layers) for kind in ("key", "value")]
    heads, width = sizes.heads, sizes.head_dim
    return g.model(
        {
            "prefix": ("float32", ["B", "P", sizes.hidden]),
            "input_ids": ("int64", ["B", "L"]),
            "positions": ("int64", ["B", "N"]),
            "mask": ("float32", ["B", 1, "N", "T"]),
            "read": ("int64", ["R"]),
            **{f"past_{kind}": ("float32", ["B", heads, "S", width]) for kind in kinds},
        },
        {
            "logits": ("float32", ["B", "R", sizes.vocabulary]),
            **{kind: ("float32", ["B", heads, "T", width]) for kind in kinds},
        },
    )


def _tokens(state: State, prefix: str) -> Float32:
    """[V, H]: the table that msclap's tied model holds after loading, where lm_head comes last."""
    names = (f"{prefix}lm_head.weight", f"{prefix}transformer.wte.weight")
    for name in names:
        if name in state:
            return state[name]
    raise ArrayError(f"neither of {', '.join(names)} is in the state dict; give a clapcap's")


def _block(g: GraphBuilder, state: State, prefix: str, i: int, x: str, sizes: DecoderShape) -> str:
    """One pre-norm layer: [B, N, H] -> [B, N, H]; its keys and values become outputs."""
    name = f"h.{i}."
    y = _layer_norm(g, state, prefix, name + "ln_1", x)
    y = _linear(g, state, prefix, name + "attn.c_attn", y)
    query, key, value = g.nodes("Split", [y], [None] * 3, axis=-1)
    attended, _, _ = g.nodes(
        "MultiHeadAttention",
        [query, key, value, "", "", "mask", f"past_key.{i}", f"past_value.{i}"],
        [None, f"key.{i}", f"value.{i}"],
        domain=MICROSOFT,
        num_heads=sizes.heads,
    )
    x = g.node("Add", [x, _linear(g, state, prefix, name + "attn.c_proj", attended)])
    y = _layer_norm(g, state, prefix, name + "ln_2", x)
    weight, shift = _weight(g, state, prefix, name + "mlp.c_fc")
    y = g.node("MatMul", [y, weight])
    y = g.node("FastGelu", [y, shift], domain=MICROSOFT)  # tanh, as GPT-2's gelu_new
    return g.node("Add", [x, _linear(g, state, prefix, name + "mlp.c_proj", y)])


def _weight(g: GraphBuilder, state: State, prefix: str, name: str) -> tuple[str, str]:
    """GPT-2 stores its weights as [in, out], which is what a product wants."""
    weight = g.constant(state[f"{prefix}{name}.weight"], f"{name}.weight")
    return weight, g.constant(state[f"{prefix}{name}.bias"], f"{name}.bias")


def _linear(g: GraphBuilder, state: State, prefix: str, name: str, x: str) -> str:
    weight, shift = _weight(g, state, prefix, name)
    return g.node("Add", [g.node("MatMul", [x, weight]), shift])


def _layer_norm(g: GraphBuilder, state: State, prefix: str, name: str, x: str) -> str:
    scale, shift = _weight(g, state, prefix, name)
    return g.node("LayerNormalization", [x, scale, shift], axis=-1, epsilon=EPSILON)
