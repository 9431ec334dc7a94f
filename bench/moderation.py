"""Policies on recordings whose contents are known: precision and recall of each category.

In:  a policy that comes along; how many recordings; a bundle.
Out: one JSON line a category at the policy's thresholds, one for all, then the curve.
Knows nothing about how verdicts are made.

`danger`: 20 s of quiet noise with three effects in each, in half of the recordings one of them
dangerous. `music-uploads`: 25 s, in half of the recordings music (a third of it after a spoken
introduction of 5 s), else speech alone, music with a silence in it, noise or tones. A category
counts once a recording. Thresholds are chosen on `--split tuning` and told on held-out sounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

import clap_engine
from clap_engine.arrays import Float32
from clap_engine.deadline import Deadline
from clap_engine.tasks import policy as policies
from clap_engine.tasks.frames import Block
from clap_engine.tasks.moderate import Listener
from clap_engine.tasks.policy import Policy
from clap_export.corpus import render
from clap_export.corpus.classes import EFFECTS
from clap_export.corpus.synth import RATE_HZ
from mixtures import mixture

Recording = tuple[Float32, set[str]]

DANGER = {
    "gunshot": ("gunshot", "machine_gun"), "explosion": ("explosion",), "scream": ("scream",),
    "siren": ("police_siren", "two_tone_siren", "air_raid_siren"),
    "alarm": ("smoke_alarm", "car_alarm"), "breaking glass": ("glass_breaking",),
}  # fmt: skip
# An alarm clock may or may not be an alarm; a sweep like a siren's, a siren.
UNCLEAR = ("alarm_clock", "siren_sweep")
MUSIC = ("rock_band", "jazz_trio", "orchestra", "techno", "bluegrass_band", "string_quartet",
         "piano", "flute", "choir", "violin", "synth_lead", "rock_beat", "church_organ",
         "human_whistle", "saw_lead", "trumpet")  # fmt: skip
SPEECH = ("man_speaking", "woman_speaking", "conversation", "crowd_talking", "telephone_voice")
NOISE = ("white_noise", "pink_noise", "radio_static")
TONES = ("sine_tone", "dial_tone", "beep", "rising_sweep", "falling_sweep")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


def dangerous(number: int, seed: int, *, held_out: bool) -> Recording:
    """Three effects, the first of them dangerous in every second recording."""
    rng = np.random.default_rng([seed, 31, int(held_out), number])
    kinds = [name for names in DANGER.values() for name in names]
    harmless = [name for name in EFFECTS if name not in (*kinds, *UNCLEAR)]
    chosen = [harmless[int(i)] for i in rng.choice(len(harmless), 3, replace=False)]
    if number % 2:
        category = list(DANGER)[(number // 2) % len(DANGER)]
        chosen[int(rng.integers(3))] = DANGER[category][int(rng.integers(len(DANGER[category])))]
    made = mixture(
        number, seed + 100, held_out=held_out, classes=chosen, seconds=20, events=3
    )  # fmt: skip
    heard = {event.label.replace(" ", "_") for event in made.events}
    truth = {name for name, some in DANGER.items() if heard & set(some)}
    return made.waveform, truth


def uploaded(number: int, seed: int, *, held_out: bool) -> Recording:
    """Music, or what is none."""
    split = "held_out" if held_out else "validation"
    rng = np.random.default_rng([seed, 37, int(held_out), number])

    def clips(names: Sequence[str], count: int = 5) -> list[Float32]:
        name = names[int(rng.integers(len(names)))]
        return [
            render.render_clip(name, 50 * number + i, seed + 200, split).waveform
            for i in range(count)
        ]

    kind = ("music", "speech only", "music", "silence", "music", "noise", "music", "test tones")[
        number % 8
    ]
    if kind == "music":
        parts = clips(MUSIC)
        if number % 3 == 0:
            parts[:1] = clips(SPEECH, 1)
        return np.concatenate(parts), set()
    if kind == "silence":
        parts = clips(MUSIC)
        level = np.float32(10 ** (-rng.uniform(70, 100) / 20))
        quiet = level * rng.standard_normal(int(rng.uniform(6, 12) * RATE_HZ)).astype(np.float32)
        return np.concatenate([*parts[:2], quiet, *parts[2:]]), {kind}
    return np.concatenate(clips({"speech only": SPEECH, "noise": NOISE}.get(kind, TONES))), {kind}


class Heard:
    """A recording's frames, listened to once, for any thresholds."""

    def __init__(self, engine: clap_engine.Engine, policy: Policy, recording: Recording) -> None:
        self.truth = recording[1]
        listener, blocks = engine._listening((recording[0], RATE_HZ), policy, None, Deadline())
        self._blocks: list[Block] = list(blocks)
        self._background, self._frame_s = listener._background, listener._frame_s

    def found(self, policy: Policy) -> set[str]:
        """The categories that are met."""
        listener = Listener(policy, self._background, self._frame_s)
        for _ in listener.evidence(self._blocks):
            pass
        return {finding.category for finding in listener.verdict().findings}


def measured(heard: Sequence[Heard], policy: Policy, name: str | None = None) -> dict[str, float]:
    """Precision and recall over (recording, category), of one category or all."""
    hits = ours = true = 0
    for one in heard:
        found, truth = one.found(policy), one.truth
        if name is not None:
            found, truth = found & {name}, truth & {name}
        hits, ours, true = hits + len(found & truth), ours + len(found), true + len(truth)
    return {
        "precision": round(hits / max(1, ours), 3),
        "recall": round(hits / max(1, true), 3),
        "true": true,
        "found": ours,
    }


def with_threshold(policy: Policy, threshold: float) -> Policy:
    """The same policy with one threshold for all categories that have texts."""
    return replace(
        policy,
        categories=tuple(
            replace(c, threshold=threshold, release=min(c.release, threshold))
            for c in policy.categories
        ),
    )


def recordings(name: str, count: int, seed: int, split: str) -> Iterator[Recording]:
    """`count` of them."""
    make = dangerous if name == "danger" else uploaded
    for number in range(count):
        wave, truth = make(number, seed, held_out=split == "held_out")
        yield wave, truth | ({"silence"} if name != "danger" and is_silent(wave) else set())


def is_silent(wave: Float32) -> bool:
    """Whether 5.5 s on end stay under -60 dB: single notes leave such silences by themselves."""
    steps = wave[: len(wave) // 3200 * 3200].reshape(-1, 3200)
    quiet = np.square(steps).mean(axis=1) < 1e-6
    return max(map(len, "".join("x" if q else " " for q in quiet).split()), default=0) >= 55


def main() -> None:
    """Categories, all of them, curves."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--policy", default="danger", choices=policies.names())
    options.add_argument("--count", type=int, default=240)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--split", choices=("tuning", "held_out"), default="held_out")
    options.add_argument("--bundle", help="default: the one that ships")
    arguments = options.parse_args()
    policy = policies.load(arguments.policy)
    with clap_engine.load(arguments.bundle, threads=1) as engine:
        made = recordings(arguments.policy, arguments.count, arguments.seed, arguments.split)
        heard = [Heard(engine, policy, one) for one in made]
    print(json.dumps({"policy": policy.name, "split": arguments.split, "recordings": len(heard)}))
    for category in policy.categories:
        print(json.dumps({"category": category.name, **measured(heard, policy, category.name)}))
    print(json.dumps({"category": "all", **measured(heard, policy)}))
    for threshold in THRESHOLDS:
        other = with_threshold(policy, threshold)
        row = {"threshold": threshold, "all": measured(heard, other)}
        for category in policy.categories:
            row[category.name] = measured(heard, other, category.name)
        print(json.dumps(row))


if __name__ == "__main__":
    main()
