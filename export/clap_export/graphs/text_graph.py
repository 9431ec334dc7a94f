"""Sentence encoder + phrase anchors + head -> the text tower as an ONNX graph.

In:  `SentenceEncoder`, head weights [384, 512], optional phrase anchors.
Out: a float32 model, `input_ids`, `attention_mask` int64 [B, L] -> `embedding` float32 [B, 512].
Knows nothing about tokenizing, quantization or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError
from clap_export.graphs.bert_layers import BertLayers
from clap_export.graphs.builder import GraphBuilder
from clap_export.minilm import EncoderConfig, SentenceEncoder


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
    values [V, H]     x' = (1 - blend) x + blend a values, then the head
    values [V, D]     y' = (1 - blend) y + blend a values, with y the normalised head output
    With fewer values than keys, P / V neighbouring keys share each value: phrases of one class.
    """

    keys: Float32  # [P, H], unit rows
    values: Float32 | None  # [V, H] or [V, D], V divides P
    blend: float
    tau: float

    @property
    def width(self) -> int:
        """Of the space that they are mixed into: H before the head, D after it."""
        return int((self.keys if self.values is None else self.values).shape[1])


def build(
    encoder: SentenceEncoder,
    head: TextHead,
    anchors: Anchors | None = None,
    *,
    max_tokens: int | None = None,
) -> onnx.ModelProto:
    """The whole text tower, float32, batch and length dynamic, L <= max_tokens (None: all)."""
    check_parts(encoder.config, head, anchors)
    if anchors is not None and anchors.blend == 0:
        anchors = None
    g = GraphBuilder("text")
    mask = g.node("Cast", ["attention_mask"], to=onnx.TensorProto.FLOAT)  # [B, L]
    bert = BertLayers(encoder.weights, encoder.config.heads, encoder.config.eps)
    words, positions = bert.words(g), bert.positions(g, 0, max_tokens)
    # Slice by Shape, not Gather by Range: onnxruntime 1.31.1 rewrites the latter wrongly.
    length = g.node("Shape", ["input_ids"], start=1, end=2)
    x = bert.embeddings(g, words, g.node("Slice", [positions, g.ints(0), length, g.ints(0)]))
    places = g.node("Cast", ["attention_mask"], to=onnx.TensorProto.INT32)
    for i in range(encoder.config.layers):
        x = bert.layer(g, i, x, places)
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
    count = len(anchors.keys)
    shape = (count, hidden) if anchors.values is None else anchors.values.shape
    if len(shape) != 2 or shape[1] not in (hidden, dim) or not shape[0] or count % shape[0]:
        raise ArrayError(
            f"anchor values have shape {shape}; (V, {hidden}) and (V, {dim}) are allowed, "
            f"V a divisor of the {count} keys"
        )
    if not 0 <= anchors.blend <= 1 or not anchors.tau > 0:
        raise ArrayError(
            f"blend {anchors.blend}, tau {anchors.tau}: 0 <= blend <= 1 and tau > 0 are needed"
        )


def _mean_pool(g: GraphBuilder, x: str, mask: str) -> str:
    """Mean over the real tokens, as one product: [B, L, H] -> [B, H]."""
    count = g.node("ReduceSum", [mask, g.ints(1)], keepdims=1)
    share = g.node("Div", [mask, g.node("Max", [count, g.scalar(1)])])
    pooled = g.node("MatMul", [g.node("Unsqueeze", [share, g.ints(1)]), x])
    return g.node("Squeeze", [pooled, g.ints(1)])


def _project(g: GraphBuilder, x: str, head: TextHead, anchors: Anchors | None) -> None:
    """Anchors and head: unit [B, H] -> `embedding`, unit [B, D]."""
    hidden = head.weight.shape[0]
    if anchors is not None and anchors.width == hidden:
        x = _blend(g, x, _attend(g, x, anchors), anchors.blend)
    y = g.node("MatMul", [x, g.constant(head.weight, "head.weight")])
    if head.bias is not None:
        y = g.node("Add", [y, g.constant(head.bias, "head.bias")])
    if anchors is not None and anchors.width != hidden:
        y = _blend(g, _normalize(g, y), _attend(g, x, anchors), anchors.blend)
    _normalize(g, y, out="embedding")


def _attend(g: GraphBuilder, x: str, anchors: Anchors) -> str:
    """softmax(x keys^T / tau) values: [B, H] -> [B, H or D]."""
    count = len(anchors.keys)
    keys = g.constant(anchors.keys, "anchors.keys")  # [P, H]
    scores = g.node("Gemm", [x, keys], transB=1, alpha=1 / anchors.tau)
    weights = g.node("Softmax", [scores], axis=-1)
    if anchors.values is None:
        return g.node("MatMul", [weights, keys])
    values = g.constant(anchors.values, "anchors.values")
    if len(anchors.values) < count:
        shape = g.ints(0, len(anchors.values), count // len(anchors.values))
        weights = g.node("Reshape", [weights, shape])
        weights = g.node("ReduceSum", [weights, g.ints(2)], keepdims=0)
    return g.node("MatMul", [weights, values])


def _blend(g: GraphBuilder, x: str, other: str, share: float) -> str:
    """(1 - share) x + share other."""
    kept = g.node("Mul", [x, g.scalar(1 - share)])
    return g.node("Add", [kept, g.node("Mul", [other, g.scalar(share)])])


def _normalize(g: GraphBuilder, x: str, out: str | None = None) -> str:
    """Unit rows; a zero row stays zero."""
    norm = g.node("ReduceL2", [x], axes=[-1], keepdims=1)
    return g.node("Div", [x, g.node("Max", [norm, g.scalar(1e-12)])], out=out)
