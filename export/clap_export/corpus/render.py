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
from clap_export.corpus import drums, effects, genres, music, room, speech
from clap_export.corpus.classes import CLASSES, INSTRUMENTS, KIND_OF, KINDS, SHARES
from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import HELD_OUT_FONT, TRAINING_FONTS, Note, Synth
from clap_export.frontend import CLAP_MINI_FRONT_END, make_frontend_npz

CHUNK = 256
TRAINING_BLOCK = 36_000
# Bytes 0..255 stand for -80..0 dB: steps of 0.31 dB, far under what augmentation moves.
DB_STEP = 80.0 / 255.0
SPLITS = ("train", "validation", "held_out")

# General MIDI's own sound effects: the sampled source of some effect classes.
SAMPLED_EFFECTS = {
    "breathing": (121, 60),
    "ocean_waves": (122, 60),
    "bird_song": (123, 66),
    "telephone_ring": (124, 64),
    "helicopter": (125, 58),
    "applause": (126, 60),
    "gunshot": (127, 58),
}


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
    block = TRAINING_BLOCK if split == "train" else count
    drawn: list[str] = []
    for number in range(-(-count // block)):
        names: list[str] = []
        for kind in KINDS:
            classes = CLASSES[kind]
            share = round(block * SHARES[kind])
            names += [classes[i % len(classes)] for i in range(share)]
        names = (names + list(CLASSES["instrument"]) * block)[:block]
        key = [seed, SPLITS.index(split), 1] + ([number] if number else [])
        np.random.default_rng(key).shuffle(names)
        drawn += names
    return drawn[:count]


@lru_cache(maxsize=3)
def synth(font: Path) -> Synth:
    return Synth(font)


def sampled_effect(draw: Draw, name: str, font: Path) -> np.ndarray:
    program, key = SAMPLED_EFFECTS[name]
    key += draw.integer(-7, 7)
    notes = [Note(0.0, draw.uniform(1.5, 4.5), 0, key, draw.integer(80, 120))]
    return synth(font).render(notes, {0: program}, 0, room.SECONDS)


def render_clip(name: str, index: int, seed: int, split: str) -> Clip:
    """Clip `index` of a split, of class `name`."""
    kind = KIND_OF[name]
    rng = np.random.default_rng([seed, SPLITS.index(split), 2, index])
    draw = Draw(rng, held_out=split == "held_out")
    font = HELD_OUT_FONT if split == "held_out" else draw.choice(TRAINING_FONTS)
    attributes = {"class": name, "kind": kind}
    timing: dict[str, str] = {}
    if kind == "instrument":
        notes, more = music.solo(draw, name, room.SECONDS)
        program = draw.choice(INSTRUMENTS[name])
        wave = synth(font).render(notes, {0: program}, 0, room.SECONDS)
    elif kind == "drum":
        notes, kit, more = drums.percussion(draw, name, room.SECONDS)
        wave = synth(font).render(notes, {}, kit, room.SECONDS)
    elif kind == "genre":
        notes, programs, kit, more = genres.arrange(draw, name, room.SECONDS)
        wave = synth(font).render(notes, programs, kit, room.SECONDS)
    elif kind == "effect":
        more = {}
        if name in SAMPLED_EFFECTS and draw.chance(0.34):
            wave = sampled_effect(draw, name, font)
        else:
            wave = draw.choice(effects.GENERATORS[name])(draw)
        wave, timing = room.place(draw, np.asarray(wave, dtype=np.float64))
    else:
        more = {}
        wave, _ = room.place(draw, speech.speak(draw, name))
    # Sounds whose class is their own room or microphone keep it.
    steady = kind == "speech" or name in ("sine_tone", "white_noise", "pink_noise", "mains_hum")
    wave, recorded = room.record(draw, np.asarray(wave, dtype=np.float64), held_steady=steady)
    if kind == "speech":
        recorded.pop("quality", None)
    return Clip(wave, {**attributes, **more, **timing, **recorded})


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


def render_chunk(job: Job) -> Path:
    """Renders one chunk and renames it into place, so that a chunk on disk is a whole one."""
    clips = [
        render_clip(name, job.first + i, job.seed, job.split) for i, name in enumerate(job.names)
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
    folder: Path, split: str, count: int, seed: int = 0, workers: int = 2
) -> Iterator[tuple[int, int]]:
    """Renders what is missing of `count` clips; yields (clips there, clips in all) as it goes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = schedule(count, seed, split)
    recipe = {"split": split, "count": count, "seed": seed, "classes": digest(names)}
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
            jobs.append(Job(folder, number, first, part, seed, split))
    done = count - sum(len(job.names) for job in jobs)
    yield done, count
    if not jobs:
        return
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
