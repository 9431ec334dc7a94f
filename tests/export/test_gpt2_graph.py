"""The GPT-2 tower computes what msclap's own text encoder computes."""

from __future__ import annotations

from typing import Any

import msclap_oracle
import numpy as np
import onnx
import pytest
import small_towers
from small_towers import NATIVE, WORDS, Inputs, State

from clap_engine.arrays import l2_normalize
from clap_engine.errors import ArrayError
from clap_engine.session import GraphSession
from clap_export.graphs import gpt2_graph
from clap_export.graphs.projection import HeadGraph

pytestmark = pytest.mark.export

MAX_TOKENS = 77
BANG = 0  # both the padding and the word `!`


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "outliers"])
def state(request: pytest.FixtureRequest) -> State:
    return small_towers.gpt2(outliers=request.param)


@pytest.fixture(scope="module")
def session(state: State) -> GraphSession:
    return session_of(gpt2_graph.build(state, head=HeadGraph(), max_tokens=MAX_TOKENS))


@pytest.fixture(scope="module")
def oracle(state: State) -> Any:
    return msclap_oracle.caption_encoder(state)


def session_of(model: onnx.ModelProto) -> GraphSession:
    return GraphSession(model.SerializeToString(), name="text")


def batch(lengths: tuple[int, ...], bangs: int = 0, seed: int = 0) -> Inputs:
    """Rows of so many tokens, padded on the right; the first row holds some real `!`."""
    random = np.random.default_rng(seed)
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(1, WORDS, length)
        mask[row, :length] = 1
    ids[0, 1 : 1 + bangs] = BANG
    return {"input_ids": ids, "attention_mask": mask}


def native_of(oracle: Any, inputs: Inputs) -> np.ndarray:
    """msclap's answer, padded to 77 as it does."""
    import torch

    wide = {
        name: torch.from_numpy(np.pad(value, ((0, 0), (0, MAX_TOKENS - value.shape[1]))))
        for name, value in inputs.items()
    }
    with torch.no_grad():
        return np.asarray(oracle(wide).numpy(), np.float32)


@pytest.mark.parametrize(
    ("lengths", "bangs"),
    [
        ((8,), 0),
        ((2,), 0),
        ((77,), 0),
        ((9,), 2),
        ((13, 5, 2), 0),
        ((13, 5, 2, 40), 3),
        ((77, 3), 1),
    ],
)
def test_equals_msclap(
    session: GraphSession, oracle: Any, lengths: tuple[int, ...], bangs: int
) -> None:
    """embedding to 1e-5 (1e-4 is due), native to 1e-5 of its norm; with padding and real `!`."""
    inputs = batch(lengths, bangs, seed=len(lengths))
    wanted = native_of(oracle, inputs)
    embedding, native = session.run(["embedding", "native"], inputs)
    assert native.shape == (len(lengths), NATIVE)
    assert np.abs(native - wanted).max() <= 1e-5 * np.linalg.norm(wanted, axis=1).min()
    assert np.abs(embedding - l2_normalize(wanted)).max() < 1e-5


def test_a_real_bang_moves_the_pooled_place(session: GraphSession) -> None:
    """So the last token then changes nothing, and without one it does."""
    for bangs, same in ((0, False), (1, True)):
        inputs = batch((9,), bangs)
        before = session.run(["embedding"], inputs)[0]
        inputs["input_ids"][0, -1] += 1
        after = session.run(["embedding"], inputs)[0]
        assert np.array_equal(before, after) is same


def test_padding_by_any_id_and_batch_mates_change_nothing(session: GraphSession) -> None:
    """To 2e-6."""
    inputs = batch((12, 7, 1))
    together = session.run(["embedding"], inputs)[0]
    other = {**inputs, "input_ids": np.where(inputs["attention_mask"], inputs["input_ids"], 9)}
    assert np.abs(session.run(["embedding"], other)[0] - together).max() < 2e-6
    for row, length in enumerate((12, 7, 1)):
        alone = {name: value[row : row + 1, :length] for name, value in inputs.items()}
        assert np.abs(session.run(["embedding"], alone)[0][0] - together[row]).max() < 2e-6


def test_a_text_without_words_is_finite(session: GraphSession) -> None:
    ids = np.zeros((2, 4), np.int64)
    for mask in (np.zeros_like(ids), np.ones_like(ids)):
        found = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]
        assert np.isfinite(found).all()


def test_a_head_maps_the_native_space(state: State) -> None:
    """embedding = unit(native matrix + bias), to 1e-6."""
    random = np.random.default_rng(0)
    matrix = random.normal(0, 0.1, (NATIVE, 32)).astype(np.float32)
    bias = random.normal(0, 0.1, 32).astype(np.float32)
    head = HeadGraph(matrix, bias)
    model = gpt2_graph.build(state, head=head, max_tokens=20)
    embedding, native = session_of(model).run(["embedding", "native"], batch((6, 3)))
    assert np.abs(embedding - l2_normalize(native @ matrix + bias)).max() < 1e-6


@pytest.mark.parametrize("layers", [1, 3])
def test_blocks_are_counted_from_the_state(layers: int) -> None:
    state = small_towers.gpt2(layers=layers)
    inputs = batch((8, 4))
    wanted = native_of(msclap_oracle.caption_encoder(state), inputs)
    model = gpt2_graph.build(state, head=HeadGraph(), max_tokens=MAX_TOKENS)
    (found,) = session_of(model).run(["embedding"], inputs)
    assert np.abs(found - l2_normalize(wanted)).max() < 1e-5


def test_what_can_not_be_built_is_refused(state: State) -> None:
    for asked, words in (
        ({"prefix": "text."}, "no GPT-2 under 'text.'"),
        ({"max_tokens": 101}, "1 to 100 are allowed"),
        ({"max_tokens": 0}, "1 to 100 are allowed"),
        ({"head": HeadGraph(np.zeros((95, 32), np.float32))}, r"\(96, D\) is needed"),
        ({"head": HeadGraph(None, np.zeros(32, np.float32))}, r"\(96,\) is needed"),
    ):
        with pytest.raises(ArrayError, match=words):
            gpt2_graph.build(state, **{"head": HeadGraph(), "max_tokens": 20, **asked})
