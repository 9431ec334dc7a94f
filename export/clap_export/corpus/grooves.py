"""Drum patterns of one bar, by groove: what makes a listener name the style.

In:  nothing.
Out: step patterns by key of the General MIDI percussion map, tempos and kits.
Knows nothing about drawing, rendering or words.

16 sixteenths a bar (12 in triple metre and in shuffles), "x" a hit, "o" a soft one, "." a rest.
"""

from __future__ import annotations

# kick snare rim clap | closed, open, pedal hats | crash ride bell
K, S, R, A, H, Q, P, C, D, B = 36, 38, 37, 39, 42, 46, 44, 49, 51, 53
TOMS = (50, 48, 47, 45, 43, 41)
Bar = dict[int, str]

EIGHTHS = "x.x.x.x.x.x.x.x."
SIXTEENTHS = "xoxoxoxoxoxoxoxo"
BACKBEAT = "....x.......x..."
FOUR = "x...x...x...x..."
OFFBEATS = "..x...x...x...x."

GROOVES: dict[str, tuple[Bar, ...]] = {
    "rock_beat": (
        {K: "x.......x.x.....", S: BACKBEAT, H: EIGHTHS},
        {K: "x.....x.x.......", S: "....x.......x..o", H: EIGHTHS},
        {K: "x..x....x.......", S: BACKBEAT, D: EIGHTHS, C: "x..............."},
        {K: "x.x.....x.x.....", S: BACKBEAT, H: "x.x.x.x.x.x.x...", Q: "..............x."},
        {K: "x.......xx......", S: BACKBEAT, H: EIGHTHS},
        {K: "x...x...x...x...", S: BACKBEAT, Q: "x...x...x...x..."},
        {K: "x......xx.x.....", S: BACKBEAT, D: "x...x...x...x..."},
    ),
    "funk_beat": (
        {K: "x..x..x...x..x..", S: "....x..o.o..x..o", H: "xxxxxxxxxxxxxxxx"},
        {K: "x.x...x..x....x.", S: ".o..x..o.o.ox..o", H: "x.xxx.xxx.xxx.xx",
         Q: ".......x......x."},
        {K: "x.x....x..x.....", S: "....x..o.o..x...", H: "xxxxxxxxxx.xxxxx",
         Q: "..........x....."},
        {K: "x..x...x.x......", S: "..o.x.o..o..x.oo", H: SIXTEENTHS},
        {K: "x.....xx..x..x..", S: "....x..o....x.o.", H: "x.x.xxx.x.x.xx.x"},
    ),
    "disco_beat": (
        {K: FOUR, S: BACKBEAT, H: FOUR, Q: OFFBEATS},
        {K: FOUR, A: BACKBEAT, H: "xx.xxx.xxx.xxx.x", Q: OFFBEATS},
        {K: FOUR, S: BACKBEAT, H: "xx.xxx.xxx.xxx.x", Q: OFFBEATS, 54: OFFBEATS},
        {K: FOUR, S: "....x.......x.x.", Q: OFFBEATS, 56: "x...x...x...x..."},
    ),
    "house_beat": (
        {K: FOUR, A: BACKBEAT, Q: OFFBEATS},
        {K: FOUR, Q: OFFBEATS, 70: "xxxxxxxxxxxxxxxx", A: "....x.......x..x"},
        {K: FOUR, Q: OFFBEATS},
        {K: FOUR, A: BACKBEAT, H: "..x...x...x...x.", 70: "x.xxx.xxx.xxx.xx"},
        {K: FOUR, S: "....x.......x...", Q: OFFBEATS, R: "..x..x....x..x.."},
        {K: "x...x...x...x..x", A: BACKBEAT, Q: OFFBEATS, H: "xx.xxx.xxx.xxx.x"},
    ),
    "hip_hop_beat": (
        {K: "x.....x...x.....", S: BACKBEAT, H: EIGHTHS},
        {K: "x......x..x..x..", A: BACKBEAT, H: "x.x.xxx.x.x.x.xx"},
        {K: "x..x......x.....", S: BACKBEAT, H: "x.x.x.x.x.x.x.x.", Q: "..............x."},
        {K: "x.....xx..x.....", S: "....x.......x..o", H: "x..xx..xx..xx..x"},
        {K: "x.........x..x..", A: "........x.......", H: "xxx.xxx.xxxxxxx."},
    ),
    "breakbeat": (
        {K: "x.x.......xx....", S: "....x..o.o..x..o", H: EIGHTHS},
        {K: "x.........x.....", S: "....x..x.x..x..x", D: EIGHTHS},
        {K: "x.x.......x.....", S: "....x..x.o..x...", H: EIGHTHS, Q: "..........x....."},
        {K: "x.........x.....", S: "....x.......x...", H: "xoxoxoxoxoxoxoxo"},
        {K: "x..x......x.....", S: "....x..o.o.xx.o.", D: "x.x.x.x.x.x.x.x."},
    ),
    "bossa_nova_beat": (
        {K: "x..xx..xx..xx..x", R: "x..x..x...x..x..", H: "xxxxxxxxxxxxxxxx"},
        {K: "x..xx..xx..xx..x", R: "..x..x..x..x..x.", 70: "xxxxxxxxxxxxxxxx"},
        {K: "x..xx..xx..xx..x", R: "..x...x.x..x..x.", H: EIGHTHS},
        {K: "x..xx..xx..xx..x", R: "x..x..x...x..x..", 82: SIXTEENTHS, P: BACKBEAT},
    ),
    "samba_percussion": (
        {41: "....x.......x...", K: "x..xx..xx..xx..x", 70: "xooxxooxxooxxoox",
         54: "x.xx.x.xx.xx.x.x", 67: "x.x..x.x.x..x.x.", S: "xooxoxoxxooxoxox"},
        {41: "....x..x....x...", K: "x..xx..xx..xx..x", 82: "xxxxxxxxxxxxxxxx",
         68: "x.x..xx..x.x.xx.", S: "oxooxooxoxooxoox"},
        {41: "....x...o...x.x.", 43: "x.......x.......", 54: "xoxxxoxxxoxxxoxx",
         67: "x.x.x..x.x..x.x.", 68: "...x..x...x....x", S: "oxoxxoxooxoxxoxo"},
        {41: "....x.......x..x", 78: "x..x..x...x.x...", 79: "..x...x.x.....x.",
         70: SIXTEENTHS, 67: "x.x..x.x.x..x.x."},
    ),
    "reggae_beat": (
        {K: "........x.......", R: "........x.......", H: "x.x.x.x.x.x.x.xo"},
        {K: "....x.......x...", R: "....x.......x...", H: OFFBEATS, Q: "..............x."},
        {K: "........x.......", S: "........x.......", H: "x.xxx.x.x.x.x.xx"},
        {K: FOUR, R: "........x.....x.", H: OFFBEATS},
        {K: "........x.......", R: "..x.....x..x....", H: "x.x.x.x.x.x.x.x.",
         P: "....x.......x..."},
    ),
    "jazz_swing_beat": (
        {D: "x..x.xx..x.x", P: "...x.....x..", K: "o.....o.....", S: "..o....o...."},
        {D: "x..x.xx..x.x", P: "...x.....x..", S: "........o..o"},
        {D: "x..x.xx..x.x", P: "...x.....x..", S: ".....o.....o", K: "........o..."},
        {D: "x..x..x..x.x", P: "...x.....x..", R: ".........x.."},
        {H: "x..x.xx..x.x", P: "...x.....x..", S: "..o.....o..."},
    ),
    "waltz_beat": (
        {K: "x...........", S: "....x...x...", H: "x...x...x..."},
        {K: "x...........", P: "....x...x...", D: "x...x.x.x..."},
        {K: "x...........", R: "....x...x...", H: "x.x.x.x.x.x."},
        {K: "x...........", S: "....o...o...", C: "x..........."},
        {35: "x...........", S: "....x...x.x.", D: "x...x...x..."},
    ),
    "shuffle_beat": (
        {K: "x.....x.....", S: "...x.....x..", H: "x.xx.xx.xx.x"},
        {K: "x....xx.....", S: "...x.o...x.o", D: "x.xx.xx.xx.x"},
        {K: "x.....x.x...", S: "...x.....x..", H: "x.xx.xx.xx.x"},
        {K: "x..x..x..x..", S: "...x.....x..", H: "x.xx.xx.xx.x"},
        {K: "x.x...x.....", S: "o..x..o..x.o", D: "x.xx.xx.xx.x"},
    ),
    "marching_drums": (
        {S: "x.xxx.xxx.xxxxxx", 35: "x.......x......."},
        {S: "xxx.x.x.xxx.xxxx", 35: "x...x...x...x...", 57: "x.......x......."},
        {S: "x..xx.x.x..xx.x.", 35: "x.......x......."},
        {S: "x.ooxoooxoxoxooo", 35: "x...x...x...x..."},
        {S: "xoxoxxxoxoxoxxxx", 35: "x.......x.......", 57: "x..............."},
    ),
    "double_kick_metal_beat": (
        {K: "xxxxxxxxxxxxxxxx", S: BACKBEAT, C: FOUR},
        {K: "xxxxxxxxxxxxxxxx", S: "........x.......", D: EIGHTHS},
        {K: "x.xxx.xxx.xxx.xx", S: BACKBEAT, Q: FOUR},
        {K: "x.x.x.x.x.x.x.x.", S: ".x.x.x.x.x.x.x.x", D: EIGHTHS},
        {K: "xxxxxxxxxxxxxxxx", S: BACKBEAT, B: FOUR, C: "x..............."},
    ),
    "latin_percussion": (
        {64: "x...x...x...x.xx", 63: "..xx..xx..xx..xx", 75: "x..x..x...x.x...",
         56: "x...x.x.x...x.x.", 70: "x.x.x.x.x.x.x.x."},
        {65: "x.....x.x..x....", 66: "...x......x..x..", 75: "..x.x...x..x..x.",
         56: "x.x.x.x.x.x.x.x.", 73: "x.......x......."},
        {62: "..x...x...x...x.", 63: "....xx......xx..", 64: "x.......x.......",
         60: "x.xxx.xxx.xxx.xx", 61: "...x...x...x...x"},
        {75: "x..x..x...x.x...", 65: "x..x..xxx..x..x.", 74: "x.......x.......",
         70: SIXTEENTHS, 64: "......xx......xx"},
        {60: "xoxoxoxoxoxoxoxo", 61: "......x.......x.", 63: "....x.......x...",
         64: "......xx......xx", 56: FOUR},
    ),
}  # fmt: skip
GROOVE_BPM: dict[str, tuple[float, float]] = {
    "rock_beat": (88, 150),
    "funk_beat": (86, 120),
    "disco_beat": (106, 130),
    "house_beat": (116, 132),
    "hip_hop_beat": (72, 102),
    "breakbeat": (130, 178),
    "bossa_nova_beat": (105, 148),
    "samba_percussion": (92, 132),
    "reggae_beat": (115, 158),
    "jazz_swing_beat": (110, 220),
    "waltz_beat": (110, 190),
    "shuffle_beat": (90, 146),
    "marching_drums": (94, 128),
    "double_kick_metal_beat": (120, 200),
    "latin_percussion": (90, 130),
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
# Styles in which every fourth bar ends in a fill, and the crash that follows it.
FILLED = frozenset({"rock_beat", "funk_beat", "disco_beat", "double_kick_metal_beat",
                    "shuffle_beat", "reggae_beat", "breakbeat"})  # fmt: skip
FILLS: tuple[Bar, ...] = (
    {S: "........xx......", 48: "..........xx....", 45: "............xx..", 41: "..............xx"},
    {S: "........x.x.x.xx"},
    {S: "............xxxx"},
    {48: "........x..x....", 45: "..........x..x..", 41: "............x.xx"},
    {S: "........xxxxxxxx"},
    {S: "........x..x..x.", K: "........o.o.o.o."},
)
