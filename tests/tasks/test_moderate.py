"""Policies: what a file may say, how spans become verdicts, sample clips against the presets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import encode, noise, tone

from clap_engine import audio, cli, demo
from clap_engine import bundle as bundles
from clap_engine.engine import Engine
from clap_engine.errors import AudioError, NotFoundError, TaskError
from clap_engine.tasks import moderate, policy
from clap_engine.tasks.frames import Block
from clap_engine.tasks.moderate import Listener
from clap_engine.tasks.policy import Category, Policy
from clap_engine.tasks.scores import Background

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 32_000
CALM = Background(0.0, 1.0, level=0.0, slope=1.0)


@pytest.fixture(scope="module")
def engine(bundle: bundles.Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def samples() -> dict[str, Any]:
    return {sample.label: sample.path for sample in demo.read_samples()}


def test_danger_is_heard_and_other_sounds_pass(engine: Engine, samples: dict[str, Any]) -> None:
    """Law: sample clips of danger call for review with the right category; the others pass."""
    for name, category in (
        ("gunshot", "gunshot"), ("police_siren", "siren"), ("glass_breaking", "breaking glass")
    ):  # fmt: skip
        verdict = engine.moderate(samples[name], "danger")
        assert verdict.action == "review"
        assert category in [finding.category for finding in verdict.findings]
    others = ("rain", "dog_bark", "owl", "polka", "man_speaking", "banjo", "footsteps")
    assert {engine.moderate(samples[name], "danger").action for name in others} == {"pass"}


def test_evidence_says_where(engine: Engine, samples: dict[str, Any]) -> None:
    """Law: the span lies where the sound is, and the stream gives what the verdict holds."""
    wave = noise(3, 30 * RATE_HZ, level=1e-3)
    siren = audio.load(samples["police_siren"], RATE_HZ)
    wave[12 * RATE_HZ : 12 * RATE_HZ + len(siren)] += siren
    verdict = engine.moderate((wave, RATE_HZ), "danger")
    (finding,) = [found for found in verdict.findings if found.category == "siren"]
    assert verdict.duration_s == 30
    assert 10.5 < finding.spans[0].start_s < 14
    assert finding.spans[-1].end_s < 19
    assert 0 < finding.share < 0.3
    streamed = list(engine.moderate_stream((wave, RATE_HZ), "danger"))
    assert [span for span in streamed if span.category == "siren"] == list(finding.spans)


def test_uploads_of_music(engine: Engine, samples: dict[str, Any]) -> None:
    """Law: speech alone, noise, tones and a long silence are found; music passes."""

    def met(source: Any) -> list[str]:
        return [found.category for found in engine.moderate(source, "music-uploads").findings]

    quiet = np.zeros(8 * RATE_HZ, np.float32)
    music = audio.load(samples["polka"], RATE_HZ)
    assert met(samples["man_speaking"]) == ["speech only"]
    assert met((noise(1, 10 * RATE_HZ), RATE_HZ)) == ["noise"]
    assert met((tone(1000, RATE_HZ, 10 * RATE_HZ), RATE_HZ)) == ["test tones"]
    assert met((quiet, RATE_HZ)) == ["silence"]
    assert met((np.concatenate([music, quiet]), RATE_HZ)) == ["silence"]
    assert met(samples["polka"]) == []
    assert met(samples["jazz_swing_beat"]) == []


def test_bad_sounds(engine: Engine) -> None:
    with pytest.raises(AudioError, match="NaN"):
        engine.moderate((np.full(RATE_HZ, np.nan, np.float32), RATE_HZ), "danger")
    with pytest.raises(NotFoundError, match="danger"):
        engine.moderate((noise(0, RATE_HZ), RATE_HZ), "no such policy")


def listened(policy: Policy, cosines: Any, power: Any = None) -> moderate.Verdict:
    """A verdict on frames of one second."""
    x = np.asarray(cosines, np.float64)
    y = np.ones(len(x)) if power is None else np.asarray(power, np.float64)
    listener = Listener(policy, CALM, 1.0)
    for _ in listener.evidence([Block(0, x, y, float(len(x)))]):
        pass
    return listener.verdict()


def one(**fields: Any) -> Policy:
    return Policy("p", "", (Category("c", ("a",), **fields),))


def test_what_fits_better_against_does_not_count() -> None:
    """Law: frames in which a text against fits better than all for it are none of the category."""
    assert listened(one(), [[9.0], [9.0]]).action == "review"
    both = one(unwanted=("b",))
    assert listened(both, [[9.0, 8.0], [9.0, 8.0]]).action == "review"
    assert listened(both, [[9.0, 9.5], [9.0, 9.5]]).action == "pass"


def test_duration_share_and_action() -> None:
    """Law: spans too short, and too small a share of the sound, call for nothing."""
    frames = np.full((10, 1), -9.0)
    frames[2:5] = 9.0
    assert listened(one(min_duration_s=3.0), frames).action == "review"
    assert listened(one(min_duration_s=3.5), frames).action == "pass"
    assert listened(one(min_share=0.3), frames).findings[0].share == pytest.approx(0.3)
    assert listened(one(min_share=0.31), frames).findings == ()
    strict = Policy("p", "", (Category("c", ("a",), action="note"),
                              Category("d", ("b",), action="block")))  # fmt: skip
    assert listened(strict, np.repeat(frames, 2, axis=1)).action == "block"
    assert listened(strict, np.hstack([frames, -abs(frames)])).action == "note"


def test_silence_has_no_category_but_silence() -> None:
    """Law: silent frames fit no text; a category about level hears them alone."""
    quiet = Policy("p", "", (Category("c", ("a",)), Category("s", below_dbfs=-60.0)))
    verdict = listened(quiet, [[9.0]] * 4, [0, 0, 0, 0])
    assert [finding.category for finding in verdict.findings] == ["s"]
    assert listened(quiet, [[-9.0]] * 4).findings == ()


def test_evidence_is_bounded() -> None:
    """Law: of thousands of spans a hundred are kept, and all are counted."""
    frames = np.tile([[9.0], [-9.0], [-9.0]], (1000, 1))
    (finding,) = listened(one(merge_s=0.0), frames).findings
    assert (finding.count, len(finding.spans)) == (1000, moderate.MAX_SPANS)
    assert finding.share == pytest.approx(1 / 3)


def text(**category: Any) -> bytes:
    return json.dumps({"description": "", "categories": {"c": category}}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"{}", b'{"description": "", "categories": {}}',
        b'{"description": "", "categories": []}',
        b'{"description": "", "categories": {"c": 3}}',
        b'{"description": "", "categories": {"": {"for": ["a"]}}}',
        b'{"description": "", "description": "", "categories": {"c": {"for": ["a"]}}}',
        b'{"description": "", "more": 1, "categories": {"c": {"for": ["a"]}}}',
        text(), text(**{"for": []}), text(**{"for": "a"}), text(**{"for": ["a", "a"]}),
        text(**{"for": [" "]}), text(against=["a"]), text(below_dbfs=-60, against=["a"]),
        text(**{"for": ["a"], "below_dbfs": -60}), text(below_dbfs=3), text(below_dbfs="x"),
        text(**{"for": ["a"], "treshold": 0.5}), text(**{"for": ["a"], "threshold": 1.0}),
        text(**{"for": ["a"], "threshold": 0.01}), text(**{"for": ["a"], "min_share": 2}),
        text(**{"for": ["a"], "action": "explode"}), text(**{"for": ["a"], "action": None}),
        text(**{"for": ["a"], "min_duration_s": True}), text(**{"for": ["a"], "merge_s": -1}),
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_malformed_policies_are_refused(data: bytes) -> None:
    with pytest.raises(TaskError):
        policy.read("x", data)


def test_policies_that_come_along() -> None:
    assert {"danger", "music-uploads"} <= set(policy.names())
    for name in policy.names():
        found = policy.load(name)
        assert found.description
        assert policy.load(found) is found
    danger = policy.load("danger")
    assert [category.name for category in danger.categories] == [
        "gunshot", "explosion", "scream", "siren", "alarm", "breaking glass",
    ]  # fmt: skip
    texts = danger.texts
    assert len(texts.names) == len(texts.starts) == 12


def test_verb(run: Run, samples: dict[str, Any], tmp_path: Path) -> None:
    """Law: exit code 0 where all pass, 1 where one doesn't or can't be read."""
    code, out, _ = run("moderate", samples["rain"], samples["gunshot"], "--json")
    found = json.loads(out)["verdicts"]
    assert code == 1
    assert [verdict["action"] for verdict in found] == ["pass", "review"]
    own, quiet, bad = (tmp_path / name for name in ("p.json", "quiet.wav", "bad.wav"))
    own.write_bytes(text(below_dbfs=-50, action="block"))
    quiet.write_bytes(encode(np.zeros(RATE_HZ, np.float32), RATE_HZ))
    bad.write_bytes(b"x")
    code, out, _ = run("moderate", quiet, "--policy", own)
    assert code == 1
    assert "block" in out
    assert run("moderate", samples["rain"], "--policy", own)[0] == 0
    assert run("moderate", samples["rain"], bad, "--policy", own)[0] == 1
    assert run("moderate", quiet, "--policy", "none")[0] == cli.NOT_FOUND
    assert run("moderate", quiet, "--policy", tmp_path)[0] == cli.USAGE
