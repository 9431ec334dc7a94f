"""Long recordings with known events, made of the corpus' own effect generators.

In:  the number of a mixture, a seed, and whether its parameters are the held-out ones.
Out: `Mixture`: waveform float32 [T] at 32 kHz, and each event's label, start and end in seconds.
Knows nothing about models. The same number and seed give the same samples.

A mixture is a minute of quiet noise in which a dozen effects sound, 8 to 25 dB over it, with
pauses or overlapping by a part; a third of them in a room. Ends are where an effect falls 35 dB
under its own peak. Events of training-like parameters are for choosing thresholds, held-out ones
for measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32
from clap_export.corpus import dsp, effects, room
from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import RATE_HZ

SECONDS = 60
EVENTS = 12
LONGEST_S = 6.0
FALL_DB = 35.0
STEP = RATE_HZ // 100

# What listeners name at once, from every family of effects; silence and noise are none of them.
CLASSES = (
    "dog_bark", "cat_meow", "rooster", "crow", "owl", "cow", "horse_hooves", "frog",
    "baby_cry", "cough", "laughter", "scream", "applause", "snoring",
    "gunshot", "machine_gun", "explosion", "glass_breaking", "door_slam", "knocking",
    "footsteps", "hammering", "coins", "thunder", "splash",
    "police_siren", "smoke_alarm", "car_horn", "church_bell", "telephone_ring", "doorbell",
    "train_whistle", "helicopter", "chainsaw", "motorcycle", "keyboard_typing", "camera_shutter",
    "laser", "sonar_ping", "zipper",
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One sound in a recording, in seconds."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Mixture:
    """`waveform` float32 [T] at 32 kHz with its true events in order."""

    waveform: Float32
    events: tuple[Event, ...]


def mixture(
    number: int,
    seed: int = 0,
    *,
    held_out: bool,
    classes: Sequence[str] = CLASSES,
    seconds: float = SECONDS,
    events: int = EVENTS,
) -> Mixture:
    """Recording `number` of a seed; classes are drawn in equal numbers over many recordings."""
    draw = Draw(np.random.default_rng([seed, 17, int(held_out), number]), held_out=held_out)
    size = int(seconds * RATE_HZ)
    noise = dsp.sloped(draw, size, draw.uniform(-6.0, -1.0))
    level = 10 ** (-draw.uniform(38, 55) / 20)
    wave = level * noise
    found: list[Event] = []
    order = np.random.default_rng([seed, 18]).permutation(len(classes))
    at, pause_s = draw.uniform(0.5, 3.0), seconds / events / 3
    for place in range(events):
        name = classes[int(order[(number * events + place) % len(classes)])]
        sound = _sound(draw, name)
        if at + len(sound) / RATE_HZ > seconds - 0.2:
            break
        start = int(at * RATE_HZ)
        loudness = float(np.sqrt(np.mean(np.square(sound))))
        wave[start : start + len(sound)] += (
            sound / loudness * level * 10 ** (draw.uniform(8, 25) / 20)
        )
        end_s = at + _heard(sound)
        found.append(Event(name.replace("_", " "), round(at, 3), round(end_s, 3)))
        overlaps = draw.chance(0.2)
        at = at + 0.6 * (end_s - at) if overlaps else end_s + draw.uniform(0.3, 2 * pause_s)
    wave /= max(1.0, float(np.abs(wave).max()) / 0.9)
    return Mixture(wave.astype(np.float32), tuple(found))


def _sound(draw: Draw, name: str) -> np.ndarray:
    """One effect from its first sound on, at most LONGEST_S, peak 1."""
    sound = np.asarray(draw.choice(effects.GENERATORS[name])(draw), np.float64)
    sound = sound / max(1e-9, float(np.abs(sound).max()))
    loud = _loud(sound)
    sound = sound[max(0, loud[0] * STEP - STEP) : (loud[-1] + 1) * STEP]
    if len(sound) > LONGEST_S * RATE_HZ:
        sound = dsp.fade(sound[: int(LONGEST_S * RATE_HZ)], 0.001, 0.2)
    if draw.chance(1 / 3):
        tail = np.zeros(int(0.4 * RATE_HZ))
        sound = room.reverb(draw, np.concatenate([sound, tail]), draw.uniform(0.25, 0.6), 0.25)
    return sound


def _loud(sound: np.ndarray) -> np.ndarray:
    """Numbers of the hundredths of a second that are less than FALL_DB under the loudest."""
    steps = np.resize(sound, -(-len(sound) // STEP) * STEP).reshape(-1, STEP)
    power = np.square(steps).mean(axis=1)
    return np.flatnonzero(power > power.max() * 10 ** (-FALL_DB / 10))


def _heard(sound: np.ndarray) -> float:
    """Seconds to the last hundredth that is heard."""
    return float((_loud(sound)[-1] + 1) * STEP / RATE_HZ)
