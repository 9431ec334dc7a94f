"""int8: bounded errors, no overflow on CPUs without VNNI, no dependence on batch mates."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from clap_engine.errors import GraphError
from clap_engine.session import GraphSession
from clap_export.graphs import audio_graph, text_graph
from clap_export.graphs.builder import GraphBuilder, constants
from clap_export.graphs.text_graph import Anchors, TextHead
from clap_export.minilm import SentenceEncoder
from clap_export.parity import compare_embeddings
from clap_export.quantize import quantize_columns, quantize_rows, quantize_text
from clap_export.quantize_audio import quantize_audio
from clap_export.smoothing import smooth
from clap_export.weights import Weights

Inputs = dict[str, np.ndarray]


def texts(n: int, seed: int) -> list[Inputs]:
    random = np.random.default_rng(seed)
    ids = [random.integers(4, 600, (1, int(random.integers(3, 20)))) for _ in range(n)]
    return [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids]


def embed(model: onnx.ModelProto, inputs: list[Inputs]) -> np.ndarray:
    session = GraphSession(model.SerializeToString(), name="graph")
    return np.concatenate([session.run(["embedding"], row)[0] for row in inputs])


@pytest.fixture(scope="module")
def text_model(small_encoder: SentenceEncoder) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    keys = random.standard_normal((30, 48)).astype(np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    head = TextHead(random.standard_normal((48, 512)).astype(np.float32))
    return text_graph.build(small_encoder, head, Anchors(keys, None, 0.3, 0.05))


@pytest.fixture(scope="module")
def audio_models(small_weights: Weights) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    model = audio_graph.build(small_weights.tower())
    return model, quantize_audio(model, small_weights.log_mels[::2])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (130, 33)])
def test_rounding_is_half_a_step(shape: tuple[int, int], seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    weight[:, 0] = 0  # a dead column has a scale all the same
    values, scale = quantize_rows(weight)
    assert np.all(np.abs(values * scale - weight) <= scale * 0.5001)
    values, scale = quantize_columns(weight)
    assert np.abs(values.astype(int)).max() <= 64
    assert np.all(np.abs(values * scale - weight) <= scale * 0.5001)


def test_the_embeddings_are_kept(text_model: onnx.ModelProto) -> None:
    """Centred cosine at least .99 over 60 random texts, seed 1; tables and products are small."""
    quantized = quantize_text(text_model, texts(40, seed=2))
    asked = texts(60, seed=1)
    parity = compare_embeddings(embed(text_model, asked), embed(quantized, asked))
    assert parity.centred_mean > 0.99
    assert quantized.ByteSize() < 0.4 * text_model.ByteSize()


def test_smoothing_is_the_same_function(text_model: onnx.ModelProto) -> None:
    """To 1e-5 in float32."""
    smoothed = smooth(text_model, texts(10, seed=2), lambda name: 0.5)
    asked = texts(20, seed=1)
    assert np.abs(embed(smoothed, asked) - embed(text_model, asked)).max() < 1e-5


def test_smoothing_pays_where_there_are_outliers() -> None:
    """One product over 64 channels, of which one is 30 times louder: the error falls by half."""
    random = np.random.default_rng(0)
    x = random.standard_normal((40, 4, 64)).astype(np.float32)
    x[..., 0] *= 30
    weight = random.standard_normal((64, 32)).astype(np.float32)
    weight[0] /= 30
    g = GraphBuilder("product")
    g.node("MatMul", ["x", g.constant(weight, "weight")], out="embedding")
    model = g.model({"x": ("float32", ["B", 4, 64])}, {"embedding": ("float32", ["B", 4, 32])})
    asked: list[Inputs] = [{"x": row[None]} for row in x[:20]]
    samples: list[Inputs] = [{"x": row[None]} for row in x[20:]]
    errors = [
        np.abs(embed(quantize_text(model, samples, smoothing=how), asked) - x[:20] @ weight).mean()
        for how in (lambda name: None, lambda name: 0.5)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_no_pair_of_products_overflows_16_bits(
    text_model: onnx.ModelProto, audio_models: tuple[onnx.ModelProto, onnx.ModelProto]
) -> None:
    """Without VNNI, u1 * w1 + u2 * w2 is added in int16: 2 * 255 * 64 fits, 2 * 255 * 127 not."""
    models = [quantize_text(text_model, texts(4, seed=2)), audio_models[1]]
    for model in models:
        weights = [
            value
            for name, value in constants(model).items()
            if value.dtype == np.int8 and value.ndim > 1 and "words" not in name
        ]
        assert len(weights) >= 8
        assert max(np.abs(value.astype(int)).max() for value in weights) <= 64


def test_wide_weights_are_possible_and_seen_by_that_law(text_model: onnx.ModelProto) -> None:
    """The control."""
    model = quantize_text(text_model, texts(4, seed=2), bits=8)
    assert np.abs(constants(model)["head.weight.int8"].astype(int)).max() == 127


def test_audio_keeps_its_embeddings_and_size(
    small_weights: Weights, audio_models: tuple[onnx.ModelProto, onnx.ModelProto]
) -> None:
    """Random towers put all windows close together; centred cosine .98 is what they allow."""
    model, quantized = audio_models
    rows = [{"log_mel": row[None]} for row in small_weights.log_mels[1::2]]
    parity = compare_embeddings(embed(model, rows), embed(quantized, rows))
    assert parity.centred_mean > 0.98
    assert quantized.ByteSize() < 6e6
    assert [output.name for output in quantized.graph.output] == ["embedding", "frames"]


def test_a_quantized_window_does_not_depend_on_its_mates(
    small_weights: Weights, audio_models: tuple[onnx.ModelProto, onnx.ModelProto]
) -> None:
    """Static scales: to 1e-5, in batches of 1 and 4."""
    session = GraphSession(audio_models[1].SerializeToString(), name="audio")
    windows = small_weights.log_mels[:4]
    (together,) = session.run(["embedding"], {"log_mel": windows})
    for row in range(4):
        (alone,) = session.run(["embedding"], {"log_mel": windows[row : row + 1]})
        assert np.abs(alone[0] - together[row]).max() < 1e-5


def test_a_product_that_would_be_wrong_is_refused() -> None:
    g = GraphBuilder("odd")
    weight = g.constant(np.ones((4, 4), np.float32), "weight")
    bias = g.constant(np.ones(4, np.float32), "bias")
    g.node("Gemm", ["x", weight, bias], out="y")
    model = g.model({"x": ("float32", [1, 4])}, {"y": ("float32", [1, 4])})
    with pytest.raises(GraphError, match="Gemm"):
        quantize_text(model, [], smoothing=lambda name: None)
