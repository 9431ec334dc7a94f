"""Laws of the log-mel: float64 agreement, range, silence, independence of scale and company."""

from __future__ import annotations

import io

import numpy as np
import pytest
from sounds import noise, tone

from clap_engine.errors import ArrayError, IntegrityError, ManifestError
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel

N = 160_000
SPEC = AudioSpec(
    rate_hz=32_000,
    window_s=5.0,
    hop_s=5.0,
    n_fft=2048,
    hop=1250,
    pad=399,
    n_mels=64,
    n_frames=128,
    floor_db=80.0,
    padding="repeat",
    frontend="frontend.npz",
    graphs={},
    frame_s=None,
)


def filters() -> np.ndarray:
    """64 triangles at equal distances from 40 Hz to 14 kHz, [1025, 64]."""
    edges = np.linspace(40, 14_000, 66)
    hz = np.arange(1025)[:, None] * (32_000 / 2048)
    step = edges[1] - edges[0]
    return np.maximum(0, 1 - np.abs(hz - edges[1:-1]) / step).astype(np.float32) / np.float32(step)


def frontend(**arrays: np.ndarray) -> bytes:
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)).astype(np.float32)
    out = io.BytesIO()
    np.savez(out, **{"window": window, "mel": filters(), **arrays})
    return out.getvalue()


def reference(window: np.ndarray) -> np.ndarray:
    """The definition, frame by frame in float64: [T] -> [F, M]."""
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)).astype(np.float32)
    padded = np.pad(window.astype(np.float64), 399)
    power = np.stack(
        [
            np.abs(np.fft.rfft(padded[f * 1250 : f * 1250 + 2048] * hann)) ** 2 @ filters()
            for f in range(128)
        ]
    )
    peak = power.max()
    if peak <= 1e-10:
        return np.full_like(power, -80.0)
    return 10 * np.log10(np.maximum(power, peak * 1e-8)) - 10 * np.log10(peak)


def sounds() -> dict[str, np.ndarray]:
    t = np.arange(N) / 32_000
    impulse = np.zeros(N)
    impulse[80_000] = 1
    kinds = {
        "noise": noise(1, N),
        "faint noise": noise(2, N, level=1e-4),
        "tone 50 Hz": tone(50, 32_000, N),
        "tone on a bin": tone(1000, 32_000, N),
        "tone between bins": tone(1007.8125, 32_000, N),
        "tone 12345 Hz": tone(12_345, 32_000, N),
        "sweep": np.sin(2 * np.pi * 1500 * t * t),
        "impulse": impulse,
        "DC": np.full(N, 0.5),
        "DC and a faint tone": 1 + tone(440, 32_000, N, level=1e-3),
        "silence": np.zeros(N),
        "too faint to be heard": noise(3, N, level=1e-9),
    }
    return {name: np.asarray(x, np.float32) for name, x in kinds.items()}


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel(SPEC, frontend())


@pytest.mark.parametrize("name", sounds())
def test_it_agrees_with_the_definition_in_float64(name: str, log_mel: LogMel) -> None:
    x = sounds()[name]
    (got,) = log_mel(x[None])
    assert np.abs(got - reference(x)).max() <= 1e-3


@pytest.mark.parametrize("name", sounds())
def test_it_lies_between_the_floor_and_its_peak(name: str, log_mel: LogMel) -> None:
    (got,) = log_mel(sounds()[name][None])
    assert got.dtype == np.float32
    assert got.shape == (128, 64)
    assert got.min() >= -80
    assert got.max() == (-80 if name in ("silence", "too faint to be heard") else 0)


def test_a_tone_is_loudest_in_its_band(log_mel: LogMel) -> None:
    (got,) = log_mel(tone(5000, 32_000, N)[None])
    centre = np.linspace(40, 14_000, 66)[1:-1][int(got[64].argmax())]
    assert abs(centre - 5000) <= (14_000 - 40) / 65


def test_company_does_not_matter(log_mel: LogMel) -> None:
    batch = np.stack(list(sounds().values()))
    together = log_mel(batch)
    for row, x in zip(together, batch, strict=True):
        assert np.array_equal(row, log_mel(x[None])[0])


@pytest.mark.parametrize("power", [-6, 15, 40, 60])
def test_a_power_of_two_in_level_changes_nothing(power: int, log_mel: LogMel) -> None:
    x = noise(4, 1, N)
    assert np.array_equal(log_mel(x), log_mel(x * np.float32(2.0**power)))


def test_no_windows_give_no_log_mels(log_mel: LogMel) -> None:
    assert log_mel(np.zeros((0, N), np.float32)).shape == (0, 128, 64)


def test_the_callers_array_is_not_written(log_mel: LogMel) -> None:
    x = noise(5, 2, N)
    before = x.copy()
    x.flags.writeable = False
    log_mel(x)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("bad", [np.zeros(N), np.zeros((1, N - 1)), np.full((1, N), np.nan)])
def test_other_shapes_and_nan_are_refused(bad: np.ndarray, log_mel: LogMel) -> None:
    with pytest.raises(ArrayError):
        log_mel(bad)


@pytest.mark.parametrize(
    "arrays",
    [
        {"window": np.ones(1024, np.float32)},
        {"mel": np.ones((1024, 64), np.float32)},
        {"mel": np.zeros((1025, 64), np.float32)},
        {"mel": -np.ones((1025, 64), np.float32)},
    ],
)
def test_filters_that_do_not_fit_the_manifest_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ManifestError):
        LogMel(SPEC, frontend(**arrays))


def test_frames_that_do_not_fit_the_window_are_refused() -> None:
    fields = {name: getattr(SPEC, name) for name in SPEC.__dataclass_fields__}
    with pytest.raises(ManifestError):
        LogMel(AudioSpec(**{**fields, "n_frames": 127}), frontend())


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "pickle", "flipped"])
def test_a_damaged_front_end_is_refused(kind: str) -> None:
    data = bytearray(frontend())
    if kind == "pickle":
        data = bytearray(frontend(window=np.array([{"a": 1}], dtype=object)))
    elif kind == "flipped":
        data[len(data) // 3] ^= 0x10
    damaged = {"empty": b"", "text": b"no archive", "cut": bytes(data[:1000])}.get(
        kind, bytes(data)
    )
    with pytest.raises(IntegrityError):
        LogMel(SPEC, damaged)
