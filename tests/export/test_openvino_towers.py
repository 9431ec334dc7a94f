"""The hand-written towers in OpenVINO: the same graphs, the same function, bf16 within the gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from clap_engine.openvino_session import OpenVinoSession
from clap_engine.session import GraphSession
from clap_export.graphs import bert_graph, cnn14_graph, gpt2_graph, htsat_graph
from clap_export.graphs.projection import HeadGraph
from clap_export.msclap.random_weights import random_state

pytest.importorskip("openvino")

SOURCE_SPACE = HeadGraph(None)


def text(build: Callable[..., onnx.ModelProto], version: str) -> tuple[bytes, list[Any]]:
    """A text tower of two layers, and ids of two shapes."""
    state = random_state(version, seed=0, layers=2)
    random = np.random.default_rng(0)
    all_ids = [random.integers(1_000, 20_000, shape) for shape in ((1, 8), (3, 20))]
    feeds = [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in all_ids]
    return build(state, head=SOURCE_SPACE, max_tokens=77).SerializeToString(), feeds


def audio(
    build: Callable[..., onnx.ModelProto], version: str, n_frames: int
) -> tuple[bytes, list[Any]]:
    """An audio tower of two layers a stage, and log-mels in two batch sizes."""
    state = random_state(version, seed=0, layers=2)
    random = np.random.default_rng(0)
    shapes = [(n, n_frames, 64) for n in (1, 2)]
    feeds = [{"log_mel": random.uniform(-80, 0, shape).astype(np.float32)} for shape in shapes]
    return build(state, n_frames=n_frames, head=SOURCE_SPACE).SerializeToString(), feeds


TOWERS: dict[str, Callable[[], tuple[bytes, list[Any]]]] = {
    "GPT-2": lambda: text(gpt2_graph.build, "2023"),
    "BERT": lambda: text(bert_graph.build, "2022"),
    "HTSAT": lambda: audio(htsat_graph.build, "2023", 965),
    "CNN14": lambda: audio(cnn14_graph.build, "2022", 690),
}


@pytest.mark.parametrize("tower", TOWERS)
def test_a_tower_is_the_same_function_in_openvino(tower: str) -> None:
    data, feeds = TOWERS[tower]()
    onnxruntime = GraphSession(data, name=tower)
    exact = OpenVinoSession(data, name=tower, precision="fp32")
    cast = OpenVinoSession(data, name=tower, precision="bf16")
    for feed in feeds:
        wanted, native = onnxruntime.run(["embedding", "native"], feed)
        found, found_native = exact.run(["embedding", "native"], feed)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found_native, native, rtol=0, atol=1e-4)
        (rough,) = cast.run(["embedding"], feed)
        assert ((rough * wanted).sum(axis=1) >= 0.999).all()
