"""The taxonomy: every class that the corpus knows, and how often each kind is drawn.

In:  nothing.
Out: class ids by kind, and the General MIDI programs behind each instrument.
Knows nothing about words, rendering or files.

General MIDI programs (MIDI 1.0 sound set, counted from 0) that differ only by number in name, or
that no listener tells apart by name, are one class ("string ensemble 1" and "2"): a caption can
then name its exact class in words. Programs 120-127 are sound effects and belong to that kind.
"""

from __future__ import annotations

KINDS = ("instrument", "drum", "genre", "effect", "speech")

# Share of the corpus by kind; the held-out gallery keeps the same shares.
SHARES: dict[str, float] = {
    "instrument": 0.42,
    "drum": 0.10,
    "genre": 0.08,
    "effect": 0.34,
    "speech": 0.06,
}

INSTRUMENTS: dict[str, tuple[int, ...]] = {
    "piano": (0, 1), "electric_grand_piano": (2,), "honky_tonk_piano": (3,),
    "electric_piano": (4, 5), "harpsichord": (6,), "clavinet": (7,), "celesta": (8,),
    "glockenspiel": (9,), "music_box": (10,), "vibraphone": (11,), "marimba": (12,),
    "xylophone": (13,), "tubular_bells": (14,), "hammered_dulcimer": (15,),
    "drawbar_organ": (16,), "percussive_organ": (17,), "rock_organ": (18,),
    "church_organ": (19,), "reed_organ": (20,), "accordion": (21,), "harmonica": (22,),
    "bandoneon": (23,), "nylon_guitar": (24,), "steel_string_guitar": (25,),
    "jazz_guitar": (26,), "clean_electric_guitar": (27,), "muted_guitar": (28,),
    "overdriven_guitar": (29,), "distortion_guitar": (30,), "guitar_harmonics": (31,),
    "upright_bass": (32,), "fingered_bass": (33,), "picked_bass": (34,),
    "fretless_bass": (35,), "slap_bass": (36, 37), "synth_bass": (38, 39), "violin": (40,),
    "viola": (41,), "cello": (42,), "bowed_double_bass": (43,), "tremolo_strings": (44,),
    "pizzicato_strings": (45,), "harp": (46,), "timpani": (47,), "string_ensemble": (48, 49),
    "synth_strings": (50, 51), "choir": (52,), "voice_oohs": (53,), "synth_voice": (54, 85),
    "orchestra_hit": (55,), "trumpet": (56,), "trombone": (57,), "tuba": (58,),
    "muted_trumpet": (59,), "french_horn": (60,), "brass_section": (61,),
    "synth_brass": (62, 63), "soprano_sax": (64,), "alto_sax": (65,), "tenor_sax": (66,),
    "baritone_sax": (67,), "oboe": (68,), "english_horn": (69,), "bassoon": (70,),
    "clarinet": (71,), "piccolo": (72,), "flute": (73,), "recorder": (74,), "pan_flute": (75,),
    "blown_bottle": (76,), "shakuhachi": (77,), "human_whistle": (78,), "ocarina": (79,),
    "square_lead": (80,), "saw_lead": (81,), "calliope": (82, 83), "synth_lead": (84, 86, 87),
    "synth_pad": (88, 89, 90, 94, 95), "choir_pad": (91,), "bowed_glass_pad": (92, 93),
    "synth_texture": (96, 97, 99, 100, 101, 103), "crystal_synth": (98,), "echo_synth": (102,),
    "sitar": (104,), "banjo": (105,), "shamisen": (106,), "koto": (107,), "kalimba": (108,),
    "bagpipe": (109,), "fiddle": (110,), "shehnai": (111,), "tinkle_bell": (112,),
    "agogo": (113,), "steel_drum": (114,), "woodblock": (115,), "taiko": (116,),
    "melodic_tom": (117,), "synth_drum": (118,), "reverse_cymbal": (119,),
}

# One-shots and rolls on single pieces, then grooves of a whole kit.
DRUMS: tuple[str, ...] = (
    "kick_drum", "snare_drum", "hi_hat", "crash_cymbal", "ride_cymbal", "tom_fill", "hand_clap",
    "cowbell", "tambourine", "bongos_and_congas", "shaker", "triangle", "claves", "guiro",
    "snare_roll", "rock_beat", "funk_beat", "disco_beat", "house_beat", "hip_hop_beat",
    "breakbeat", "bossa_nova_beat", "samba_percussion", "reggae_beat", "jazz_swing_beat",
    "waltz_beat", "shuffle_beat", "marching_drums", "double_kick_metal_beat",
    "latin_percussion",
)

# Small arrangements: several instruments, mostly with drums.
GENRES: tuple[str, ...] = (
    "rock_band", "heavy_metal", "funk_band", "disco_band", "reggae_band", "jazz_trio",
    "big_band", "bossa_nova_band", "string_quartet", "baroque_ensemble", "orchestra",
    "brass_band_march", "viennese_waltz", "bluegrass_band", "irish_folk", "blues_band",
    "gospel_organ", "chiptune", "synthwave", "house_music", "techno", "trance", "hip_hop_track",
    "drum_and_bass_track", "ambient_music", "lullaby", "church_hymn", "tango", "polka",
    "indian_raga", "japanese_traditional", "calypso",
)

EFFECTS: tuple[str, ...] = (
    # weather, water, fire
    "rain", "thunder", "wind", "ocean_waves", "stream", "dripping_water", "bubbling", "splash",
    "waterfall", "fire_crackling", "steam_hiss", "pouring_liquid", "hail",
    # alarms and signals
    "police_siren", "two_tone_siren", "air_raid_siren", "smoke_alarm", "car_alarm",
    "alarm_clock", "telephone_ring", "dial_tone", "busy_tone", "touch_tone_dialing", "beep",
    "car_horn", "train_horn", "ship_horn", "bicycle_bell", "doorbell", "church_bell",
    "school_bell", "reversing_beeper", "morse_code", "sonar_ping", "train_whistle",
    "referee_whistle", "hospital_monitor",
    # machines and vehicles
    "car_engine", "motorcycle", "truck_engine", "propeller_plane", "jet_engine", "helicopter",
    "train_on_tracks", "electric_motor", "drill", "chainsaw", "vacuum_cleaner", "fan",
    "washing_machine", "clock_ticking", "typewriter", "keyboard_typing", "printer",
    "camera_shutter", "mains_hum", "sewing_machine", "modem",
    # impacts and materials
    "footsteps", "knocking", "door_slam", "glass_breaking", "metal_clang", "hammering",
    "wood_creak", "coins", "ball_bounce", "sawing", "zipper", "paper_crumple", "scratching",
    "explosion", "gunshot", "machine_gun", "fireworks", "whip_crack", "cork_pop",
    # animals
    "bird_song", "crow", "owl", "rooster", "duck", "dog_bark", "cat_meow", "cow", "sheep",
    "cricket", "frog", "bee_buzz", "wolf_howl", "horse_hooves", "woodpecker", "snake_hiss",
    # people, not speaking
    "applause", "heartbeat", "snoring", "breathing", "laughter", "baby_cry", "cough", "scream",
    "finger_snap",
    # synthetic and games
    "laser", "coin_pickup", "jump_blip", "power_up", "game_over", "siren_sweep",
    "white_noise", "pink_noise", "sine_tone", "rising_sweep", "falling_sweep", "radio_static",
    "vinyl_crackle", "whoosh", "robot_bleeps", "glitch", "sub_drop", "wobble_bass",
    "riser",
)

SPEECH: tuple[str, ...] = (
    "man_speaking", "woman_speaking", "child_speaking", "whispering", "fast_speech",
    "slow_speech", "robot_voice", "crowd_talking", "conversation", "telephone_voice",
    "public_address", "counting_aloud", "shouting", "distant_speech",
)

CLASSES: dict[str, tuple[str, ...]] = {
    "instrument": tuple(INSTRUMENTS),
    "drum": DRUMS,
    "genre": GENRES,
    "effect": EFFECTS,
    "speech": SPEECH,
}

KIND_OF: dict[str, str] = {name: kind for kind, names in CLASSES.items() for name in names}
