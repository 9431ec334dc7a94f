"""Events as files: JSON, CSV, Audacity's label track, a picture of the timeline.

In:  events with label, start, end and score.
Out: text; or a PNG or SVG, drawn by matplotlib (extra `plot`).
Knows nothing about how events are found.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from clap_engine.tasks import pictures
from clap_engine.tasks.detect import Event

HEADER = ("label", "start_s", "end_s", "score", "peak_s")


def to_json(events: Sequence[Event]) -> str:
    """A list of objects with the fields of `Event`."""
    return json.dumps([asdict(event) for event in events], indent=2, allow_nan=False) + "\n"


def to_csv(events: Sequence[Event]) -> str:
    """A header and one line each, seconds to the millisecond."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for event in events:
        times = (event.start_s, event.end_s, event.score, event.peak_s)
        writer.writerow((event.label, *(f"{value:.3f}" for value in times)))
    return out.getvalue()


def to_audacity(events: Sequence[Event]) -> str:
    """What Audacity imports as labels: start, end and name, with tabs between.

    Tabs and line ends in a label become spaces: there they would begin another field.
    """
    return "".join(
        f"{event.start_s:.6f}\t{event.end_s:.6f}\t{' '.join(event.label.split())}\n"
        for event in events
    )


def plot(events: Sequence[Event], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Bars over time, a row for each label, darker where the score is higher; PNG or SVG."""
    names = sorted({event.label for event in events}, reverse=True)
    figure = pictures.figure(10, 1.2 + 0.3 * max(1, len(names)))
    axes = figure.add_subplot()
    for event in events:
        axes.barh(
            names.index(event.label), max(event.end_s - event.start_s, 1e-3), left=event.start_s,
            height=0.7, color="#1f5fa8", alpha=min(1.0, max(0.25, event.score)), linewidth=0,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [pictures.words(name) for name in names])
    axes.set_xlabel("seconds")
    axes.set_title(pictures.words(title) or "events")
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    pictures.save(figure, path)
