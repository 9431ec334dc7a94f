"""Sentence encoder + phrase anchors + head -> the text tower as an ONNX graph.

In:  `SentenceEncoder`, head weights [384, 512], optional phrase anchors.
Out: a float32 model, `input_ids`, `attention_mask` int64 [B, L] -> `embedding` float32 [B, 512].
Knows nothing about tokenizing, quantization or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError
from clap_export.graphs.builder import MICROSOFT, GraphBuilder
from clap_export.minilm import EncoderConfig, SentenceEncoder

# Added to the scores of padded places. Not -inf (a row of padding alone would be NaN), and far
# enough that exp() is exactly 0: values near -100 leave denormals, which run 20 times slower.
MASKED = -1e9


@dataclass(frozen=True)
class TextHead:
    """Linear head from sentence space to the embedding space: weight [H, D], bias [D] or None."""

    weight: Float32
    bias: Float32 | None = None


@dataclass(frozen=True)
class Anchors:
    """Phrases of the training captions, onto which a query's sentence vector is drawn.

    With x the unit sentence vector and a = softmax(x keys^T / tau):
    values None       x' = (1 - blend) x + blend a keys, then the head
    values [P, H]     x' = (1 - blend) x + blend a values, then the head
    values [P, D]     y' = (1 - blend) y + blend a values, with y the normalised head output
    """

    keys: Float32  # [P, H], unit rows
    values: Float32 | None
    blend: float
    tau: float


def build(
    encoder: SentenceEncoder, head: TextHead, anchors: Anchors | None = None
) -> onnx.ModelProto:
    """The whole text tower, float32, batch and length dynamic."""
    check_parts(encoder.config, head, anchors)
    g = GraphBuilder("text")
    mask = g.node("Cast", ["attention_mask"], to=onnx.TensorProto.FLOAT)  # [B, L]
    x = _embeddings(g, encoder)
    bias = _attention_bias(g, mask)
    for i in range(encoder.config.layers):
        x = _layer(g, encoder, i, x, bias)
    sentence = _normalize(g, _mean_pool(g, x, mask))
    _project(g, sentence, head, anchors)
    dim = head.weight.shape[1]
    return g.model(
        {"input_ids": ("int64", ["B", "L"]), "attention_mask": ("int64", ["B", "L"])},
        {"embedding": ("float32", ["B", dim])},
    )


def check_parts(config: EncoderConfig, head: TextHead, anchors: Anchors | None) -> None:
    """ArrayError when head or anchors don't fit the encoder."""
    hidden = config.hidden
    if head.weight.ndim != 2 or head.weight.shape[0] != hidden:
        raise ArrayError(f"head has shape {head.weight.shape}; ({hidden}, D) is needed")
    dim = head.weight.shape[1]
    if head.bias is not None and head.bias.shape != (dim,):
        raise ArrayError(f"head bias has shape {head.bias.shape}; ({dim},) is needed")
    if anchors is None:
        return
    if anchors.keys.ndim != 2 or anchors.keys.shape[1] != hidden:
        raise ArrayError(f"anchor keys have shape {anchors.keys.shape}; (P, {hidden}) is needed")
    allowed = [(len(anchors.keys), hidden), (len(anchors.keys), dim)]
    if anchors.values is not None and anchors.values.shape not in allowed:
        raise ArrayError(f"anchor values have shape {anchors.values.shape}; {allowed} are allowed")
    if not 0 <= anchors.blend <= 1 or not anchors.tau > 0:
        raise ArrayError(
            f"blend {anchors.blend}, tau {anchors.tau}: 0 <= blend <= 1 and tau > 0 are needed"
        )


def _embeddings(g: GraphBuilder, encoder: SentenceEncoder) -> str:
    """Word + position + (constant) segment embeddings, normalised: [B, L, H]."""
    weights = encoder.weights
    words = g.constant(weights["embeddings.word_embeddings.weight"], "words")
    # One segment only, so its row is added to every position once and for all.
    positions = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    # Slice by Shape, not Gather by Range: onnxruntime 1.31.1 rewrites the latter wrongly.
    length = g.node("Shape", ["input_ids"], start=1, end=2)
    place = g.node(
        "Slice", [g.constant(positions, "positions"), g.ints(0), length, g.ints(0)]
    )
    x = g.node("Add", [g.node("Gather", [words, "input_ids"]), place])
    return _layer_norm(g, encoder, "embeddings.LayerNorm", x)


def _attention_bias(g: GraphBuilder, mask: str) -> str:
    """[B, L] of 1 and 0 -> [B, 1, 1, L] of 0 and MASKED."""
    away = g.node("Mul", [g.node("Sub", [g.scalar(1), mask]), g.scalar(MASKED)])
    return g.node("Unsqueeze", [away, g.ints(1, 2)])


def _layer(g: GraphBuilder, encoder: SentenceEncoder, i: int, x: str, bias: str) -> str:
    """One post-norm transformer layer: [B, L, H] -> [B, L, H]."""
    name = f"encoder.layer.{i}."
    attended = _attention(g, encoder, name + "attention.", x, bias)
    attended = _linear(g, encoder, name + "attention.output.dense", attended)
    x = _layer_norm(g, encoder, name + "attention.output.LayerNorm", g.node("Add", [attended, x]))
    weight, shift = _weight(g, encoder, name + "intermediate.dense")
    inner = g.node("MatMul", [x, weight])
    inner = g.node("BiasGelu", [inner, shift], domain=MICROSOFT)  # erf, not tanh
    inner = _linear(g, encoder, name + "output.dense", inner)
    return _layer_norm(g, encoder, name + "output.LayerNorm", g.node("Add", [inner, x]))


def _attention(g: GraphBuilder, encoder: SentenceEncoder, name: str, x: str, bias: str) -> str:
    """Self-attention with one product for query, key and value: [B, L, H] -> [B, L, H]."""
    heads = encoder.config.heads
    size = encoder.config.hidden // heads
    parts = [
        (encoder.weights[f"{name}self.{p}.weight"], encoder.weights[f"{name}self.{p}.bias"])
        for p in ("query", "key", "value")
    ]
    # 1/sqrt(size) goes into the query's weights: one Mul less in every layer.
    scale = np.float32(size**-0.5)
    weight = np.concatenate([parts[0][0] * scale, parts[1][0], parts[2][0]]).T  # [H, 3H]
    shift = np.concatenate([parts[0][1] * scale, parts[1][1], parts[2][1]])
    qkv = g.node("MatMul", [x, g.constant(weight, name + "qkv.weight")])
    qkv = g.node("Add", [qkv, g.constant(shift, name + "qkv.bias")])
    q, k, v = g.nodes("Split", [qkv], [None] * 3, axis=2)
    split = g.ints(0, 0, heads, size)
    q, v = (
        g.node("Transpose", [g.node("Reshape", [part, split])], perm=[0, 2, 1, 3])
        for part in (q, v)
    )
    k = g.node("Transpose", [g.node("Reshape", [k, split])], perm=[0, 2, 3, 1])
    scores = g.node("Add", [g.node("MatMul", [q, k]), bias])
    mixed = g.node("MatMul", [g.node("Softmax", [scores], axis=-1), v])
    mixed = g.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    return g.node("Reshape", [mixed, g.ints(0, 0, encoder.config.hidden)])


def _mean_pool(g: GraphBuilder, x: str, mask: str) -> str:
    """Mean over the real tokens, as one product: [B, L, H] -> [B, H]."""
    count = g.node("ReduceSum", [mask, g.ints(1)], keepdims=1)
    share = g.node("Div", [mask, g.node("Max", [count, g.scalar(1)])])
    pooled = g.node("MatMul", [g.node("Unsqueeze", [share, g.ints(1)]), x])
    return g.node("Squeeze", [pooled, g.ints(1)])


def _project(g: GraphBuilder, x: str, head: TextHead, anchors: Anchors | None) -> None:
    """Anchors and head: unit [B, H] -> `embedding`, unit [B, D]."""
    after = anchors is not None and anchors.values is not None
    after = after and anchors.values.shape[1] != head.weight.shape[0]  # type: ignore[union-attr]
    if anchors is not None and not after:
        x = _blend(g, x, _attend(g, x, anchors), anchors.blend)
    y = g.node("MatMul", [x, g.constant(head.weight, "head.weight")])
    if head.bias is not None:
        y = g.node("Add", [y, g.constant(head.bias, "head.bias")])
    if anchors is not None and after:
        y = _blend(g, _normalize(g, y), _attend(g, x, anchors), anchors.blend)
    _normalize(g, y, out="embedding")


def _attend(g: GraphBuilder, x: str, anchors: Anchors) -> str:
    """softmax(x keys^T / tau) values: [B, H] -> [B, H or D]."""
    keys = g.constant(anchors.keys, "anchors.keys")  # [P, H]
    scores = g.node("Gemm", [x, keys], transB=1, alpha=1 / anchors.tau)
    weights = g.node("Softmax", [scores], axis=-1)
    values = keys if anchors.values is None else g.constant(anchors.values, "anchors.values")
    return g.node("MatMul", [weights, values])


def _blend(g: GraphBuilder, x: str, other: str, share: float) -> str:
    """(1 - share) x + share other."""
    kept = g.node("Mul", [x, g.scalar(1 - share)])
    return g.node("Add", [kept, g.node("Mul", [other, g.scalar(share)])])


def _normalize(g: GraphBuilder, x: str, out: str | None = None) -> str:
    """Unit rows; a zero row stays zero."""
    norm = g.node("ReduceL2", [x], axes=[-1], keepdims=1)
    return g.node("Div", [x, g.node("Max", [norm, g.scalar(1e-12)])], out=out)


def _weight(g: GraphBuilder, encoder: SentenceEncoder, name: str) -> tuple[str, str]:
    weight = g.constant(encoder.weights[name + ".weight"].T, name + ".weight")
    return weight, g.constant(encoder.weights[name + ".bias"], name + ".bias")


def _linear(g: GraphBuilder, encoder: SentenceEncoder, name: str, x: str) -> str:
    weight, shift = _weight(g, encoder, name)
    return g.node("Add", [g.node("MatMul", [x, weight]), shift])


def _layer_norm(g: GraphBuilder, encoder: SentenceEncoder, name: str, x: str) -> str:
    scale = g.constant(encoder.weights[name + ".weight"], name + ".weight")
    shift = g.constant(encoder.weights[name + ".bias"], name + ".bias")
    return g.node(
        "LayerNormalization", [x, scale, shift], axis=-1, epsilon=encoder.config.eps
    )
