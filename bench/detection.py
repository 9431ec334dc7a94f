"""Detection on recordings with known events: event and segment F1 over thresholds.

In:  how many recordings, which labels; a bundle.
Out: one JSON line a threshold, then one for the defaults, by class.
Knows nothing about how events are found.

An event found is right if its label is, its start within a second of a true one's, and its end
within a second or a fifth of the length; each true event counts once. Segments are seconds: a
label is there or not. `start F1` asks for starts alone. Thresholds are chosen on recordings with
training-like parameters (`--split tuning`) and told on held-out ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

import clap_engine
from clap_engine.deadline import Deadline
from clap_engine.tasks import detect
from clap_engine.tasks.frames import Block, Grid
from clap_engine.tasks.settings import DetectSettings
from clap_export.corpus.classes import EFFECTS
from clap_export.corpus.synth import RATE_HZ
from mixtures import CLASSES, Event, Mixture, mixture

TOLERANCE_S, END_SHARE = 1.0, 0.2
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99)


class Heard:
    """A recording's frames with their cosines, listened to once."""

    def __init__(self, engine: clap_engine.Engine, made: Mixture, names: Sequence[str]) -> None:
        self.truth = made.events
        labels = engine._prompts.labels(list(names))
        self.names, self.grid = labels.names, Grid.of(engine.bundle.manifest.audio)
        rows = engine._prompts.rows(labels.texts, "detect")
        source = (made.waveform, RATE_HZ)
        self.blocks: list[Block] = list(
            engine._blocks("detect", source, self.grid, labels, rows, Deadline())
        )
        self._background = engine._background

    def found(self, settings: DetectSettings) -> list[detect.Event]:
        """The events at some thresholds."""
        return list(
            detect.events(self.blocks, self.names, self.grid.frame_s, self._background, settings)
        )


def right(found: Sequence[detect.Event], truth: Sequence[Event], *, with_ends: bool) -> int:
    """How many events found are true ones, each of which counts once."""
    left = list(truth)
    count = 0
    for event in sorted(found, key=lambda event: event.start_s):
        for true in left:
            end_s = max(TOLERANCE_S, END_SHARE * (true.end_s - true.start_s))
            if (
                true.label == event.label
                and abs(true.start_s - event.start_s) <= TOLERANCE_S
                and (not with_ends or abs(true.end_s - event.end_s) <= end_s)
            ):
                left.remove(true)
                count += 1
                break
    return count


def seconds_of(events: Iterable[Event | detect.Event]) -> set[tuple[str, int]]:
    """(label, second) of all seconds that an event touches."""
    return {
        (event.label, second)
        for event in events
        for second in range(int(event.start_s), int(np.ceil(event.end_s)))
    }


def f1(hits: int, found: int, true: int) -> dict[str, float]:
    """F1, precision and recall."""
    precision, recall = hits / max(1, found), hits / max(1, true)
    both = 2 * hits / max(1, found + true)
    return {"f1": round(both, 3), "precision": round(precision, 3), "recall": round(recall, 3)}


def figures(heard: Sequence[Heard], settings: DetectSettings) -> dict[str, object]:
    """All scores of some recordings at some thresholds."""
    counts = np.zeros(3, int)
    starts = 0
    segments = np.zeros(3, int)
    for one in heard:
        found = one.found(settings)
        counts += (right(found, one.truth, with_ends=True), len(found), len(one.truth))
        starts += right(found, one.truth, with_ends=False)
        ours, true = seconds_of(found), seconds_of(one.truth)
        segments += (len(ours & true), len(ours), len(true))
    return {
        "event": f1(*counts.tolist()),
        "start_f1": f1(starts, int(counts[1]), int(counts[2]))["f1"],
        "segment": f1(*segments.tolist()),
        "events": int(counts[2]),
    }


def by_class(heard: Sequence[Heard], settings: DetectSettings) -> dict[str, float]:
    """Event F1 of each label that sounds, worst first."""
    found = [one.found(settings) for one in heard]
    result = {}
    for name in sorted({event.label for one in heard for event in one.truth}):
        ours = [[e for e in some if e.label == name] for some in found]
        true = [[e for e in one.truth if e.label == name] for one in heard]
        hits = sum(right(a, b, with_ends=True) for a, b in zip(ours, true, strict=True))
        result[name] = f1(hits, sum(map(len, ours)), sum(map(len, true)))["f1"]
    return dict(sorted(result.items(), key=lambda item: item[1]))


def recordings(count: int, seed: int, split: str, names: Sequence[str]) -> Iterator[Mixture]:
    """`count` of them."""
    for number in range(count):
        yield mixture(number, seed, held_out=split == "held_out", classes=names)


def main() -> None:
    """The curve, then the defaults."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=40, help="recordings of a minute each")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--split", choices=("tuning", "held_out"), default="held_out")
    options.add_argument("--all", action="store_true", help="all 121 effects sound and are labels")
    options.add_argument("--bundle", help="default: the one that ships")
    arguments = options.parse_args()
    classes = EFFECTS if arguments.all else CLASSES
    names = [name.replace("_", " ") for name in classes]
    with clap_engine.load(arguments.bundle, threads=1) as engine:
        made = recordings(arguments.count, arguments.seed, arguments.split, classes)
        heard = [Heard(engine, one, names) for one in made]
    default = DetectSettings()
    print(json.dumps({"split": arguments.split, "recordings": len(heard), "labels": len(names)}))
    for threshold in THRESHOLDS:
        settings = replace(default, threshold=threshold)
        print(json.dumps({"threshold": threshold, **figures(heard, settings)}))
    print(json.dumps({"defaults": figures(heard, default), "classes": by_class(heard, default)}))


if __name__ == "__main__":
    main()
