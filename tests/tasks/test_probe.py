"""Few examples a class: what is learned, what a file holds, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import encode, noise, tone

from clap_engine import bundle as bundles
from clap_engine import cli, demo
from clap_engine.arrays import l2_normalize
from clap_engine.engine import Engine
from clap_engine.errors import ArrayError, IntegrityError, NotFoundError, TaskError
from clap_engine.tasks import learners
from clap_engine.tasks.probe import Probe

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 32_000
SPACE = "0123456789abcdef"


def rows(seed: int, centres: Any, each: int, spread: float = 0.3) -> Any:
    """[C * each, D] unit rows around unit centres."""
    rng = np.random.default_rng(seed)
    around = np.repeat(centres, each, axis=0)
    return l2_normalize((around + spread * rng.normal(size=around.shape)).astype(np.float32))


def centres(seed: int, count: int, dim: int = 16) -> Any:
    return l2_normalize(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32))


def fit(x: Any, labels: list[str], **more: Any) -> Probe:
    return Probe.fit(x, labels, space_id=SPACE, embed=lambda row: row, **more)


@pytest.fixture(scope="module")
def engine(bundle: bundles.Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def clips() -> dict[str, list[Any]]:
    samples = {sample.label: sample.path for sample in demo.read_samples()}
    return {
        "effect": [samples[name] for name in ("rain", "gunshot", "owl", "helicopter")],
        "music": [samples[name] for name in ("piano", "polka", "cello", "heavy_metal")],
    }


@pytest.mark.parametrize("each", [1, 2, 10])
@pytest.mark.parametrize("count", [2, 5])
def test_separable_classes_are_learned(each: int, count: int) -> None:
    """Law: classes far apart are told apart from one example each, whatever their order."""
    middle = centres(1, count)
    labels = [f"c{i}" for i in range(count) for _ in range(each)]
    shown = rows(2, middle, each, 0.05)
    asked = rows(3, middle, 20, 0.05)
    found = [best[0]["label"] for best in fit(shown, labels).predict_rows(asked)]
    assert found == [f"c{i}" for i in range(count) for _ in range(20)]
    order = np.random.default_rng(4).permutation(len(labels))
    other = fit(shown[order], [labels[i] for i in order]).predict_rows(asked)
    assert [best[0]["label"] for best in other] == found


def test_more_examples_of_a_class_do_not_make_it_likelier() -> None:
    """Law: classes weigh the same: the middle between two is doubtful, 30 examples against 2."""
    middle = centres(5, 2)
    shown = np.concatenate([rows(6, middle[:1], 30, 0.02), rows(7, middle[1:], 2, 0.02)])
    probe = fit(shown, ["many"] * 30 + ["few"] * 2)
    (scores,) = probe.predict_rows(l2_normalize(middle.sum(axis=0, keepdims=True)))
    assert max(one["score"] for one in scores) < 0.7


def test_the_dual_solution_solves_the_ridge_equations() -> None:
    """Law: the gradient of the weighted, penalised squares vanishes at the rule that is found."""
    x = rows(8, centres(8, 3), 6)
    classes = np.repeat(np.arange(3), 6)
    weights, bias = learners.ridge(x, classes, 3)
    targets = np.where(np.arange(3) == classes[:, None], 1.0, -1.0)
    error = (x @ weights.T + bias - targets) / len(x)
    centred = x - x.mean(axis=0)
    gradient = error.T @ centred + learners.RIDGE / len(x) * weights
    np.testing.assert_allclose(gradient, 0, atol=1e-7)
    np.testing.assert_allclose(error.sum(axis=0), 0, atol=1e-9)


def test_words_help_where_examples_are_few() -> None:
    """Law: words that point the right way raise accuracy from one noisy example each."""
    middle = centres(9, 4, 32)
    shown, asked = rows(10, middle, 1, 0.4), rows(11, middle, 100, 0.4)
    labels = [f"c{i}" for i in range(4)]

    def right(probe: Probe) -> float:
        found = [best[0]["label"] for best in probe.predict_rows(asked)]
        return float(np.mean([a == b for a, b in zip(found, np.repeat(labels, 100), strict=True)]))

    offset = np.full(32, 0.2, np.float32)  # texts lie elsewhere in the space
    with_words = fit(shown, labels, words=lambda names: l2_normalize(middle + offset))
    assert right(with_words) > right(fit(shown, labels)) + 0.1


@pytest.mark.parametrize(
    ("x", "labels", "word"),
    [
        (centres(0, 3), ["a", "a", "a"], "second class"),
        (centres(0, 1), ["a"], "1 examples"),
        (centres(0, 3), ["a", "b"], "2 labels"),
        (centres(0, 2), ["a", " "], "blank"),
        (centres(0, 2), ["a", "a "], "2 times"),
        (np.zeros((5001, 2), np.float32), ["a"] * 5001, "5001"),
    ],
)
def test_bad_examples_are_refused(x: Any, labels: list[str], word: str) -> None:
    with pytest.raises(TaskError, match=word):
        fit(x, labels)


def test_nan_is_refused() -> None:
    x = centres(0, 2)
    x[1, 3] = np.nan
    with pytest.raises(ArrayError, match="NaN"):
        fit(x, ["a", "b"])


def test_same_row_for_all_is_no_crash() -> None:
    """Law: examples that can't be told apart give finite, level scores."""
    same = np.repeat(centres(0, 1), 4, axis=0)
    (scores,) = fit(same, ["a", "a", "b", "b"]).predict_rows(same[:1])
    assert [one["score"] for one in scores] == pytest.approx([0.5, 0.5], abs=1e-6)


def test_save_and_load(tmp_path: Path) -> None:
    """Law: a loaded probe answers as the saved one to float32; another space is refused."""
    middle = centres(1, 3)
    probe = fit(rows(2, middle, 3), ["a", "é", "日本"] * 3)
    path = tmp_path / "x.npz"
    probe.save(path)
    loaded = Probe.load(path, space_id=SPACE, embed=lambda row: row)
    for ours, theirs in zip(probe.predict_rows(middle), loaded.predict_rows(middle), strict=True):
        assert [one["label"] for one in ours] == [one["label"] for one in theirs]
        assert [one["score"] for one in ours] == pytest.approx(
            [one["score"] for one in theirs], abs=1e-5
        )
    with pytest.raises(Exception, match="fit it again") as caught:
        Probe.load(path, space_id="f" * 16, embed=lambda row: row)
    assert type(caught.value).__name__ == "SpaceMismatchError"
    with pytest.raises(NotFoundError):
        Probe.load(tmp_path / "none.npz", space_id=SPACE, embed=lambda row: row)


def damaged(tmp_path: Path, kind: str) -> Path:
    """A file that is no probe, in one of many ways."""
    good = {
        "format": np.int64(1), "space_id": np.array(SPACE), "labels": np.array(["a", "b"]),
        "weights": np.zeros((2, 4), np.float32), "bias": np.zeros(2, np.float32),
    }  # fmt: skip
    changes: dict[str, dict[str, Any]] = {
        "pickle": {"labels": np.array(["a", {}], object)},
        "nan": {"weights": np.full((2, 4), np.nan, np.float32)},
        "rows": {"weights": np.zeros((3, 4), np.float32)},
        "newer": {"format": np.int64(9)},
        "numbers": {"labels": np.zeros(2)},
        "flat": {"weights": np.zeros(8, np.float32)},
        "extra": {"more": np.zeros(1)},
        "twice": {"labels": np.array(["a", "a"])},
    }
    path = tmp_path / "bad.npz"
    if kind in changes:
        np.savez(path, **{**good, **changes[kind]})
    elif kind == "pure":
        path.write_bytes(pickle.dumps(good))
    else:
        path.write_bytes({"empty": b"", "torn": b"PK\x03\x04 and nothing"}[kind])
    return path


@pytest.mark.parametrize(
    "kind",
    ["pickle", "nan", "rows", "newer", "numbers", "flat", "extra", "twice", "pure", "empty",
     "torn"],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises((IntegrityError, ArrayError, TaskError)):
        Probe.load(damaged(tmp_path, kind), space_id=SPACE, embed=lambda row: row)


def test_probe_of_sounds(engine: Engine, clips: dict[str, list[Any]], tmp_path: Path) -> None:
    """Law: music is told from effects that were no examples, before and after a file."""
    shown = {label: some[:3] for label, some in clips.items()}
    probe = engine.probe(shown)
    for label, some in clips.items():
        assert probe.predict(some[3])[0]["label"] == label
    probe.save(tmp_path / "x.npz")
    again = engine.load_probe(tmp_path / "x.npz")
    asked = [some[3] for some in clips.values()]
    assert [best[0]["label"] for best in again.predict(asked, top_k=1)] == list(clips)
    silence = (np.zeros(RATE_HZ, np.float32), RATE_HZ)
    assert sum(one["score"] for one in probe.predict(silence)) == pytest.approx(1)
    assert len(engine.probe(shown, words=True).labels) == 2
    with pytest.raises(TaskError, match="top_k"):
        probe.predict(silence, top_k=0)


@pytest.mark.parametrize("examples", [{}, [], {"a": []}, {"a": "x.wav"}, {"a": [], "b": []}])
def test_malformed_examples_are_refused(engine: Engine, examples: Any) -> None:
    with pytest.raises(TaskError):
        engine.probe(examples)


def test_verb(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "classes"
    for seed in range(2):
        for name, wave in (
            ("hiss", noise(seed, RATE_HZ)),
            ("tone", tone(300 + seed, RATE_HZ, RATE_HZ)),
        ):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{seed}.wav").write_bytes(encode(wave, RATE_HZ))
    asked = tmp_path / "asked.wav"
    asked.write_bytes(encode(noise(9, RATE_HZ), RATE_HZ))
    file = tmp_path / "x.npz"
    code, out, _ = run("probe", file, "--fit", root, "--json")
    assert (code, json.loads(out)["examples"]) == (0, {"hiss": 2, "tone": 2})
    code, out, _ = run("probe", file, asked, tmp_path / "none.wav", "--json")
    assert code == 1
    assert json.loads(out)["classified"][0]["scores"][0]["label"] == "hiss"
    assert run("probe", file, asked)[0] == 0
    assert run("probe", file)[0] == cli.USAGE
    assert run("probe", file, asked, "--fit", root)[0] == cli.USAGE
    assert run("probe", tmp_path / "none.npz", asked)[0] == cli.NOT_FOUND
    assert run("probe", file, "--fit", tmp_path / "nowhere")[0] == cli.NOT_FOUND
    (root / "empty").mkdir()
    assert run("probe", file, "--fit", root)[0] == cli.USAGE
    file.write_bytes(b"x")
    assert run("probe", file, asked)[0] == cli.DAMAGED
