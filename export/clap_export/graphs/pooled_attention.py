"""Attention of one token only: what the last block of a pooled tower needs.

In:  the one token's query, everyone's keys and values, as names in a graph under construction.
Out: the name of what that token attends to.
Knows nothing about towers; operators are plain ONNX, so that every backend reads them.
"""

from __future__ import annotations

import numpy as np

from clap_export.graphs.builder import GraphBuilder


def pooled_attention(
    g: GraphBuilder, query: str, keys_values: str, bias: str, *, heads: int, width: int
) -> str:
    """[B, 1, H], [B, L, 2H] -> [B, 1, H]; `bias` [B, 1, 1, L] is added to the scores."""
    each = width // heads
    split = g.ints(0, -1, heads, each)
    keys, values = g.nodes("Split", [keys_values], [None, None], axis=-1)
    scale = g.constant(np.float32(each**-0.5), "attention.scale")
    q = g.node("Reshape", [g.node("Mul", [query, scale]), g.ints(0, heads, 1, each)])
    k = g.node("Transpose", [g.node("Reshape", [keys, split])], perm=[0, 2, 3, 1])
    v = g.node("Transpose", [g.node("Reshape", [values, split])], perm=[0, 2, 1, 3])
    scores = g.node("Add", [g.node("MatMul", [q, k]), bias])
    attended = g.node("MatMul", [g.node("Softmax", [scores], axis=-1), v])  # [B, heads, 1, each]
    return g.node("Reshape", [attended, g.ints(0, 1, width)])


def mask_bias(g: GraphBuilder, hidden: str, far: float) -> str:
    """bool [B, L], True where a place may not be seen -> float32 [B, 1, 1, L]: `far` or 0."""
    bias = g.node("Where", [hidden, g.scalar(far), g.scalar(0)])
    return g.node("Unsqueeze", [bias, g.ints(1, 2)])
