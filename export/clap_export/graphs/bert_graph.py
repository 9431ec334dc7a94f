"""BERT or RoBERTa + projection + head -> a text tower as an ONNX graph.

In:  a state dict in the checkpoint's names; `BertConfig`; `HeadGraph`; the longest text in tokens.
Out: a float32 model, `input_ids`, `attention_mask` int64 [B, L] -> `embedding` float32 [B, D], unit
     rows, and `native` float32 [B, N].
Knows nothing about tokenizing, quantization or files.

The first token is pooled. msclap 2022 takes it as it is; ClapModel sends it through the pooler
(tanh of a product): `BertConfig` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError
from clap_export.graphs.bert_layers import MASKED, BertLayers
from clap_export.graphs.builder import GraphBuilder
from clap_export.graphs.pooled_attention import mask_bias
from clap_export.graphs.projection import HeadGraph, add_projection


@dataclass(frozen=True)
class BertConfig:
    """What can't be read off the weights."""

    heads: int = 12
    eps: float = 1e-12
    padding_id: int | None = None  # RoBERTa's: positions count real tokens from padding_id + 1
    pooler: bool = False


# msclap 2022's bert-base-uncased; transformers' ClapTextConfig by default; roberta-base as it is
# published, in laion_clap's checkpoints.
BERT = BertConfig()
CLAP_ROBERTA = BertConfig(padding_id=1, pooler=True)
ROBERTA = BertConfig(eps=1e-5, padding_id=1, pooler=True)


def build(
    state: Mapping[str, Float32],
    prefix: str = "caption_encoder.base.",
    *,
    head: HeadGraph,
    max_tokens: int,
    config: BertConfig = BERT,
    projection: str = "caption_encoder.projection.",
) -> onnx.ModelProto:
    """The whole text tower; batch and length are dynamic, L <= max_tokens."""
    weights = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    bert = BertLayers(weights, config.heads, config.eps)
    _check(bert, config, prefix, max_tokens)
    g = GraphBuilder("text")
    x = bert.embeddings(g, bert.words(g), _places(g, bert, config, max_tokens))
    places = g.node("Cast", ["attention_mask"], to=onnx.TensorProto.INT32)
    for i in range(bert.count - 1):
        x = bert.layer(g, i, x, places)
    hidden = g.node("Equal", ["attention_mask", g.constant(0, "zero", np.int64)])
    x = bert.first_token(g, bert.count - 1, x, mask_bias(g, hidden, MASKED))
    x = g.node("Squeeze", [x, g.ints(1)])
    if config.pooler:
        weight = g.constant(weights["pooler.dense.weight"].T, "pooler.weight")
        shift = g.constant(weights["pooler.dense.bias"], "pooler.bias")
        x = g.node("Tanh", [g.node("Add", [g.node("MatMul", [x, weight]), shift])])
    widths = add_projection(g, x, state, projection, head)
    return g.model(
        {"input_ids": ("int64", ["B", "L"]), "attention_mask": ("int64", ["B", "L"])},
        widths.outputs(),
    )


def _places(g: GraphBuilder, bert: BertLayers, config: BertConfig, max_tokens: int) -> str:
    """Position rows: [L, H], or [B, L, H] where they depend on the padding."""
    if config.padding_id is None:
        positions = bert.positions(g, 0, max_tokens)
        length = g.node("Shape", ["input_ids"], start=1, end=2)
        return g.node("Slice", [positions, g.ints(0), length, g.ints(0)])
    # As RoBERTa does it: padding has row padding_id, the n-th real token row padding_id + n. The
    # table is cut below padding_id, so those are rows 0 and n.
    positions = bert.positions(g, config.padding_id, config.padding_id + max_tokens + 1)
    padding = g.node("Equal", ["input_ids", g.constant(config.padding_id, "padding_id", np.int64)])
    real = g.node("Cast", [g.node("Not", [padding])], to=onnx.TensorProto.INT64)
    count = g.node("CumSum", [real, g.constant(1, "axis", np.int64)])
    return g.node("Gather", [positions, g.node("Mul", [count, real])])


def _check(bert: BertLayers, config: BertConfig, prefix: str, max_tokens: int) -> None:
    """ArrayError where no tower can be made of the weights."""
    table = bert.weights.get("embeddings.position_embeddings.weight")
    if table is None or not bert.count:
        raise ArrayError(
            f"no BERT under {prefix!r}: {prefix}embeddings... and {prefix}encoder.layer.0... are "
            "needed"
        )
    if table.shape[1] % config.heads:
        raise ArrayError(f"{config.heads} heads don't divide a width of {table.shape[1]}")
    if config.pooler and "pooler.dense.weight" not in bert.weights:
        raise ArrayError(f"{prefix}pooler.dense.weight is missing, which this tower needs")
    longest = len(table) - (0 if config.padding_id is None else config.padding_id + 1)
    if not 1 <= max_tokens <= longest:
        raise ArrayError(f"{max_tokens} tokens; 1 to {longest} are allowed by the position table")
