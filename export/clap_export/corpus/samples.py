"""The sample clips that come with the package: what `clap-engine demo` indexes.

In:  a folder and a seed.
Out: OGG files (five seconds, mono, 32 kHz) and `samples.csv` (file, caption, class).
Knows nothing about towers or search.

The clips are drawn as the held-out gallery is (its SoundFont, voices and parameter bands), from
a seed of their own: training never saw them.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

from clap_export.corpus import captions, lexicon, render
from clap_export.corpus.synth import RATE_HZ

# Classes that most listeners name at once, and a few that they don't.
SAMPLES = (
    "piano", "electric_piano", "harpsichord", "music_box", "vibraphone", "marimba",
    "church_organ", "accordion", "harmonica", "nylon_guitar", "distortion_guitar", "slap_bass",
    "violin", "cello", "pizzicato_strings", "harp", "timpani", "choir", "trumpet", "tuba",
    "french_horn", "alto_sax", "oboe", "clarinet", "flute", "pan_flute", "saw_lead",
    "synth_pad", "sitar", "banjo", "koto", "kalimba", "bagpipe", "steel_drum", "taiko",
    "snare_drum", "hi_hat", "tambourine", "bongos_and_congas", "rock_beat", "house_beat",
    "jazz_swing_beat", "marching_drums", "heavy_metal", "reggae_band", "string_quartet",
    "chiptune", "polka", "lullaby", "rain", "thunder", "wind", "ocean_waves", "police_siren",
    "telephone_ring", "alarm_clock", "church_bell", "car_engine", "helicopter", "chainsaw",
    "clock_ticking", "footsteps", "knocking", "glass_breaking", "gunshot", "dog_bark",
    "bird_song", "owl", "cricket", "applause", "heartbeat", "laser", "vinyl_crackle",
    "man_speaking", "woman_speaking", "whispering", "crowd_talking", "counting_aloud",
    # Second ones: what a query by example should find.
    "banjo", "church_bell",
)  # fmt: skip
MAX_BYTES = 5 * 1024 * 1024


def write_samples(folder: Path, seed: int = 1) -> list[Path]:
    """Renders every sample clip; raises ValueError when they come to more than 5 MiB."""
    folder.mkdir(parents=True, exist_ok=True)
    words = lexicon.load()
    rows, paths = [], []
    for index, name in enumerate(SAMPLES):
        clip = render.render_clip(name, index, seed, "held_out")
        number = SAMPLES[:index].count(name) + 1
        stem = name.replace("_", "-") + (f"-{number}" if number > 1 else "")
        path = folder / f"{stem}.ogg"
        wave = clip.waveform / max(1e-9, float(np.abs(clip.waveform).max())) * 0.8
        soundfile.write(path, wave, RATE_HZ, format="OGG", subtype="VORBIS")
        phrase = words.known[name][0]
        claims = captions.compose(
            np.random.default_rng([seed, index]), phrase, clip.attributes, (0.3, 0.7, 0.0)
        )
        rows.append({"file": path.name, "caption": claims.text, "class": name})
        paths.append(path)
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "caption", "class"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    total = sum(path.stat().st_size for path in paths)
    if total > MAX_BYTES:
        raise ValueError(f"the samples are {total} bytes; at most {MAX_BYTES} are allowed")
    return paths
