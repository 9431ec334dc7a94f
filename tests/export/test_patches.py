"""Gravis patches become a SoundFont that plays in tune; damaged ones are refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from clap_export.corpus import patches
from clap_export.corpus.synth import DRUM_CHANNEL, RATE_HZ, Note, Synth

pytestmark = pytest.mark.export


def patch(points: np.ndarray, rate_hz: int, root_hz: float, modes: int) -> bytes:
    """One sample in a patch, as the Gravis tools wrote them."""
    wide = bool(modes & patches.WIDE)
    data = points.astype("<i2" if wide else "i1").tobytes()
    head = b"GF1PATCH110\0ID#000002\0" + b"\0" * 60 + struct.pack("<BBBHHI", 1, 14, 0, 1, 127, 0)
    head = head.ljust(129, b"\0") + b"\0" * 63
    layer = struct.pack("<BBIB", 0, 0, len(data) + 96, 1).ljust(47, b"\0")
    sample = struct.pack(
        "<7sBIIIHIIIHB6B6B6BBHH36s", b"one", 0, len(data), 0, len(data), rate_hz, 20_000,
        12_000_000, round(root_hz * 1000), 0, 7, 63, 63, 63, 50, 63, 63, 246, 246, 246, 0, 0, 0,
        0, 0, 0, 0, 0, 0, modes, 60, 1024, b"",
    )  # fmt: skip
    return head + layer + sample + data


def tone(rate_hz: int, hz: float, periods: int) -> np.ndarray:
    n = round(rate_hz / hz * periods)
    return np.round(20_000 * np.sin(2 * np.pi * hz * np.arange(n) / rate_hz))


def test_a_patch_plays_its_own_pitch_on_every_key(tmp_path: Path) -> None:
    loop = patches.WIDE | patches.LOOPED | patches.SUSTAINED
    (tmp_path / "040_Tone.pat").write_bytes(patch(tone(44_000, 440.0, 20), 44_000, 440.0, loop))
    (tmp_path / "038_Drum.pat").write_bytes(
        patch(tone(32_000, 500.0, 100), 32_000, 261.6, patches.WIDE)
    )
    made = patches.soundfont([tmp_path / "040_Tone.pat"], [tmp_path / "038_Drum.pat"], "Two")
    (tmp_path / "two.sf2").write_bytes(made)
    voice = Synth(tmp_path / "two.sf2")
    assert voice.programs == {40}
    assert voice.kits == (0,)
    hz = np.fft.rfftfreq(2 * RATE_HZ, 1 / RATE_HZ)
    for key in (57, 69, 76):
        wave = voice.render([Note(0.0, 1.9, 0, key, 100)], {0: 40}, 0, 2.0)
        heard = hz[np.abs(np.fft.rfft(wave)).argmax()]
        assert heard == pytest.approx(440 * 2 ** ((key - 69) / 12), rel=0.01)
        assert np.abs(wave[RATE_HZ:]).max() > 0.01  # the loop goes on
    wave = voice.render([Note(0.0, 0.2, DRUM_CHANNEL, 38, 100)], {}, 0, 2.0)
    assert hz[np.abs(np.fft.rfft(wave)).argmax()] == pytest.approx(500, rel=0.01)
    assert np.abs(wave[RATE_HZ:]).max() < 1e-3  # a drum ends with its sample


def test_loops_to_and_fro_are_written_out() -> None:
    ramp = np.arange(-100, 100)
    modes = patches.LOOPED | patches.PINGPONG
    (wave,) = patches.read(patch(ramp, 8_000, 440.0, modes))
    assert wave.loop == (0, 400)
    assert (wave.points[200:400] == wave.points[:200][::-1]).all()
    assert wave.points[0] == -100 * 256


def test_damaged_patches_are_refused() -> None:
    whole = patch(tone(8_000, 100.0, 4), 8_000, 100.0, patches.WIDE)
    with pytest.raises(patches.PatchError, match="cut"):
        patches.read(whole[:-10])
    with pytest.raises(patches.PatchError, match="not a Gravis patch"):
        patches.read(b"RIFF" + whole)
