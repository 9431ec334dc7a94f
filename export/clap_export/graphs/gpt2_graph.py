"""GPT-2 + msclap's projection + head -> the text tower of msclap 2023 as an ONNX graph.

In:  a state dict in the checkpoint's names; `HeadGraph`; the longest text in tokens.
Out: a float32 model, `input_ids`, `attention_mask` int64 [B, L] -> `embedding` float32 [B, D], unit
     rows, and `native` float32 [B, N].
Knows nothing about tokenizing, quantization or files.

The pooled place is msclap's: count(ids != 0) - 1 over the real tokens. Its padding `!` is also a
word, so each real `!` moves the place one to the left. Padding stands on the right and attention is
causal, so no place that counts ever sees padding: the mask is needed for the count alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError
from clap_export.graphs.builder import MICROSOFT, GraphBuilder
from clap_export.graphs.pooled_attention import mask_bias, pooled_attention
from clap_export.graphs.projection import HeadGraph, add_projection

HEAD_WIDTH = 64  # of every GPT-2
EPS = 1e-5
PADDING_ID = 0
# Far enough that exp() is exactly 0, as in bert_layers.py.
MASKED = -10_000.0


def build(
    state: Mapping[str, Float32],
    prefix: str = "caption_encoder.base.",
    *,
    head: HeadGraph,
    max_tokens: int,
    projection: str = "caption_encoder.projection.",
) -> onnx.ModelProto:
    """The whole text tower; batch and length are dynamic, L <= max_tokens."""
    gpt2 = _Gpt2({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    gpt2.check(prefix, max_tokens)
    g = GraphBuilder("text")
    places = g.constant(np.arange(max_tokens), "places", np.int64)
    length = g.node("Shape", ["input_ids"], start=1, end=2)
    pooled = _pooled_place(g)  # [B, 1]
    x = gpt2.embeddings(g, length, max_tokens)
    for i in range(gpt2.blocks - 1):
        x = gpt2.block(g, i, x)
    seen = g.node("Slice", [places, g.ints(0), length, g.ints(0)])  # [L]
    bias = mask_bias(g, g.node("Greater", [seen, pooled]), MASKED)
    x = gpt2.pooled_block(g, gpt2.blocks - 1, x, pooled, bias)
    x = gpt2.layer_norm(g, "ln_f", g.node("Squeeze", [x, g.ints(1)]))
    widths = add_projection(g, x, state, projection, head)
    return g.model(
        {"input_ids": ("int64", ["B", "L"]), "attention_mask": ("int64", ["B", "L"])},
        widths.outputs(),
    )


def _pooled_place(g: GraphBuilder) -> str:
    """count(ids != 0) - 1 over the real tokens: int64 [B, 1]; a row of padding alone has 0."""
    padding = g.node("Equal", ["input_ids", g.constant(PADDING_ID, "padding_id", np.int64)])
    words = g.node("Cast", [g.node("Not", [padding])], to=onnx.TensorProto.INT64)
    count = g.node("ReduceSum", [g.node("Mul", [words, "attention_mask"]), g.ints(1)], keepdims=1)
    return g.node("Max", [g.node("Sub", [count, g.ints(1)]), g.ints(0)])


@dataclass(frozen=True)
class _Gpt2:
    """Weights by their names in GPT2Model's state dict; products are stored [in, out]."""

    weights: Mapping[str, Float32]

    @property
    def blocks(self) -> int:
        return sum(name.endswith(".attn.c_attn.weight") for name in self.weights)

    @property
    def width(self) -> int:
        return int(self.weights["wte.weight"].shape[1])

    def check(self, prefix: str, max_tokens: int) -> None:
        """ArrayError where no tower can be made of the weights."""
        if "wte.weight" not in self.weights or not self.blocks:
            raise ArrayError(
                f"no GPT-2 under {prefix!r}: {prefix}wte.weight and {prefix}h.0... are needed"
            )
        if self.width % HEAD_WIDTH:
            raise ArrayError(f"GPT-2 is {self.width} wide; a multiple of {HEAD_WIDTH} is needed")
        positions = len(self.weights["wpe.weight"])
        if not 1 <= max_tokens <= positions:
            raise ArrayError(f"{max_tokens} tokens; 1 to {positions} are allowed by wpe.weight")

    def embeddings(self, g: GraphBuilder, length: str, max_tokens: int) -> str:
        words = g.constant(self.weights["wte.weight"], "words")
        positions = g.constant(self.weights["wpe.weight"][:max_tokens], "positions")
        # Slice by Shape, not Gather by Range: onnxruntime 1.31.1 rewrites the latter wrongly.
        place = g.node("Slice", [positions, g.ints(0), length, g.ints(0)])
        return g.node("Add", [g.node("Gather", [words, "input_ids"]), place])

    def block(self, g: GraphBuilder, i: int, x: str) -> str:
        """One pre-norm block: [B, L, H] -> [B, L, H]."""
        name = f"h.{i}."
        attended = g.node(
            "Attention",
            [self.layer_norm(g, name + "ln_1", x), *self._weight(g, name + "attn.c_attn")],
            domain=MICROSOFT,
            num_heads=self.width // HEAD_WIDTH,
            unidirectional=1,
        )
        return self._after(g, name, attended, x)

    def pooled_block(self, g: GraphBuilder, i: int, x: str, pooled: str, bias: str) -> str:
        """The last block, of which one place is wanted: [B, L, H] -> [B, 1, H]."""
        name, width = f"h.{i}.", self.width
        weight, shift = (self.weights[f"{name}attn.c_attn.{part}"] for part in ("weight", "bias"))
        row = g.node("Unsqueeze", [g.node("GatherND", [x, pooled], batch_dims=1), g.ints(1)])
        # Normalised apart: each product can then have its own scales (conditioning.py).
        one, all_ = (self.layer_norm(g, name + "ln_1", value) for value in (row, x))
        attended = pooled_attention(
            g,
            self._product(g, name + "attn.q", one, weight[:, :width], shift[:width]),
            self._product(g, name + "attn.kv", all_, weight[:, width:], shift[width:]),
            bias,
            heads=width // HEAD_WIDTH,
            width=width,
        )
        return self._after(g, name, attended, row)

    def layer_norm(self, g: GraphBuilder, name: str, x: str) -> str:
        return g.node("LayerNormalization", [x, *self._weight(g, name)], axis=-1, epsilon=EPS)

    def _after(self, g: GraphBuilder, name: str, attended: str, x: str) -> str:
        """What follows attention in a block."""
        x = g.node("Add", [self._linear(g, name + "attn.c_proj", attended), x])
        weight, shift = self._weight(g, name + "mlp.c_fc")
        inner = g.node("MatMul", [self.layer_norm(g, name + "ln_2", x), weight])
        inner = g.node("FastGelu", [inner, shift], domain=MICROSOFT)  # tanh, not erf
        return g.node("Add", [self._linear(g, name + "mlp.c_proj", inner), x])

    def _linear(self, g: GraphBuilder, name: str, x: str) -> str:
        weight, shift = (self.weights[f"{name}.{part}"] for part in ("weight", "bias"))
        return self._product(g, name, x, weight, shift)

    def _product(self, g: GraphBuilder, name: str, x: str, weight: Float32, shift: Float32) -> str:
        product = g.node("MatMul", [x, g.constant(weight, name + ".weight")])
        return g.node("Add", [product, g.constant(shift, name + ".bias")])

    def _weight(self, g: GraphBuilder, name: str) -> list[str]:
        parts = (f"{name}.weight", f"{name}.bias")
        return [g.constant(self.weights[part], part) for part in parts]
