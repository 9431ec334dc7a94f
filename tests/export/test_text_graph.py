"""The text graph computes what BertModel, mean pooling, anchors and head compute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from clap_engine.arrays import l2_normalize
from clap_engine.errors import ArrayError
from clap_engine.session import GraphSession
from clap_export import minilm
from clap_export.graphs import text_graph
from clap_export.graphs.text_graph import Anchors, TextHead
from clap_export.minilm import SentenceEncoder

HIDDEN, DIM, PHRASES = 384, 512, 40


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return minilm.load()


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    """Three texts of 11, 7 and 1 tokens, padded."""
    random = np.random.default_rng(0)
    ids = random.integers(1000, 30000, (3, 11))
    mask = np.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 1:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.fixture(scope="module")
def sentences(encoder: SentenceEncoder, batch: dict[str, np.ndarray]) -> np.ndarray:
    """transformers' BertModel, mean-pooled: unit [3, 384]."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6)
    config.num_attention_heads, config.intermediate_size = 12, 1536
    model = BertModel(config, add_pooling_layer=False).eval()
    state = {name: torch.from_numpy(np.array(w)) for name, w in encoder.weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not [name for name in missing if "position_ids" not in name]
    assert not unexpected
    with torch.no_grad():
        inputs = {name: torch.from_numpy(value) for name, value in batch.items()}
        hidden = model(**inputs).last_hidden_state.numpy()
    mask = batch["attention_mask"][..., None]
    return l2_normalize(((hidden * mask).sum(1) / mask.sum(1)).astype(np.float32))


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return GraphSession(model.SerializeToString(), name="text").run(["embedding"], inputs)[0]


def parts(kind: str) -> tuple[TextHead, Anchors | None]:
    random = np.random.default_rng(1)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    head = TextHead(normal(HIDDEN, DIM), normal(DIM) if kind == "bias" else None)
    values = {
        "values in": normal(PHRASES, HIDDEN),
        "values out": normal(PHRASES, DIM),
        "shared values": normal(PHRASES // 5, DIM),
    }
    if kind in ("none", "bias"):
        return head, None
    keys = l2_normalize(normal(PHRASES, HIDDEN))
    return head, Anchors(keys, values.get(kind), blend=0.4, tau=0.05)


def expected(x: np.ndarray, head: TextHead, anchors: Anchors | None) -> np.ndarray:
    """The definition in numpy, float64."""
    x = x.astype(np.float64)
    after: np.ndarray | None = None
    if anchors is not None:
        weights = np.exp(x @ anchors.keys.T / anchors.tau)
        weights /= weights.sum(axis=1, keepdims=True)
        values = anchors.keys if anchors.values is None else anchors.values
        mixed = weights @ np.repeat(values, len(anchors.keys) // len(values), axis=0)
        if values.shape[1] == HIDDEN:
            x = (1 - anchors.blend) * x + anchors.blend * mixed
        else:
            after = mixed
    y = x @ head.weight + (0 if head.bias is None else head.bias)
    if after is not None and anchors is not None:
        y = y / np.linalg.norm(y, axis=1, keepdims=True)
        y = (1 - anchors.blend) * y + anchors.blend * after
    return y / np.linalg.norm(y, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "kind", ["none", "bias", "keys", "values in", "values out", "shared values"]
)
def test_equals_transformers_and_the_definition(
    encoder: SentenceEncoder, batch: dict[str, np.ndarray], sentences: np.ndarray, kind: str
) -> None:
    """To 1e-5, over a padded batch of three lengths."""
    head, anchors = parts(kind)
    found = run(text_graph.build(encoder, head, anchors), batch)
    assert np.abs(found - expected(sentences, head, anchors)).max() < 1e-5


def test_padding_and_batch_mates_change_nothing(
    small_encoder: SentenceEncoder, batch: dict[str, np.ndarray]
) -> None:
    head = TextHead(np.random.default_rng(2).standard_normal((48, 512)).astype(np.float32))
    model = text_graph.build(small_encoder, head)
    ids, mask = batch["input_ids"] % 600, batch["attention_mask"]
    together = run(model, {"input_ids": ids, "attention_mask": mask})
    for row, length in enumerate((11, 7, 1)):
        alone = {
            "input_ids": ids[row : row + 1, :length],
            "attention_mask": mask[row : row + 1, :length],
        }
        assert np.abs(run(model, alone)[0] - together[row]).max() < 2e-6


def test_rows_are_unit_and_a_row_without_tokens_is_finite(small_encoder: SentenceEncoder) -> None:
    model = text_graph.build(small_encoder, TextHead(np.ones((48, 512), np.float32)))
    ids = np.full((2, 5), 7)
    found = run(model, {"input_ids": ids, "attention_mask": np.array([[1] * 5, [0] * 5])})
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[0]) == pytest.approx(1, abs=1e-5)


def test_a_blend_of_nothing_is_no_anchors(small_encoder: SentenceEncoder) -> None:
    head = TextHead(np.random.default_rng(2).standard_normal((48, 512)).astype(np.float32))
    anchors = Anchors(np.ones((4, 48), np.float32), None, blend=0.0, tau=1.0)
    with_none = text_graph.build(small_encoder, head)
    assert text_graph.build(small_encoder, head, anchors) == with_none


def test_positions_are_cut_at_the_longest_text(small_encoder: SentenceEncoder) -> None:
    head = TextHead(np.random.default_rng(2).standard_normal((48, 512)).astype(np.float32))
    whole = text_graph.build(small_encoder, head)
    cut = text_graph.build(small_encoder, head, max_tokens=32)
    inputs = {"input_ids": np.arange(32)[None], "attention_mask": np.ones((1, 32), np.int64)}
    assert np.array_equal(run(whole, inputs), run(cut, inputs))
    saved = whole.ByteSize() - cut.ByteSize()
    assert saved == pytest.approx((160 - 32) * 48 * 4, abs=16)  # lengths take bytes too


@pytest.mark.parametrize(
    ("head", "anchors"),
    [
        (TextHead(np.zeros((47, 512), np.float32)), None),
        (TextHead(np.zeros((48, 512), np.float32), np.zeros(511, np.float32)), None),
        (None, Anchors(np.zeros((9, 47), np.float32), None, 0.5, 0.03)),
        (None, Anchors(np.zeros((9, 48), np.float32), np.zeros((2, 48), np.float32), 0.5, 0.03)),
        (None, Anchors(np.zeros((9, 48), np.float32), np.zeros((0, 48), np.float32), 0.5, 0.03)),
        (None, Anchors(np.zeros((9, 48), np.float32), np.zeros((9, 47), np.float32), 0.5, 0.03)),
        (None, Anchors(np.zeros((9, 48), np.float32), None, 1.5, 0.03)),
        (None, Anchors(np.zeros((9, 48), np.float32), None, 0.5, 0.0)),
        (None, Anchors(np.zeros((9, 48), np.float32), None, 0.5, float("nan"))),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    small_encoder: SentenceEncoder, head: TextHead | None, anchors: Anchors | None
) -> None:
    head = head or TextHead(np.zeros((48, 512), np.float32))
    with pytest.raises(ArrayError, match="needed|allowed"):
        text_graph.build(small_encoder, head, anchors)
