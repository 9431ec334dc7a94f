"""BERT's embeddings and layers as ONNX nodes, for every tower that has them.

In:  weights by their names in BertModel's state dict; a graph under construction.
Out: names of values [B, L, H].
Knows nothing about pooling, heads or where the weights come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32
from clap_export.graphs.builder import MICROSOFT, GraphBuilder
from clap_export.graphs.pooled_attention import pooled_attention

# Added to the scores of padded places. Not -inf (a row of padding alone would be NaN), and far
# enough that exp() is exactly 0: values near -100 leave denormals, which run 20 times slower.
MASKED = -10_000.0


@dataclass(frozen=True)
class BertLayers:
    """Weights (linear ones [out, in]) and what can't be read off them."""

    weights: Mapping[str, Float32]
    heads: int
    eps: float

    @property
    def count(self) -> int:
        """How many layers there are."""
        end = ".attention.self.query.weight"
        return sum(
            name.startswith("encoder.layer.") and name.endswith(end) for name in self.weights
        )

    def words(self, g: GraphBuilder) -> str:
        """The table of word embeddings."""
        return g.constant(self.weights["embeddings.word_embeddings.weight"], "words")

    def positions(self, g: GraphBuilder, first: int, stop: int | None) -> str:
        """Rows first..stop of the position table; one segment only, so its row is added here."""
        table = self.weights["embeddings.position_embeddings.weight"][first:stop]
        segment = self.weights["embeddings.token_type_embeddings.weight"][0]
        return g.constant(table + segment, "positions")

    def embeddings(self, g: GraphBuilder, words: str, place: str) -> str:
        """Word rows of `input_ids` + position rows `place`, normalised: [B, L, H]."""
        x = g.node("Add", [g.node("Gather", [words, "input_ids"]), place])
        return self._layer_norm(g, "embeddings.LayerNorm", x)

    def layer(self, g: GraphBuilder, i: int, x: str, places: str) -> str:
        """One post-norm transformer layer: [B, L, H] -> [B, L, H]; `places` int32 [B, L]."""
        name = f"encoder.layer.{i}."
        return self._after(g, name, self._attention(g, name + "attention.", x, places), x)

    def first_token(self, g: GraphBuilder, i: int, x: str, bias: str) -> str:
        """A layer whose first token alone is wanted: [B, L, H] -> [B, 1, H].

        `bias` [B, 1, 1, L] is added to the scores.
        """
        name = f"encoder.layer.{i}."
        part = name + "attention.self."
        first = g.node("Slice", [x, g.ints(0), g.ints(1), g.ints(1)])
        keys = (self.weights[f"{part}{p}.weight"] for p in ("key", "value"))
        shifts = (self.weights[f"{part}{p}.bias"] for p in ("key", "value"))
        weight = g.constant(np.concatenate(list(keys)).T, name + "attention.kv.weight")
        shift = g.constant(np.concatenate(list(shifts)), name + "attention.kv.bias")
        attended = pooled_attention(
            g,
            self._linear(g, part + "query", first),
            g.node("Add", [g.node("MatMul", [x, weight]), shift]),
            bias,
            heads=self.heads,
            width=len(self.weights[part + "query.bias"]),
        )
        return self._after(g, name, attended, first)

    def _after(self, g: GraphBuilder, name: str, attended: str, x: str) -> str:
        """What follows attention in a layer."""
        attended = self._linear(g, name + "attention.output.dense", attended)
        x = self._layer_norm(g, name + "attention.output.LayerNorm", g.node("Add", [attended, x]))
        weight, shift = self._weight(g, name + "intermediate.dense")
        inner = g.node("MatMul", [x, weight])
        inner = g.node("BiasGelu", [inner, shift], domain=MICROSOFT)  # erf, not tanh
        inner = self._linear(g, name + "output.dense", inner)
        return self._layer_norm(g, name + "output.LayerNorm", g.node("Add", [inner, x]))

    def _attention(self, g: GraphBuilder, name: str, x: str, places: str) -> str:
        """Self-attention as onnxruntime's own operator: [B, L, H] -> [B, L, H].

        In float32 it costs what explicit products and a softmax cost; its int8 twin is 8 % of the
        whole tower faster.
        """
        parts = ("query", "key", "value")
        weight = np.concatenate([self.weights[f"{name}self.{p}.weight"] for p in parts]).T
        shift = np.concatenate([self.weights[f"{name}self.{p}.bias"] for p in parts])
        return g.node(
            "Attention",
            [
                x,
                g.constant(weight, name + "qkv.weight"),
                g.constant(shift, name + "qkv.bias"),
                places,
            ],
            domain=MICROSOFT,
            num_heads=self.heads,
            mask_filter_value=MASKED,
        )

    def _weight(self, g: GraphBuilder, name: str) -> tuple[str, str]:
        weight = g.constant(self.weights[name + ".weight"].T, name + ".weight")
        return weight, g.constant(self.weights[name + ".bias"], name + ".bias")

    def _linear(self, g: GraphBuilder, name: str, x: str) -> str:
        weight, shift = self._weight(g, name)
        return g.node("Add", [g.node("MatMul", [x, weight]), shift])

    def _layer_norm(self, g: GraphBuilder, name: str, x: str) -> str:
        scale = g.constant(self.weights[name + ".weight"], name + ".weight")
        shift = g.constant(self.weights[name + ".bias"], name + ".bias")
        return g.node("LayerNormalization", [x, scale, shift], axis=-1, epsilon=self.eps)
