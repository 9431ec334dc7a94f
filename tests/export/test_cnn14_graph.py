"""The CNN14 graph computes what msclap's own tower computes, at any batch size."""

from __future__ import annotations

import msclap_oracle
import numpy as np
import onnx
import pytest

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import GraphError
from clap_engine.session import GraphSession
from clap_export.graphs import cnn14_graph
from clap_export.msclap.random_weights import random_state

pytestmark = pytest.mark.export

N_FRAMES = 690  # 5 s at 44.1 kHz
TOLERANCE = 1e-4


def audio_state(layers: int | None) -> dict[str, Float32]:
    state = random_state("2022", seed=5, layers=layers)
    return {name: value for name, value in state.items() if name.startswith("audio_encoder.")}


def check(state: dict[str, Float32], model: onnx.ModelProto, batch: int) -> None:
    log_mel = np.random.default_rng(batch).normal(-30, 15, (batch, N_FRAMES, 64))
    log_mel[-1, 100:, :] = -100
    log_mel = log_mel.astype(np.float32)
    wanted = msclap_oracle.embed_log_mel(msclap_oracle.audio_encoder(state, "2022"), log_mel)
    session = GraphSession(model.SerializeToString(), name="audio")
    embedding, native = session.run(["embedding", "native"], {"log_mel": log_mel})
    assert np.abs(embedding - l2_normalize(wanted)).max() < TOLERANCE
    assert np.abs(native - wanted).max() < TOLERANCE * np.linalg.norm(wanted, axis=1).max()


@pytest.fixture(scope="module")
def narrow() -> dict[str, Float32]:
    """A sixteenth of the channels."""
    return audio_state(layers=2)


@pytest.mark.parametrize("batch", [1, 3])
def test_equals_msclap(narrow: dict[str, Float32], batch: int) -> None:
    """To 1e-4 absolute."""
    check(narrow, cnn14_graph.build(narrow, n_frames=N_FRAMES), batch)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_msclap_in_full_size(batch: int) -> None:
    state = audio_state(layers=None)
    check(state, cnn14_graph.build(state, n_frames=N_FRAMES), batch)


def test_what_does_not_fit_is_refused(narrow: dict[str, Float32]) -> None:
    with pytest.raises(GraphError, match="31 frames"):
        cnn14_graph.build(narrow, n_frames=31)
    with pytest.raises(GraphError, match="no CNN14"):
        cnn14_graph.build({}, n_frames=N_FRAMES)
    gap = {name: value for name, value in narrow.items() if "conv_block3" not in name}
    with pytest.raises(GraphError, match="numbered"):
        cnn14_graph.build(gap, n_frames=N_FRAMES)
