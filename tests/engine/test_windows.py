"""Laws of windows: how short clips fill one, and the crop that repeats msclap's arithmetic."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from sounds import encode, noise

from clap_engine import audio
from clap_engine.errors import AudioError
from clap_engine.windows import crop, fill

RATE = 8_000


@dataclass(frozen=True)
class Spec:
    """A front end of one-second windows."""

    padding: str = "repeat"
    rate_hz: int = RATE
    window_s: float = 1.0
    hop_s: float = 1.0


@pytest.mark.parametrize("n", [1, 3, 5, 8, 9, 16])
def test_short_clips_fill_a_window_as_the_model_was_trained(n: int) -> None:
    clip = np.arange(1, n + 1, dtype=np.float32)
    again = np.tile(clip, 16)[:16]
    assert fill(clip, 16, "repeat").tolist() == again.tolist()
    whole = 16 // n * n
    assert fill(clip, 16, "repeat_pad").tolist() == [*again[:whole], *[0] * (16 - whole)]
    assert fill(clip, 16, "zero").tolist() == [*clip, *[0] * (16 - n)]


@pytest.mark.parametrize("padding", ["repeat", "repeat_pad", "zero"])
@pytest.mark.parametrize("n", [1, RATE - 1, RATE, RATE + 1, 3 * RATE + 7])
def test_padding_touches_only_clips_shorter_than_a_window(n: int, padding: str) -> None:
    x = noise(1, n)
    ((rows, spans),) = audio.windows((x, RATE), Spec(padding))
    assert spans[-1, 1] == n / RATE
    if n < RATE:
        assert np.array_equal(rows, fill(x, RATE, padding)[None])
        assert np.array_equal(rows[0, :n], x)
    else:
        assert np.array_equal(rows[-1], x[-RATE:])
        assert np.array_equal(rows[0], x[:RATE])


def test_a_window_owns_its_samples() -> None:
    clip = noise(2, 16)
    for padding in ("repeat", "repeat_pad", "zero"):
        fill(clip, 16, padding)[:] = 0
    crop(clip, 16, 0)[:] = 0
    crop(clip, 8, 1)[:] = 0
    assert np.array_equal(clip, noise(2, 16))


@pytest.mark.parametrize("start", [0, 1, 499])
def test_the_legacy_crop_is_a_slice_of_the_file(start: int) -> None:
    samples = np.round(noise(3, RATE + 500) * 20_000).astype(np.int16)
    wav = encode(samples, RATE, "wav")
    wanted = samples[start : start + RATE].astype(np.float32) / 2**15
    for source in (wav, io.BytesIO(wav), (samples, RATE)):
        got = audio.legacy(source, Spec(), start)
        assert got.shape == (1, RATE)
        assert np.array_equal(got[0], wanted)


@pytest.mark.parametrize("n", [1, RATE - 3, RATE])
def test_the_legacy_crop_repeats_short_files_whatever_the_padding(n: int) -> None:
    x = noise(4, n)
    for padding in ("repeat", "zero"):
        assert np.array_equal(audio.legacy((x, RATE), Spec(padding), 9)[0], np.resize(x, RATE))


@pytest.mark.parametrize("start", [-1, 500, 10**9])
def test_a_crop_outside_the_file_is_refused(start: int) -> None:
    with pytest.raises(AudioError, match="0 to 499"):
        audio.legacy((noise(5, RATE + 500), RATE), Spec(), start)


@pytest.mark.parametrize("source", [(noise(6, 99), RATE + 1), (noise(7, 99, 2), RATE)])
def test_the_legacy_crop_neither_resamples_nor_mixes(source: audio.Source) -> None:
    with pytest.raises(AudioError, match="use windows"):
        audio.legacy(source, Spec())
