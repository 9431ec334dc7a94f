"""The front ends of converted models: decibels of power, mirrored ends, any scale of input."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sounds import noise, tone

from clap_engine.errors import ManifestError
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel

MSCLAP_2023 = AudioSpec(
    rate_hz=44_100,
    window_s=7.0,
    hop_s=7.0,
    n_fft=1024,
    hop=320,
    pad=512,
    n_mels=64,
    n_frames=965,
    floor_db=None,
    padding="repeat",
    frontend="frontend.npz",
    graphs={},
    frame_s=None,
    reference="one",
    pad_mode="reflect",
)
MSCLAP_2022 = replace(MSCLAP_2023, window_s=5.0, hop_s=5.0, n_frames=690)
TRANSFORMERS = replace(
    MSCLAP_2023,
    rate_hz=48_000,
    window_s=10.0,
    hop_s=10.0,
    hop=480,
    n_frames=1001,
    padding="repeat_pad",
)
SPECS = {"msclap 2023": MSCLAP_2023, "msclap 2022": MSCLAP_2022, "transformers": TRANSFORMERS}
HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)).astype(np.float32)


def filters() -> np.ndarray:
    """64 triangles at equal distances over bins 2 to 447, [513, 64]."""
    edges = np.linspace(2, 447, 66)
    step = edges[1] - edges[0]
    bins = np.arange(513)[:, None]
    return np.maximum(0, 1 - np.abs(bins - edges[1:-1]) / step).astype(np.float32)


FILTERS = filters()


def frontend() -> bytes:
    out = io.BytesIO()
    np.savez(out, window=HANN, mel=FILTERS)
    return out.getvalue()


def reference(window: np.ndarray, spec: AudioSpec) -> np.ndarray:
    """The definition, frame by frame in float64: [T] -> [F, M]."""
    padded = np.pad(window.astype(np.float64), spec.pad, mode="reflect")
    power = np.stack(
        [
            np.abs(np.fft.rfft(padded[i : i + 1024] * HANN)) ** 2 @ FILTERS
            for i in range(0, len(padded) - 1023, spec.hop)
        ]
    )
    return 10 * np.log10(np.maximum(power, 1e-10))


def sounds(spec: AudioSpec) -> dict[str, Any]:
    n, rate_hz = spec.window_samples, spec.rate_hz
    impulse = np.zeros(n, np.float32)
    impulse[0] = impulse[n // 2] = impulse[-1] = 1
    return {
        "noise": noise(1, n),
        "faint noise": noise(2, n, level=1e-3),
        "tone in noise": tone(1000, rate_hz, n) + noise(3, n, level=1e-3),
        "impulses": impulse,
        "silence": np.zeros(n, np.float32),
        "loud as integers": noise(4, n, level=2**15),
        "absurdly loud": noise(5, n, level=1e15),
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "noise") for name in SPECS] + [("msclap 2022", kind) for kind in sounds(MSCLAP_2022)],
)
def test_it_agrees_with_the_definition_in_float64(name: str, kind: str) -> None:
    spec = SPECS[name]
    x = sounds(spec)[kind]
    (got,) = LogMel(spec, frontend())(x[None])
    wanted = reference(x, spec)
    assert got.dtype == np.float32
    assert got.shape == wanted.shape == (spec.n_frames, 64)
    # Sums in float32, as torch takes them: noise 60 dB under a tone is off by more.
    assert np.abs(got - wanted).max() <= (5e-3 if kind == "tone in noise" else 1e-3)


def test_silence_is_the_floor_of_amin() -> None:
    silence = np.zeros((1, MSCLAP_2023.window_samples), np.float32)
    for amin, floor_db in ((1e-10, -100), (1e-5, -50)):
        got = LogMel(replace(MSCLAP_2023, amin=amin), frontend())(silence)
        np.testing.assert_allclose(got, floor_db, rtol=0, atol=1e-5)


def test_level_is_kept_as_a_sum() -> None:
    """Twice the level is 6.02 dB, also where the window was scaled down to keep float32."""
    log_mel = LogMel(MSCLAP_2022, frontend())
    x = noise(6, 1, MSCLAP_2022.window_samples, level=1)
    first = log_mel(x)
    for power in (1, 10, 30, 60):
        wanted = first + 20 * np.log10(2.0**power)
        np.testing.assert_allclose(log_mel(x * np.float32(2.0**power)), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_ends_are_mirrored_or_silent(mode: str) -> None:
    spec = replace(MSCLAP_2022, pad_mode=mode)
    x = noise(7, spec.window_samples)
    (got,) = LogMel(spec, frontend())(x[None])
    padded = np.pad(x, 512, mode="reflect" if mode == "reflect" else "constant")
    inside = replace(spec, pad=0, window_s=(len(x) + 1024) / spec.rate_hz, pad_mode="zero")
    (whole,) = LogMel(inside, frontend())(padded[None])
    assert np.array_equal(got, whole)


def test_company_does_not_matter() -> None:
    log_mel = LogMel(MSCLAP_2022, frontend())
    batch = np.stack(list(sounds(MSCLAP_2022).values()))
    together = log_mel(batch)
    for row, x in zip(together, batch, strict=True):
        assert np.array_equal(row, log_mel(x[None])[0])


@pytest.mark.parametrize("changes", [{"floor_db": 80.0}, {"reference": "peak"}])
def test_a_floor_under_the_peak_needs_a_peak(changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="floor_db"):
        LogMel(replace(MSCLAP_2023, **changes), frontend())
