"""HTSAT in int8: conditioned for nothing, fused by onnxruntime, through its gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from clap_engine.arrays import Float32
from clap_engine.session import GraphSession
from clap_export import quantize_towers
from clap_export.conditioning import condition
from clap_export.graphs import htsat_graph
from clap_export.msclap.random_weights import random_state
from clap_export.parity import Gate, Parity, compare_embeddings
from clap_export.product_forms import Form, rewrite

pytestmark = pytest.mark.export

SOUNDS = 24


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Two blocks a stage, log-normal gains, massive channels."""
    return htsat_graph.build(random_state("2023", seed=3, layers=2, outliers=True), n_frames=965)


@pytest.fixture(scope="module")
def log_mels() -> Float32:
    """[2 N, F, 64]: bands of noise that swell and fade; the first half calibrates."""
    random = np.random.default_rng(0)
    mel, frame = np.arange(64), np.arange(965)[:, None]
    rows = []
    for _ in range(2 * SOUNDS):
        band = -0.5 * ((mel - random.uniform(0, 64)) / random.uniform(3, 20)) ** 2
        swell = random.uniform(0, 15) * np.sin(frame / random.uniform(5, 200))
        rows.append(-20 + 10 * band.clip(-6) + swell + random.normal(0, 5, (965, 64)))
    return np.stack(rows).astype(np.float32)


def embed(model: onnx.ModelProto, log_mels: Float32) -> Float32:
    session = GraphSession(model.SerializeToString(), name="audio")
    rows = [session.run(["embedding"], {"log_mel": row[None]})[0] for row in log_mels]
    return np.concatenate(rows)


@pytest.fixture(scope="module")
def reference(model: onnx.ModelProto, log_mels: Float32) -> Float32:
    return embed(model, log_mels[SOUNDS:])


def parity(found: onnx.ModelProto, reference: Float32, log_mels: Float32) -> Parity:
    return compare_embeddings(reference, embed(found, log_mels[SOUNDS:]))


def samples(log_mels: Float32) -> list[dict[str, Float32]]:
    return [{"log_mel": row[None]} for row in log_mels[:SOUNDS:3]]


def test_conditioning_costs_no_node_and_changes_nothing(
    model: onnx.ModelProto, reference: Float32, log_mels: Float32
) -> None:
    """To 1e-6, without a batch mate and with some: norms and values take it all, softmax too."""
    conditioned = condition(model, samples(log_mels), paid=lambda weight: False)
    assert len(conditioned.graph.node) == len(model.graph.node)
    assert conditioned.graph.initializer != model.graph.initializer
    assert np.abs(embed(conditioned, log_mels[SOUNDS:]) - reference).max() < 1e-6


def test_the_fastest_form_passes_where_plain_int8_does_not(
    model: onnx.ModelProto, reference: Float32, log_mels: Float32
) -> None:
    """The control: one scale a tensor without conditioning ranks these sounds anew."""
    fastest, *_ = quantize_towers.candidates(model, "audio", samples(log_mels)).values()
    Gate().check(parity(fastest, reference, log_mels), "audio.int8.onnx")
    plain = rewrite(model, lambda weight: Form.TENSOR)
    assert parity(plain, reference, log_mels).centred_mean < 0.97


def test_onnxruntime_takes_transposes_and_biases_into_products(
    model: onnx.ModelProto, log_mels: Float32, tmp_path: Path
) -> None:
    """What the layout is for: one transpose and one gelu a block, no bias left beside a product."""
    blocks = 8
    fastest, *_ = quantize_towers.candidates(model, "audio", samples(log_mels)[:1]).values()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        fastest.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    optimized = onnx.load(options.optimized_model_filepath)
    kinds = [node.op_type for node in optimized.graph.node]
    assert "MatMulInteger" not in kinds
    # One for the patches and one for each merge besides.
    assert kinds.count("Transpose") == blocks + 1 + 3
    # Position bias and two residuals a block; the batch norm; the patches; the projection.
    assert kinds.count("Add") <= 3 * blocks + 3
