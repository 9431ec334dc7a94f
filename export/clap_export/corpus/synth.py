"""Notes -> waveform, through FluidSynth and a SoundFont.

In:  notes with times in seconds, programs per channel, and how they are played.
Out: waveform float32 [T], mono, at 32 kHz.
Knows nothing about captions or classes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clap_export.corpus import fonts

RATE_HZ = 32_000
CHANNELS = 16
DRUM_CHANNEL = 9
BLOCK = 64  # FluidSynth renders in blocks of so many samples
DRUM_BANK = fonts.DRUM_BANK

# What the tools render with that want only some sounds; the corpus draws from `fonts.TRAINING`.
TRAINING_FONTS = tuple(font.path(fonts.folder()) for font in fonts.PLAIN)
HELD_OUT_FONT = fonts.HELD_OUT.path(fonts.folder())

# Generators of the SoundFont 2.01 specification, chapter 8.1.3, that a player may shift.
FILTER_CUTOFF, FILTER_Q, ATTACK, DECAY, RELEASE, COARSE_TUNE, FINE_TUNE = 8, 9, 34, 36, 38, 51, 52
MODULATION, EXPRESSION, SUSTAIN = 1, 11, 64
BEND_RANGE = 2  # semitones, General MIDI's default
BEND_CENTRE = 8192


@dataclass(frozen=True)
class Note:
    start_s: float
    duration_s: float
    channel: int
    key: int
    velocity: int


@dataclass(frozen=True)
class Playing:
    """How notes are played and how the instrument is made, apart from what is played.

    `shifts` are added to the font's own generators, on all channels: cents for tunings and the
    filter, timecents for the envelope. `stretch` plays the samples of other keys, so many
    semitones lower, at the right pitch: another size of the same instrument.
    """

    shifts: Mapping[int, float] = field(default_factory=dict)
    stretch: int = 0
    vibrato: int = 0  # the modulation wheel, 0-127
    pedal: bool = False
    swell: tuple[tuple[float, int], ...] = ()  # (seconds, expression 0-127)
    bends: tuple[tuple[float, int, float], ...] = ()  # (seconds, channel, semitones)


PLAIN = Playing()


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
                "musescore-general-soundfont csound-soundfont, or clap-export corpus --fonts"
            )
        settings = {"synth.reverb.active": 0, "synth.chorus.active": 0, "synth.polyphony": 128}
        self._synth = fluidsynth.Synth(0.3, RATE_HZ, CHANNELS, **settings)
        self._shift = fluidsynth.cfunc(
            "fluid_synth_set_gen",
            ctypes.c_int,
            ("synth", ctypes.c_void_p, 1),
            ("chan", ctypes.c_int, 1),
            ("param", ctypes.c_int, 1),
            ("value", ctypes.c_float, 1),
        )
        self._font = self._synth.sfload(str(soundfont))
        self.kits = tuple(
            n for n in range(128) if self._synth.sfpreset_name(self._font, DRUM_BANK, n)
        )
        self.programs = frozenset(
            n for n in range(128) if self._synth.sfpreset_name(self._font, 0, n)
        )

    def render(
        self,
        notes: Sequence[Note],
        programs: Mapping[int, int],
        kit: int,
        seconds: float,
        playing: Playing = PLAIN,
    ) -> np.ndarray:
        """float32 [seconds * 32000]; a kit that the font lacks becomes its first one.

        ValueError for a program that it lacks: another one would sound in its place.
        """
        synth = self._synth
        lacking = sorted(set(programs.values()) - self.programs)
        if lacking:
            raise ValueError(f"the SoundFont has no programs {lacking}; ask one that has")
        # A reset alone lets the last clip's notes ring on into this one.
        for channel in range(CHANNELS):
            synth.all_sounds_off(channel)
        synth.get_samples(BLOCK)
        synth.system_reset()
        for channel, program in programs.items():
            synth.program_select(channel, self._font, 0, program)
        kit = kit if kit in self.kits else self.kits[0]
        synth.program_select(DRUM_CHANNEL, self._font, DRUM_BANK, kit)
        self._prepare(programs, playing)
        total = int(seconds * RATE_HZ)
        blocks, now = [], 0
        for at, order, event in _events(notes, playing, tuple(programs)):
            if at >= total:
                break
            if at > now:
                blocks.append(synth.get_samples(at - now))
                now = at
            if isinstance(event, Note):
                drum = event.channel == DRUM_CHANNEL
                key = event.key - (0 if drum else playing.stretch)
                if not 0 <= key < 128:
                    continue
                if order == 2:
                    synth.noteon(event.channel, key, event.velocity)
                else:
                    synth.noteoff(event.channel, key)
            elif order == 0:
                synth.cc(int(event[0]), EXPRESSION, int(event[1]))
            else:
                bend = round(event[1] / BEND_RANGE * BEND_CENTRE)
                synth.pitch_bend(int(event[0]), max(-BEND_CENTRE, min(BEND_CENTRE - 1, bend)))
        blocks.append(synth.get_samples(total - now))
        stereo = np.concatenate(blocks)
        mono = stereo[0::2].astype(np.float32)
        mono += stereo[1::2]
        return np.asarray(mono / np.float32(65536), dtype=np.float32)

    def _prepare(self, programs: Mapping[int, int], playing: Playing) -> None:
        """Controllers and generators; the reset before has put all of them to their defaults."""
        for channel in (*programs, DRUM_CHANNEL):
            shifts = dict(playing.shifts)
            if channel != DRUM_CHANNEL and playing.stretch:
                shifts[COARSE_TUNE] = shifts.get(COARSE_TUNE, 0.0) + playing.stretch
            for generator, value in shifts.items():
                self._shift(self._synth.synth, channel, generator, value)
            if playing.vibrato:
                self._synth.cc(channel, MODULATION, playing.vibrato)
            if playing.pedal and channel != DRUM_CHANNEL:
                self._synth.cc(channel, SUSTAIN, 127)


Event = tuple[int, int, "Note | tuple[int, float]"]


def _events(notes: Sequence[Note], playing: Playing, channels: Sequence[int]) -> list[Event]:
    """(sample, order, event): swells, then ends of notes and bends, then beginnings."""
    events: list[Event] = []
    for note in notes:
        events.append((int(note.start_s * RATE_HZ), 2, note))
        events.append((int((note.start_s + note.duration_s) * RATE_HZ), -1, note))
    for at_s, level in playing.swell:
        events += [(int(at_s * RATE_HZ), 0, (channel, float(level))) for channel in channels]
    for at_s, channel, semitones in playing.bends:
        events.append((int(at_s * RATE_HZ), 1, (channel, semitones)))
    events.sort(key=lambda event: event[:2])
    return events
