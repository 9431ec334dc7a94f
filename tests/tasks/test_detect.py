"""Events in long sound: the arithmetic of frames and thresholds, and events on sample clips."""

from __future__ import annotations

import csv
import io
import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import encode, noise

from clap_engine import audio, cli, demo
from clap_engine import bundle as bundles
from clap_engine.arrays import l2_normalize
from clap_engine.engine import Engine
from clap_engine.errors import AudioError, DependencyError, TaskError
from clap_engine.tasks import event_files, frames
from clap_engine.tasks.detect import Event, Tracker, events
from clap_engine.tasks.frames import Block, Grid, Overlap
from clap_engine.tasks.labels import Labels
from clap_engine.tasks.scores import Background
from clap_engine.tasks.settings import DetectSettings

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 32_000
LABELS = ["dog bark", "gunshot", "owl", "church bell", "police siren"]
BACKGROUND = Background(0.0, 1.0, level=0.0, slope=1.0)


@pytest.fixture(scope="module")
def engine(bundle: bundles.Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def recording() -> tuple[Any, list[tuple[str, float]]]:
    """Three sample clips, their first two seconds, 6 s apart in quiet noise."""
    paths = {sample.label.replace("_", " "): sample.path for sample in demo.read_samples()}
    wave = noise(0, 30 * RATE_HZ, level=1e-3)
    truth = [("dog bark", 4.0), ("church bell", 12.0), ("police siren", 20.0)]
    for label, start_s in truth:
        clip = audio.load(paths[label], RATE_HZ)
        first = int(np.flatnonzero(np.abs(clip) > 0.05 * np.abs(clip).max())[0])
        start = int(start_s * RATE_HZ)
        wave[start : start + 2 * RATE_HZ] += clip[first : first + 2 * RATE_HZ]
    return wave, truth


def test_known_events_are_found(
    engine: Engine, recording: tuple[Any, list[tuple[str, float]]]
) -> None:
    """Law: each event is found, begins within 1.5 s of its true start, and nothing else is."""
    wave, truth = recording
    found = engine.detect((wave, RATE_HZ), LABELS)
    assert [event.label for event in found] == [label for label, _ in truth]
    for event, (_, start_s) in zip(found, truth, strict=True):
        assert abs(event.start_s - start_s) < 1.5
        assert event.start_s < event.peak_s < event.end_s <= 30
        assert DetectSettings().threshold <= event.score <= 1
    assert sorted(engine.detect_stream((wave, RATE_HZ), LABELS), key=lambda e: e.start_s) == found


def test_where_events_lie_does_not_depend_on_what_follows(
    engine: Engine, recording: tuple[Any, list[tuple[str, float]]]
) -> None:
    """Law: what is over before the last window is the same in a recording that goes on."""
    wave, _ = recording
    grid = Grid.of(engine.bundle.manifest.audio)
    whole = engine.detect((wave, RATE_HZ), LABELS)
    half = engine.detect((wave[: 18 * RATE_HZ], RATE_HZ), LABELS)
    early = [event for event in whole if event.end_s < 18 - 5 - 2 * grid.hop_s]
    assert early
    for event in early:
        near = [e for e in half if e.label == event.label]
        assert near[0].start_s == event.start_s
        assert near[0].score == pytest.approx(event.score, abs=1e-6)


@pytest.mark.parametrize(
    "wave",
    [np.zeros(12 * RATE_HZ, np.float32), np.zeros(7, np.float32),
     noise(1, 12 * RATE_HZ, level=1e-6)],
)  # fmt: skip
def test_silence_has_no_events(engine: Engine, wave: Any) -> None:
    """Law: silence, digital or of a converter's last bit, is no label, whatever it resembles."""
    assert engine.detect((wave, RATE_HZ), ["white noise", "silence", "mains hum"]) == []


def test_bad_sounds_and_settings(engine: Engine) -> None:
    with pytest.raises(AudioError, match="NaN"):
        engine.detect((np.full(RATE_HZ, np.nan, np.float32), RATE_HZ), ["a"])
    with pytest.raises(TaskError, match="hop_s"):
        engine.detect((noise(0, RATE_HZ), RATE_HZ), ["a"], settings=DetectSettings(hop_s=6.0))
    with pytest.raises(TaskError, match="labels"):
        engine.detect((noise(0, RATE_HZ), RATE_HZ), [])
    thousands = [f"sound number {i}" for i in range(300)]
    assert isinstance(engine.detect((noise(0, RATE_HZ), RATE_HZ), thousands), list)


@pytest.mark.parametrize(
    "bad",
    [{"threshold": 1.0}, {"threshold": 0.04}, {"release": 0.0}, {"release": 0.95},
     {"min_duration_s": -1.0}, {"merge_s": float("nan")}, {"threshold": "x"}, {"merge_s": True},
     {"hop_s": -1.0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(TaskError):
        DetectSettings(**bad)


def test_a_bundle_without_calibration(tiny: bundles.Bundle) -> None:
    with Engine(tiny, precision="fp32", threads=1) as engine, pytest.raises(TaskError):
        engine.detect((noise(0, 4000), 4000), ["dog"])


def blocks(scores: Any, sizes: list[int]) -> list[Block]:
    """Cosines [F, L] in blocks of some sizes, loud."""
    found, first = [], 0
    for size in sizes:
        part = np.asarray(scores[first : first + size], np.float64)
        found.append(Block(first, part, np.ones(len(part))))
        first += size
    found.append(Block(first, scores[first:], np.ones(len(scores) - first), float(len(scores))))
    return found


def plain(scores: Any, on: float, off: float, merge: int) -> set[tuple[int, int, int, float]]:
    """What Tracker should find: (label, first, end, peak), by the definition."""
    found = set()
    for label, row in enumerate(np.asarray(scores).T):
        runs, first = [], None
        for number, value in enumerate([*row, -np.inf]):
            if value >= off and first is None:
                first = number
            elif value < off and first is not None:
                if row[first:number].max() >= on:
                    if runs and first - runs[-1][1] <= merge:
                        runs[-1][1] = number
                    else:
                        runs.append([first, number])
                first = None
        kept = ((label, a, b, max(v for v in row[a:b])) for a, b in runs)
        found |= set(kept)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_tracker_is_hysteresis_by_definition(seed: int) -> None:
    """Law: runs equal the definition's, however the frames are cut into blocks."""
    rng = np.random.default_rng(seed)
    scores = rng.random((60, 4)) * rng.random((60, 1))
    on, off, merge = 0.6, 0.3, int(rng.integers(4))
    wanted = plain(scores, on, off, merge)
    for size in (60, 1, 7):
        tracker = Tracker(4, on, off, merge)
        runs = [run for first in range(0, 60, size)
                for run in tracker.add(first, scores[first : first + size])]  # fmt: skip
        runs += tracker.rest()
        assert {(run.label, run.first, run.end, run.peak) for run in runs} == wanted
        assert all(scores[run.peak_at, run.label] == run.peak for run in runs)
        assert len(runs) == len(wanted)


def test_min_duration_and_end_of_the_sound() -> None:
    """Law: what is too short is dropped; the last event ends with the sound, inside a frame."""
    scores = np.full((10, 2), -9.0)
    scores[2, 0] = scores[7:, 1] = 9.0
    last = Block(0, scores, np.ones(10), 9.4)
    settings = DetectSettings(merge_s=0.0, min_duration_s=2.0)
    (found,) = events([last], ("a", "b"), 1.0, BACKGROUND, settings)
    assert (found.label, found.start_s, found.end_s) == ("b", 7.0, 9.4)
    both = list(events([last], ("a", "b"), 1.0, BACKGROUND, DetectSettings(merge_s=0.0)))
    assert [event.label for event in both] == ["a", "b"]


def test_events_come_as_soon_as_they_are_over() -> None:
    """Law: an event is handed out before the blocks that follow its merge time are read."""
    scores = np.full((40, 1), -9.0)
    scores[3:5] = 9.0
    read = []

    def stream() -> Iterator[Block]:
        for block in blocks(scores, [5] * 7):
            read.append(block.first)
            yield block

    next(iter(events(stream(), ("a",), 1.0, BACKGROUND, DetectSettings(merge_s=4.0))))
    assert max(read) <= 10


@pytest.mark.parametrize("hop", [1, 2, 4, 5])
@pytest.mark.parametrize("windows", [1, 2, 9])
def test_overlap_is_a_weighted_mean(hop: int, windows: int) -> None:
    """Law: every frame comes out once, in order, as the weighted mean of what lay over it."""
    width, rng = 5, np.random.default_rng(hop)
    parts = rng.random((windows, width, 3))
    starts = [min(i * hop, max(0, (windows - 1) * hop - 1)) for i in range(windows)]
    weight = np.minimum(np.arange(width) + 1, width - np.arange(width))
    total = np.zeros((starts[-1] + width, 3))
    weights = np.zeros(len(total))
    overlap, out = Overlap(width, 3), []
    for at, part in zip(starts, parts, strict=True):
        total[at : at + width] += weight[:, None] * part
        weights[at : at + width] += weight
        first, done = overlap.add(at, part)
        assert first == sum(map(len, out))
        out.append(done)
    out.append(overlap.rest()[1])
    np.testing.assert_allclose(np.concatenate(out), total / weights[:, None], atol=1e-12)


def test_grid_of_a_bundle_without_frames(bundle: bundles.Bundle) -> None:
    """Law: without frames a frame is half a window, or the hop that is asked for."""
    from dataclasses import replace

    bare = replace(bundle.manifest.audio, frame_s=None)
    grid = Grid.of(bare)
    assert (grid.frame_s, grid.width, grid.hop, grid.has_frames) == (2.5, 2, 1, False)
    assert Grid.of(bare, 1.0).width == 5
    assert Grid.of(bundle.manifest.audio) == Grid(0.3125, 16, 8, True)

    class Encoder:
        def encode(self, windows: Any) -> Any:
            return np.eye(4, dtype=np.float32)[: len(windows)]

        def encode_frames(self, windows: Any) -> Any:
            raise AssertionError

    rows = frames.rows_of(Encoder(), np.ones((3, 8), np.float32), Grid.of(bare))
    assert rows.shape == (3, 2, 4)
    parts = [(rows, np.ones((3, 2)), np.array([[0, 5], [2.5, 7.5], [5, 10.0]]))]
    found = list(frames.blocks(parts, Grid.of(bare), Labels.of(["a"]), np.eye(4)[:1]))
    np.testing.assert_allclose(np.concatenate([b.cosines for b in found])[:, 0], [1, 0.5, 0, 0])


def test_power_of_frames() -> None:
    wave = np.concatenate([np.zeros(8), np.ones(8)]).astype(np.float32)[None]
    np.testing.assert_allclose(frames.power_of(wave, Grid(1.0, 4, 2, True)), [[0, 0, 1, 1]])


def test_memory_does_not_grow_with_length() -> None:
    """Law: forty minutes of frames take no more memory than a minute (64 labels, stub rows)."""
    grid, labels = Grid(0.3125, 16, 8, True), Labels.of([f"l{i}" for i in range(64)])
    texts = l2_normalize(np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32))

    def parts(count: int) -> Iterator[Any]:
        rng = np.random.default_rng(1)
        for number in range(count):
            rows = l2_normalize(rng.normal(size=(16, 16, 32)).astype(np.float32))
            starts = (number * 16 + np.arange(16)) * grid.hop_s
            yield rows, np.ones((16, 16)), np.stack([starts, starts + 5.0], axis=1)

    def peak(count: int) -> int:
        tracemalloc.start()
        stream = frames.blocks(parts(count), grid, labels, texts)
        calm = Background(0.0, 1.0, level=50.0)
        assert not list(events(stream, labels.names, grid.frame_s, calm, DetectSettings()))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(60) < 1.2 * peak(3) + 100_000


EVENTS = [Event('dog, "big"', 1.25, 2.5, 0.9, 2.0), Event("a\tb\n", 0.0, 3723.5, 1.0, 1.0)]


def test_csv_comes_back() -> None:
    rows = list(csv.DictReader(io.StringIO(event_files.to_csv(EVENTS))))
    assert [row["label"] for row in rows] == [event.label for event in EVENTS]
    assert float(rows[1]["end_s"]) == 3723.5
    assert event_files.to_csv([]).splitlines() == [",".join(event_files.HEADER)]


def test_audacity_has_three_fields() -> None:
    lines = event_files.to_audacity(EVENTS).splitlines()
    assert [line.split("\t") for line in lines] == [
        ["1.250000", "2.500000", 'dog, "big"'], ["0.000000", "3723.500000", "a b"],
    ]  # fmt: skip
    assert event_files.to_audacity([]) == ""


def test_json_comes_back() -> None:
    assert [Event(**entry) for entry in json.loads(event_files.to_json(EVENTS))] == EVENTS


@pytest.mark.parametrize("name", ["x.png", "x.svg"])
def test_plot(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    for some in (EVENTS, [Event("$x$ \\frac 日", 0, 1, 0.5, 0.5)], []):
        event_files.plot(some, tmp_path / name, title="a $ file")
        head = (tmp_path / name).read_bytes()[:5]
        assert head in (b"\x89PNG\r", b"<?xml")


def test_plot_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(DependencyError, match=r"\[plot\]"):
        event_files.plot(EVENTS, tmp_path / "x.png")


def test_verb(run: Run, tmp_path: Path, recording: tuple[Any, list[tuple[str, float]]]) -> None:
    wave, truth = recording
    file, bad = tmp_path / "long.wav", tmp_path / "bad.wav"
    file.write_bytes(encode(wave, RATE_HZ))
    bad.write_bytes(b"x")
    labels = ",".join(LABELS)
    out_csv, out_txt = tmp_path / "e.csv", tmp_path / "e.txt"
    code, out, _ = run(
        "detect", file, "--labels", labels, "--csv", out_csv, "--audacity", out_txt, "--json"
    )
    found = json.loads(out)["detected"][0]["events"]
    assert code == 0
    assert [event["label"] for event in found] == [label for label, _ in truth]
    assert len(out_csv.read_text().splitlines()) == 1 + len(found)
    assert len(out_txt.read_text().splitlines()) == len(found)
    code, out, err = run("detect", file, bad, "--labels", labels, "--merge", 0, "--threshold", 0.5)
    assert code == 1
    assert "bad.wav" in err
    assert len(out.splitlines()) >= len(found)
    assert run("detect", file, bad, "--labels", "a", "--csv", out_csv)[0] == cli.USAGE
    assert run("detect", file, "--labels", "a", "--threshold", 2)[0] == cli.USAGE
    assert run("detect", file, "--labels", "a", "--plot", "x.jpg")[0] == cli.USAGE


def test_labels_of_pairs_are_all_told_apart() -> None:
    """Law: the best wording of a label counts in each frame."""
    labels = Labels.of({"a": ["x", "y"], "b": ["z"]})
    for values in itertools.permutations([0.1, 0.2, 0.3]):
        np.testing.assert_allclose(labels.best(np.array([values])), [[max(values[:2]), values[2]]])
