"""The runtime's front ends equal those of the source models: torchlibrosa, transformers."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from msclap_oracle import modules
from sounds import noise, tone

from clap_engine import audio
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel

# librosa's dependencies call what their own dependencies deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

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
    MSCLAP_2023, rate_hz=48_000, window_s=10.0, hop_s=10.0, hop=480, n_frames=1001
)
TOLERANCE_DB = 1e-3
# Far under a tone both are off by what float32 sums of a whole frame are (torch by 1.6e-3 at 77 dB,
# measured); on noise the two agree to 3e-5 dB.
TONES_DB = 5e-3
DEPTH_DB = 70


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **{name: np.asarray(array, np.float32) for name, array in arrays.items()})
    return out.getvalue()


def sounds(n: int, rate_hz: int) -> dict[str, Any]:
    t = np.arange(n) / rate_hz
    sweep = 0.5 * np.sin(2 * np.pi * 800 * t * t)
    return {
        "noise": noise(1, n),
        "faint noise": noise(2, n, level=1e-3),
        "loud noise": noise(3, n, level=1),
        "fading noise": noise(4, n) * np.exp(-t / 2).astype(np.float32),
        "tone in noise": tone(1000, rate_hz, n) + noise(5, n, level=1e-3),
        "sweep in noise": (sweep + noise(6, n, level=1e-3)).astype(np.float32),
        "tone alone": tone(440, rate_hz, n),
        "silence": np.zeros(n, np.float32),
    }


NAMES = list(sounds(16, 16))


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance_db: float = TOLERANCE_DB) -> None:
    """Equal where a band is within DEPTH_DB of the window's loudest; under that both are."""
    assert ours.shape == theirs.shape
    least = theirs.max() - DEPTH_DB
    assert np.abs(ours - theirs)[theirs > least].max() <= tolerance_db
    assert (ours[theirs <= least] <= least + tolerance_db).all()


def tolerance(name: str) -> float:
    return TONES_DB if "tone" in name or "sweep" in name else TOLERANCE_DB


class Librosa:
    """torchlibrosa's extractors with the arguments that msclap's code gives them."""

    def __init__(self, rate_hz: int) -> None:
        from torchlibrosa.stft import LogmelFilterBank, Spectrogram

        self.spectrogram = Spectrogram(
            n_fft=1024,
            hop_length=320,
            win_length=1024,
            window="hann",
            center=True,
            pad_mode="reflect",
            freeze_parameters=True,
        )
        self.log_mel = LogmelFilterBank(
            sr=rate_hz,
            n_fft=1024,
            n_mels=64,
            fmin=50,
            fmax=14_000,
            ref=1.0,
            amin=1e-10,
            top_db=None,
            freeze_parameters=True,
        )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(self.log_mel(self.spectrogram(torch.from_numpy(x[None])))[0, 0])

    def frontend(self) -> bytes:
        """As a checkpoint holds it: row 0 of the real kernels is the window."""
        window = self.spectrogram.stft.conv_real.weight[0, 0]
        return npz(window=window, mel=self.log_mel.melW)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("spec", "mel_rate_hz"), [(MSCLAP_2023, 32_000), (MSCLAP_2022, 44_100)], ids=["2023", "2022"]
)
def test_msclap(name: str, spec: AudioSpec, mel_rate_hz: int) -> None:
    """2023 builds its filters for 32 kHz and hears 44.1 kHz with them: the file decides."""
    theirs = Librosa(mel_rate_hz)
    x = np.asarray(sounds(spec.window_samples, spec.rate_hz)[name], np.float32)
    (ours,) = LogMel(spec, theirs.frontend())(x[None])
    assert ours.shape == (spec.n_frames, 64)
    assert_close(ours, theirs(x), tolerance(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("filters", ["mel_filters", "mel_filters_slaney"], ids=["htk", "slaney"])
def test_transformers(name: str, filters: str) -> None:
    from transformers import ClapFeatureExtractor

    extractor = ClapFeatureExtractor()
    mel = getattr(extractor, filters)
    window = np.hanning(1025)[:-1]
    x = np.asarray(sounds(480_000, 48_000)[name], np.float32)
    (ours,) = LogMel(TRANSFORMERS, npz(window=window, mel=mel))(x[None])
    assert_close(ours, extractor._np_extract_fbank_features(x, mel), tolerance(name))


def test_a_short_clip_is_filled_as_transformers_does(tmp_path: Any) -> None:
    """`repeat_pad`, from the clip to the log-mel that reaches the tower."""
    from transformers import ClapFeatureExtractor

    spec = replace(TRANSFORMERS, padding="repeat_pad")
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    frontend = npz(window=np.hanning(1025)[:-1], mel=extractor.mel_filters_slaney)
    for n in (7, 48_000, 200_001, 240_000, 479_999, 480_000):
        clip = noise(n, n)
        ((windows, spans),) = audio.windows((clip, 48_000), spec)
        assert spans.tolist() == [[0, n / 48_000]]
        ours = LogMel(spec, frontend)(windows)
        theirs = extractor(clip, sampling_rate=48_000, return_tensors="np")["input_features"][0]
        assert_close(ours, np.asarray(theirs))


@pytest.mark.parametrize(("n", "start"), [(5, 0), (220_500, 0), (220_501, 0), (300_000, 77_777)])
def test_the_legacy_crop_is_what_msclap_cuts(n: int, start: int) -> None:
    x = noise(8, n)
    wrapper = modules().wrapper
    mono = SimpleNamespace(read_audio=lambda path, resample: (torch.from_numpy(x)[None], 44_100))
    with mock.patch("random.randrange", return_value=start):
        theirs = wrapper.load_audio_into_tensor(mono, "mono.wav", 5, True)
    ours = audio.legacy((x, 44_100), MSCLAP_2022, start)
    assert np.array_equal(ours[0], theirs.numpy())


def test_the_comparison_can_fail() -> None:
    theirs = Librosa(32_000)
    x = noise(9, MSCLAP_2022.window_samples)
    other = LogMel(replace(MSCLAP_2022, pad_mode="zero"), theirs.frontend())
    with pytest.raises(AssertionError):
        assert_close(other(x[None])[0], theirs(x))
