"""clap-mini's front end: the runtime's log-mel equals torch's; filters are what they say."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from sounds import noise, tone

from clap_engine.mel import LogMel
from clap_export.frontend import (
    CLAP_MINI_FRONT_END,
    TorchLogMel,
    hann_window,
    make_frontend_npz,
    mel_filters,
)

SPEC = CLAP_MINI_FRONT_END
N = SPEC.n_samples
T = np.arange(N) / SPEC.rate_hz


def impulse(at: int) -> np.ndarray:
    x = np.zeros(N)
    x[at] = 1
    return x


SOUNDS = {
    "noise": noise(1, N),
    "faint noise": noise(2, N, level=1e-4),
    "fading noise": noise(3, N) * np.exp(-4 * T),
    **{f"tone {hz} Hz": tone(hz, 32_000, N) for hz in (20, 50, 100, 440, 1000, 1007.8125, 9999)},
    "tone above the bands": tone(15_000, 32_000, N),
    "log sweep": np.sin(2 * np.pi * 40 * 5 / np.log(400) * (400 ** (T / 5) - 1)),
    "sweep to 16 kHz": np.sin(2 * np.pi * 1600 * T * T),
    "impulse": impulse(80_000),
    "impulse at the start": impulse(0),
    "impulse at the end": impulse(N - 1),
    "DC": np.full(N, 0.5),
    "DC and faint noise": 1 + noise(4, N, level=1e-3),
    "square": np.sign(np.sin(2 * np.pi * 220 * T)),
    "beyond full scale": 1e30 * np.sin(2 * np.pi * 440 * T),
    "silence": np.zeros(N),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_the_runtime_equals_torch_within_a_thousandth_of_a_decibel(name: str) -> None:
    windows = np.asarray(SOUNDS[name], np.float32)[None]
    ours = LogMel(SPEC, make_frontend_npz())(windows)
    theirs = TorchLogMel()(torch.from_numpy(windows)).numpy()
    assert theirs.shape == ours.shape == (1, 128, 64)
    assert np.abs(ours - theirs).max() <= 1e-3


def test_the_comparison_can_fail() -> None:
    windows = noise(5, 1, N)
    ours = LogMel(SPEC, make_frontend_npz())(windows)
    other = TorchLogMel()(torch.from_numpy(windows * np.linspace(1, 1.01, N, dtype=np.float32)))
    assert np.abs(ours - other.numpy()).max() > 1e-3


def test_torch_takes_batches() -> None:
    windows = torch.from_numpy(noise(6, 3, N))
    together = TorchLogMel()(windows)
    for row, window in zip(together, windows, strict=True):
        assert torch.equal(row, TorchLogMel()(window[None])[0])


def test_frames_fill_the_padded_window_exactly() -> None:
    assert SPEC.n_fft + (SPEC.n_frames - 1) * SPEC.hop == N + 2 * SPEC.pad


def test_filters_have_area_one_and_leave_no_gap() -> None:
    mel = mel_filters()
    assert mel.shape == (1025, 64)
    assert mel.dtype == np.float32
    area = mel.sum(axis=0, dtype=np.float64) * SPEC.rate_hz / SPEC.n_fft
    # The lowest triangles span seven bins, so a sum is within 6 % of the integral.
    np.testing.assert_allclose(area, 1, atol=0.06)
    hz = np.arange(1025) * SPEC.rate_hz / SPEC.n_fft
    inside = (hz > SPEC.fmin_hz) & (hz < SPEC.fmax_hz)
    assert (mel[inside].sum(axis=1) > 0).all()
    assert not mel[~inside].any()
    assert (np.diff(mel.argmax(axis=0)) > 0).all()


def test_bands_are_even_in_hertz_below_1_khz_and_in_ratio_above() -> None:
    hz = mel_filters().argmax(axis=0) * SPEC.rate_hz / SPEC.n_fft
    low, high = hz[hz < 950], hz[hz > 3000]
    assert np.ptp(np.diff(low)) <= 2 * SPEC.rate_hz / SPEC.n_fft
    # Slaney: 27 mel to a factor of 6.4.
    step = np.log(6.4) / 27
    mels = (15 + np.log(14) / step - 40 * 3 / 200) / 65
    np.testing.assert_allclose(np.diff(np.log(high)), mels * step, atol=0.006)


def test_the_window_is_a_periodic_hann() -> None:
    np.testing.assert_allclose(hann_window(2048), torch.hann_window(2048), atol=1e-6)


def test_the_file_is_the_same_each_time_and_needs_no_pickle() -> None:
    data = make_frontend_npz()
    assert data == make_frontend_npz()
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert sorted(archive) == ["mel", "window"]
        assert archive["window"].shape == (2048,)
