"""Mel power by products equals the Fourier transform's, for any size, filters and frames."""

from __future__ import annotations

import numpy as np
import pytest
from sounds import noise

from clap_engine.spectrum import CHUNK, MelProducts


def random_filters(n_fft: int, low: int, high: int, n: int = 5) -> np.ndarray:
    """[n_fft/2+1, n]: positive weights in bins low to high, nothing outside."""
    mel = np.zeros((n_fft // 2 + 1, n), np.float32)
    mel[low:high] = np.random.default_rng(low).uniform(0.1, 1, (high - low, n))
    return mel


def reference(frames: np.ndarray, window: np.ndarray, mel: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(frames.astype(np.float64) * window)) ** 2 @ mel


@pytest.mark.parametrize("n_fft", [16, 64, 128, 512, 1024, 2048])
@pytest.mark.parametrize("band", [(0.0, 1.0), (0.05, 0.8), (0.4, 0.45)], ids=str)
def test_it_is_the_fourier_transform(n_fft: int, band: tuple[float, float]) -> None:
    """Every bin once, DC and the highest included."""
    bins = n_fft // 2 + 1
    mel = random_filters(n_fft, round(band[0] * bins), max(round(band[1] * bins), 1))
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    frames = noise(n_fft, 9, n_fft)
    wanted = reference(frames, window, mel)
    got = MelProducts(window, mel)(frames)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6 * wanted.max(initial=1))


@pytest.mark.parametrize("k", [0, 1, 16, 17, 31, 32, 33, 255, 256, 511, 512])
def test_one_filter_on_one_bin_reads_that_bin(k: int) -> None:
    mel = np.zeros((513, 2), np.float32)
    mel[k, 1] = 2
    frames = noise(k, 3, 1024)
    got = MelProducts(np.ones(1024, np.float32), mel)(frames)
    power = np.abs(np.fft.rfft(frames.astype(np.float64))[:, k]) ** 2
    np.testing.assert_allclose(got[:, 1], 2 * power, rtol=1e-4, atol=1e-5)
    assert not got[:, 0].any()


@pytest.mark.parametrize("n", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_a_frame_does_not_depend_on_its_mates(n: int) -> None:
    """Frames keep their place in the chunk, where sums are taken in one order."""
    products = MelProducts(np.hanning(256).astype(np.float32), random_filters(256, 3, 100))
    frames = noise(n, 4 * CHUNK, 256)
    assert np.array_equal(products(frames[: 4 * CHUNK])[: n // CHUNK * CHUNK],
                          products(frames[:n])[: n // CHUNK * CHUNK])  # fmt: skip
    np.testing.assert_allclose(products(frames[:n]), products(frames)[:n], rtol=1e-5, atol=1e-6)


def test_overlapping_views_are_read_and_not_written() -> None:
    signal = noise(1, 5_000)
    before = signal.copy()
    frames = np.lib.stride_tricks.sliding_window_view(signal, 256)[::100]
    products = MelProducts(np.hanning(256).astype(np.float32), random_filters(256, 3, 100))
    assert np.array_equal(products(frames), products(frames.copy()))
    assert np.array_equal(signal, before)
