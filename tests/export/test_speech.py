"""Laws of the speech: every manner sounds, seeds decide, whispers have no pitch."""

from __future__ import annotations

import numpy as np
import pytest

from clap_export.corpus import speech, voices
from clap_export.corpus.classes import SPEECH
from clap_export.corpus.draw import Draw
from clap_export.corpus.dsp import RATE_HZ, fast_length

pytestmark = pytest.mark.export


def _draw(seed: int, held_out: bool = False) -> Draw:
    return Draw(np.random.default_rng(seed), held_out)


@pytest.mark.parametrize("name", SPEECH)
@pytest.mark.parametrize("held_out", [False, True], ids=["training", "held_out"])
def test_every_manner_sounds_for_at_most_five_seconds(name: str, held_out: bool) -> None:
    x = speech.speak(_draw(1, held_out), name)
    assert 1.0 * RATE_HZ <= len(x) <= 5 * RATE_HZ
    assert np.isfinite(x).all()
    assert np.sqrt(np.mean(x * x)) > 1e-3
    np.testing.assert_array_equal(x, speech.speak(_draw(1, held_out), name))


def test_the_gallery_has_voices_and_languages_of_its_own() -> None:
    assert not set(voices.MEN) & set(voices.MEN_HELD_OUT)
    assert not set(voices.WOMEN) & set(voices.WOMEN_HELD_OUT)
    assert not set(voices.LANGUAGES) & set(voices.LANGUAGES_HELD_OUT)
    assert not set(voices.FLITE["any"]) & set(voices.FLITE_HELD_OUT["any"])
    for language in (*voices.LANGUAGES, *voices.LANGUAGES_HELD_OUT):
        assert voices.SENTENCES[language]


def _periodicity(x: np.ndarray) -> float:
    """Median over loud frames of 60 ms: autocorrelation at the best period of 80 to 400 Hz."""
    size = 1920
    frames = x[: len(x) // size * size].reshape(-1, size)
    frames = frames[np.sqrt(np.mean(frames**2, axis=1)) > 0.5 * np.sqrt(np.mean(x * x))]
    m = fast_length(2 * size)
    power = np.abs(np.fft.rfft(frames - frames.mean(axis=1, keepdims=True), m, axis=1)) ** 2
    lags = np.fft.irfft(power, m, axis=1)
    best = lags[:, RATE_HZ // 400 : RATE_HZ // 80].max(axis=1) / lags[:, 0]
    return float(np.median(best))


def test_a_whisper_keeps_the_words_and_loses_the_pitch() -> None:
    """Loudness goes on following the voice (r over .7); periodicity falls to under half."""
    x = voices.say("the library opens in the morning", "en+m3", 140, 40)
    y = speech.whispered(_draw(3), x)
    assert len(y) == len(x)
    assert _periodicity(y) < 0.5 * _periodicity(x)
    hop = RATE_HZ // 20
    n = len(x) // hop * hop
    loud = [np.sqrt((s[:n].reshape(-1, hop) ** 2).mean(axis=1)) for s in (x, y)]
    assert np.corrcoef(np.log(loud[0] + 1e-3), np.log(loud[1] + 1e-3))[0, 1] > 0.7


def test_a_vocoder_speaks_on_one_note() -> None:
    """Two voices of different pitch come out with one and the same, the machine's."""
    tones = []
    for pitch in (10, 90):
        x = voices.say("the library opens in the morning", "en+m3", 140, pitch)
        y = speech.vocoded(_draw(5), x)
        spectrum = np.abs(np.fft.rfft(y, fast_length(len(y))))
        hz = np.fft.rfftfreq(fast_length(len(y)), 1 / RATE_HZ)
        low = (hz > 50) & (hz < 700)
        tones.append(float(hz[low][np.argmax(spectrum[low])]))
    ratio = max(tones) / min(tones)
    assert abs(ratio - round(2 * ratio) / 2) < 0.02  # the same tone, or another harmonic of it
