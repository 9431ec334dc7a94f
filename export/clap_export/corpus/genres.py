"""Small arrangements: a groove, a bass, a harmony and a lead, as each genre has them.

In:  a Draw and a genre.
Out: notes, programs per channel, the drum kit and the exact attributes.
Knows nothing about SoundFonts or words.

All parts follow one progression of chords, so that a piece has a harmony; `arrangements` has the
scores.
"""

from __future__ import annotations

from dataclasses import dataclass

from clap_export.corpus.arrangements import ARRANGEMENTS
from clap_export.corpus.draw import Draw
from clap_export.corpus.drums import groove_notes
from clap_export.corpus.music import scale_keys
from clap_export.corpus.scores import Arrangement, Part
from clap_export.corpus.synth import Note

QUALITIES: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "D": (0, 4, 7, 10),
    "M": (0, 4, 7, 11),
    "n": (0, 3, 7, 10),
    "p": (0, 7),
    "s": (0, 5, 7),
}
INTERVALS = {"1": 0, "5": 7, "6": 9, "7": 10, "8": 12}
LEVELS = {"bass": 4, "chords": -10, "arpeggio": -6, "lead": 8, "drone": -16}
# Chords that are struck short sound as long as this part of their step; held ones to their end.
STACCATO = 0.7


@dataclass(frozen=True)
class Chord:
    root: int  # pitch class
    steps: tuple[int, ...]

    def keys(self, lo: int, count: int) -> list[int]:
        """The `count` lowest keys of the chord from `lo` on."""
        classes = {(self.root + step) % 12 for step in self.steps}
        return [key for key in range(lo, 128) if key % 12 in classes][:count]


@dataclass(frozen=True)
class Piece:
    """What all parts of one clip have in common."""

    bar_s: float
    beat_s: float
    chords: tuple[Chord, ...]
    per_chord: int
    root: int
    scale: str
    seconds: float

    def chord(self, at_s: float) -> Chord:
        return self.chords[int(at_s / self.beat_s / self.per_chord + 1e-6) % len(self.chords)]


def parse(symbol: str, root: int) -> Chord:
    digits = symbol.rstrip("mDMnps")
    return Chord((root + int(digits)) % 12, QUALITIES[symbol[len(digits) :]])


def strokes(pattern: str, bar_s: float, seconds: float) -> list[tuple[float, float, str]]:
    """(start, duration, letter) of every stroke of the repeated pattern."""
    step_s = bar_s / len(pattern)
    bars = int(seconds / bar_s) + 1
    letters = pattern * bars
    found: list[tuple[float, float, str]] = []
    for i, letter in enumerate(letters):
        if letter == "-" and found:
            at, duration, was = found[-1]
            if abs(at + duration - i * step_s) < step_s / 2:
                found[-1] = (at, (i + 1) * step_s - at, was)
        elif letter not in ".-" and i * step_s < seconds:
            found.append((i * step_s, step_s, letter))
    return found


def part_notes(draw: Draw, part: Part, piece: Piece, channel: int) -> list[Note]:
    level = draw.integer(74, 98) + LEVELS[part.role]
    late = draw.uniform(0.0, 0.012)
    pattern = draw.choice(part.patterns)
    second = draw.choice(part.patterns) if draw.chance(0.3) else pattern
    if len(second) != len(pattern):
        second = pattern
    scale = scale_keys(part.lo, part.hi, piece.root, piece.scale)
    place = draw.integer(len(scale) // 3, 2 * len(scale) // 3)
    notes: list[Note] = []

    def play(at: float, duration: float, key: int, accent: int = 0) -> None:
        at = max(0.0, at + draw.rng.normal() * 0.004 + late)
        velocity = max(22, min(127, level + accent + draw.integer(-8, 8)))
        notes.append(Note(at, duration, channel, max(0, min(127, key)), velocity))

    for at, duration, letter in strokes(pattern + second, 2 * piece.bar_s, piece.seconds):
        chord = piece.chord(at)
        length = duration * (0.95 if duration > piece.beat_s / 3 else STACCATO)
        if part.role == "bass":
            root = part.lo + (chord.root - part.lo) % 12
            if letter == "a":
                following = piece.chord(at + duration).root
                key = part.lo + (following - part.lo) % 12 - 1
            elif letter == "3":
                key = root + (chord.steps[1] if chord.steps[1] in (3, 4) else 7)
            else:
                key = root + INTERVALS[letter]
            play(at, length, key)
        elif part.role == "chords":
            if letter == "b":
                play(at, length, part.lo - 12 + (chord.root - part.lo) % 12, 6)
                continue
            accent = {"X": 14, "o": -28}.get(letter, 0)
            for key in chord.keys(part.lo, max(3, len(chord.steps))):
                play(at, length, key, accent)
        elif part.role == "arpeggio":
            keys = chord.keys(part.lo, 6)
            play(at, length, keys[int(letter) - 1])
        elif part.role == "drone":
            for key in (part.lo + (piece.root - part.lo) % 12,):
                play(at, length, key)
                play(at, length, key + 7)
        else:
            place += draw.choice((-2, -1, -1, 1, 1, 2, -3, 3, 0))
            place = max(0, min(len(scale) - 1, place))
            key = scale[place]
            if abs(at / piece.beat_s - round(at / piece.beat_s)) < 0.05 and draw.chance(0.7):
                # On the beat a tune mostly has a note of the chord.
                inside = [k for k in scale if (k - chord.root) % 12 in chord.steps]
                key = min(inside, key=lambda k: abs(k - key)) if inside else key
                place = scale.index(key)
            play(at, length, key, 6)
    return notes


def compose(draw: Draw, arrangement: Arrangement, seconds: float) -> tuple[Piece, str, float]:
    """What the parts share, the progression, and the beats a minute."""
    bpm = draw.uniform(*arrangement.bpm)
    root = draw.integer(0, 11)
    progression = draw.choice(arrangement.progressions)
    symbols = progression.split()
    minor = any(symbol in ("0m", "0n") for symbol in symbols)
    scale = arrangement.scales[-1] if minor else arrangement.scales[0]
    piece = Piece(
        bar_s=arrangement.beats * 60 / bpm,
        beat_s=60 / bpm,
        chords=tuple(parse(symbol, root) for symbol in symbols),
        per_chord=arrangement.per_chord,
        root=root,
        scale=scale,
        seconds=seconds,
    )
    return piece, progression, bpm


def mode_of(arrangement: Arrangement, progression: str) -> str | None:
    """The mode, where the chords of the arrangement are struck plainly enough to tell it."""
    symbols = progression.split()
    if not arrangement.shows_mode or "0p" in symbols or "0s" in symbols:
        return None
    return "minor" if {"0m", "0n"} & set(symbols) else "major"


def arrange(
    draw: Draw, name: str, seconds: float
) -> tuple[list[Note], dict[int, int], int, dict[str, str]]:
    """Notes, programs by channel, kit and attributes of one genre."""
    arrangement = ARRANGEMENTS[name]
    piece, progression, bpm = compose(draw, arrangement, seconds)
    notes: list[Note] = []
    programs: dict[int, int] = {}
    for channel, part in enumerate(arrangement.parts):
        # The first two parts make the genre; of the others some may be missing.
        if channel >= 2 and not draw.chance(part.chance):
            continue
        programs[channel] = draw.choice(part.programs)
        notes += part_notes(draw, part, piece, channel)
    kit = draw.choice(arrangement.kits)
    if arrangement.grooves and draw.chance(0.92):
        notes += groove_notes(draw, draw.choice(arrangement.grooves), bpm, seconds)
    mode = mode_of(arrangement, progression)
    return notes, programs, kit, {} if mode is None else {"mode": mode}
