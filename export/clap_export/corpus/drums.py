"""Percussion: single pieces, rolls and grooves on the General MIDI drum map.

In:  a Draw and a class id.
Out: notes on the drum channel, the kit, and the exact attributes that captions may claim.
Knows nothing about SoundFonts or words.

Key numbers are those of the General MIDI percussion map.
"""

from __future__ import annotations

from clap_export.corpus.draw import Draw
from clap_export.corpus.grooves import (
    FILLED,
    FILLS,
    GROOVE_BPM,
    GROOVE_KITS,
    GROOVES,
    TOMS,
    C,
    H,
)
from clap_export.corpus.synth import DRUM_CHANNEL, Note

PIECES: dict[str, tuple[int, ...]] = {
    "kick_drum": (35, 36),
    "snare_drum": (38, 40),
    "side_stick": (37,),
    "hi_hat": (42, 44),
    "open_hi_hat": (46,),
    "crash_cymbal": (49, 57),
    "ride_cymbal": (51, 53, 59),
    "hand_clap": (39,),
    "cowbell": (56,),
    "tambourine": (54,),
    "bongos_and_congas": (60, 61, 62, 63, 64),
    "shaker": (69, 70, 82),
    "triangle": (80, 81),
    "claves": (75,),
    "guiro": (73, 74),
    "timbales": (65, 66),
    "vibraslap": (58,),
    "cuica": (78, 79),
}
# Pieces that ring or rattle for a second: not struck again before they are heard.
SLOW_PIECES = frozenset({"crash_cymbal", "vibraslap", "guiro", "open_hi_hat"})


def hit(at: float, key: int, velocity: int) -> Note:
    return Note(at, 0.2, DRUM_CHANNEL, key, max(20, min(127, velocity)))


def groove_notes(draw: Draw, name: str, bpm: float, seconds: float) -> list[Note]:
    """A groove of `name` from its first beat on: two bars in turn, fills where the style has
    them, sixteenths a little swung, and small human deviations."""
    bars = [draw.choice(GROOVES[name])]
    bars.append(draw.choice(GROOVES[name]) if draw.chance(0.25) else bars[0])
    steps = len(next(iter(bars[0].values())))
    triple = name == "waltz_beat"
    # Twelve steps: three beats of four in a waltz, four beats of triplets in a shuffle.
    step_s = 60 / bpm / (4 if steps == 16 or triple else 3)
    level = draw.integer(78, 114)
    jitter = draw.uniform(0.0, 0.008)
    swing = draw.choice((0.0, 0.0, 0.0, 0.12, 0.24)) if steps == 16 else 0.0
    fills = name in FILLED and draw.chance(0.35)
    filled = draw.integer(1, 3)
    fill = draw.choice(FILLS)
    without = draw.choice((0, 0, 0, H)) if name in FILLED else 0
    first = draw.integer(0, steps - 1) if draw.chance(0.2) else 0  # cut in anywhere
    notes = []
    index = 0
    while index * step_s < seconds:
        step = first + index
        number, place = divmod(step, steps)
        bar = bars[number % 2]
        ending = fills and number % 4 == filled and place >= steps // 2
        at_s = (index + (swing if step % 2 else 0.0)) * step_s
        for key, pattern in (fill if ending else bar).items():
            mark = pattern[place]
            if mark == "." or key == without or draw.chance(0.02):
                continue
            at = max(0.0, at_s + draw.rng.normal() * jitter)
            soft = 38 if mark == "o" else 0
            accent = 8 if step % 4 == 0 else 0
            notes.append(hit(at, key, level + accent - soft + draw.integer(-8, 8)))
        if fills and place == 0 and number and (number - 1) % 4 == filled:
            notes.append(hit(at_s, C, level + 6))
        index += 1
    return notes


def percussion(draw: Draw, name: str, seconds: float) -> tuple[list[Note], int, dict[str, str]]:
    """Notes, kit and attributes of one drum class."""
    if name in GROOVES:
        lo, hi = GROOVE_BPM[name]
        notes = groove_notes(draw, name, draw.uniform(lo, hi), seconds)
        return notes, draw.choice(GROOVE_KITS.get(name, (0, 8, 16))), {}
    kit = draw.choice((0, 0, 8, 16, 24, 25, 40))
    level = draw.integer(70, 122)
    if name == "snare_roll":
        rate = draw.uniform(14, 24)
        count = int(seconds * draw.uniform(0.5, 1.0) * rate)
        crescendo = draw.chance(0.5)
        notes = [
            hit(i / rate, 38, int(level * ((0.4 + 0.6 * i / count) if crescendo else 0.8)))
            for i in range(count)
        ]
        return notes, draw.choice((0, 8, 48)), {}
    if name == "tom_fill":
        rate = draw.uniform(5, 12)
        per = draw.integer(2, 4)
        notes = [
            hit(0.05 + i / rate, TOMS[(i // per) % len(TOMS)], level + draw.integer(-8, 8))
            for i in range(per * len(TOMS))
        ]
        return notes, kit, {}
    keys = PIECES[name]
    how_many = draw.choice(("one", "several", "repeated"))
    if how_many == "one":
        return [hit(draw.uniform(0.0, 1.5), draw.choice(keys), level)], kit, {"count": how_many}
    if how_many == "several":
        at, notes = draw.uniform(0.0, 0.6), []
        for _ in range(draw.integer(3, 5)):
            notes.append(hit(at, draw.choice(keys), level + draw.integer(-15, 8)))
            at += draw.uniform(0.35, 1.1)
        return notes, kit, {"count": how_many}
    beat_s = 60 / draw.uniform(80, 180)
    division = draw.choice((1, 1, 2) if name in SLOW_PIECES else (1, 2, 4))
    pattern = draw.choice(
        ("x", "xo", "xoo", "x.xx", "xxx.", "xoxx", "x..x..x.", "x..x.x..", "x.x.xx.x")
    )
    notes = []
    for i in range(int(seconds / beat_s * division)):
        mark = pattern[i % len(pattern)]
        if mark != ".":
            key = draw.choice(keys)
            notes.append(hit(i * beat_s / division, key, level - (30 if mark == "o" else 0)))
    return notes, kit, {"count": "repeated"}
