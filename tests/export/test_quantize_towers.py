"""The forms of products: bounded errors, batch mates, sizes, and what the towers keep."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import small_towers
from small_towers import Inputs

from clap_engine.session import GraphSession
from clap_export import quantize_towers
from clap_export.graphs import bert_graph, gpt2_graph
from clap_export.graphs.bert_graph import BertConfig
from clap_export.graphs.builder import constants
from clap_export.graphs.projection import HeadGraph
from clap_export.parity import Gate, compare_embeddings
from clap_export.product_forms import BLOCK, MIDDLE, Form, pack_blocks, rewrite

pytestmark = pytest.mark.export

INT8 = ["int8-free", "int8", "int8-rows", "int8-blocks"]


def embed(model: onnx.ModelProto, inputs: list[Inputs]) -> np.ndarray:
    session = GraphSession(model.SerializeToString(), name="graph")
    return np.concatenate([session.run(["embedding"], row)[0] for row in inputs])


@pytest.fixture(scope="module", params=["gpt2", "bert"])
def tower(request: pytest.FixtureRequest) -> onnx.ModelProto:
    head = HeadGraph()
    if request.param == "gpt2":
        return gpt2_graph.build(small_towers.gpt2(outliers=True), head=head, max_tokens=40)
    config = BertConfig(heads=2)
    return bert_graph.build(small_towers.bert(), head=head, max_tokens=40, config=config)


@pytest.fixture(scope="module")
def made(tower: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    return dict(quantize_towers.candidates(tower, "text", small_towers.texts(40, seed=2)))


def test_candidates_go_from_the_fastest_to_the_safest(made: dict[str, onnx.ModelProto]) -> None:
    assert list(made) == INT8


@pytest.mark.parametrize("name", INT8)
def test_the_rankings_are_kept(
    tower: onnx.ModelProto, made: dict[str, onnx.ModelProto], name: str
) -> None:
    """The gate of all bundles over 100 random texts, seed 1; at most .45 of the size."""
    asked = small_towers.texts(100, seed=1)
    Gate().check(compare_embeddings(embed(tower, asked), embed(made[name], asked)), name)
    assert made[name].ByteSize() < 0.45 * tower.ByteSize()
    assert [output.name for output in made[name].graph.output] == ["embedding", "native"]


def test_only_scales_of_a_whole_input_mix_batch_mates(made: dict[str, onnx.ModelProto]) -> None:
    """Rows and blocks have their own: to 2e-6, padding included."""
    rows = small_towers.texts(3, seed=3)
    length = max(row["input_ids"].shape[1] for row in rows)
    together = {
        name: np.concatenate(
            [np.pad(row[name], ((0, 0), (0, length - row[name].shape[1]))) for row in rows]
        )
        for name in ("input_ids", "attention_mask")
    }
    apart = {name: np.abs(embed(m, rows) - embed(m, [together])).max() for name, m in made.items()}
    assert max(apart["int8-rows"], apart["int8-blocks"]) < 2e-6
    assert min(apart["int8-free"], apart["int8"]) > 2e-6


def test_no_pair_of_products_overflows_16_bits(made: dict[str, onnx.ModelProto]) -> None:
    """Weights with one scale a column are in -64..64 (test_quantize.py says why)."""
    for name in ("int8-free", "int8", "int8-rows"):
        weights = [
            value
            for key, value in constants(made[name]).items()
            if value.dtype == np.int8 and value.ndim == 2 and not key.startswith(("words", "pos"))
        ]
        assert len(weights) >= 10
        assert max(np.abs(value.astype(int)).max() for value in weights) <= 64


@pytest.mark.parametrize("width", [1, 32, 70])
def test_blocks_round_by_half_a_step(width: int) -> None:
    weight = np.random.default_rng(0).standard_normal((width, 5)).astype(np.float32)
    weight[:, 0] = 0
    values, scale = pack_blocks(weight)
    assert values.shape == (5, -(-width // BLOCK), BLOCK)
    assert values.max() <= 2 * MIDDLE
    back = (values.astype(np.float32) - MIDDLE) * scale[..., None]
    back = back.reshape(5, -1)[:, :width].T
    step = np.repeat(scale, BLOCK, axis=1)[:, :width].T
    assert np.all(np.abs(back - weight) <= 0.5001 * step)


def test_products_can_stay_float32(tower: onnx.ModelProto) -> None:
    """Tables alone in int8: the smallest error of all, and the control of the forms."""
    asked = small_towers.texts(20, seed=1)
    found = embed(rewrite(tower, lambda weight: Form.FLOAT), asked)
    assert compare_embeddings(embed(tower, asked), found).centred_mean > 0.9995


def test_half_is_half_the_size_and_keeps_the_rankings(tower: onnx.ModelProto) -> None:
    asked = small_towers.texts(30, seed=1)
    model = quantize_towers.half(tower)
    Gate().check(compare_embeddings(embed(tower, asked), embed(model, asked)), "fp16")
    assert model.ByteSize() < 0.52 * tower.ByteSize()
