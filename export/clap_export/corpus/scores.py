"""What a score of a small arrangement is made of: parts, patterns, and progressions of chords.

In:  nothing.
Out: `Part`, `Arrangement`, short ways to write them, and patterns that several genres share.
Knows nothing about drawing, rendering or words.

A pattern is one bar, cut evenly into as many steps as it has letters. "." rests and "-" holds the
note before. Bass parts name intervals over the chord's root (1 3 5 6 7 8, "a" the key under the
next root); arpeggios number the chord's keys upwards (1 to 6); the others strike "x", "X" loud or
"o" soft, and "b" is the chord's root alone, below.
Chords are semitones over the tonic and a quality: none major, m minor, D dominant seventh, M major
seventh, n minor seventh, p fifths, s suspended.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One voice; `chance` is how often the arrangement has it at all."""

    role: str  # bass, chords, arpeggio, lead or drone
    programs: tuple[int, ...]
    lo: int
    hi: int
    patterns: tuple[str, ...]
    chance: float = 1.0


@dataclass(frozen=True)
class Arrangement:
    bpm: tuple[float, float]
    progressions: tuple[str, ...]
    scales: tuple[str, ...]  # of the lead: the first for major progressions, the last for minor
    parts: tuple[Part, ...]
    grooves: tuple[str, ...] = ()
    kits: tuple[int, ...] = (0,)
    beats: int = 4  # in a bar
    per_chord: int = 4  # beats that a chord lasts
    shows_mode: bool = False  # whether its chords alone tell major from minor


def bass(*patterns: str, of: tuple[int, ...], lo: int = 28) -> Part:
    return Part("bass", of, lo, lo + 20, patterns)


def comp(*patterns: str, of: tuple[int, ...], lo: int = 52, chance: float = 1.0) -> Part:
    return Part("chords", of, lo, lo + 22, patterns, chance)


def arp(*patterns: str, of: tuple[int, ...], lo: int = 60, chance: float = 1.0) -> Part:
    return Part("arpeggio", of, lo, lo + 24, patterns, chance)


def lead(*patterns: str, of: tuple[int, ...], lo: int = 62, chance: float = 0.8) -> Part:
    return Part("lead", of, lo, lo + 24, patterns, chance)


def drone(*of: int, lo: int = 48) -> Part:
    return Part("drone", of, lo, lo + 12, ("x---------------",))


HELD = "x---------------"
SWUNG = ("x--x-xx--x-x", "x-----x--x-x", "...x-xx-x...", "x-xx-xx-xx-x", "......x-xx-x")
TUNES = ("x---x-x-x---x-x-", "x-x-x---x-x-x---", "..x-x-x-x---..x-", "x-----x-x---x---",
         "x-x-x-x-x-x-x---")  # fmt: skip
FAST = ("x-x-xxx-x-x-xxx-", "xxxxx-x-xxxxx-x-", "x-xxx-xxx-xxx-x-", "xxxxxxxxxxxxxxxx")
SLOW = ("x-------x-------", "x-----------x---", "x---x-------x---", HELD)
BLUES = ("0D 0D 5D 0D", "0D 5D 0D 0D", "0D 0D 7D 5D", "5D 5D 0D 0D", "7D 5D 0D 7D")
POP = ("0 7 9m 5", "0 5 7 5", "9m 5 0 7", "0 9m 5 7")
SIMPLE = ("0 0 7D 0", "0 5 7D 0", "0 7D 0 7D", "0 5 0 7D")
SAD = ("0m 5m 7D 0m", "0m 7D 0m 7D", "0m 5m 0m 7D")
DARK = ("0m 8 10 0m", "0m 8 3 10", "0m 10 8 10", "0m 5m 8 10", "0m 3 10 8")
