"""How far the shipped bundle can be trusted with each label set that comes along.

In:  a folder for rendered clips (made where it is missing); a bundle.
Out: one JSON line a set: top-1, top-5, and precision and recall at a probability of .5.
Knows nothing about training: the clips are the held-out gallery's, by classes of the corpus.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import clap_engine
from clap_engine.arrays import Float32
from clap_engine.session import GraphSession
from clap_engine.tasks import label_sets
from clap_engine.tasks.scores import Background
from clap_export.corpus import fonts, render
from clap_export.corpus.classes import INSTRUMENTS

GENRES = {
    "rock_band": "rock", "heavy_metal": "heavy metal", "funk_band": "funk", "disco_band": "disco",
    "reggae_band": "reggae", "jazz_trio": "jazz", "big_band": "swing",
    "bossa_nova_band": "bossa nova", "string_quartet": "chamber music",
    "baroque_ensemble": "baroque", "orchestra": "classical", "brass_band_march": "march",
    "viennese_waltz": "waltz", "bluegrass_band": "bluegrass", "irish_folk": "celtic|folk",
    "blues_band": "blues", "gospel_organ": "gospel", "chiptune": "chiptune",
    "synthwave": "synthwave", "house_music": "house", "techno": "techno", "trance": "trance",
    "hip_hop_track": "hip hop", "drum_and_bass_track": "drum and bass",
    "ambient_music": "ambient", "lullaby": "lullaby", "church_hymn": "choral", "tango": "tango",
    "polka": "polka", "indian_raga": "Indian classical",
    "japanese_traditional": "Japanese traditional", "calypso": "calypso",
}  # fmt: skip

# Where UCS itself allows several (an alarm clock is a clock and an alarm), each is right.
UCS = {
    "RAIN": "rain", "WEATHER": "thunder hail", "WIND": "wind",
    "WATER": "ocean_waves stream dripping_water bubbling splash waterfall pouring_liquid",
    "FIRE": "fire_crackling", "AIR": "steam_hiss",
    "ALARMS": "police_siren two_tone_siren air_raid_siren smoke_alarm car_alarm alarm_clock "
    "siren_sweep reversing_beeper",
    "COMMUNICATIONS": "telephone_ring dial_tone busy_tone touch_tone_dialing morse_code modem "
    "radio_static",
    "BEEPS": "beep reversing_beeper hospital_monitor sonar_ping touch_tone_dialing robot_bleeps "
    "sine_tone",
    "HORNS": "car_horn train_horn ship_horn", "BELLS": "bicycle_bell doorbell church_bell "
    "school_bell", "DOORS": "doorbell knocking door_slam",
    "TRAINS": "train_horn train_whistle train_on_tracks",
    "WHISTLES": "train_whistle referee_whistle",
    "VEHICLES": "car_engine motorcycle truck_engine car_horn car_alarm",
    "AIRCRAFT": "propeller_plane jet_engine helicopter",
    "MOTORS": "electric_motor car_engine motorcycle fan", "TOOLS": "drill chainsaw hammering "
    "sawing", "MACHINES": "vacuum_cleaner fan washing_machine printer sewing_machine typewriter",
    "CLOCKS": "clock_ticking alarm_clock", "COMPUTERS": "keyboard_typing printer modem",
    "MECHANICAL": "camera_shutter sewing_machine typewriter zipper",
    "ELECTRICITY": "mains_hum radio_static", "FOOTSTEPS": "footsteps", "GLASS": "glass_breaking",
    "METAL": "metal_clang hammering", "WOOD": "wood_creak sawing knocking",
    "OBJECTS": "coins zipper", "SPORTS": "ball_bounce referee_whistle", "CLOTH": "zipper",
    "PAPER": "paper_crumple", "MOVEMENT": "scratching", "EXPLOSIONS": "explosion",
    "GUNS": "gunshot machine_gun", "FIREWORKS": "fireworks", "WEAPONS": "whip_crack",
    "FOOD & DRINK": "cork_pop pouring_liquid", "BIRDS": "bird_song crow owl rooster duck "
    "woodpecker", "ANIMALS": "dog_bark cat_meow cow sheep cricket frog bee_buzz wolf_howl "
    "horse_hooves snake_hiss rooster duck", "CROWDS": "applause",
    "HUMAN": "heartbeat snoring breathing cough finger_snap applause baby_cry laughter scream",
    "VOICES": "laughter baby_cry scream", "LASERS": "laser",
    "GAMES": "coin_pickup jump_blip power_up game_over", "SWOOSHES": "whoosh riser",
    "DESIGNED": "whoosh riser sub_drop wobble_bass rising_sweep falling_sweep glitch siren_sweep "
    "white_noise pink_noise power_up game_over coin_pickup jump_blip",
    "ROBOTS": "robot_bleeps", "SCIFI": "laser robot_bleeps glitch siren_sweep",
    "MUSICAL": "wobble_bass", "ARCHIVED": "vinyl_crackle",
}  # fmt: skip

SPEAKERS = {"conversation": "two speakers|several speakers", "crowd_talking": "crowd"}


def right_labels(name: str, class_name: str, kind: str, labels: Sequence[str]) -> set[str]:
    """Which labels of a set are true of a class; none where the set is not about it."""
    if name.startswith("gm-"):
        programs = INSTRUMENTS.get(class_name, ())
        step = 1 if name == "gm-instruments" else 8
        return {labels[program // step] for program in programs}
    if name == "genres":
        return set(GENRES[class_name].split("|")) if class_name in GENRES else set()
    if name == "ucs-categories":
        return {label for label, classes in UCS.items() if class_name in classes.split()}
    if name == "speaker-counts" and kind == "speech":
        return set(SPEAKERS.get(class_name, "one speaker").split("|"))
    return set()


def rendered(corpus: Path, split: str, count: int, seed: int = 0) -> Path:
    """The folder of a split of `corpus`, what it lacks rendered: through the same fonts as
    `clap-export corpus` has, where they are there, else through the two plain ones.

    ValueError where it holds another corpus.
    """
    folder, where = corpus / split, fonts.folder()
    through = fonts.PLAIN if fonts.missing(fonts.TRAINING, where) else fonts.TRAINING
    for done, of in render.render(folder, split, count, seed, 1, through, where):
        print(f"{done} of {of} clips", end="\r", flush=True)
    return folder


def embed(engine: clap_engine.Engine, folder: Path) -> tuple[Float32, list[dict[str, str]]]:
    """[N, D] of the rendered clips by the engine's own audio graph, and what each is."""
    log_mels, clips = render.load(folder)
    bundle = engine.bundle
    graphs = bundle.manifest.audio.graphs
    spec = graphs.get("int8") or next(iter(graphs.values()))
    session = GraphSession(bundle.read_graph(spec.file), name=spec.file, threads=1)
    rows = []
    for start in range(0, len(log_mels), 16):
        part = log_mels[start : start + 16].astype(np.float32) * render.DB_STEP - 80.0
        rows.append(session.run(["embedding"], {"log_mel": part.astype(np.float32)})[0])
    return np.concatenate(rows), clips


def measure(engine: clap_engine.Engine, name: str, rows: Float32, clips: list[dict[str, str]]):
    """One set's figures, or None where no clip is about it."""
    found = label_sets.load(name)
    right = [right_labels(name, c["class"], c["kind"], found.labels.names) for c in clips]
    used = [i for i, labels in enumerate(right) if labels]
    if not used:
        return None
    truth = np.array([[label in right[i] for label in found.labels.names] for i in used])
    cosines = found.labels.best(rows[used] @ engine._prompts.rows(found.labels.texts, "classify").T)
    order = np.argsort(-cosines, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1)
    heard = Background.of(engine.calibration).probabilities(cosines) >= 0.5
    true_heard = float((heard & truth).sum())
    return {
        "set": name,
        "labels": len(found.labels),
        "clips": len(used),
        "top1": round(float(hits[:, 0].mean()), 3),
        "top5": round(float(hits[:, :5].any(axis=1).mean()), 3),
        "clips_with_a_right_label_at_.5": round(float((heard & truth).any(axis=1).mean()), 3),
        "precision_at_.5": round(true_heard / max(1.0, float(heard.sum())), 3),
        "chance_top1": round(float(truth.mean(axis=1).mean()), 3),
    }


def main() -> None:
    """Render what is missing, then measure every set."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--corpus", type=Path, required=True, help="held_out/ is made in it")
    options.add_argument("--clips", type=int, default=1000)
    options.add_argument("--bundle", help="default: the one that ships")
    arguments = options.parse_args()
    folder = rendered(arguments.corpus, "held_out", arguments.clips)
    with clap_engine.load(arguments.bundle, threads=1) as engine:
        rows, clips = embed(engine, folder)
        for name in label_sets.names():
            figures = measure(engine, name, rows, clips)
            print(json.dumps(figures or {"set": name, "clips": 0}))


if __name__ == "__main__":
    main()
