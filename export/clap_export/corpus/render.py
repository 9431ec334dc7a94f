"""The corpus on disk: every clip rendered from its seed, stored as log-mels with its attributes.

In:  a split, a number of clips, a seed and a folder.
Out: chunk files (`00012.npz`: log-mels uint8 [256, F, M], and one JSON line of attributes a clip).
Knows nothing about words or towers.

Every clip depends on (seed, split, index) alone (as far as `synth.Synth` can), so chunks are
rendered in any order, by any number of workers, and a run that was stopped goes on where chunks
are missing.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from clap_engine.mel import LogMel
from clap_export.corpus import fonts as soundfonts
from clap_export.corpus import layers, recorded, room, sources, voices
from clap_export.corpus.classes import CLASSES, KINDS, SHARES
from clap_export.corpus.draw import Draw
from clap_export.corpus.fonts import Font
from clap_export.corpus.grooves import GROOVES
from clap_export.corpus.sources import SAMPLED_EFFECTS, Sources
from clap_export.corpus.synth import Synth
from clap_export.frontend import CLAP_MINI_FRONT_END, make_frontend_npz

__all__ = [
    "SAMPLED_EFFECTS",
    "SPLITS",
    "Clip",
    "Job",
    "load",
    "load_training",
    "render",
    "render_clip",
    "schedule",
]

CHUNK = 256
TRAINING_BLOCK = 36_000
# Bytes 0..255 stand for -80..0 dB: steps of 0.31 dB, far under what augmentation moves.
DB_STEP = 80.0 / 255.0
# `held_out` has its own font, voices and parameter bands; `another_font` plays all music through
# one more font, `unseen_generator` makes every effect in a way that training never heard.
# `grooves` are more drum patterns for training: of all kinds of clips one hears least of these.
SPLITS = ("train", "validation", "held_out", "another_font", "unseen_generator", "grooves")
TRAINING = ("train", "grooves")
HELD_OUT_SPLITS = frozenset({"held_out", "another_font"})
RECORDED_SPLITS = frozenset({"train", "validation"})
# Clips with two sounds, by split, of the kinds that have room for a second one.
SCENE_SHARE = {"train": 0.12, "validation": 0.06, "held_out": 0.06}
MUSIC = ("instrument", "drum", "genre")
GENERATION = "2"  # of the code: a folder that another generation began is refused
FRAGMENTED = ("instrument", "drum", "effect")
FRAGMENT_SHARE = 0.08  # long sounds of which a second or two is heard
# Sounds whose class is their own room or microphone keep it.
STEADY = frozenset({"sine_tone", "white_noise", "pink_noise", "mains_hum"})


@dataclass(frozen=True)
class Clip:
    """One rendered sound: waveform float32 [160000] and what is exactly true of it."""

    waveform: np.ndarray
    attributes: dict[str, str]


def schedule(count: int, seed: int, split: str) -> list[str]:
    """The class of every clip: kinds in their shares, classes of a kind in equal numbers.

    The training schedule is drawn in blocks of 36,000 and cut, so that a shorter corpus is the
    beginning of a longer one.
    """
    if split == "unseen_generator":
        names = sorted(sources.unseen_generators())
        return [names[i % len(names)] for i in range(count)] if names else []
    if split == "grooves":
        return [tuple(GROOVES)[i % len(GROOVES)] for i in range(count)]
    shares = {k: v for k, v in SHARES.items() if split != "another_font" or k in MUSIC}
    total = sum(shares.values())
    block = TRAINING_BLOCK if split == "train" else count
    drawn: list[str] = []
    for number in range(-(-count // block)):
        names = []
        for kind in KINDS:
            classes = CLASSES[kind]
            share = round(block * shares.get(kind, 0.0) / total)
            names += [classes[i % len(classes)] for i in range(share)]
        names = (names + list(CLASSES["instrument"]) * block)[:block]
        key = [seed, SPLITS.index(split), 1] + ([number] if number else [])
        np.random.default_rng(key).shuffle(names)
        drawn += names
    return drawn[:count]


def synth(font: Path) -> Synth:
    """The font, loaded once for each process."""
    return sources.load(font)


def split_sources(split: str, folder: Path, fonts: tuple[Font, ...] | None = None) -> Sources:
    """What a split is made of; `fonts` are the training ones, by default the two plain ones."""
    chosen = {"held_out": (soundfonts.HELD_OUT,), "another_font": (soundfonts.ANOTHER,)}
    return Sources(
        chosen.get(split, fonts or soundfonts.PLAIN),
        folder,
        "unseen" if split == "unseen_generator" else "known",
    )


def render_clip(
    name: str,
    index: int,
    seed: int,
    split: str,
    fonts: tuple[Font, ...] | None = None,
    folder: Path | None = None,
) -> Clip:
    """Clip `index` of a split, of class `name`."""
    rng = np.random.default_rng([seed, SPLITS.index(split), 2, index])
    draw = Draw(rng, held_out=split in HELD_OUT_SPLITS)
    made = split_sources(split, folder or soundfonts.folder(), fonts)
    wave, attributes = sources.sound(draw, made, name)
    kind = attributes["kind"]
    timing: dict[str, str] = {}
    if draw.chance(SCENE_SHARE.get(split, 0.0)) and kind != "genre" and name not in STEADY:
        wave, attributes = scene(draw, made, wave, attributes)
    elif kind == "effect":
        wave, timing = room.place(draw, wave)
    elif kind == "speech":
        wave, _ = room.place(draw, wave)
    placed = timing or {"then", "with", "count"} & attributes.keys() or name in STEADY
    if not placed and kind in FRAGMENTED and draw.chance(FRAGMENT_SHARE):
        wave = layers.fragment(draw, wave)
        attributes = {k: v for k, v in attributes.items() if k not in ("tempo", "mode")}
        attributes["length"] = "short"
    wave, recorded = room.record(draw, wave, held_steady=kind == "speech" or name in STEADY)
    if kind == "speech":
        recorded.pop("quality", None)
    return Clip(wave, {**attributes, **timing, **recorded})


def scene(
    draw: Draw, made: Sources, wave: np.ndarray, attributes: dict[str, str]
) -> tuple[np.ndarray, dict[str, str]]:
    """The clip's sound and a second one: "then" names what follows it, "with" what lies under it.

    What was true of the first sound alone and over the whole clip (its tempo, texture, mode) is
    claimed of mixtures only: half a clip is too short to tell.
    """
    name, kind = attributes["class"], attributes["kind"]
    plain = {"class": name, "kind": kind}
    if draw.chance(0.5):
        others = [c for k in ("effect", "speech", "instrument", "drum") for c in CLASSES[k]]
        other = draw.choice([c for c in others if c != name and c not in STEADY])
        following, _ = sources.sound(draw, made, other)
        kept = {k: v for k, v in attributes.items() if k in ("program", "family", "font")}
        return layers.sequence(draw, wave, following), {**plain, **kept, "then": other}
    music = kind == "instrument"
    companions = layers.COMPANIONS if music and draw.chance(0.6) else layers.BACKGROUNDS
    other = draw.choice([c for c in companions if c != name])
    back, _ = sources.sound(draw, made, other)
    under = (8.0, 16.0) if music else (5.0, 12.0)
    if kind in ("effect", "speech"):
        wave, _ = room.place(draw, wave)
    return layers.mixture(draw, wave, back, under), {**attributes, "with": other}


def quantize_log_mel(log_mel: np.ndarray) -> np.ndarray:
    """float32 dB in [-80, 0] -> uint8."""
    return np.asarray(np.clip(np.round((log_mel + 80.0) / DB_STEP), 0, 255), dtype=np.uint8)


@lru_cache(maxsize=1)
def log_mel() -> LogMel:
    return LogMel(CLAP_MINI_FRONT_END, make_frontend_npz())


@dataclass(frozen=True)
class Job:
    """One chunk to render: its number, the index of its first clip, the classes of its clips."""

    folder: Path
    number: int
    first: int
    names: tuple[str, ...]
    seed: int
    split: str
    fonts: tuple[Font, ...] | None = None  # the training ones; None: the two plain ones
    soundfonts: Path | None = None  # the folder of those that no system package installs


def render_chunk(job: Job) -> Path:
    """Renders one chunk and renames it into place, so that a chunk on disk is a whole one."""
    clips = [
        render_clip(name, job.first + i, job.seed, job.split, job.fonts, job.soundfonts)
        for i, name in enumerate(job.names)
    ]
    mels = np.concatenate([quantize_log_mel(log_mel()(clip.waveform[None])) for clip in clips])
    lines = "\n".join(json.dumps(clip.attributes, sort_keys=True) for clip in clips)
    path = job.folder / f"{job.number:05d}.npz"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, log_mel=mels, attributes=np.frombuffer(lines.encode(), dtype=np.uint8))
    partial.rename(path)
    return path


def render(
    folder: Path,
    split: str,
    count: int,
    seed: int = 0,
    workers: int = 2,
    fonts: tuple[Font, ...] | None = None,
    font_folder: Path | None = None,
) -> Iterator[tuple[int, int]]:
    """Renders what is missing of `count` clips; yields (clips there, clips in all) as it goes.

    `fonts` are those that training clips are played through, by default the two plain ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = schedule(count, seed, split)
    font_folder = font_folder or soundfonts.folder()
    used = split_sources(split, font_folder, fonts).fonts
    recipe = {"split": split, "count": count, "seed": seed, "classes": digest(names)}
    recipe["fonts"] = " ".join(font.name for font in used)
    recipe["generation"] = GENERATION
    if split in RECORDED_SPLITS:
        recipe["recordings"] = recorded.digest(font_folder / recorded.FOLDER)
    recipe["voices"] = voices.engines()
    stamp = folder / "recipe.json"
    if stamp.exists() and json.loads(stamp.read_text()) != recipe:
        raise ValueError(
            f"{folder} holds another corpus ({stamp.read_text()}); give an empty folder"
        )
    stamp.write_text(json.dumps(recipe))
    jobs = []
    for number in range(-(-count // CHUNK)):
        if not (folder / f"{number:05d}.npz").exists():
            first = number * CHUNK
            part = tuple(names[first : first + CHUNK])
            jobs.append(Job(folder, number, first, part, seed, split, fonts, font_folder))
    done = count - sum(len(job.names) for job in jobs)
    yield done, count
    if not jobs:
        return
    soundfonts.check(used, font_folder)
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        for path in pool.imap_unordered(render_chunk, jobs):
            done += len(names[int(path.stem) * CHUNK : (int(path.stem) + 1) * CHUNK])
            yield done, count


def digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def load(folder: Path) -> tuple[np.ndarray, list[dict[str, str]]]:
    """All chunks of a split: log-mels uint8 [N, F, M] and the attributes of each clip."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no chunks; run clap-export corpus first")
    mels, attributes = [], []
    for path in paths:
        with np.load(path, allow_pickle=False) as chunk:
            mels.append(chunk["log_mel"])
            lines = chunk["attributes"].tobytes().decode().split("\n")
        attributes += [json.loads(line) for line in lines]
    return np.concatenate(mels), attributes


def load_training(corpus: Path) -> tuple[np.ndarray, list[dict[str, str]]]:
    """What `load` gives of all splits that training reads, as far as they are there."""
    parts = [load(corpus / "train")]
    parts += [load(corpus / name) for name in TRAINING[1:] if any((corpus / name).glob("*.npz"))]
    return np.concatenate([mels for mels, _ in parts]), [c for _, clips in parts for c in clips]
