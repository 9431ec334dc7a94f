"""What tasks cost beside embedding: labels for a clip, events in a long recording.

In:  the engine's own embedding of the same sounds; labels that are cached.
Out: ratios; that the answers are those of the vectors; all in the benchmark's record.
Knows nothing about quality: see detection.py, moderation.py, label_sets.py and few_shot.py.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from clap_engine.engine import Engine
from clap_engine.tasks.scores import shares
from mixtures import CLASSES, mixture
from race import Summary, check_goal, milliseconds, note, race
from subject import Subject

RATE_HZ = 32_000
LABELS = [f"sound number {number}" for number in range(100)]
# Classifying may take 5 % longer than embedding, so embedding's share must be this at least.
SHARE = 1 / 1.05
TIMES_REAL_TIME = 100.0
MINUTES = 10


@pytest.mark.parametrize("multi_label", [False, True])
def test_classify_a_clip(
    benchmark: Any, engine: Engine, subject: Subject, smoke: bool, multi_label: bool
) -> None:
    """Law: scores are those of the clip's vector and the labels' rows; at most 5 % on top."""
    rng = np.random.default_rng(0)
    clips = [
        (0.1 * rng.standard_normal(5 * RATE_HZ).astype(np.float32), RATE_HZ) for _ in range(10)
    ]
    engine.classify(clips[0], LABELS, multi_label=multi_label)
    result = race(
        benchmark,
        lambda clip: engine.classify(clip, LABELS, multi_label=multi_label),
        lambda clip: engine.embed_audio([clip]),
        clips,
        rounds=10 if smoke else 300,
    )
    if not multi_label:
        cosines = result.peer @ engine._prompts.rows(tuple(LABELS), "classify").T
        wanted = shares(cosines, engine.bundle.manifest.logit_scale)[0]
        found = {one["label"]: one["score"] for one in result.ours}
        np.testing.assert_allclose([found[label] for label in LABELS], wanted, atol=1e-6)
    note(
        benchmark,
        f"classify a 5 s clip by 100 cached labels{', each alone' if multi_label else ''}",
        "embedding the clip",
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        goal=SHARE,
        subject=subject.name,
    )
    check_goal(result.ratio, SHARE, smoke)


def test_detect_in_a_long_recording(
    benchmark: Any, engine: Engine, subject: Subject, smoke: bool
) -> None:
    """Law: at 50 % overlap, 40 labels, from FLAC: 100 times real time, events on the way."""
    minutes = 1 if smoke else MINUTES
    waves = [mixture(number, held_out=True).waveform for number in range(2)]
    sound = np.concatenate([waves[number % 2] for number in range(minutes)])
    data = io.BytesIO()
    soundfile.write(data, sound, RATE_HZ, format="FLAC")
    source = data.getvalue()
    labels = [name.replace("_", " ") for name in CLASSES]
    engine.detect((sound[: 10 * RATE_HZ], RATE_HZ), labels)
    result = race(
        benchmark,
        lambda given: engine.detect(given, labels),
        lambda given: engine.embed_windows(given),
        [source],
        rounds=1 if smoke else 5,
        burst=1,
    )
    assert len(result.ours) >= 3 * minutes
    speeds = [60.0 * minutes / seconds for seconds in result.ours_s]
    note(
        benchmark,
        f"detect 40 labels in {minutes} minutes of FLAC, half a window's hop",
        "embedding its windows without overlap",
        Summary.of(speeds, "x real time"),
        Summary.of([60.0 * minutes / seconds for seconds in result.peer_s], "x real time"),
        result.ratio,
        goal=TIMES_REAL_TIME,
        subject=subject.name,
    )
    check_goal(float(np.median(speeds)), TIMES_REAL_TIME, smoke)


def test_caption_from_a_bank(benchmark: Any, engine: Engine, subject: Subject, smoke: bool) -> None:
    """Law: the claims are those of the clip's vector; what it costs beside embedding is told."""
    from clap_engine.tasks.compose import CONFIDENCE

    rng = np.random.default_rng(0)
    clips = [
        (0.1 * rng.standard_normal(5 * RATE_HZ).astype(np.float32), RATE_HZ) for _ in range(10)
    ]
    engine.caption(clips[0], min_confidence=CONFIDENCE)
    result = race(
        benchmark,
        lambda clip: engine.caption(clip, min_confidence=CONFIDENCE),
        lambda clip: engine.embed_windows(clip),
        clips,
        rounds=10 if smoke else 300,
    )
    (composer,) = engine._composers.values()
    vectors, spans, _ = result.peer
    wanted = composer.caption(vectors, spans, CONFIDENCE)
    assert result.ours.text == wanted.text
    note(
        benchmark,
        "caption a 5 s clip from the bank that ships",
        "embedding the clip",
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        subject=subject.name,
    )
