"""A fresh process: from the first import to the first embedding of a large model.

In:  msclap over a checkpoint's file and ClapModel over its folder, as their users load them; the
     bundle that `convert` makes of the same weights; each in a process of its own, by turns, files
     in the page cache, two threads.
Out: the ratio of the medians, peak memory.
Knows nothing about what happens after the first answer. Random weights with outliers.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clap_folder
import clap_models
import msclap_files
import process
import subject as subjects
from clap_engine.arrays import l2_normalize
from clap_engine.goldens import golden_waveform
from clap_engine.manifest import Manifest
from clap_export import clap_model
from clap_export.convert import Plan, convert
from clap_export.head_choice import HeadPlan
from clap_export.msclap import checkpoint, random_weights, source, stand_in
from clap_export.probes import Sizes
from clap_export.source import Source
from race import Summary, check_goal, note, race
from towers import THREADS

TEXT = "a slow banjo melody at night"
GOALS = {"text": 15.0, "audio": None}
# The peer's peak to ours, texts.
MEMORY_GOAL = 5.0
CONTENDERS = {clap_models.MSCLAP: "msclap", clap_models.TRANSFORMERS: "transformers"}


@dataclass(frozen=True)
class Converted:
    """A model's files and the bundle made of them."""

    name: str
    files: Path
    bundle: Path
    manifest: Manifest


@pytest.fixture(scope="module", params=CONTENDERS)
def converted(
    request: pytest.FixtureRequest, smoke: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Converted]:
    folder = tmp_path_factory.mktemp("cold")
    read = _msclap if request.param == clap_models.MSCLAP else _transformers
    sizes = Sizes(12, 6, 4) if smoke else Sizes(20, 10, 16)
    # What is left out of a small sample's bundle would be measured as float32.
    plan = Plan(head=HeadPlan(fit=False), sizes=sizes, threads=THREADS)
    said: list[str] = []
    manifest = convert(read(folder / "files", smoke), folder / "bundle", plan, said.append)
    assert smoke or "int8" in manifest.text.graphs, said
    yield Converted(request.param, folder / "files", folder / "bundle", manifest)
    shutil.rmtree(folder)  # more than a gigabyte


@pytest.mark.parametrize("tower", ["text", "audio"])
def test_import_to_first_embedding(
    benchmark: Any, converted: Converted, tower: str, tmp_path: Path, smoke: bool
) -> None:
    """Law: both processes end with the same embedding, at the bundle's own tolerance."""
    manifest, inputs = converted.manifest, [TEXT]
    spec = manifest.audio
    if tower == "audio":
        inputs = [str(tmp_path / "window.npy")]
        np.save(inputs[0], golden_waveform(1, spec.rate_hz, spec.window_samples)[None])
    theirs = CONTENDERS[converted.name]
    folders = {"engine": converted.bundle, theirs: converted.files}
    runs: dict[str, list[process.Run]] = {"engine": [], theirs: []}

    def start(contender: str) -> process.Run:
        runs[contender].append(
            process.start(
                contender, tower, folders[contender], inputs, threads=THREADS, rate_hz=spec.rate_hz
            )
        )
        return runs[contender][-1]

    # The first turn fills the page cache.
    result = race(
        benchmark,
        lambda _: start("engine"),
        lambda _: start(theirs),
        [None],
        rounds=1 if smoke else 5,
        burst=1,
    )

    found, wanted = (np.array(run.answers, np.float32) for run in (result.ours, result.peer))
    cosine = float(subjects.cosines(found, l2_normalize(wanted)).min())
    # msclap knows HTSAT's full depth only, so a smoke run's cut tower is not what it builds.
    if not (smoke and tower == "audio" and theirs == "msclap"):
        assert cosine >= min(manifest.goldens.tolerance.values())
    measured = {name: list_of[-len(result.ours_s) :] for name, list_of in runs.items()}
    first = {name: [run.first_s for run in list_of] for name, list_of in measured.items()}
    ratio = float(np.median(first[theirs]) / np.median(first["engine"]))
    peak_mb = {
        side: round(float(np.median([run.peak_bytes for run in measured[name]])) / 1e6, 1)
        for side, name in (("ours", "engine"), ("peer", theirs))
    }
    goal = GOALS[tower]
    note(
        benchmark,
        f"cold: {converted.name}, import to first embedding, {tower}",
        clap_models.PEERS[converted.name, tower],
        Summary.of(first["engine"], "s"),
        Summary.of(first[theirs], "s"),
        ratio,
        goal=goal,
        threads=THREADS,
        process_life_ratio=result.ratio,
        peak_rss_mb=peak_mb,
        cosine_min=cosine,
        precisions=sorted(manifest.text.graphs if tower == "text" else manifest.audio.graphs),
        subject=clap_models.subject(converted.name, clap_models.OUTLIERS),
    )
    if goal is not None:
        check_goal(ratio, goal, smoke)
        least = peak_mb["peer"] / MEMORY_GOAL
        assert smoke or peak_mb["ours"] <= least, f"{peak_mb['ours']} MB; at most {least:.0f}"


def _msclap(folder: Path, smoke: bool) -> Source:
    layers = 1 if smoke else None
    state = random_weights.random_state("2023", seed=0, layers=layers, outliers=True)
    tokenizer = stand_in.gpt2_tokenizer_json()
    msclap_files.write(folder, state, tokenizer)
    read = checkpoint.read(folder / msclap_files.CHECKPOINT, "2023", layers=layers)
    return source.make(read, tokenizer)


def _transformers(folder: Path, smoke: bool) -> Source:
    return clap_model.read(clap_folder.write(folder, outliers=True, layers=1 if smoke else None))
