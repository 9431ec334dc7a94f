"""One 5 s clip -> its embedding; a folder of FLAC files -> a collection.

In:  the engine and the torch tower with the same weights, the same sounds by turns.
Out: ratios, times real time, how near the embeddings are, peak memory of each alone.
Knows nothing about search.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

import clap_engine
import flac
import process
import subject as subjects
from clap_engine.arrays import Float32
from clap_engine.engine import Engine
from clap_engine.goldens import golden_waveform
from clap_engine.mel import LogMel
from clap_export.frontend import TorchLogMel
from peer import AudioPeer
from race import Summary, check_goal, milliseconds, note, race
from subject import Subject

RATE_HZ, WINDOW = 32_000, 160_000
REAL_TIME_GOAL = 100.0
# float32 against float64 where a bin lies near the floor, 80 dB under the peak.
FRONT_END_DB = 0.05
# float32 graph against float32 torch, each behind its own float32 front end.
REBUILT = 1e-3


def test_embed_one_clip(
    benchmark: Any,
    engine: Engine,
    audio_peer: AudioPeer,
    subject: Subject,
    tmp_path: Path,
    smoke: bool,
) -> None:
    """Law: int8 keeps the cosine that its bundle promises, float32 is torch to 1e-3."""
    windows = np.stack([golden_waveform(i, RATE_HZ, WINDOW) for i in range(1, 7)])
    clips = [(window, RATE_HZ) for window in windows]
    waveforms = torch.from_numpy(windows)
    difference = audio_peer.log_mel(waveforms) - TorchLogMel()(waveforms)
    assert difference.abs().max() <= FRONT_END_DB
    ours, theirs = engine.embed_audio(clips), audio_peer.embed(windows)
    cosine = subjects.cosines(ours, theirs)
    assert cosine.min() >= subject.tolerance
    with clap_engine.load(subject.reference.path, precision="fp32", threads=1) as rebuilt:
        assert np.abs(rebuilt.embed_audio(clips) - theirs).max() <= REBUILT

    result = race(
        benchmark,
        lambda clip: engine.embed_audio([clip]),
        lambda clip: audio_peer.embed(clip[0][None]),
        clips,
        rounds=10 if smoke else 200,
    )

    assert subjects.cosines(result.ours, result.peer).min() >= subject.tolerance
    np.save(tmp_path / "windows.npy", windows)
    inputs = [str(tmp_path / "windows.npy")]
    note(
        benchmark,
        "embed one 5 s clip, front end included",
        "torch eager (same tower, torch.stft, float32)",
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        ratio_by_turns=result.ratio_by_turns,
        processor_ratio=result.processor_ratio,
        cosine_min=float(cosine.min()),
        log_mel_ms=front_end_ms(subject, windows[:1], 5 if smoke else 50),
        peak_rss_mb=process.peak_mb(
            "audio", (subject.bundle.path, inputs), (subject.peer_folder, inputs)
        ),
        subject=subject.name,
    )


def front_end_ms(subject: Subject, window: Float32, rounds: int) -> float:
    """Median milliseconds of the engine's log-mel alone."""
    spec = subject.bundle.manifest.audio
    log_mel = LogMel(spec, subject.bundle.read(spec.frontend))
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        log_mel(window)
        taken.append(time.perf_counter() - start)
    return 1e3 * float(np.median(taken))


@pytest.mark.parametrize("channels", [1, 2], ids=["mono", "stereo"])
def test_index_flac(
    benchmark: Any,
    engine: Engine,
    audio_peer: AudioPeer,
    subject: Subject,
    channels: int,
    tmp_path: Path,
    smoke: bool,
) -> None:
    """Law: every file is committed with all its windows, and their embeddings are torch's.

    The peer decodes, resamples and embeds the six windows of a file in one batch, and keeps the
    result in memory; the engine also hashes each file and makes its clip durable.
    """
    files = flac.write_folder(tmp_path / "sounds", 4 if smoke else 40, channels)
    seconds, per_file = flac.SECONDS * len(files), flac.SECONDS // 5
    folders = (tmp_path / f"{number}.clap" for number in itertools.count())

    def index(_: None) -> Path:
        folder = next(folders)
        with engine.collection(folder, create=True) as collection:
            report = collection.add(files, root=tmp_path)
        assert report.added == len(files)
        return folder

    def embed(_: None) -> list[Float32]:
        return [audio_peer.embed(cut(path)) for path in files]

    result = race(benchmark, index, embed, [None], rounds=1 if smoke else 5, burst=1)

    with engine.collection(result.ours, read_only=True) as collection:
        info = collection.info()
        assert collection.verify() == []
    assert (info["clips"], info["windows"]) == (len(files), per_file * len(files))
    assert info["duration_s"] == pytest.approx(seconds, rel=1e-4)
    clips = engine.embed_audio(files, windows=True)
    ours = np.concatenate([clip.vectors for clip in clips])
    cosine = subjects.cosines(ours, np.concatenate(result.peer))
    assert float(np.mean(cosine)) >= subject.tolerance
    ours_x = Summary.of([seconds / s for s in result.ours_s], "x real time")
    peer_x = Summary.of([seconds / s for s in result.peer_s], "x real time")
    note(
        benchmark,
        f"index 44.1 kHz {'stereo' if channels == 2 else 'mono'} FLAC, one core",
        "soundfile, soxr and torch eager, six windows a batch, nothing stored",
        ours_x,
        peer_x,
        result.ratio,
        goal=REAL_TIME_GOAL,
        processor_ratio=result.processor_ratio,
        real_time_of_processor=float(seconds / np.median(result.ours_processor_s)),
        files=len(files),
        file_s=flac.SECONDS,
        cosine_mean=float(np.mean(cosine)),
        subject=subject.name,
    )
    check_goal(ours_x.p50, REAL_TIME_GOAL, smoke)


def cut(path: Path) -> Float32:
    """A file -> windows [W, T], as a script of a few lines would."""
    wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    wave = soxr.resample(wave.mean(axis=1), rate_hz, RATE_HZ)
    return np.asarray(wave[: len(wave) // WINDOW * WINDOW].reshape(-1, WINDOW), np.float32)
