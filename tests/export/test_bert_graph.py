"""The BERT and RoBERTa towers compute what msclap 2022 and transformers' ClapModel compute."""

from __future__ import annotations

from typing import Any

import msclap_oracle
import numpy as np
import onnx
import pytest
import small_towers
from small_towers import NATIVE, WIDTH, WORDS, Inputs, State

from clap_engine.arrays import l2_normalize
from clap_engine.errors import ArrayError
from clap_engine.session import GraphSession
from clap_export.graphs import bert_graph
from clap_export.graphs.bert_graph import BERT, CLAP_ROBERTA, BertConfig
from clap_export.graphs.projection import HeadGraph

pytestmark = pytest.mark.export

HEADS = WIDTH // 64
SMALL_BERT = BertConfig(heads=HEADS, eps=BERT.eps)
SMALL_ROBERTA = BertConfig(HEADS, CLAP_ROBERTA.eps, CLAP_ROBERTA.padding_id, CLAP_ROBERTA.pooler)
LENGTHS = [(8,), (1,), (70,), (13, 5, 2), (70, 3)]


def batch(lengths: tuple[int, ...], padding: int) -> Inputs:
    random = np.random.default_rng(len(lengths))
    ids = np.full((len(lengths), max(lengths)), padding, np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(2, WORDS, length)
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}


def run(model: onnx.ModelProto, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    session = GraphSession(model.SerializeToString(), name="text")
    embedding, native = session.run(["embedding", "native"], inputs)
    return embedding, native


@pytest.fixture(scope="module")
def bert() -> tuple[State, onnx.ModelProto, Any]:
    state = small_towers.bert()
    model = bert_graph.build(state, head=HeadGraph(), max_tokens=80, config=SMALL_BERT)
    return state, model, msclap_oracle.caption_encoder(state, "2022")


@pytest.fixture(scope="module")
def roberta() -> tuple[State, onnx.ModelProto, Any]:
    """transformers' ClapTextModelWithProjection, random, two layers."""
    import torch
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    torch.manual_seed(0)
    config = ClapTextConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=82,
        projection_dim=NATIVE,
    )
    oracle = ClapTextModelWithProjection(config).eval()
    with torch.no_grad():
        for value in oracle.parameters():
            value.add_(0.1 * torch.randn_like(value))
    state = {name: value.numpy() for name, value in oracle.state_dict().items()}
    model = bert_graph.build(
        state,
        "text_model.",
        head=HeadGraph(),
        max_tokens=80,
        config=SMALL_ROBERTA,
        projection="text_projection.",
    )
    return state, model, oracle


def from_transformers(oracle: Any, inputs: Inputs) -> np.ndarray:
    import torch

    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        return np.asarray(oracle(**tensors).text_embeds.numpy(), np.float32)


def check(found: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> None:
    embedding, native = found
    assert np.abs(native - wanted).max() <= 1e-5 * np.linalg.norm(wanted, axis=1).min()
    assert np.abs(embedding - l2_normalize(wanted)).max() < 1e-5


@pytest.mark.parametrize("lengths", LENGTHS)
def test_equals_msclap_2022(
    bert: tuple[State, onnx.ModelProto, Any], lengths: tuple[int, ...]
) -> None:
    """embedding to 1e-5 (1e-4 is due), native to 1e-5 of its norm, padded rows included."""
    import torch

    inputs = batch(lengths, padding=0)
    given = {**inputs, "token_type_ids": np.zeros_like(inputs["input_ids"])}
    with torch.no_grad():
        wanted = bert[2]({name: torch.from_numpy(value) for name, value in given.items()}).numpy()
    check(run(bert[1], inputs), wanted)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_equals_transformers_clap(
    roberta: tuple[State, onnx.ModelProto, Any], lengths: tuple[int, ...]
) -> None:
    """The same, through the pooler and transformers' projection."""
    inputs = batch(lengths, padding=1)
    check(run(roberta[1], inputs), from_transformers(roberta[2], inputs))


def test_a_padding_id_amid_the_text_takes_no_position(
    roberta: tuple[State, onnx.ModelProto, Any],
) -> None:
    """As transformers has it: what follows keeps counting as if it weren't there."""
    inputs = batch((9, 6), padding=1)
    inputs["input_ids"][0, 3] = 1
    check(run(roberta[1], inputs), from_transformers(roberta[2], inputs))


def test_laion_claps_names_of_the_projection(roberta: tuple[State, onnx.ModelProto, Any]) -> None:
    """`text_projection.0` and `.2` under `text_branch.` give the same graph."""
    state, model, _ = roberta
    names = {"text_model.": "text_branch.", "linear1.": "0.", "linear2.": "2."}
    renamed = {}
    for name, value in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        renamed[name] = value
    other = bert_graph.build(
        renamed,
        "text_branch.",
        head=HeadGraph(),
        max_tokens=80,
        config=SMALL_ROBERTA,
        projection="text_projection.",
    )
    inputs = batch((9, 6), padding=1)
    assert np.array_equal(run(other, inputs)[0], run(model, inputs)[0])


def test_padding_and_batch_mates_change_nothing(
    bert: tuple[State, onnx.ModelProto, Any], roberta: tuple[State, onnx.ModelProto, Any]
) -> None:
    """To 2e-6."""
    for (_, model, _), padding in ((bert, 0), (roberta, 1)):
        inputs = batch((12, 7, 1), padding)
        together = run(model, inputs)[0]
        for row, length in enumerate((12, 7, 1)):
            alone = {name: value[row : row + 1, :length] for name, value in inputs.items()}
            assert np.abs(run(model, alone)[0][0] - together[row]).max() < 2e-6


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"prefix": "text."}, "no BERT under 'text.'"),
        ({"max_tokens": 101}, "1 to 100 are allowed"),
        ({"config": BertConfig(heads=HEADS, padding_id=1), "max_tokens": 99}, "1 to 98 are"),
        ({"config": BertConfig(heads=3)}, "3 heads don't divide a width of 128"),
    ],
)
def test_what_can_not_be_built_is_refused(asked: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"head": HeadGraph(), "max_tokens": 20, "config": SMALL_BERT}
    with pytest.raises(ArrayError, match=words):
        bert_graph.build(small_towers.bert(), **{**settings, **asked})


def test_a_pooler_that_is_not_there_is_missed() -> None:
    state = {name: v for name, v in small_towers.bert().items() if "pooler" not in name}
    config = BertConfig(heads=HEADS, pooler=True)
    with pytest.raises(ArrayError, match="pooler.dense.weight is missing"):
        bert_graph.build(state, head=HeadGraph(), max_tokens=20, config=config)
