"""The tower's mode: profiles that fit alike in all keys, learned from chords, heard in windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clap_engine.errors import IntegrityError
from clap_engine.mel import LogMel
from clap_engine.session import GraphSession
from clap_export import mode
from clap_export.choices import Choices
from clap_export.corpus import render
from clap_export.frontend import CLAP_MINI_FRONT_END, band_hz, make_frontend_npz, mel_filters
from clap_export.graphs import audio_graph
from clap_export.tower import AudioTower, ModeScore, TowerShape, deepened, pitch_classes, relief
from clap_export.train import Batchable, Learner, to_decibels
from clap_export.weights import random_weights

pytestmark = pytest.mark.export

PLAIN = TowerShape(channels=(4, 8, 8, 16), blocks=(0, 1, 0, 0), hidden=32)
KEYED = replace(PLAIN, profiles=4)
THIRDS = {"major": 4, "minor": 3}
N = CLAP_MINI_FRONT_END.n_samples


def triads(tonics: range, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-mels uint8 of a major and a minor triad on each tonic (MIDI), of partials that are drawn;
    and which are minor."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(N) / CLAP_MINI_FRONT_END.rate_hz
    windows, minor = [], []
    for tonic in tonics:
        for name, third in THIRDS.items():
            wave = np.zeros(N)
            for key in (tonic, tonic + third, tonic + 7):
                hz = 440 * 2 ** ((key - 69) / 12)
                for partial in range(1, 7):
                    level = rng.uniform(0.3, 1) / partial
                    wave += level * np.sin(2 * np.pi * (hz * partial * time_s + rng.random()))
            windows.append(wave / 20)
            minor.append(name == "minor")
    log_mel = LogMel(CLAP_MINI_FRONT_END, make_frontend_npz())(np.array(windows, np.float32))
    return render.quantize_log_mel(log_mel), np.array(minor, np.int64)


TONICS = range(55, 79)
OFTEN = 24  # times each clip is there, so that an epoch has some steps


def test_a_profile_fits_as_well_in_every_key() -> None:
    torch.manual_seed(0)
    score = ModeScore(64, profiles=5)
    chroma = torch.rand(3, 2, 12)
    fits = [
        (chroma.roll(key, dims=2).flatten(1) @ score.rotated()).reshape(3, 5, 12)
        for key in range(12)
    ]
    for other in fits[1:]:
        torch.testing.assert_close(other.sort(dim=2).values, fits[0].sort(dim=2).values)
    # The first of them is the profile as it is.
    wanted = torch.einsum("bcp,kcp->bk", chroma, score.weight)
    torch.testing.assert_close(fits[0][:, :, 0], wanted)
    assert not torch.allclose(fits[0][:, :, 1], wanted)


def test_partials_are_what_stands_out_of_its_neighbours() -> None:
    matrix = torch.from_numpy(relief(64))
    assert (torch.full((1, 64), -37.0) @ matrix).abs().max() < 1e-5
    rise = torch.linspace(-70, -7, 64)[None]
    assert (rise @ matrix)[0, 2:-2].abs().max() < 1e-4
    one = torch.zeros(1, 64)
    one[0, 20] = 10.0
    found = one @ matrix
    assert found[0, 20].item() == pytest.approx(10 * 4 / 5 / 5)
    assert (found[0, [18, 19, 21, 22]] < 0).all()
    assert found[0, 23] == 0


@pytest.mark.parametrize("key", range(84, 96))
def test_a_tone_is_folded_onto_its_own_pitch_class(key: int) -> None:
    """From 1 kHz on bands are no wider than a semitone."""
    hz = 440 * 2 ** ((key - 69) / 12)
    above = int(np.searchsorted(band_hz(), hz))
    low, high = band_hz()[above - 1 : above + 1]
    bands = np.zeros(64)
    bands[above - 1], bands[above] = (high - hz) / (high - low), (hz - low) / (high - low)
    assert int((bands @ pitch_classes(64)).argmax()) == key % 12


def test_centres_of_bands_are_where_the_filters_are_highest() -> None:
    step_hz = CLAP_MINI_FRONT_END.rate_hz / CLAP_MINI_FRONT_END.n_fft
    highest = mel_filters().argmax(axis=0) * step_hz
    assert np.abs(highest - band_hz()).max() <= step_hz


def test_profiles_learn_major_and_minor() -> None:
    """Of partials as loud as they never were before, in every key."""
    torch.manual_seed(0)
    score = ModeScore(64, profiles=8)
    log_mel, minor = triads(TONICS, 1)
    more, unknown = triads(range(57, 63), 3)  # of which nobody knows the mode
    mode.learn_profiles(
        score,
        np.concatenate([np.tile(log_mel, (OFTEN, 1, 1)), more]),
        np.concatenate([np.tile(minor, OFTEN), 0 * unknown - 1]),
        seed=0,
    )
    others, truth = triads(TONICS, 2)
    with torch.no_grad():
        found = score(to_decibels(others))
    assert found.shape == (len(truth), 1)
    assert found.abs().max() <= 1
    assert ((found[:, 0] > 0).numpy() == truth).mean() >= 0.9


def learner() -> Learner:
    torch.manual_seed(1)
    return Learner(PLAIN).eval()


def data_of(truths: np.ndarray, log_mel: np.ndarray) -> Batchable:
    rng = np.random.default_rng(4)

    def sentences(*shape: int) -> np.ndarray:
        drawn = rng.standard_normal((*shape, 384))
        return (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32)

    asked = Choices("mode", sentences(4), np.array([0, 2, 4]), truths)
    other = Choices("tempo", sentences(2), np.array([0, 1, 2]), 0 * truths)
    return Batchable(log_mel, [{} for _ in truths], sentences(len(truths), 2), {}, (other, asked))


def test_a_tower_hears_the_mode_and_keeps_all_else() -> None:
    log_mel, minor = triads(TONICS, 1)
    log_mel, minor = np.tile(log_mel, (OFTEN, 1, 1)), np.tile(minor, OFTEN)
    before = learner()
    kept = {name: value.clone() for name, value in before.state_dict().items()}
    after = mode.heard(before, data_of(minor, log_mel))
    for name, value in kept.items():
        assert torch.equal(value, before.state_dict()[name]), name
        assert torch.equal(value, after.state_dict()[name]), name
    assert after.audio.shape == replace(PLAIN, profiles=mode.PROFILES)
    others, truth = triads(TONICS, 2)
    with torch.no_grad():
        x = to_decibels(others)
        pooled, moved = before.audio.pooled(x), after.audio.minor
        usual = before.audio.pooled(to_decibels(log_mel[: 2 * len(TONICS)])).norm(dim=1).mean()
        assert moved.norm().item() == pytest.approx(mode.LENGTH * usual.item(), rel=0.05)
        embedding, frames = after.audio(x)
        assert torch.equal(frames, before.audio(x)[1])
        wanted = pooled + after.audio.mode(x) * moved
        torch.testing.assert_close(embedding, wanted / wanted.norm(dim=1, keepdim=True))
        # What tells the two apart is in the embedding.
        along = embedding @ moved
    assert ((along > along.mean()).numpy() == truth).mean() > 0.7
    assert torch.equal(mode.heard(before, data_of(minor, log_mel)).audio.minor, after.audio.minor)


def test_without_clips_of_both_modes_nothing_is_added() -> None:
    log_mel, minor = triads(range(60, 62), 1)
    before = learner()
    for truths in (0 * minor, 0 * minor - 1):
        assert mode.heard(before, data_of(truths, log_mel)) is before
    assert mode.heard(before, replace(data_of(minor, log_mel), asked=())) is before


def test_the_graph_hears_it_too() -> None:
    torch.manual_seed(0)
    tower = AudioTower(KEYED).eval()
    with torch.no_grad():
        tower.minor.normal_()
    session = GraphSession(audio_graph.build(tower).SerializeToString(), name="audio")
    x = to_decibels(triads(range(60, 63), 1)[0])
    (found,) = session.run(["embedding"], {"log_mel": x.numpy()})
    with torch.no_grad():
        wanted, _ = tower(x)
        tower.minor.zero_()
        deaf, _ = tower(x)
    assert np.abs(found - wanted.numpy()).max() < 2e-5
    assert np.abs(found - deaf.numpy()).max() > 1e-2


def test_mode_is_never_taken_over() -> None:
    """It is learned anew once the tower is done."""
    torch.manual_seed(0)
    keyed = AudioTower(KEYED).eval()
    with torch.no_grad():
        keyed.minor.normal_()
    x = -80 * torch.rand(2, 128, 64)
    for shape in (PLAIN, KEYED):
        again = deepened(keyed.state_dict(), KEYED, shape).eval()
        with torch.no_grad():
            torch.testing.assert_close(again.pooled(x), keyed.pooled(x))
            torch.testing.assert_close(again(x)[1], keyed(x)[1])
            unmoved = keyed.pooled(x) / keyed.pooled(x).norm(dim=1, keepdim=True)
            torch.testing.assert_close(again(x)[0], unmoved)
    with pytest.raises(ValueError, match="more blocks"):
        deepened(keyed.state_dict(), KEYED, replace(KEYED, hidden=64))


def test_weights_that_name_profiles_which_they_lack_are_refused() -> None:
    made = random_weights()
    assert made.tower().shape.profiles == 0
    with pytest.raises(IntegrityError, match="audio tower"):
        replace(made, scalars={"tower": {"profiles": 32}}).tower()
