"""How a clip is played: what differs between players, makers and recordings of one instrument.

In:  a Draw, and the notes.
Out: `synth.Playing`.
Knows nothing about SoundFonts, captions or rooms.

A tower that hears one sample per instrument learns the sample. Tuning, brightness, envelopes,
vibrato and the size of the instrument move here as far as they move between instruments of one
kind, and no farther: a darker, slower, larger oboe is still an oboe.
"""

from __future__ import annotations

from collections.abc import Sequence

from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import (
    ATTACK,
    COARSE_TUNE,
    DECAY,
    DRUM_CHANNEL,
    FILTER_CUTOFF,
    FILTER_Q,
    FINE_TUNE,
    RELEASE,
    Note,
    Playing,
)

# Programs whose players hold a pedal, and those that slide into their notes.
PEDALLED = frozenset({0, 1, 2, 3, 4, 5, 8, 9, 11, 12, 13, 14, 15, 46, 98, 108})
SLIDING = frozenset({
    22, 26, 27, 29, 30, 32, 35, 40, 41, 42, 53, 54, 56, 57, 60, 64, 65, 66, 67, 71, 73, 75, 77,
    78, 80, 81, 84, 85, 104, 105, 106, 107, 110, 111,
})  # fmt: skip
SLIDE_STEPS = 5


def play(draw: Draw, notes: Sequence[Note], program: int | None = None) -> Playing:
    """`program` is that of channel 0 where one instrument plays alone."""
    shifts: dict[int, float] = {FINE_TUNE: draw.uniform(-35, 35)}
    if draw.chance(0.45):
        shifts[FILTER_CUTOFF] = -draw.uniform(300, 3000)
        shifts[FILTER_Q] = draw.uniform(0, 40)
    if draw.chance(0.3):
        shifts[ATTACK] = draw.uniform(-1200, 2600)
    if draw.chance(0.3):
        shifts[DECAY] = draw.uniform(-2000, 1200)
    if draw.chance(0.4):
        shifts[RELEASE] = draw.uniform(-1500, 2400)
    vibrato = draw.integer(20, 100) if draw.chance(0.25) else 0
    stretch = draw.choice((0, 0, 0, -2, -1, 1, 2))
    pedal = program in PEDALLED and draw.chance(0.35)
    swell: tuple[tuple[float, int], ...] = ()
    if draw.chance(0.2):
        first, last = draw.choice(((45, 127), (127, 45), (70, 120), (120, 70)))
        swell = tuple((i * 0.25, first + (last - first) * i // 19) for i in range(20))
    bends: list[tuple[float, int, float]] = []
    if program in SLIDING and draw.chance(0.3):
        depth, over_s = draw.uniform(-2.0, -0.5), draw.uniform(0.04, 0.14)
        for note in notes:
            if note.duration_s > 2 * over_s and draw.chance(0.5):
                for step in range(SLIDE_STEPS + 1):
                    left = depth * (1 - step / SLIDE_STEPS)
                    at = note.start_s + over_s * step / SLIDE_STEPS
                    bends.append((at, note.channel, left))
    return Playing(shifts, stretch, vibrato, pedal, swell, tuple(bends))


def strike(draw: Draw) -> Playing:
    """Percussion: tuned as drums are, damped or ringing, brighter or duller."""
    shifts: dict[int, float] = {COARSE_TUNE: float(draw.integer(-3, 3))}
    shifts[FINE_TUNE] = draw.uniform(-50, 50)
    if draw.chance(0.4):
        shifts[FILTER_CUTOFF] = -draw.uniform(200, 2400)
    if draw.chance(0.35):
        shifts[DECAY] = draw.uniform(-1800, 1200)
        shifts[RELEASE] = draw.uniform(-1200, 1200)
    return Playing(shifts)


def louder(notes: Sequence[Note], by: float) -> list[Note]:
    """The same notes, struck `by` times as hard: other velocity layers, another colour."""
    return [
        Note(n.start_s, n.duration_s, n.channel, n.key, max(18, min(127, round(n.velocity * by))))
        for n in notes
    ]


def octaves(notes: Sequence[Note], up: int) -> list[Note]:
    """The notes of pitched channels doubled `up` semitones away."""
    return [
        *notes,
        *(
            Note(n.start_s, n.duration_s, n.channel, n.key + up, max(18, n.velocity - 12))
            for n in notes
            if n.channel != DRUM_CHANNEL and 12 <= n.key + up <= 115
        ),
    ]
