"""Musical textures: what one instrument plays in five seconds.

In:  a Draw, and the register that the instrument speaks in.
Out: notes, and the exact attributes (texture, tempo, register, mode) that captions may claim.
Knows nothing about SoundFonts or words.
"""

from __future__ import annotations

from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import Note
from clap_export.corpus.tonal import MODES, fill, tonal_notes

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "pentatonic": (0, 2, 4, 7, 9),
    "blues": (0, 3, 5, 6, 7, 10),
    "harmonic_minor": (0, 2, 3, 5, 7, 8, 11),
    "in_sen": (0, 1, 5, 7, 10),
    "whole_tone": (0, 2, 4, 6, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "bhairav": (0, 1, 4, 5, 7, 8, 11),
}
TEXTURES = ("melody", "chords", "arpeggio", "scale", "sustained", "repeated")

# Sounding range (MIDI keys) where the default of 50-82 would be wrong.
RANGES: dict[str, tuple[int, int]] = {
    "piano": (36, 88),
    "celesta": (62, 96),
    "glockenspiel": (72, 100),
    "music_box": (62, 94),
    "vibraphone": (54, 86),
    "marimba": (45, 86),
    "xylophone": (62, 98),
    "tubular_bells": (56, 79),
    "church_organ": (38, 82),
    "upright_bass": (28, 52),
    "fingered_bass": (28, 52),
    "picked_bass": (28, 52),
    "fretless_bass": (28, 54),
    "slap_bass": (28, 54),
    "synth_bass": (28, 52),
    "violin": (56, 92),
    "viola": (49, 80),
    "cello": (37, 69),
    "bowed_double_bass": (28, 55),
    "harp": (38, 90),
    "timpani": (36, 54),
    "trombone": (40, 67),
    "tuba": (28, 53),
    "french_horn": (42, 72),
    "baritone_sax": (37, 64),
    "tenor_sax": (45, 73),
    "alto_sax": (50, 80),
    "soprano_sax": (57, 86),
    "oboe": (59, 88),
    "english_horn": (52, 79),
    "bassoon": (35, 67),
    "piccolo": (75, 103),
    "flute": (61, 93),
    "recorder": (65, 92),
    "pan_flute": (60, 88),
    "human_whistle": (70, 94),
    "ocarina": (65, 91),
    "trumpet": (54, 82),
    "muted_trumpet": (54, 82),
    "nylon_guitar": (41, 78),
    "steel_string_guitar": (41, 78),
    "overdriven_guitar": (40, 78),
    "distortion_guitar": (40, 78),
    "guitar_harmonics": (52, 84),
    "fiddle": (56, 88),
    "kalimba": (58, 86),
    "tinkle_bell": (68, 96),
    "agogo": (60, 84),
    "woodblock": (55, 84),
    "taiko": (36, 60),
    "melodic_tom": (38, 64),
    "synth_drum": (40, 66),
    "reverse_cymbal": (50, 72),
    "orchestra_hit": (45, 72),
    "accordion": (50, 86),
    "harmonica": (60, 86),
    "steel_drum": (55, 84),
}
UNPITCHED = frozenset({"taiko", "woodblock", "reverse_cymbal", "agogo", "orchestra_hit"})


def scale_keys(lo: int, hi: int, root: int, scale: str) -> list[int]:
    """All keys of the scale in [lo, hi], ascending; never empty."""
    steps = {(root + step) % 12 for step in SCALES[scale]}
    return [key for key in range(lo, hi + 1) if key % 12 in steps] or [lo]


def register_range(name: str, register: str) -> tuple[int, int]:
    """The part of the instrument's range that is called low, mid or high."""
    lo, hi = RANGES.get(name, (50, 82))
    third = (hi - lo) / 3
    first = {"low": 0, "mid": 1, "high": 2}[register]
    return round(lo + first * third), round(lo + (first + 1) * third)


def texture_notes(
    draw: Draw,
    texture: str,
    lo: int,
    hi: int,
    beat_s: float,
    seconds: float,
    channel: int = 0,
    scale: str = "major",
    root: int = 0,
) -> list[Note]:
    """Notes of one texture on one channel, within [0, seconds)."""
    keys = scale_keys(lo, hi, root, scale)
    velocity = draw.integer(60, 118)
    legato = draw.uniform(0.5, 1.0)
    notes: list[Note] = []
    swing = draw.choice((0.5, 0.5, 0.5, 0.62))
    start = draw.uniform(0.0, 0.25)

    def play(at: float, duration: float, key: int, accent: int = 0) -> None:
        level = max(30, min(127, velocity + accent + draw.integer(-7, 7)))
        notes.append(Note(at, duration, channel, int(key), level))

    if texture == "melody":
        at, place = start, draw.integer(0, len(keys) - 1)
        lengths = draw.choice(
            ((1.0, 1.0, 0.5, 0.5), (0.5, 0.5, 1.0), (1.5, 0.5, 1.0), (0.5, 0.25, 0.25, 1.0))
        )
        step = 0
        while at < seconds:
            beats = lengths[step % len(lengths)]
            if not draw.chance(0.08):
                play(at, beats * beat_s * legato, keys[place])
            place += draw.choice((-3, -2, -1, -1, 1, 1, 2, 3, 0))
            place = max(0, min(len(keys) - 1, place))
            at += beats * beat_s
            step += 1
    elif texture == "chords":
        at, every = start, draw.choice((1, 1, 2, 0.5))
        while at < seconds:
            place = draw.integer(0, max(0, len(keys) - 5))
            for offset in (0, 2, 4, *((6,) if draw.chance(0.25) else ())):
                play(at, every * beat_s * legato, keys[min(place + offset, len(keys) - 1)])
            at += every * beat_s
    elif texture == "arpeggio":
        at, place = start, draw.integer(0, max(0, len(keys) - 5))
        shape = draw.choice(((0, 2, 4, 7, 4, 2), (0, 2, 4), (4, 2, 0), (0, 4, 2, 4), (0, 2, 4, 7)))
        step = 0
        while at < seconds:
            if step and step % (len(shape) * 2) == 0:
                place = draw.integer(0, max(0, len(keys) - 5))
            key = keys[min(place + shape[step % len(shape)], len(keys) - 1)]
            play(at, beat_s / 2 * (legato + 0.3), key, 8 if step % len(shape) == 0 else 0)
            at += beat_s * (swing if step % 2 == 0 else 1 - swing)
            step += 1
    elif texture == "scale":
        order = keys if draw.chance(0.5) else keys[::-1]
        order = order + order[-2:0:-1]
        at, step = start, 0
        division = draw.choice((2, 2, 4))
        while at < seconds:
            play(at, beat_s / division * legato, order[step % len(order)])
            at += beat_s / division
            step += 1
    elif texture == "sustained":
        count = draw.choice((1, 1, 2))
        span = seconds / count
        for i in range(count):
            play(start + i * span, span * 0.92, draw.choice(keys))
    else:  # repeated
        at, key = start, draw.choice(keys)
        division = draw.choice((1, 2, 2, 4))
        step = 0
        while at < seconds:
            play(at, beat_s / division * min(legato, 0.8), key, 10 if step % division == 0 else 0)
            at += beat_s / division
            step += 1
    return notes


# Instruments whose notes have no clear pitch, or another one beside it: no mode is claimed.
NO_MODE = UNPITCHED | {
    "timpani", "melodic_tom", "synth_drum", "tinkle_bell", "synth_lead", "synth_texture",
    "tubular_bells", "bagpipe", "reverse_cymbal", "steel_drum", "echo_synth",
}  # fmt: skip
TONAL = ("melody", "chords", "arpeggio", "scale")
LOWEST_CHORD = 45  # under it a close triad is a rumble
# Seconds between onsets. What a listener calls the tempo of a lone instrument is how fast its
# notes come, so that is what "slow" and "fast" mean here; the gaps keep them apart.
PACES = {"slow": (0.6, 1.15), "moderate": (0.3, 0.42), "fast": (0.11, 0.2)}
# Onsets and period in units of the pace; every rhythm is even enough for its pace to be heard.
RHYTHMS: tuple[tuple[tuple[float, ...], float], ...] = (
    ((0.0,), 1.0),
    ((0.0,), 1.0),
    ((0.0, 1.0, 2.0), 4.0),
    ((0.0, 1.0, 2.0, 3.0, 4.0, 5.0), 8.0),
    ((0.0, 1.5, 2.0), 3.0),
    ((0.0, 1.0, 2.0, 2.5, 3.0), 4.0),
    ((0.0, 1.33, 2.0, 3.33), 4.0),
    ((0.0, 0.67, 1.0, 1.67), 2.0),
)


def onsets(draw: Draw, tempo: str, seconds: float) -> tuple[list[float], list[float]]:
    """Times and durations of notes at one of the paces, with small human deviations."""
    pace = draw.uniform(*PACES[tempo])
    # The last one's short steps would be moderate ones at a slow pace.
    rhythm, period = draw.choice(RHYTHMS[:-1] if tempo == "slow" else RHYTHMS)
    start, jitter = draw.uniform(0.0, 0.25), draw.uniform(0.0, 0.015) * pace
    times = [start + t for t in fill([r * pace for r in rhythm], seconds - start, period * pace)]
    ends = [*times[1:], times[-1] + pace]
    legato = draw.choice((0.35, 0.6, 0.85, 1.0, 1.15))
    durations = [max(0.05, (b - a) * legato) for a, b in zip(times, ends, strict=True)]
    return [max(0.0, t + draw.rng.normal() * jitter) for t in times], durations


def solo(draw: Draw, name: str, seconds: float) -> tuple[list[Note], dict[str, str]]:
    """One instrument alone: notes on channel 0, and what is true of them.

    "tempo" stands only where notes keep coming, "mode" only where they spell a key, "texture" as
    what is played; "register" always.
    """
    texture = draw.choice(TEXTURES)
    tempo = draw.choice(tuple(PACES))
    register = draw.choice(("low", "mid", "high"))
    lo, hi = register_range(name, register)
    root = lo + draw.integer(0, 7)  # so that a phrase stays near its register
    if name in UNPITCHED and texture not in ("sustained", "repeated"):
        texture = "repeated"
    if texture == "chords" and lo < LOWEST_CHORD:
        texture = "arpeggio"
    attributes = {"texture": texture, "register": register}
    if texture != "sustained":
        attributes["tempo"] = tempo
    if texture in TONAL and name not in NO_MODE and draw.chance(0.75):
        mode = draw.choice(MODES)
        times, durations = onsets(draw, tempo, seconds)
        attributes["mode"] = mode
        return (
            tonal_notes(draw, texture, lo, hi, times, durations, 0, mode, root),
            attributes,
        )
    if texture == "repeated":
        times, durations = onsets(draw, tempo, seconds)
        key, level = draw.integer(lo, hi), draw.integer(55, 112)
        return [
            Note(at, length, 0, key, level + draw.integer(-8, 8))
            for at, length in zip(times, durations, strict=True)
        ], attributes
    if texture == "sustained":
        notes = texture_notes(draw, texture, lo, hi, 1.0, seconds, root=root)
        return notes, attributes
    times, durations = onsets(draw, tempo, seconds)
    return wandering_notes(draw, texture, lo, hi, times, durations, root), attributes


def wandering_notes(
    draw: Draw,
    texture: str,
    lo: int,
    hi: int,
    times: list[float],
    durations: list[float],
    root: int,
) -> list[Note]:
    """The textures over scales that are neither major nor minor; no mode may be claimed."""
    keys = scale_keys(lo, hi, root, draw.choice(("pentatonic", "blues", "in_sen", "whole_tone")))
    last, level = len(keys) - 1, draw.integer(52, 116)
    place, up = draw.integer(0, last), draw.choice((1, -1))
    notes = []
    for i, (at, length) in enumerate(zip(times, durations, strict=True)):
        chosen = [keys[place]]
        if texture == "chords":
            place = draw.integer(0, max(0, last - 4))
            chosen = [keys[min(place + offset, last)] for offset in (0, 2, 4)]
        elif texture == "scale":
            if not 0 <= place + up <= last:
                up = -up
            place = max(0, min(last, place + up))
        elif texture == "arpeggio":
            place = (0, 2, 4, 2)[i % 4] % len(keys)
            chosen = [keys[place]]
        else:
            place = max(0, min(last, place + draw.choice((-3, -2, -1, -1, 1, 1, 2, 3))))
        velocity = max(25, min(127, level + draw.integer(-7, 7)))
        notes += [Note(at, length, 0, key, velocity) for key in sorted(set(chosen))]
    return notes
