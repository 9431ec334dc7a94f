"""Conditioning: the same function in float32, and int8 that survives loud channels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import small_towers
from small_towers import Inputs

from clap_engine.session import GraphSession
from clap_export.conditioning import condition
from clap_export.graphs import bert_graph, gpt2_graph
from clap_export.graphs.bert_graph import BertConfig
from clap_export.graphs.builder import GraphBuilder
from clap_export.graphs.projection import HeadGraph
from clap_export.parity import compare_embeddings
from clap_export.product_forms import Form, rewrite

pytestmark = pytest.mark.export


def embed(model: onnx.ModelProto, inputs: list[Inputs]) -> np.ndarray:
    session = GraphSession(model.SerializeToString(), name="graph")
    return np.concatenate([session.run(["embedding"], row)[0] for row in inputs])


def int8(model: onnx.ModelProto) -> onnx.ModelProto:
    return rewrite(model, lambda weight: Form.TENSOR)


def nowhere(weight: str) -> bool:
    return False


@pytest.fixture(scope="module")
def gpt2() -> onnx.ModelProto:
    """With outliers, and a head."""
    random = np.random.default_rng(0)
    matrix = random.normal(0, 0.1, (small_towers.NATIVE, 64)).astype(np.float32)
    state = small_towers.gpt2(outliers=True)
    return gpt2_graph.build(state, head=HeadGraph(matrix), max_tokens=40)


@pytest.fixture(scope="module")
def bert() -> onnx.ModelProto:
    config = BertConfig(heads=2)
    return bert_graph.build(small_towers.bert(), head=HeadGraph(), max_tokens=40, config=config)


@pytest.mark.parametrize("tower", ["gpt2", "bert"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_is_the_same_function(tower: str, share: float, request: pytest.FixtureRequest) -> None:
    """To 2e-6 in float32, on texts that it has not seen."""
    model = request.getfixturevalue(tower)
    conditioned = condition(model, small_towers.texts(10, seed=2), share=share)
    asked = small_towers.texts(20, seed=1)
    assert np.abs(embed(conditioned, asked) - embed(model, asked)).max() < 2e-6


def test_the_free_part_adds_no_node(gpt2: onnx.ModelProto) -> None:
    """LayerNormalization and Attention take it up; only what follows gelu would cost two nodes."""
    samples = small_towers.texts(4, seed=2)
    before = Counter(node.op_type for node in gpt2.graph.node)
    free = Counter(n.op_type for n in condition(gpt2, samples, paid=nowhere).graph.node)
    assert free == before
    paid = Counter(n.op_type for n in condition(gpt2, samples).graph.node)
    # Two blocks' mlp.c_proj; the projection's linear2 and the head; the last block's attention.
    assert paid - before == {"Sub": 5, "Mul": 5}


def test_the_model_given_stays_as_it_was(gpt2: onnx.ModelProto) -> None:
    before = gpt2.SerializeToString(deterministic=True)
    condition(gpt2, small_towers.texts(4, seed=2))
    assert gpt2.SerializeToString(deterministic=True) == before


def test_int8_survives_loud_channels_only_when_conditioned(gpt2: onnx.ModelProto) -> None:
    """Centred cosine: at least .99 with, well below without (the control)."""
    asked = small_towers.texts(60, seed=1)
    reference = embed(gpt2, asked)
    conditioned = condition(gpt2, small_towers.texts(40, seed=2))
    kept = compare_embeddings(reference, embed(int8(conditioned), asked)).centred_mean
    lost = compare_embeddings(reference, embed(int8(gpt2), asked)).centred_mean
    assert kept > 0.99
    assert 1 - lost > 3 * (1 - kept)


def test_a_constant_part_costs_no_precision() -> None:
    """One product whose input is 100 +- 1: the error is that of 0 +- 1."""
    random = np.random.default_rng(0)
    noise = random.uniform(-1, 1, (40, 4, 64)).astype(np.float32)
    weight = random.standard_normal((64, 32)).astype(np.float32)

    def model() -> onnx.ModelProto:
        g = GraphBuilder("product")
        product = g.node("MatMul", ["x", g.constant(weight, "weight")])
        g.node("Add", [product, g.constant(np.zeros(32, np.float32), "bias")], out="embedding")
        return g.model({"x": ("float32", ["B", 4, 64])}, {"embedding": ("float32", ["B", 4, 32])})

    errors = []
    for level in (0, 100):
        rows: list[Inputs] = [{"x": (row + np.float32(level))[None]} for row in noise]
        candidate = int8(condition(model(), rows[20:]))
        wanted = (noise[:20] + np.float32(level)) @ weight
        errors.append(np.abs(embed(candidate, rows[:20]) - wanted).mean())
    assert errors[1] < 1.2 * errors[0]


def test_constants_that_two_nodes_share_stay_apart() -> None:
    """Two norms with the same gain in front of two products: each gets its own scales."""
    random = np.random.default_rng(0)
    g = GraphBuilder("twins")
    ones, zeros = np.ones(16, np.float32), np.zeros(16, np.float32)
    x = "x"
    for i in range(2):
        gain, shift = g.constant(ones, "gain"), g.constant(zeros, "shift")
        x = g.node("LayerNormalization", [x, gain, shift], axis=-1)
        weight = random.standard_normal((16, 16)).astype(np.float32) * (1 + 9 * i)
        product = g.node("MatMul", [x, g.constant(weight, f"weight{i}")])
        x = g.node("Add", [product, shift], out="embedding" if i else None)
    shape = ("float32", ["B", 16])
    model = g.model({"x": shape}, {"embedding": shape})
    rows: list[Inputs] = [{"x": random.normal(3, 1, (1, 16)).astype(np.float32)} for _ in range(20)]
    found = embed(condition(model, rows), rows)
    assert np.abs(found - embed(model, rows)).max() < 1e-4 * np.abs(found).max()
