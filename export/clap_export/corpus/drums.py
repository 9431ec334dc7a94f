"""Percussion: single pieces, rolls and grooves on the General MIDI drum map.

In:  a Draw and a class id.
Out: notes on the drum channel, the kit, and the exact attributes that captions may claim.
Knows nothing about SoundFonts or words.

Grooves are step patterns of one bar: 16 sixteenths (12 in triple metre), "x" a hit, "o" a soft
one, "." a rest. Key numbers are those of the General MIDI percussion map.
"""

from __future__ import annotations

from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import DRUM_CHANNEL, Note

PIECES: dict[str, tuple[int, ...]] = {
    "kick_drum": (35, 36),
    "snare_drum": (38, 40),
    "hi_hat": (42, 44, 46),
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
}
TOMS = (50, 48, 47, 45, 43, 41)
K, S, R, H, Q, P, C, D = 36, 38, 37, 42, 46, 44, 49, 51  # kick snare rim hats crash ride

GROOVES: dict[str, tuple[dict[int, str], ...]] = {
    "rock_beat": (
        {K: "x.......x.x.....", S: "....x.......x...", H: "x.x.x.x.x.x.x.x."},
        {K: "x.....x.x.......", S: "....x.......x..o", H: "x.x.x.x.x.x.x.x."},
        {
            K: "x..x....x.......",
            S: "....x.......x...",
            D: "x.x.x.x.x.x.x.x.",
            C: "x...............",
        },
    ),
    "funk_beat": (
        {K: "x..x..x...x..x..", S: "....x..o.o..x..o", H: "xxxxxxxxxxxxxxxx"},
        {
            K: "x.x...x..x....x.",
            S: ".o..x..o.o.ox..o",
            H: "x.xxx.xxx.xxx.xx",
            Q: ".......x......x.",
        },
    ),
    "disco_beat": (
        {
            K: "x...x...x...x...",
            S: "....x.......x...",
            H: "x...x...x...x...",
            Q: "..x...x...x...x.",
        },
        {
            K: "x...x...x...x...",
            39: "....x.......x...",
            H: "xx.xxx.xxx.xxx.x",
            Q: "..x...x...x...x.",
        },
    ),
    "house_beat": (
        {K: "x...x...x...x...", 39: "....x.......x...", Q: "..x...x...x...x."},
        {
            K: "x...x...x...x...",
            Q: "..x...x...x...x.",
            70: "xxxxxxxxxxxxxxxx",
            39: "....x.......x..x",
        },
    ),
    "hip_hop_beat": (
        {K: "x.....x...x.....", S: "....x.......x...", H: "x.x.x.x.x.x.x.x."},
        {K: "x......x..x..x..", 39: "....x.......x...", H: "x.x.xxx.x.x.x.xx"},
    ),
    "breakbeat": (
        {K: "x.x.......xx....", S: "....x..o.o..x..o", H: "x.x.x.x.x.x.x.x."},
        {K: "x.........x.....", S: "....x..x.x..x..x", D: "x.x.x.x.x.x.x.x."},
    ),
    "bossa_nova_beat": (
        {K: "x..xx..xx..xx..x", R: "x..x..x...x..x..", H: "xxxxxxxxxxxxxxxx"},
        {K: "x..xx..xx..xx..x", R: "..x..x..x..x..x.", 70: "xxxxxxxxxxxxxxxx"},
    ),
    "samba_percussion": (
        {
            41: "....x.......x...",
            36: "x..xx..xx..xx..x",
            70: "xooxxooxxooxxoox",
            54: "x.xx.x.xx.xx.x.x",
            67: "x.x..x.x.x..x.x.",
            S: "xooxoxoxxooxoxox",
        },
        {
            41: "....x..x....x...",
            36: "x..xx..xx..xx..x",
            82: "xxxxxxxxxxxxxxxx",
            68: "x.x..xx..x.x.xx.",
            S: "oxooxooxoxooxoox",
        },
    ),
    "reggae_beat": (
        {K: "........x.......", R: "........x.......", H: "x.x.x.x.x.x.x.xo"},
        {
            K: "....x.......x...",
            R: "....x.......x...",
            H: "..x...x...x...x.",
            Q: "..............x.",
        },
    ),
    "jazz_swing_beat": (
        {D: "x..x.xx..x.x", P: "...x.....x..", K: "o.....o.....", S: "..o....o...."},
        {D: "x..x.xx..x.x", P: "...x.....x..", S: "........o..o"},
    ),
    "waltz_beat": (
        {K: "x...........", S: "....x...x...", H: "x...x...x..."},
        {K: "x...........", P: "....x...x...", D: "x...x.x.x..."},
    ),
    "shuffle_beat": (
        {K: "x.....x.....", S: "...x.....x..", H: "x.xx.xx.xx.x"},
        {K: "x....xx.....", S: "...x.o...x.o", D: "x.xx.xx.xx.x"},
    ),
    "marching_drums": (
        {S: "x.xxx.xxx.xxxxxx", 35: "x.......x......."},
        {S: "xxx.x.x.xxx.xxxx", 35: "x...x...x...x...", 57: "x.......x......."},
    ),
    "double_kick_metal_beat": (
        {K: "xxxxxxxxxxxxxxxx", S: "....x.......x...", C: "x...x...x...x..."},
        {K: "xxxxxxxxxxxxxxxx", S: "..x...x...x...x.", H: "x.x.x.x.x.x.x.x."},
    ),
    "latin_percussion": (
        {
            56: "x.x.xx.x.x.xx.x.",
            63: "..xx..x...xx..x.",
            64: "......xx......xx",
            70: "xxxxxxxxxxxxxxxx",
            65: "x.....x.....x...",
        },
        {
            75: "x..x..x...x.x...",
            60: "xoxoxoxoxoxoxoxo",
            61: "..x...x...x...x.",
            73: "x...x.x.x...x.x.",
        },
    ),
}
GROOVE_BPM: dict[str, tuple[float, float]] = {
    "rock_beat": (96, 140),
    "funk_beat": (90, 116),
    "disco_beat": (110, 128),
    "house_beat": (118, 130),
    "hip_hop_beat": (78, 100),
    "breakbeat": (150, 178),
    "bossa_nova_beat": (110, 145),
    "samba_percussion": (95, 125),
    "reggae_beat": (120, 155),
    "jazz_swing_beat": (120, 200),
    "waltz_beat": (130, 185),
    "shuffle_beat": (100, 140),
    "marching_drums": (100, 124),
    "double_kick_metal_beat": (130, 190),
    "latin_percussion": (95, 125),
}
GROOVE_KITS: dict[str, tuple[int, ...]] = {
    "house_beat": (24, 25),
    "hip_hop_beat": (24, 25, 0),
    "jazz_swing_beat": (32, 40),
    "waltz_beat": (0, 32, 40),
    "marching_drums": (48, 0),
    "double_kick_metal_beat": (16, 0),
    "disco_beat": (0, 8, 25),
    "bossa_nova_beat": (0, 32, 40),
}


def hit(at: float, key: int, velocity: int) -> Note:
    return Note(at, 0.2, DRUM_CHANNEL, key, max(20, min(127, velocity)))


def groove_notes(draw: Draw, name: str, bpm: float, seconds: float) -> list[Note]:
    """A groove of `name` from its first beat on, with small human deviations."""
    bar = draw.choice(GROOVES[name])
    steps = len(next(iter(bar.values())))
    triple = name == "waltz_beat"
    # Twelve steps: three beats of four in a waltz, four beats of triplets in a shuffle.
    step_s = 60 / bpm / (4 if steps == 16 or triple else 3)
    level = draw.integer(85, 112)
    jitter = draw.uniform(0.0, 0.006)
    notes = []
    index = 0
    while index * step_s < seconds:
        for key, pattern in bar.items():
            mark = pattern[index % steps]
            if mark != "." and not draw.chance(0.03):
                at = max(0.0, index * step_s + draw.rng.normal() * jitter)
                soft = 38 if mark == "o" else 0
                accent = 8 if index % 4 == 0 else 0
                notes.append(hit(at, key, level + accent - soft + draw.integer(-8, 8)))
        index += 1
    return notes


def percussion(draw: Draw, name: str, seconds: float) -> tuple[list[Note], int, dict[str, str]]:
    """Notes, kit and attributes of one drum class."""
    if name in GROOVES:
        lo, hi = GROOVE_BPM[name]
        notes = groove_notes(draw, name, draw.uniform(lo, hi), seconds)
        return notes, draw.choice(GROOVE_KITS.get(name, (0, 8, 16))), {}
    kit = draw.choice((0, 0, 8, 16, 24, 25, 40))
    level = draw.integer(80, 120)
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
    beat_s = 60 / draw.uniform(90, 170)
    division = draw.choice((1, 2, 4))
    pattern = draw.choice(("x", "xo", "xoo", "x.xx", "xxx.", "xoxx"))
    notes = []
    for i in range(int(seconds / beat_s * division)):
        mark = pattern[i % len(pattern)]
        if mark != ".":
            key = draw.choice(keys)
            notes.append(hit(i * beat_s / division, key, level - (30 if mark == "o" else 0)))
    return notes, kit, {"count": "repeated"}
