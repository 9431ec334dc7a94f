"""A fresh process: from the first import to the first embedding.

In:  both contenders, each in a process of its own, by turns; files in the page cache.
Out: the ratio of the medians, whole process lives, peak memory.
Knows nothing about what happens after the first answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import process
import subject as subjects
from clap_engine.goldens import golden_waveform
from race import Summary, check_goal, note, race
from subject import Subject

TEXT = "a slow banjo melody at night"
GOALS = {"text": 10.0, "audio": None}


@pytest.mark.parametrize("tower", ["text", "audio"])
def test_import_to_first_embedding(
    benchmark: Any, tower: str, subject: Subject, tmp_path: Path, smoke: bool
) -> None:
    """Law: both processes end with the same embedding, at the bundle's own tolerance."""
    inputs = [TEXT]
    if tower == "audio":
        inputs = [str(tmp_path / "window.npy")]
        np.save(inputs[0], golden_waveform(1, 32_000, 160_000)[None])
    folders = {"engine": subject.bundle.path, "torch": subject.peer_folder}
    runs: dict[str, list[process.Run]] = {"engine": [], "torch": []}

    def start(contender: str) -> process.Run:
        runs[contender].append(process.start(contender, tower, folders[contender], inputs))
        return runs[contender][-1]

    # The first turn fills the page cache.
    result = race(
        benchmark,
        lambda _: start("engine"),
        lambda _: start("torch"),
        [None],
        rounds=1 if smoke else 9,
        burst=1,
    )

    ours, theirs = (np.array(run.answers, np.float32) for run in (result.ours, result.peer))
    assert subjects.cosines(ours, theirs).min() >= subject.tolerance
    measured = {name: found[-len(result.ours_s) :] for name, found in runs.items()}
    first = {name: [run.first_s for run in found] for name, found in measured.items()}
    ratio = float(np.median(first["torch"]) / np.median(first["engine"]))
    goal = GOALS[tower]
    note(
        benchmark,
        f"cold: import to first embedding, {tower}",
        "torch, its tower and tokenizer alone" if tower == "text" else "torch, its tower alone",
        Summary.of(first["engine"], "s"),
        Summary.of(first["torch"], "s"),
        ratio,
        goal=goal,
        process_life_ratio=result.ratio,
        peak_rss_mb={
            side: round(float(np.median([run.peak_bytes for run in measured[name]])) / 1e6, 1)
            for side, name in (("ours", "engine"), ("peer", "torch"))
        },
        subject=subject.name,
    )
    if goal is not None:
        check_goal(ratio, goal, smoke)
