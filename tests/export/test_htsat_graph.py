"""The HTSAT graph computes what msclap's and transformers' towers compute, at any batch size."""

from __future__ import annotations

from typing import Any

import msclap_oracle
import numpy as np
import onnx
import pytest
import torch

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import GraphError
from clap_engine.session import GraphSession
from clap_export.graphs import htsat_graph, htsat_names
from clap_export.graphs.projection import HeadGraph
from clap_export.msclap.random_weights import random_state

pytestmark = pytest.mark.export

N_FRAMES = 965
TOLERANCE = 1e-4  # of the unit embedding, as the gate has it; 1e-7 is usual


def sounds(batch: int, n_frames: int = N_FRAMES) -> Float32:
    """Log-mels [B, F, 64] in decibels: noise, silence, a rising tone."""
    log_mel = np.random.default_rng(batch).normal(-40, 15, (batch, n_frames, 64))
    log_mel[-1] = -100
    log_mel[-1, np.arange(n_frames), np.arange(n_frames) * 64 // n_frames] = 20
    return log_mel.astype(np.float32)


def load(model: onnx.ModelProto) -> GraphSession:
    return GraphSession(model.SerializeToString(), name="audio")


def run(session: GraphSession, log_mel: Float32) -> tuple[Float32, Float32]:
    embedding, native = session.run(["embedding", "native"], {"log_mel": log_mel})
    return embedding, native


def audio_state(**how: Any) -> dict[str, Float32]:
    state = random_state("2023", **how)
    return {name: value for name, value in state.items() if name.startswith("audio_encoder.")}


@pytest.fixture(scope="module", params=["plain", "outliers"])
def small(request: pytest.FixtureRequest) -> dict[str, Float32]:
    """Two blocks a stage: shifted windows and every kind of merging."""
    return audio_state(seed=3, layers=2, outliers=request.param == "outliers")


@pytest.fixture(scope="module")
def session(small: dict[str, Float32]) -> GraphSession:
    return load(htsat_graph.build(small, n_frames=N_FRAMES))


@pytest.fixture(scope="module")
def encoder(small: dict[str, Float32]) -> Any:
    return msclap_oracle.audio_encoder(small)


@pytest.mark.parametrize("batch", [1, 3])
def test_equals_msclap(encoder: Any, session: GraphSession, batch: int) -> None:
    """To 1e-4 absolute: msclap's own export is silently wrong by 5e-2 at the other batch size."""
    log_mel = sounds(batch)
    wanted = msclap_oracle.embed_log_mel(encoder, log_mel)
    embedding, native = run(session, log_mel)
    assert np.abs(embedding - l2_normalize(wanted)).max() < TOLERANCE
    assert np.abs(native - wanted).max() < TOLERANCE * np.linalg.norm(wanted, axis=1).max()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("outliers", [False, True])
def test_equals_msclap_in_full_size(batch: int, outliers: bool) -> None:
    state = audio_state(seed=1, outliers=outliers)
    wanted = msclap_oracle.embed_log_mel(msclap_oracle.audio_encoder(state), sounds(batch))
    embedding, _ = run(load(htsat_graph.build(state, n_frames=N_FRAMES)), sounds(batch))
    assert np.abs(embedding - l2_normalize(wanted)).max() < TOLERANCE


def test_a_window_does_not_depend_on_its_mates(session: GraphSession) -> None:
    """To 1e-5, float32."""
    log_mel = sounds(2)
    together, _ = run(session, log_mel)
    for row in range(2):
        assert np.abs(run(session, log_mel[row : row + 1])[0][0] - together[row]).max() < 1e-5


def test_a_head_maps_into_its_space() -> None:
    """embedding = l2(native W + b), to 1e-6."""
    state = audio_state(seed=3, layers=1)
    random = np.random.default_rng(0)
    head = HeadGraph(
        random.normal(0, 1 / 32, (1024, 512)).astype(np.float32),
        random.normal(0, 0.1, 512).astype(np.float32),
    )
    embedding, native = run(load(htsat_graph.build(state, n_frames=N_FRAMES, head=head)), sounds(2))
    assert head.matrix is not None
    assert embedding.shape == (2, 512)
    assert np.abs(embedding - l2_normalize(native @ head.matrix + head.bias)).max() < 1e-6


@pytest.mark.parametrize("n_frames", [64, 690, 1001, 1024])
def test_interpolates_as_torch_does(n_frames: int) -> None:
    """To 1e-5 of values around 1."""
    x = np.random.default_rng(0).standard_normal((n_frames, 8)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x)[None, None], (1024, 8), mode="bicubic", align_corners=True
    )
    matrix = htsat_graph.bicubic(n_frames, 1024)
    assert np.abs(matrix @ x - wanted[0, 0].numpy()).max() < 1e-5
    columns, values = htsat_graph.band(matrix)
    assert np.array_equal((values @ x[columns]).shape, (16, 64, 8))
    assert np.abs((values @ x[columns]).reshape(1024, 8) - matrix @ x).max() < 1e-5


@pytest.mark.parametrize("grid", [8, 16, 64])
@pytest.mark.parametrize("shift", [0, 4])
def test_windows_hold_every_place_once(grid: int, shift: int) -> None:
    """And each one 8 rows and 8 columns that are neighbours, around the image's edge if shifted."""
    places = htsat_graph.windows(grid, 8, shift)
    assert sorted(places) == list(range(grid * grid))
    for axis in np.divmod(places.reshape(64, -1), grid):
        assert np.ptp((axis - shift) % grid // 8, axis=0).max() == 0
    masked = htsat_graph.shift_mask(places, grid, 8).any()
    assert masked == (shift > 0 and grid > 8) or grid == 8


def test_what_does_not_fit_is_refused() -> None:
    small = audio_state(seed=3, layers=1)
    with pytest.raises(GraphError, match="1025 frames"):
        htsat_graph.build(small, n_frames=1025)
    with pytest.raises(GraphError, match="no HTSAT"):
        htsat_graph.build({}, n_frames=N_FRAMES)
    alien = {**small, "audio_encoder.base.htsat.bn0.weight": np.ones(80, np.float32)}
    with pytest.raises(GraphError, match="80 mels"):
        htsat_graph.build(alien, n_frames=N_FRAMES)


def transformers_model(**settings: Any) -> Any:
    """A small random ClapAudioModelWithProjection whose batch norm has seen decibels."""
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection

    torch.manual_seed(0)
    config = ClapAudioConfig(
        depths=[2, 1, 1, 1],
        num_attention_heads=[2, 4, 8, 16],
        patch_embeds_hidden_size=32,
        hidden_size=256,
        projection_dim=64,
        **settings,
    )
    model = ClapAudioModelWithProjection(config).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, 1.0 if "norm" in name and "weight" in name else 0.0, 0.1)
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.fill_(-40)
    norm.running_var.fill_(200)
    return model


def numpy_state(model: Any) -> dict[str, Float32]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("batch", [1, 3])
def test_equals_transformers(batch: int) -> None:
    """To 1e-4 absolute, 1001 frames (10 s at 48 kHz)."""
    theirs = transformers_model()
    state = htsat_names.from_transformers(numpy_state(theirs))
    built = htsat_graph.build(
        state, htsat_names.PREFIX, n_frames=1001, projection=htsat_names.PROJECTION
    )
    log_mel = sounds(batch, 1001)
    with torch.no_grad():
        wanted = theirs(input_features=torch.from_numpy(log_mel)[:, None]).audio_embeds.numpy()
    embedding, _ = run(load(built), log_mel)
    assert np.abs(embedding - l2_normalize(wanted)).max() < TOLERANCE


def test_fusion_is_refused_by_name() -> None:
    with pytest.raises(GraphError, match="enable_fusion"):
        htsat_names.from_transformers(numpy_state(transformers_model(enable_fusion=True)))
