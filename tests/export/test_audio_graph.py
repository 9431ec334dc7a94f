"""The audio graph computes what the torch tower computes, at any batch size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clap_engine.errors import GraphError
from clap_engine.session import GraphSession
from clap_export.graphs import audio_graph
from clap_export.tower import AudioTower
from clap_export.weights import Weights, random_weights


@pytest.fixture(scope="module")
def tower() -> AudioTower:
    """Random, with batch norms that have seen data: folding them is part of the test."""
    return random_weights(seed=3).tower()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_equals_torch(tower: AudioTower, batch: int) -> None:
    """To 2e-5, on noise, silence and a full scale."""
    log_mel = np.random.default_rng(batch).uniform(-80, 0, (batch, 128, 64)).astype(np.float32)
    log_mel[0] = -80
    log_mel[-1, :, 5] = 0
    model = audio_graph.build(tower)
    session = GraphSession(model.SerializeToString(), name="audio")
    found = session.run(["embedding", "frames"], {"log_mel": log_mel})
    with torch.no_grad():
        wanted = tower(torch.from_numpy(log_mel))
    for a, b in zip(found, wanted, strict=True):
        assert np.abs(a - b.numpy()).max() < 2e-5
        assert np.abs(np.linalg.norm(a, axis=-1) - 1).max() < 1e-5
    assert found[1].shape == (batch, 16, 512)


def test_a_window_does_not_depend_on_its_mates(tower: AudioTower) -> None:
    """To 1e-5, float32."""
    log_mel = np.random.default_rng(0).uniform(-80, 0, (4, 128, 64)).astype(np.float32)
    session = GraphSession(audio_graph.build(tower).SerializeToString(), name="audio")
    (together,) = session.run(["embedding"], {"log_mel": log_mel})
    for row in range(4):
        (alone,) = session.run(["embedding"], {"log_mel": log_mel[row : row + 1]})
        assert np.abs(alone[0] - together[row]).max() < 1e-5


def test_a_graph_of_other_weights_is_found(tower: AudioTower) -> None:
    """The control: the check that build() runs does fail."""
    other = random_weights(seed=4).tower()
    with pytest.raises(GraphError, match="from torch at batch 1"):
        audio_graph.check(audio_graph.build(other), tower, n_frames=128)


def test_an_unknown_stage_is_refused(small_weights: Weights) -> None:
    tower = small_weights.tower()
    tower.stages.append(torch.nn.Identity())
    with pytest.raises(GraphError, match="Identity"):
        audio_graph.build(tower)
