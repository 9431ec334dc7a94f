"""Notes -> waveform, through FluidSynth and a General MIDI SoundFont.

In:  notes with times in seconds, programs per channel.
Out: waveform float32 [T], mono, at 32 kHz.
Knows nothing about captions or classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATE_HZ = 32_000
CHANNELS = 16
DRUM_CHANNEL = 9
BLOCK = 64  # FluidSynth renders in blocks of so many samples
DRUM_BANK = 128

# SoundFonts whose licences allow training (NOTICE has them); the last is held out for measuring.
TRAINING_FONTS = (
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/sounds/sf3/MuseScore_General.sf3"),
)
HELD_OUT_FONT = Path("/usr/share/sounds/sf2/sf_GMbank.sf2")


@dataclass(frozen=True)
class Note:
    start_s: float
    duration_s: float
    channel: int
    key: int
    velocity: int


class Synth:
    """One SoundFont, loaded once; FluidSynth's own reverb and chorus are off.

    Its dither and some of its state run on from clip to clip: the same notes give the same sound
    (log-mels within a fraction of a dB), not the same bits.
    """

    def __init__(self, soundfont: Path) -> None:
        import fluidsynth

        if not soundfont.is_file():
            raise FileNotFoundError(
                f"{soundfont} is not installed; apt-get install fluid-soundfont-gm "
                "musescore-general-soundfont csound-soundfont"
            )
        settings = {"synth.reverb.active": 0, "synth.chorus.active": 0, "synth.polyphony": 128}
        self._synth = fluidsynth.Synth(0.3, RATE_HZ, CHANNELS, **settings)
        self._font = self._synth.sfload(str(soundfont))
        self.kits = tuple(
            n for n in range(128) if self._synth.sfpreset_name(self._font, DRUM_BANK, n)
        )

    def render(
        self, notes: Sequence[Note], programs: Mapping[int, int], kit: int, seconds: float
    ) -> np.ndarray:
        """float32 [seconds * 32000]; a kit that the font lacks becomes its first one."""
        synth = self._synth
        # A reset alone lets the last clip's notes ring on into this one.
        for channel in range(CHANNELS):
            synth.all_sounds_off(channel)
        synth.get_samples(BLOCK)
        synth.system_reset()
        for channel, program in programs.items():
            synth.program_select(channel, self._font, 0, program)
        kit = kit if kit in self.kits else self.kits[0]
        synth.program_select(DRUM_CHANNEL, self._font, DRUM_BANK, kit)
        events = []
        for note in notes:
            on = int(note.start_s * RATE_HZ)
            off = int((note.start_s + note.duration_s) * RATE_HZ)
            events.append((on, 1, note))
            events.append((off, 0, note))
        events.sort(key=lambda event: (event[0], event[1]))
        total = int(seconds * RATE_HZ)
        blocks, now = [], 0
        for at, is_on, note in events:
            if at >= total:
                break
            if at > now:
                blocks.append(synth.get_samples(at - now))
                now = at
            if is_on:
                synth.noteon(note.channel, note.key, note.velocity)
            else:
                synth.noteoff(note.channel, note.key)
        blocks.append(synth.get_samples(total - now))
        stereo = np.concatenate(blocks).reshape(-1, 2)
        return stereo.mean(axis=1, dtype=np.float32) / np.float32(32768)
