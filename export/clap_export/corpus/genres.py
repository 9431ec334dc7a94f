"""Small arrangements: a groove, a bass, a harmony and a lead, as each genre has them.

In:  a Draw and a genre.
Out: notes, programs per channel, the drum kit and the exact attributes.
Knows nothing about SoundFonts or words.
"""

from __future__ import annotations

from dataclasses import dataclass

from clap_export.corpus.draw import Draw
from clap_export.corpus.drums import groove_notes
from clap_export.corpus.music import scale_keys, texture_notes
from clap_export.corpus.synth import Note


@dataclass(frozen=True)
class Part:
    """One voice: the programs it may use, its textures and its range of keys."""

    programs: tuple[int, ...]
    textures: tuple[str, ...]
    lo: int
    hi: int
    pace: float = 1.0  # beats of the part's own pulse per beat of the piece


@dataclass(frozen=True)
class Arrangement:
    bpm: tuple[float, float]
    parts: tuple[Part, ...]
    grooves: tuple[str, ...] = ()
    kits: tuple[int, ...] = (0,)
    scales: tuple[str, ...] = ("major", "minor")


def bass(*programs: int, textures: tuple[str, ...] = ("bass",)) -> Part:
    return Part(programs, textures, 28, 48)


def chords(*programs: int, lo: int = 52, hi: int = 74, pace: float = 1.0) -> Part:
    return Part(programs, ("chords",), lo, hi, pace)


def lead(*programs: int, lo: int = 62, hi: int = 86, pace: float = 1.0) -> Part:
    return Part(programs, ("melody", "melody", "arpeggio"), lo, hi, pace)


ARRANGEMENTS: dict[str, Arrangement] = {
    "rock_band": Arrangement(
        (100, 138),
        (bass(33, 34), chords(29, 27), lead(29, 30)),
        ("rock_beat",),
        (0, 16),
        ("minor", "blues"),
    ),
    "heavy_metal": Arrangement(
        (130, 180),
        (bass(34), Part((30,), ("repeated", "chords"), 38, 55), lead(30, pace=2)),
        ("double_kick_metal_beat",),
        (16,),
        ("harmonic_minor", "minor"),
    ),
    "funk_band": Arrangement(
        (94, 114),
        (bass(36, 37), chords(7, 28, pace=2), chords(61, 16)),
        ("funk_beat",),
        (0,),
        ("blues",),
    ),
    "disco_band": Arrangement(
        (112, 126),
        (bass(33, 38, textures=("octaves",)), chords(27, 4, pace=2), lead(48, 50)),
        ("disco_beat",),
    ),
    "reggae_band": Arrangement(
        (125, 155), (bass(33, 32), Part((27, 16), ("offbeat",), 55, 74)), ("reggae_beat",)
    ),
    "jazz_trio": Arrangement(
        (110, 190),
        (bass(32, textures=("walking",)), chords(0, 26, pace=0.5), lead(0, 26, 65)),
        ("jazz_swing_beat",),
        (32, 40),
        ("blues", "minor"),
    ),
    "big_band": Arrangement(
        (130, 180),
        (bass(32, textures=("walking",)), chords(61, 56, 57), lead(65, 66, 56)),
        ("jazz_swing_beat",),
        (32, 0),
    ),
    "bossa_nova_band": Arrangement(
        (115, 140),
        (bass(32, 33), chords(24, pace=1.5), lead(73, 65, 11)),
        ("bossa_nova_beat",),
        (32, 0),
    ),
    "string_quartet": Arrangement(
        (70, 120),
        (
            Part((40,), ("melody", "arpeggio"), 67, 88),
            Part((40,), ("melody",), 60, 79),
            Part((41,), ("melody", "sustained"), 52, 70),
            Part((42,), ("melody", "sustained"), 38, 57),
        ),
    ),
    "baroque_ensemble": Arrangement(
        (80, 120),
        (
            Part((6,), ("arpeggio", "scale"), 55, 84, 2),
            Part((42, 70), ("walking",), 38, 55),
            lead(73, 74, 68, 40),
        ),
        (),
        (0,),
        ("minor", "major", "harmonic_minor"),
    ),
    "orchestra": Arrangement(
        (70, 120),
        (
            Part((48,), ("chords",), 48, 76),
            Part((60, 57), ("sustained", "melody"), 45, 67),
            Part((73, 68, 71), ("melody", "arpeggio"), 67, 90),
            Part((47,), ("repeated",), 36, 48),
            Part((43,), ("sustained",), 28, 45),
        ),
    ),
    "brass_band_march": Arrangement(
        (104, 122),
        (Part((58,), ("oompah",), 29, 50), chords(60, 57, 61), lead(56, 72)),
        ("marching_drums",),
        (48, 0),
        ("major",),
    ),
    "viennese_waltz": Arrangement(
        (150, 185), (Part((48, 42), ("waltz",), 40, 72), lead(40, 48, 73)), (), (0,), ("major",)
    ),
    "bluegrass_band": Arrangement(
        (110, 150),
        (
            Part((105,), ("arpeggio",), 50, 79, 2),
            chords(25),
            bass(32, textures=("oompah",)),
            lead(110, pace=2),
        ),
        (),
        (0,),
        ("major", "pentatonic"),
    ),
    "irish_folk": Arrangement(
        (110, 150),
        (lead(110, 73, 75, pace=2), Part((109, 21), ("sustained",), 50, 62), chords(25)),
        (),
        (0,),
        ("major", "pentatonic"),
    ),
    "blues_band": Arrangement(
        (70, 110),
        (bass(33, 32, textures=("walking",)), chords(16, 0), lead(22, 27, 29)),
        ("shuffle_beat",),
        (0,),
        ("blues",),
    ),
    "gospel_organ": Arrangement(
        (60, 100),
        (chords(16, 17, lo=48, hi=79), Part((52,), ("chords",), 55, 74, 0.5)),
        (),
        (0,),
        ("major",),
    ),
    "chiptune": Arrangement(
        (120, 170),
        (Part((80,), ("arpeggio",), 60, 88, 2), Part((80,), ("bass",), 36, 52), lead(80, pace=2)),
        (),
        (24,),
        ("major", "minor"),
    ),
    "synthwave": Arrangement(
        (84, 112),
        (Part((38, 39), ("octaves",), 28, 45), Part((90, 50), ("chords",), 50, 72, 0.5), lead(81)),
        ("disco_beat", "hip_hop_beat"),
        (24,),
        ("minor",),
    ),
    "house_music": Arrangement(
        (120, 128),
        (bass(38, 39), Part((0, 16, 4), ("offbeat",), 55, 77)),
        ("house_beat",),
        (25, 24),
    ),
    "techno": Arrangement(
        (126, 142),
        (
            Part((38, 87), ("repeated",), 28, 40, 2),
            Part((81, 80), ("repeated", "arpeggio"), 55, 72, 2),
        ),
        ("house_beat",),
        (24,),
        ("minor",),
    ),
    "trance": Arrangement(
        (134, 142),
        (
            Part((38,), ("offbeat",), 30, 42),
            Part((81, 90), ("arpeggio",), 60, 88, 2),
            Part((89, 90), ("chords",), 52, 74, 0.5),
        ),
        ("house_beat",),
        (24,),
        ("minor",),
    ),
    "hip_hop_track": Arrangement(
        (80, 98),
        (bass(38, 33), chords(4, 0, pace=0.5), lead(11, 73, pace=0.5)),
        ("hip_hop_beat",),
        (25, 24),
        ("minor",),
    ),
    "drum_and_bass_track": Arrangement(
        (164, 178),
        (Part((39, 38), ("bass",), 26, 42, 0.5), Part((89, 50), ("chords",), 52, 74, 0.25)),
        ("breakbeat",),
        (24, 0),
        ("minor",),
    ),
    "ambient_music": Arrangement(
        (40, 60),
        (Part((89, 94, 95), ("chords",), 45, 74, 0.25), Part((88, 98, 91), ("sustained",), 60, 86)),
    ),
    "lullaby": Arrangement(
        (60, 84), (lead(10, 8, lo=67, hi=91), chords(46, 10, 88, pace=0.5)), (), (0,), ("major",)
    ),
    "church_hymn": Arrangement(
        (60, 84),
        (Part((19,), ("chords",), 43, 74), Part((52,), ("chords",), 50, 72)),
        (),
        (0,),
        ("major",),
    ),
    "tango": Arrangement(
        (112, 132),
        (
            lead(23, 21),
            Part((0,), ("repeated",), 40, 62),
            Part((40,), ("melody",), 60, 84),
            bass(32, textures=("oompah",)),
        ),
        (),
        (0,),
        ("harmonic_minor",),
    ),
    "polka": Arrangement(
        (112, 136),
        (lead(21, pace=2), Part((58, 32), ("oompah",), 29, 67), chords(21, 71, pace=2)),
        ("marching_drums",),
        (0,),
        ("major",),
    ),
    "indian_raga": Arrangement(
        (60, 110),
        (
            lead(104, pace=2),
            Part((104,), ("drone",), 48, 60),
            Part((116, 117), ("repeated",), 45, 60, 2),
        ),
        (),
        (0,),
        ("harmonic_minor",),
    ),
    "japanese_traditional": Arrangement(
        (50, 84),
        (
            lead(107, 106),
            Part((77,), ("melody", "sustained"), 62, 84, 0.5),
            Part((116,), ("repeated",), 40, 50, 0.5),
        ),
        (),
        (0,),
        ("in_sen",),
    ),
    "calypso": Arrangement(
        (104, 128),
        (lead(114, pace=2), chords(114, 24), bass(33, 32)),
        ("latin_percussion", "samba_percussion"),
        (0,),
        ("major",),
    ),
}


def pulse_notes(
    draw: Draw,
    style: str,
    part: Part,
    channel: int,
    beat_s: float,
    seconds: float,
    scale: str,
    root: int,
) -> list[Note]:
    """Accompaniment styles that the solo textures do not know."""
    keys = scale_keys(part.lo, part.hi, root, scale)
    tonics = [key for key in keys if key % 12 == root % 12] or keys
    tonic, level = tonics[0], draw.integer(75, 105)
    fifth = min(keys, key=lambda key: abs(key - tonic - 7))
    upper = [key for key in keys if key >= tonic + 10][:5:2] or keys[-3:]
    notes: list[Note] = []

    def play(beat: float, length: float, *chord: int) -> None:
        for key in chord:
            notes.append(
                Note(beat * beat_s, length * beat_s, channel, key, level + draw.integer(-8, 8))
            )

    beats = int(seconds / beat_s) + 1
    place = keys.index(tonic)
    pattern = draw.choice(
        ((0.0, 1.5, 2.0, 3.5), (0.0, 0.75, 2.0, 2.75), (0.0, 1.0, 2.0, 3.0), (0.0, 2.5, 3.0))
    )
    for beat in range(beats):
        if style == "walking":
            play(beat, 0.9, keys[place])
            place = max(0, min(len(keys) - 1, place + draw.choice((-2, -1, 1, 1, 2))))
        elif style == "octaves":
            play(beat, 0.45, tonic)
            play(beat + 0.5, 0.45, tonic + 12)
        elif style == "offbeat":
            play(beat + 0.5, 0.3, *upper)
        elif style == "oompah":
            play(beat, 0.4, tonic if beat % 2 == 0 else fifth)
            if part.hi > 60:
                play(beat + 0.5, 0.3, *upper)
        elif style == "waltz":
            play(beat, 0.6, *((tonic,) if beat % 3 == 0 else upper))
        elif style == "drone":
            if beat % 4 == 0:
                play(beat, 4.0, tonic, fifth)
        elif beat % 4 == 0:  # "bass": a riff on tonic and fifth
            for offset in pattern:
                play(beat + offset, 0.7, draw.choice((tonic, tonic, fifth)))
    return notes


def arrange(
    draw: Draw, name: str, seconds: float
) -> tuple[list[Note], dict[int, int], int, dict[str, str]]:
    """Notes, programs by channel, kit and attributes of one genre."""
    arrangement = ARRANGEMENTS[name]
    bpm = draw.uniform(*arrangement.bpm)
    scale, root = draw.choice(arrangement.scales), draw.integer(0, 11)
    notes: list[Note] = []
    programs: dict[int, int] = {}
    for channel, part in enumerate(arrangement.parts):
        programs[channel] = draw.choice(part.programs)
        style = draw.choice(part.textures)
        beat_s = 60 / bpm / part.pace
        if style in ("walking", "octaves", "offbeat", "oompah", "waltz", "drone", "bass"):
            notes += pulse_notes(draw, style, part, channel, beat_s, seconds, scale, root)
        else:
            notes += texture_notes(
                draw, style, part.lo, part.hi, beat_s, seconds, channel, scale, root
            )
    kit = draw.choice(arrangement.kits)
    if arrangement.grooves:
        notes += groove_notes(draw, draw.choice(arrangement.grooves), bpm, seconds)
    return notes, programs, kit, {}
