"""The genres as scores: who plays, which chords, which rhythm, over which groove.

In:  nothing.
Out: `ARRANGEMENTS`: for every genre its tempos, progressions, parts, grooves and kits.
Knows nothing about drawing, rendering or words; `scores` says how a score is read.
"""

from __future__ import annotations

from clap_export.corpus.scores import (
    BLUES,
    DARK,
    FAST,
    HELD,
    POP,
    SAD,
    SIMPLE,
    SLOW,
    SWUNG,
    TUNES,
    Arrangement,
    Part,
    arp,
    bass,
    comp,
    drone,
    lead,
)

ARRANGEMENTS: dict[str, Arrangement] = {
    "rock_band": Arrangement(
        (96, 148), ("0p 10p 5p 0p", "0p 5p 7p 5p", "0p 3p 5p 0p", *POP), ("pentatonic", "blues"),
        (
            bass("1-1-1-1-1-1-1-1-", "1--1--1-1-1-5-1-", "1-1-5-1-8-1-5-1-", of=(33, 34)),
            comp("x-x-x-x-x-x-x-x-", "x---..x-x---..x-", "X--X--X-..X-X---", "x-xx-xx-x-xx-xx-",
                 of=(29, 30, 27), lo=45),
            lead(*TUNES, *FAST, of=(29, 30), lo=60, chance=0.6),
            comp(HELD, "x-------x-------", of=(16, 18), lo=55, chance=0.25),
        ),
        ("rock_beat",), (0, 8, 16),
    ),
    "heavy_metal": Arrangement(
        (120, 200), ("0p 1p 0p 10p", "0p 0p 8p 10p", "0p 6p 5p 0p", "0p 3p 1p 0p"),
        ("harmonic_minor",),
        (
            bass("1111111111111111", "1-11111-111-1111", of=(34, 33)),
            comp("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx", "X---xxxxX---xxxx", "x-xxx-xxx-xxx-x-",
                 of=(30,), lo=38),
            lead(*FAST, of=(30, 29), lo=64, chance=0.5),
            comp("xxxxxxxxxxxxxxxx", "X---X---X---X---", of=(30,), lo=40, chance=0.6),
        ),
        ("double_kick_metal_beat",), (16, 0), per_chord=2,
    ),
    "funk_band": Arrangement(
        (92, 118), ("0D", "0n", "0D 0D 5D 5D", "0n 0n 5D 5D"), ("blues",),
        (
            bass("1..1..8.7..1.81.", "1...1.78..5.7.a.", "1.11..7.8...1.57", "1..8..1..8.1.7.5",
                 of=(36, 37, 33)),
            comp("..x...x.x..x..x.", "x..x..x...x..x..", "xoxx.oxxoxx.oxxo", of=(28, 27, 7), lo=58),
            comp("x..............x", "......x-x.......", "x-..x-..........", of=(61, 62), lo=58,
                 chance=0.7),
            comp(".x..x..x...x.x..", "x.xx.x.x..x.xx..", of=(7, 16), lo=55, chance=0.6),
        ),
        ("funk_beat",), (0, 16),
    ),
    "disco_band": Arrangement(
        (108, 128), ("0m 5m 10 3", "0m 8 10 0m", "0n 5D 0n 5D", "0 9m 2m 7"), ("minor",),
        (
            bass("1-8-1-8-1-8-1-8-", "..8...8...8...8.", "1.8.1.8.1.8.5.8.", of=(33, 38, 36)),
            comp("x.xxx.xxx.xxx.xx", "..x...x...x...x.", "xxxxx.xxxxxxx.xx", of=(27, 28, 4), lo=58),
            lead(HELD, "x-------x-------", "x---x---x---x-xx", of=(48, 50), lo=66),
            comp("....x-......x-..", "x-..............", of=(61,), lo=58, chance=0.5),
        ),
        ("disco_beat",), (0, 8, 25),
    ),
    "reggae_band": Arrangement(
        (118, 158), ("0 5", "0m 10", "0 2m", "0m 5m", "0 7 9m 5"), ("pentatonic", "minor"),
        (
            bass("1---..1-3-5-....", "....1---5-..1-3-", "1-..5-..1---....", "..1-1-3-5---....",
                 of=(33, 32, 35)),
            comp("....x.......x...", "..x...x...x...x.", "....xx......xx..", of=(27, 28, 25),
                 lo=57),
            comp("..xx..xx..xx..xx", "..x...x...x...x.", "....x.......x...", of=(16, 17, 0), lo=57),
            lead("x---x---..x-x---", *SLOW, of=(56, 66, 57, 22), lo=60, chance=0.4),
        ),
        ("reggae_beat",), (0, 8),
    ),
    "jazz_trio": Arrangement(
        (100, 220), ("2n 7D 0M 0M", "0M 9n 2n 7D", "0n 5D 10M 3M", "0n 5n 7D 0n"),
        ("major", "blues"),
        (
            bass("1--3--5--a--", "1--5--8--a--", "1--3--5--6--", "8--7--5--a--", of=(32,)),
            comp("...x-....x-.", "x-...x......", "..x.......x-", ".....x-..x..", of=(0, 26), lo=54),
            lead(*SWUNG, of=(0, 26, 11), lo=64),
        ),
        ("jazz_swing_beat",), (32, 40),
    ),
    "big_band": Arrangement(
        (120, 220), ("2n 7D 0M 9D", "0D 5D 0D 7D", "0M 9D 2D 7D"), ("major", "blues"),
        (
            bass("1--3--5--a--", "1--5--8--a--", "1--3--5--6--", of=(32,)),
            comp("x-...x-.....", "...x-....x-x", "x--x-xX-....", "..xx-.......", of=(61, 56),
                 lo=58),
            comp("x-...x-.....", "...x-....x-x", "x-----......", of=(57, 61), lo=48),
            comp("x--x--x-....", *SWUNG[:2], of=(65, 66), lo=56, chance=0.7),
            lead(*SWUNG, of=(66, 65, 56, 57), lo=60, chance=0.5),
            comp("...x.....x..", "x..x..x..x..", of=(0, 26), lo=54, chance=0.5),
        ),
        ("jazz_swing_beat",), (32, 0, 8),
    ),
    "bossa_nova_band": Arrangement(
        (105, 148), ("0M 2D 2n 7D", "0M 9n 2n 7D", "0n 5n 7D 0n", "0M 1M"), ("major", "minor"),
        (
            bass("1-----5-5-----1-", "1--5-5--1--5-5--", of=(32, 33)),
            comp("x..x..x...x..x..", "..x..x..x..x..x.", "x..x...x..x..x..", of=(24,), lo=52),
            lead("x---x-x-..x-x---", *SLOW, *TUNES[:3], of=(73, 66, 11, 65), lo=60),
        ),
        ("bossa_nova_beat",), (32, 0),
    ),
    "string_quartet": Arrangement(
        (66, 138), (*SIMPLE, *SAD), ("major", "harmonic_minor"),
        (
            lead(*TUNES, *SLOW, "xxxxx-x-xxxxx-x-", of=(40,), lo=67, chance=1.0),
            Part("chords", (40,), 60, 76, ("x-x-x-x-x-x-x-x-", HELD, "..x-x-x-..x-x-x-")),
            arp("3-1-3-1-3-1-3-1-", HELD.replace("x", "2"), "2-3-2-3-2-3-2-3-", of=(41,), lo=52),
            bass("1---5---1---5---", "1-------5-------", "1-1-1-1-1-1-1-1-", of=(42,), lo=38),
        ),
        shows_mode=True, per_chord=2,
    ),
    "baroque_ensemble": Arrangement(
        (72, 116), ("0 7 0 5 7 0", "0m 5m 7D 0m", "0 5 2m 7D", "0m 7D 0m 5m"),
        ("major", "harmonic_minor"),
        (
            arp("1-2-3-4-3-2-1-2-", "1-3-2-3-1-3-2-3-", "1234321212343212", of=(6,), lo=55),
            bass("1---3---5---a---", "1-5-1-5-1-5-1-a-", "8---7---6---5---", of=(42, 70, 43),
                 lo=38),
            lead("x-xxx-xxx-x-x-x-", "xxxxxxxxx---x---", "x---x-x-x-xxx---",
                 of=(73, 74, 68, 40), lo=67, chance=0.9),
            comp("x---x---x---x---", of=(6, 48), lo=52, chance=0.5),
        ),
        shows_mode=True, per_chord=2,
    ),
    "orchestra": Arrangement(
        (60, 132), (*SIMPLE, *SAD, *DARK), ("major", "harmonic_minor"),
        (
            comp(HELD, "x-------x-------", "x-x-x-x-x-x-x-x-", "xxxxxxxxxxxxxxxx", of=(48, 49),
                 lo=48),
            lead("x-------x---x---", HELD, "x---x-x-x-------", of=(60, 56, 57), lo=50),
            lead(*TUNES, *FAST[:2], of=(73, 68, 71, 40), lo=67),
            bass("1---------------", "1-------5-------", "1-1-1-1-1-1-1-1-", of=(43, 42), lo=30),
            Part("bass", (47,), 36, 48, ("1-------........", "1-......1-1-1-1-",
                 "1.......1......."),
                 0.7),
            comp("X---............", "X-------X-------", of=(61,), lo=50, chance=0.4),
        ),
        kits=(48, 0), per_chord=2,
    ),
    "brass_band_march": Arrangement(
        (100, 126), SIMPLE, ("major",),
        (
            bass("1---5---1---5---", "1-..5-..1-..5-..", of=(58,), lo=31),
            comp("..x-..x-..x-..x-", "..x...x...x...x.", of=(60, 57, 61), lo=53),
            lead("x---x-x-x---x---", "x--xx---x--xx---", "x-x-x---x-x-x---", of=(56, 57), lo=62,
                 chance=1.0),
            lead("xxxxx-x-xxxxx-x-", "x-x-xxx-x-x-xxx-", of=(72, 71), lo=77, chance=0.5),
        ),
        ("marching_drums",), (48, 0), per_chord=2,
    ),
    "viennese_waltz": Arrangement(
        (140, 196), SIMPLE, ("major",),
        (
            bass("1-..........", "1---........", of=(43, 42, 32), lo=36),
            comp("....x-..x-..", "....x...x...", of=(48, 41, 60), lo=55),
            lead("x-------x---", "x---x-x-x---", "x-x-x-x-x-x-", "x-----------", of=(40, 48), lo=69,
                 chance=1.0),
            lead("x-x-x-x-x-x-", "........x-x-", of=(73, 71), lo=74, chance=0.4),
        ),
        beats=3, per_chord=6,
    ),
    "bluegrass_band": Arrangement(
        (100, 156), ("0 5 0 7D", "0 0 7D 0", "0 10 0 7"), ("pentatonic", "major"),
        (
            arp("1324132413241324", "3412341234123412", "1231231212312312", of=(105,), lo=55),
            comp("..x...x...x...x.", "b.x.b.x.b.x.b.x.", of=(25,), lo=52),
            bass("1-..5-..1-..5-..", "1---5---1---a---", of=(32,)),
            lead(*FAST, of=(110, 105), lo=67, chance=0.9),
        ),
        per_chord=4,
    ),
    "irish_folk": Arrangement(
        (100, 150), ("0 0 5 7", "0m 10 0m 10", "0 7 5 7", "0m 0m 10 10"), ("major", "dorian"),
        (
            lead(*FAST, "x-xx-xx-xx-x", "xxxxxxxxxxxx", of=(110, 73, 75, 78, 21), lo=67,
                 chance=1.0),
            drone(109, 21, lo=50),
            comp("b.x.b.x.b.x.b.x.", "x-xxx-xxx-xxx-xx", of=(25,), lo=50),
            lead(*FAST, of=(110, 75), lo=67, chance=0.4),
        ),
    ),
    "blues_band": Arrangement(
        (66, 124), BLUES, ("blues",),
        (
            bass("1--3--5--6--", "1-11-13-35-5", "1--1--8--7--", "1-15-56-65-5", of=(33, 32)),
            comp("x-xx-xx-xx-x", "...x.....x..", "x-xx-x......", "x-----......", of=(0, 27, 16),
                 lo=50),
            lead(*SWUNG, "x--------...", of=(22, 27, 29, 26), lo=60, chance=0.95),
        ),
        ("shuffle_beat",), (0, 8),
    ),
    "gospel_organ": Arrangement(
        (56, 112), ("0 5 0 7D", "0 0D 5 0", "5 0 2D 7D", "0 4D 9m 7D"), ("major",),
        (
            comp("x-----x-----", HELD, "x---x---x---x---", "x-x--xx-x--x", of=(16, 17, 18), lo=50),
            bass("1-----5-----", "1---------a-", "1--3--5--a--", of=(16, 33), lo=34),
            comp(HELD, "x-------x-------", of=(52,), lo=57, chance=0.6),
            lead("x--x-xx--x-x", *TUNES[:2], of=(16, 18), lo=67, chance=0.5),
        ),
        per_chord=2,
    ),
    "chiptune": Arrangement(
        (110, 180), (*DARK, *POP), ("major", "minor"),
        (
            arp("1234123412341234", "1231231231231231", "1313131313131313", of=(80,), lo=60),
            bass("1-1-1-1-1-1-1-1-", "1-8-1-8-1-8-1-8-", "1..1..1.1..1..1.", of=(80, 81), lo=36),
            lead(*TUNES, *FAST, of=(80,), lo=69, chance=0.9),
        ),
        ("rock_beat", "disco_beat"), (24, 25),
    ),
    "synthwave": Arrangement(
        (80, 118), DARK, ("minor",),
        (
            bass("1-1-1-1-1-1-1-1-", "1-8-1-8-1-8-1-8-", "1111111111111111", "..1...1...1...1.",
                 of=(38, 39, 87)),
            comp(HELD, "x-------x-------", of=(90, 50, 51, 62), lo=52),
            arp("1-2-3-4-3-2-1-2-", "1234543212345432", of=(81, 80, 90), lo=62, chance=0.7),
            lead(*SLOW, *TUNES[:3], of=(81, 80), lo=64, chance=0.5),
        ),
        ("disco_beat", "hip_hop_beat", "rock_beat"), (24, 25),
    ),
    "house_music": Arrangement(
        (116, 130), ("0n 0n 5n 5n", "0n 3M 10 5n", "0m 8 10 0m", "0n"), ("minor",),
        (
            bass("..1...1...1...1.", "1..1..1..1..1.1.", "..1.8.1...1.8.7.", of=(38, 39, 33)),
            comp("x..x..x..x..x...", "..x...x...x...x.", "..x..x....x..x..", "x.....x..x......",
                 of=(0, 4, 16, 5), lo=55),
            comp(HELD, of=(50, 89, 48), lo=60, chance=0.5),
            lead("x..x..x.....x...", *SLOW, of=(53, 54, 80), lo=64, chance=0.3),
        ),
        ("house_beat",), (25, 24),
    ),
    "techno": Arrangement(
        (122, 148), ("0m", "0p", "0m 0m 1 0m"), ("minor",),
        (
            bass("1111111111111111", "..1...1...1...1.", ".111.111.111.111", "1..1..1..1..1..1",
                 of=(38, 87, 39), lo=26),
            arp("1-11-21-1-11-31-", "1.2.1.1.3.1.2.1.", "1..2..1..3..1..2", of=(81, 80, 87, 38),
                lo=48),
            comp("...x.......x....", "x......x........", "..x..x....x.....", of=(81, 90, 62), lo=57,
                 chance=0.7),
        ),
        ("house_beat",), (24, 25),
    ),
    "trance": Arrangement(
        (130, 145), DARK, ("minor",),
        (
            bass("..1...1...1...1.", ".111.111.111.111", of=(38, 81), lo=30),
            arp("1234123412341234", "4321432143214321", "1-3-2-4-1-3-2-4-", "1312141213121412",
                of=(81, 90), lo=64),
            comp(HELD, "x--x--x--x--x-x-", of=(89, 90, 50), lo=55),
            lead("x--x--x-x--x--x-", "x-x-x-x---x-x-x-", of=(81,), lo=69, chance=0.6),
        ),
        ("house_beat",), (24, 25),
    ),
    "hip_hop_track": Arrangement(
        (72, 102), (*DARK, "0n 5n", "0n"), ("minor",),
        (
            bass("1-----1---......", "1--1------1-7---", "1---------8-7-5-", of=(38, 33, 32, 39)),
            comp("x-------x-------", "x-----x---x-----", "..x-....x-......", of=(4, 0, 5, 46),
                 lo=57),
            lead("x-..x-x-........", "..x-..x-x-......", *SLOW, of=(11, 73, 46, 80, 40), lo=64,
                 chance=0.6),
        ),
        ("hip_hop_beat",), (25, 24),
    ),
    "drum_and_bass_track": Arrangement(
        (160, 180), DARK, ("minor",),
        (
            bass("1-----------7---", "1------1----8---", "1-1---..1-----a-", of=(39, 38, 87),
                 lo=26),
            comp(HELD, "x-------........", of=(89, 50, 94, 91), lo=55),
            comp("x..x............", "......x...x.....", of=(4, 0, 81), lo=57, chance=0.5),
            lead(*SLOW, of=(80, 81, 53), lo=64, chance=0.4),
        ),
        ("breakbeat",), (24, 0, 16), per_chord=8,
    ),
    "ambient_music": Arrangement(
        (40, 64), ("0M 5M", "0n 8M", "0s 5s", "0 9m", "0M"), ("pentatonic", "pentatonic"),
        (
            comp(HELD, of=(89, 94, 95, 91, 88), lo=48),
            Part("lead", (88, 98, 99, 91, 8, 11), 64, 90, ("x-----------x---", "....x-------x---",
                 HELD),
                 0.8),
            drone(89, 95, 97, lo=36),
            comp(HELD, of=(92, 100, 52), lo=60, chance=0.4),
        ),
    ),
    "lullaby": Arrangement(
        (56, 92), SIMPLE, ("major",),
        (
            lead("x---x-x-x---x---", "x-----x-x---....", "x-x-x---x-x-x---", "x-------x---",
                 of=(10, 8, 9),
                 lo=70, chance=1.0),
            arp("1-2-3-2-1-2-3-2-", "1-3-2-3-1-3-2-3-", "1---2---3---", of=(46, 10, 11), lo=55),
            comp(HELD, of=(88, 52, 48), lo=55, chance=0.4),
        ),
        shows_mode=True, per_chord=2,
    ),
    "church_hymn": Arrangement(
        (56, 88), ("0 5 0 7", "0 7 0 5 7 0", "0 7 9m 5 0 7 0", "0m 5m 0m 7D"),
        ("major", "harmonic_minor"),
        (
            comp("x---x---x---x---", of=(19,), lo=48),
            bass("1---1---1---1---", "1---5---1---5---", of=(19,), lo=34),
            lead("x---x---x---x---", of=(19, 52), lo=65, chance=0.8),
            comp("x---x---x---x---", HELD, of=(52, 53), lo=55, chance=0.7),
        ),
        shows_mode=True, per_chord=1,
    ),
    "tango": Arrangement(
        (108, 136), ("0m 7D 0m 7D", "0m 5m 7D 0m", "0m 0m 7D 7D"), ("harmonic_minor",),
        (
            comp("X-..x-..x-..x-..", "X-....x-x-..x-..", "X.x.x.x.X.x.x.x.", of=(0,), lo=45),
            bass("1---5---1---5---", "1-----5-1---5---", "1-..1-..1-..1-a-", of=(32, 43)),
            lead(*TUNES, "x-----xxx---x---", of=(23, 21), lo=60, chance=1.0),
            lead(*SLOW, "x-x-x-----x-x---", of=(40,), lo=66, chance=0.7),
            comp("X-..x-..x-..x-..", of=(23, 21), lo=52, chance=0.5),
        ),
    ),
    "polka": Arrangement(
        (108, 144), SIMPLE, ("major",),
        (
            bass("1-..5-..1-..5-..", "1---5---1---5---", of=(58, 32)),
            comp("..x...x...x...x.", "..x-..x-..x-..x-", of=(21, 60, 24), lo=55),
            lead("xxxxx-x-xxxxx-x-", "x-x-xxx-x-x-x---", "x-xxx-x-x-xxx-x-", of=(21, 71), lo=64,
                 chance=1.0),
            lead("x-x-xxx-x-x-x---", of=(71, 56), lo=67, chance=0.4),
        ),
        ("marching_drums", "rock_beat"), (0,), per_chord=4,
    ),
    "indian_raga": Arrangement(
        (56, 120), ("0s",), ("bhairav", "bhairav"),
        (
            lead(*SLOW, *TUNES, *FAST[:3], of=(104,), lo=57, chance=1.0),
            Part("arpeggio", (104,), 43, 60, ("3-..4-..4-..1-..", "3---4---4---1---")),
            drone(104, 20, 109, lo=43),
            Part("bass", (116, 117, 118), 45, 60, ("1-11..5-1-1..11.", "1..1..5.1..1.5..",
                 "1.1.5.1.11.5.1.5"),
                 0.8),
            lead(*SLOW, *TUNES, of=(111, 73, 40), lo=62, chance=0.3),
        ),
        ("latin_percussion",), (0,),
    ),
    "japanese_traditional": Arrangement(
        (44, 88), ("0p", "0s"), ("in_sen", "in_sen"),
        (
            lead("x---x-x-x---....", "x-xxx---........", *SLOW, of=(107, 106), lo=55, chance=1.0),
            lead(*SLOW, "x-----x-x-------", of=(77,), lo=64, chance=0.7),
            Part("bass", (116,), 38, 50, ("1.......1.......", "1...........1.1.",
                 "1-..............")),
            arp("1---3---2---....", "1-2-3-..........", of=(107,), lo=50, chance=0.5),
        ),
    ),
    "calypso": Arrangement(
        (98, 134), SIMPLE, ("major",),
        (
            lead("x--x--x-x--x--x-", "x-x--xx-x-x--xx-", *FAST[:2], of=(114,), lo=64, chance=1.0),
            comp("..xx..xx..xx..xx", "x..x..x.x..x..x.", of=(114, 24, 25), lo=55),
            bass("1-----5-8-----5-", "1..1..5.1..1..5.", "1-----1-5---1---", of=(33, 32)),
            comp("....x-......x-..", of=(61, 56), lo=58, chance=0.3),
        ),
        ("latin_percussion", "samba_percussion"), (0, 8),
    ),
}  # fmt: skip
