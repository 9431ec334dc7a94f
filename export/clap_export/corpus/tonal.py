"""Phrases that show their key: triads, cadences, and tunes that circle around a tonic triad.

In:  a Draw, a range of keys, a tonic, major or minor, and the rhythm.
Out: notes; whoever hears them can tell the mode, because the third of the tonic is always there.
Knows nothing about instruments or captions.
"""

from __future__ import annotations

from collections.abc import Sequence

from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import Note

MODES = ("major", "minor")
STEPS = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
TRIADS = {"major": (0, 4, 7), "minor": (0, 3, 7)}
# Chords as (semitones above the tonic, is it of the mode's own kind): the tonic comes first,
# last and most often. VI and VII of minor and vi of major are left out: they are the other mode.
CADENCES: dict[str, tuple[tuple[tuple[int, str], ...], ...]] = {
    "major": (
        ((0, "major"), (5, "major"), (7, "major"), (0, "major")),
        ((0, "major"), (7, "major"), (0, "major")),
        ((0, "major"), (0, "major"), (5, "major"), (0, "major")),
        ((0, "major"), (5, "major"), (0, "major"), (7, "major"), (0, "major")),
        ((0, "major"),),
        ((0, "major"),),
    ),
    "minor": (
        ((0, "minor"), (5, "minor"), (7, "minor"), (0, "minor")),
        ((0, "minor"), (7, "major"), (0, "minor")),
        ((0, "minor"), (0, "minor"), (5, "minor"), (0, "minor")),
        ((0, "minor"), (5, "minor"), (0, "minor"), (7, "minor"), (0, "minor")),
        ((0, "minor"),),
        ((0, "minor"),),
    ),
}
# Tunes by degrees of the scale, the tonic being 0: each has the third (2) near its beginning.
MOTIFS: tuple[tuple[int, ...], ...] = (
    (0, 2, 4, 2),
    (4, 2, 0, 2, 4, 4),
    (0, 1, 2, 4, 2, 0),
    (4, 3, 2, 1, 0),
    (2, 4, 2, 0),
    (0, 2, 4, 7, 4, 2),
    (7, 4, 2, 0),
    (2, 1, 0, 1, 2, 2, 2),
    (0, 0, 2, 2, 4, 4, 2),
    (4, 5, 4, 2, 0),
    (0, 4, 2, 1, 0),
    (2, 3, 4, 2, 0, -1, 0),
    (0, -3, 0, 2, 1, 0),
)
ARPEGGIOS: tuple[tuple[int, ...], ...] = (
    (0, 1, 2, 3, 2, 1),
    (0, 1, 2),
    (2, 1, 0),
    (0, 2, 1, 2),
    (0, 1, 2, 3),
    (3, 2, 1, 0),
    (0, 2, 1, 3),
)


def tonic_in(lo: int, hi: int, root: int) -> int:
    """The lowest key of pitch class `root` at or above `lo`; under `hi` wherever it can be."""
    return lo + (root - lo) % 12


def degree_key(tonic: int, degree: int, mode: str) -> int:
    octave, step = divmod(degree, 7)
    return tonic + 12 * octave + STEPS[mode][step]


def chord_keys(lo: int, hi: int, root: int, kind: str, count: int = 3) -> list[int]:
    """`count` neighbouring keys of a triad, the lowest as near above `lo` as there is one."""
    classes = {(root + step) % 12 for step in TRIADS[kind]}
    keys = [
        key for key in range(lo, max(hi, lo + 12 * (count // 3 + 1)) + 1) if key % 12 in classes
    ]
    return keys[:count]


def fill(onsets: Sequence[float], seconds: float, period: float) -> list[float]:
    """The onsets of one period repeated until `seconds`."""
    times: list[float] = []
    at = 0.0
    while at < seconds:
        times += [at + onset for onset in onsets if at + onset < seconds]
        at += period
    return times


def tonal_notes(
    draw: Draw,
    texture: str,
    lo: int,
    hi: int,
    times: Sequence[float],
    durations: Sequence[float],
    channel: int,
    mode: str,
    root: int,
) -> list[Note]:
    """One texture of chords, arpeggio, melody or scale over the onsets `times`."""
    velocity = draw.integer(52, 116)
    notes: list[Note] = []

    def play(i: int, *keys: int) -> None:
        for key in keys:
            level = max(25, min(127, velocity + draw.integer(-7, 7)))
            notes.append(Note(times[i], durations[i], channel, int(key), level))

    if texture == "scale":
        tonic = tonic_in(lo, hi, root)
        top = draw.choice((7, 7, 14)) if tonic + 24 <= hi + 7 else 7
        order = [*range(top + 1), *range(top - 1, 0, -1)]
        if draw.chance(0.35):
            order = [*range(top, -1, -1), *range(1, top)]
        for i in range(len(times)):
            play(i, degree_key(tonic, order[i % len(order)], mode))
        return notes
    if texture == "melody":
        tonic = tonic_in(lo, hi, root)
        degrees: list[int] = []
        first = draw.choice(MOTIFS)
        while len(degrees) < len(times):
            degrees += first if draw.chance(0.5) else draw.choice(MOTIFS)
        if len(times):
            degrees[len(times) - 1] = 0
        for i in range(len(times)):
            play(i, degree_key(tonic, degrees[i], mode))
        return notes
    cadence = draw.choice(CADENCES[mode])
    if texture == "chords":
        bass = draw.chance(0.35)
        count = draw.choice((3, 3, 3, 4))
        each = max(1, len(times) // max(4, len(cadence) * 2)) if len(cadence) > 1 else 1
        for i in range(len(times)):
            step, kind = cadence[(i // each) % len(cadence)]
            if i == len(times) - 1:
                step, kind = cadence[-1]
            keys = chord_keys(lo, hi, root + step, kind, count)
            if bass:
                keys = [tonic_in(max(lo - 12, 24), hi, root + step), *keys]
            play(i, *keys)
        return notes
    shape = draw.choice(ARPEGGIOS)
    times_per_chord = len(shape) * draw.choice((1, 2))
    for i in range(len(times)):
        step, kind = cadence[(i // times_per_chord) % len(cadence)]
        keys = chord_keys(lo, hi, root + step, kind, 4)
        play(i, keys[shape[i % len(shape)] % len(keys)])
    return notes
