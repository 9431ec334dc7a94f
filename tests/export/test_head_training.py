"""Training heads on features: better than the rotation it begins with, and stopped or not the same.

The features are drawn: sounds and texts share factors of falling size under other mixes, as two
towers that were trained together do; each modality has a mean and noise of its own.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import IntegrityError
from clap_export import head_plan, head_training, rotation
from clap_export.errors import TrainingError
from clap_export.features import Features
from clap_export.head_checkpoint import Run, read_run, write_curves
from clap_export.head_plan import Plan
from clap_export.head_training import Trained, recall_at
from clap_export.rotation import Head

pytestmark = pytest.mark.export

S = 32
PLAN = Plan(ladder=(4, 8, 24), steps=60, batch=32, examine_steps=10, warmup_steps=5, patience=99,
            learning_rate=5e-3)  # fmt: skip


def drawn(clips: int, seed: int) -> Features:
    """Two windows and one or two captions a clip."""
    fixed = np.random.default_rng(7)
    size = np.arange(1, 17)[:, None] ** -0.5
    mixes = [fixed.standard_normal((16, S)) * size for _ in range(2)]
    mixes[1] = 0.5 * mixes[0] + 0.5 * mixes[1]
    means = fixed.standard_normal((2, S))
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((clips, 16))
    counts = [np.full(clips, 2), 1 + np.arange(clips) % 2]
    rows = []
    for mix, mean, count in zip(mixes, means, counts, strict=True):
        own = np.repeat(factors, count, axis=0)
        own = own + 0.4 * rng.standard_normal(own.shape)
        rows.append(l2_normalize(np.asarray(own @ mix + mean, np.float32)))
    ends = [np.concatenate([[0], np.cumsum(count)]) for count in counts]
    return Features(tuple(map(str, range(clips))), rows[0], ends[0], rows[1], ends[1])


def trained(plan: Plan, run: Run | None = None) -> Trained:
    learn, validate = head_plan.split(drawn(300, 0), plan)
    return head_training.train(learn, validate, plan, 14.0, run)


def by_rung(text: Float32, audio: Float32, test: Features, ladder: tuple[int, ...]) -> list[float]:
    sounds, texts = test.sounds(audio), test.texts @ text
    return [recall_at(texts[:, :d], sounds[:, :d], test.owners(), 5) for d in ladder]


def test_it_beats_the_rotation_at_every_rung_on_clips_it_never_saw() -> None:
    made = trained(replace(PLAN, steps=200))
    test = drawn(200, 1)
    learn, _ = head_plan.split(drawn(300, 0), PLAN)
    begun = rotation.fit(learn.texts, learn.windows)[:, :24]
    before = by_rung(begun, begun, test, PLAN.ladder)
    after = by_rung(made.text, made.audio, test, PLAN.ladder)
    assert all(b > a + 0.02 for a, b in zip(before, after, strict=True)), (before, after)
    assert made.history[-1]["validation"] < made.history[0]["validation"]
    assert 1 <= made.logit_scale <= 100 + 1e-3


def test_it_begins_as_the_fitted_rotation() -> None:
    """A step of almost nothing leaves the closed form, to 1e-6."""
    plan = replace(PLAN, steps=1, learning_rate=1e-9)
    learn, validate = head_plan.split(drawn(300, 0), plan)
    made = head_training.train(learn, validate, plan, 14.0)
    begun = rotation.fit(learn.texts, learn.windows)[:, :24]
    np.testing.assert_allclose(made.audio, begun, atol=1e-6)
    np.testing.assert_allclose(made.text, begun, atol=1e-6)


@pytest.mark.parametrize("start", ["own", "random"])
def test_other_starts_are_orthonormal(start: str) -> None:
    begun = trained(replace(PLAN, steps=1, start=start, learning_rate=1e-9)).audio
    np.testing.assert_allclose(begun.T @ begun, np.eye(24), atol=1e-5)
    assert (start == "own") == np.allclose(begun, np.eye(S, 24), atol=1e-6)


def test_a_given_head_is_gone_on_from_and_sounds_may_stay() -> None:
    """With `only_text` the map of sounds keeps its bytes, and validation still gets better."""
    learn, validate = head_plan.split(drawn(300, 0), PLAN)
    given = Head(rotation.fit(learn.texts, learn.windows)[:, :24].copy(), "fitted")
    plan = replace(PLAN, start="given", only_text=True)
    head_plan.check(plan, S, given)
    made = head_training.train(learn, validate, plan, 14.0, start=given)
    assert made.audio.tobytes() == given.matrix.tobytes()
    assert not np.allclose(made.text, given.matrix, atol=1e-3)
    assert made.history[-1]["validation"] < made.history[0]["validation"]
    with pytest.raises(TrainingError, match="maps 32 dims to 24; the ladder ends with 16 of 32"):
        head_plan.check(replace(plan, ladder=(8, 16)), S, given)


def equal(a: Trained, b: Trained) -> bool:
    return (
        a.audio.tobytes() == b.audio.tobytes()
        and a.text.tobytes() == b.text.tobytes()
        and (a.logit_scale, a.best_step, a.history) == (b.logit_scale, b.best_step, b.history)
    )


@pytest.mark.parametrize("stop", [1, 10, 37, 59])
def test_stopped_by_ctrl_c_and_resumed_it_ends_with_the_same_bytes(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise, and no step is trained twice."""
    whole = trained(PLAN)
    real, steps = head_training.batch, []

    def counted(learn: Features, plan: Plan, step: int):  # type: ignore[no-untyped-def]
        steps.append(step)
        if len(steps) == stop:
            os.kill(os.getpid(), signal.SIGINT)
        return real(learn, plan, step)

    monkeypatch.setattr(head_training, "batch", counted)
    run = Run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        trained(PLAN, run)
    assert read_run(run)[1]["step"] == stop
    assert equal(trained(PLAN, run), whole)
    assert steps == list(range(PLAN.steps))
    # A run that is over is over.
    assert equal(trained(PLAN, run), whole)
    assert len(steps) == PLAN.steps


def test_killed_between_checkpoints_it_ends_with_the_same_bytes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_training, "SAVE_S", 0.0)
    real = head_training.batch

    def fails(learn: Features, plan: Plan, step: int):  # type: ignore[no-untyped-def]
        if step == 23:
            raise MemoryError  # nothing is saved on this way out
        return real(learn, plan, step)

    with monkeypatch.context() as patch:
        patch.setattr(head_training, "batch", fails)
        with pytest.raises(MemoryError):
            trained(PLAN, Run(tmp_path))
    assert equal(trained(PLAN, Run(tmp_path)), trained(PLAN))


def test_another_plan_or_other_pairs_are_no_resumption(tmp_path: Path) -> None:
    run = Run(tmp_path)
    trained(replace(PLAN, steps=10), run)
    for other in (replace(PLAN, steps=11), replace(PLAN, steps=10, ladder=(8, 24))):
        with pytest.raises(TrainingError, match="belongs to another run.*--restart"):
            trained(other, run)
    learn, validate = head_plan.split(drawn(300, 5), PLAN)
    with pytest.raises(TrainingError, match="belongs to another run"):
        head_training.train(learn, validate, replace(PLAN, steps=10), 14.0, run)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    trained(replace(PLAN, steps=2), run)
    data = run.checkpoint.read_bytes()
    for bad in (data[:-5], b"", b"\0" * 64):
        run.checkpoint.write_bytes(bad)
        with pytest.raises(IntegrityError, match="is damaged.*--restart"):
            trained(replace(PLAN, steps=2), run)


def test_it_stops_early_and_keeps_the_best() -> None:
    """With steps far too long nothing improves on some examination for good."""
    plan = replace(PLAN, steps=2_000, learning_rate=0.5, patience=2, noise=0.0)
    made = trained(plan)
    assert made.stopped_early
    assert made.history[-1]["step"] == made.best_step + 2 * plan.examine_steps
    losses = {line["step"]: line["validation"] for line in made.history}
    assert losses[made.best_step] == min(losses.values())


def test_the_temperature_is_learned_and_clamped() -> None:
    scales = [line["scale"] for line in trained(replace(PLAN, learning_rate=0.05)).history]
    assert scales[0] == pytest.approx(14.0)
    assert scales[-1] != pytest.approx(14.0, abs=0.1)
    learn, validate = head_plan.split(drawn(300, 0), PLAN)
    hot = head_training.train(learn, validate, replace(PLAN, steps=20), 1e6)
    assert all(line["scale"] <= 100 + 1e-3 for line in hot.history)


def test_the_other_seed_is_another_run() -> None:
    first, other = trained(PLAN), trained(replace(PLAN, seed=1))
    assert not np.array_equal(first.audio, other.audio)


def test_a_clips_captions_stay_on_one_side_of_the_split() -> None:
    features = drawn(100, 0)
    learn, validate = head_plan.split(features, PLAN)
    assert sorted(learn.names + validate.names, key=int) == list(features.names)
    assert len(validate) == 10
    assert len(learn.texts) + len(validate.texts) == len(features.texts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ladder": (4, 64)}, "rising dims of 1 to 32"),
        ({"ladder": (8, 4)}, "ladder 8,4"),
        ({"ladder": ()}, "ladder empty"),
        ({"ladder": (0, 8)}, "ladder 0,8"),
        ({"steps": 0}, "steps 0; at least 1"),
        ({"batch": 1}, "batch 1; at least 2"),
        ({"validation": 0.9}, "validation 0.9"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"start": "zero"}, "start 'zero'; give one of rotation, own, random"),
    ],
)
def test_plans_that_no_run_can_follow_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        head_plan.check(replace(PLAN, **change), S)  # type: ignore[arg-type]


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(TrainingError, match="11 clips, of which 4 validate; at least 12"):
        head_plan.split(drawn(11, 0), PLAN)
    head_plan.split(drawn(12, 0), PLAN)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    learn, validate = head_plan.split(drawn(300, 0), PLAN)
    broken = replace(learn, texts=np.full_like(learn.texts, np.inf))
    with pytest.raises(Exception, match="NaN or infinity|the loss is"):
        head_training.train(broken, validate, PLAN, 14.0)


def test_curves_are_pictures_and_lines(tmp_path: Path) -> None:
    made = trained(PLAN)
    write_curves(Run(tmp_path), made.history, made.best_step)
    for name in ("loss.png", "recall.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(0, 61, 10))
    assert set(json.loads(lines[0])["recall@10"]) == {"4", "8", "24"}


def test_recall_counts_the_clip_of_each_caption() -> None:
    sounds = np.eye(4, dtype=np.float32)
    owners = np.array([0, 1, 1, 3])
    texts = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]
    assert recall_at(texts, sounds, owners, 1) == 0.75
    # All alike: a tie is no find.
    assert recall_at(np.ones_like(texts), np.ones_like(sounds), owners, 1) == 0.0
