"""Two models side by side: figures against their definitions, what can't be compared, resuming."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sets
from sounds import encode, noise, tone
from tiny_bundle import make_bundle

from clap_engine import cli
from clap_engine.arrays import l2_normalize
from clap_engine.comparison import Comparison, agreement, compare, compare_async, compare_rows
from clap_engine.comparison.correlation import correlation, plane_silhouettes, ranks, spearman
from clap_engine.comparison.speed import bursts
from clap_engine.deadline import Deadline
from clap_engine.errors import ArrayError, ClapError, DeadlineError, NotFoundError, TaskError
from clap_engine.evaluation import evaluate
from clap_engine.tasks.separation import separate

Run = Callable[..., tuple[int, str, str]]
QUICK: Any = {"threads": 1, "resamples": 100, "is_timed": False, "precision": "fp32"}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two small bundles of different weights."""
    return make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two", seed=1)


def a_set(root: Path, count: int = 8) -> Path:
    """Clips with a caption and one of two labels each."""
    for number in range(count):
        tiny_sets.sound(root / f"{number}.wav", number)
    rows = [(f"{n}.wav", f"a slow banjo {'melody ' * n}", "dog" if n % 2 else "rain")
            for n in range(count)]  # fmt: skip
    tiny_sets.table(root / "set.csv", ("file", "caption", "label"), rows)
    return root


def by_name(found: Comparison) -> dict[str, Any]:
    return {figure.name: figure for figure in found.figures}


def test_each_side_is_what_evaluate_finds(tmp_path: Path, two: tuple[Path, Path]) -> None:
    """Law: the figures and intervals of each side are those of `evaluate`, to the bit."""
    root = a_set(tmp_path / "set")
    found = compare(*two, root, **QUICK)
    figures = by_name(found)
    assert found.is_whole
    for side, path in zip("ab", two, strict=True):
        alone = evaluate(path, root, threads=1, resamples=100, precisions=["fp32"])
        for rung, ours in zip(alone.precisions[0].rungs, found.rungs, strict=True):
            for name, estimate in rung.tasks["classify"].items():
                assert ours.figures[f"classify {name}"]["ab".index(side)] == estimate.value
        whole = alone.precisions[0].rungs[-1]
        assert getattr(figures["text to audio R@1"], side) == whole.text_to_audio["R@1"]
        assert getattr(figures["audio to text mAP@10"], side) == whole.audio_to_text["mAP@10"]
        assert getattr(figures["classify accuracy"], side) == whole.tasks["classify"]["accuracy"]
    for figure in found.figures:
        assert figure.difference.value == pytest.approx(figure.a.value - figure.b.value)


def test_a_model_beside_itself_differs_in_nothing(tmp_path: Path, two: tuple[Path, Path]) -> None:
    found = compare(two[0], two[0], a_set(tmp_path / "set"), **QUICK)
    assert found.a.name == found.b.name
    for figure in found.figures:
        assert (figure.difference.value, figure.difference.low, figure.difference.high) == (0, 0, 0)
        assert not figure.is_clear
    for rung in found.rungs:
        assert rung.agreement.same_class == rung.agreement.neighbours == 1
        assert rung.agreement.same_first == 1
        assert rung.agreement.only_a == rung.agreement.only_b == 0
    assert found.separation is not None
    assert found.separation[0].classes == found.separation[1].classes


def test_order_of_sides_is_a_sign(tmp_path: Path, two: tuple[Path, Path]) -> None:
    root = a_set(tmp_path / "set")
    ab, ba = compare(*two, root, **QUICK), compare(two[1], two[0], root, **QUICK)
    for one, other in zip(ab.figures, ba.figures, strict=True):
        assert one.a == other.b
        assert one.difference.value == -other.difference.value
        assert one.difference.low == pytest.approx(-(other.difference.high or 0))
    assert ab.rungs[0].agreement.only_a == ba.rungs[0].agreement.only_b


def test_clips_that_one_side_lacks_are_in_no_figure(tmp_path: Path, two: Any, run: Run) -> None:
    root = a_set(tmp_path / "set")
    (root / "1.wav").unlink()
    (root / "2.wav").write_bytes(b"RIFF")
    found = compare(*two, root, **QUICK)
    assert (found.listed, found.clips, found.missing) == (8, 6, ("1.wav",))
    assert [failure.clip for failure in found.a.damaged] == ["2.wav"]
    assert all(figure.a.clips == 6 for figure in found.figures)
    code, out, err = run("compare", *two, root, "--json", "--no-speed", "--resamples", 100)
    assert code == cli.invocation.SOME_FAILED
    assert json.loads(out)["clips"] == 6
    assert "1 of 8 clips have no file, and are in no figure:\n  1.wav" in err
    assert "1 of 8 clips can't be read" in err


def test_a_folder_for_each_class(tmp_path: Path, two: tuple[Path, Path]) -> None:
    root = tmp_path / "classes"
    for seed in range(3):
        for name, wave in (("hiss", noise(seed, 4_000)), ("tone", tone(300 + seed, 4_000, 4_000))):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{seed}.wav").write_bytes(encode(wave, 4_000))
    (root / "__pycache__").mkdir()
    found = compare(*two, root, **QUICK)
    assert (found.layout, found.clips, found.captions) == ("folders", 6, 0)
    assert {figure.name for figure in found.figures} == {"classify accuracy"}
    assert found.separation is not None
    assert found.separation[0].figures.count == found.separated == 6
    assert found.separation[0].plane_tells is None  # two classes have no ranks


def test_captions_alone_and_one_class_alone(tmp_path: Path, two: tuple[Path, Path]) -> None:
    """Law: without classes to tell apart the separation is None and the rest is there."""
    root = tmp_path / "set"
    for number in range(3):
        tiny_sets.sound(root / f"{number}.wav", number)
    lines = [(f"{n}.wav", "a dog") for n in range(3)]
    tiny_sets.table(root / "set.csv", ("file", "caption"), lines)
    found = compare(*two, root, **QUICK)
    assert found.separation is None
    assert found.rungs[-1].agreement.same_class is None
    tiny_sets.table(root / "set.csv", ("file", "label"), lines)
    found = compare(*two, root, **QUICK)
    assert found.separation is None
    assert by_name(found)["classify accuracy"].a.value == 1


def test_silence_and_equal_clips(tmp_path: Path, two: tuple[Path, Path]) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for n in range(4):
        (root / f"{n}.wav").write_bytes(encode(np.zeros(4_000, np.float32), 4_000))
    tiny_sets.table(root / "set.csv", ("file", "label"), [(f"{n}.wav", f"c{n % 2}")
                                                          for n in range(4)])  # fmt: skip
    found = compare(*two, root, **QUICK)
    assert found.separation is not None
    json.dumps(found.record(), allow_nan=False)


def test_sounds_are_embedded_once_with_a_cache(tmp_path: Path, two: tuple[Path, Path]) -> None:
    root, cache = a_set(tmp_path / "set"), tmp_path / "cache"
    first = compare(*two, root, cache=cache, **QUICK)
    second = compare(*two, root, cache=cache, **QUICK)
    assert (first.a.cached, second.a.cached, second.b.cached) == (0, 8, 8)
    assert first.figures == second.figures


def test_no_time_and_cancelling(tmp_path: Path, two: tuple[Path, Path]) -> None:
    root = a_set(tmp_path / "set")
    with pytest.raises(DeadlineError):
        compare(*two, root, timeout_s=1e-6, **QUICK)
    found = asyncio.run(compare_async(*two, root, **QUICK))
    assert found.clips == 8


def test_interrupted_says_what_is_kept(
    tmp_path: Path, two: tuple[Path, Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: Ctrl-C in the middle loses nothing that the cache has, and says so."""
    from clap_engine.evaluation import cache as caches

    root, cache = a_set(tmp_path / "set"), tmp_path / "cache"
    put, count = caches.EmbeddingCache.put, 0

    def third(self: Any, *given: Any) -> None:
        nonlocal count
        put(self, *given)
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(caches.EmbeddingCache, "put", third)
    code, _, err = run("compare", *two, root, "--cache", cache, "--precision", "fp32")
    assert code == cli.invocation.INTERRUPTED
    assert "safe in" in err
    monkeypatch.setattr(caches.EmbeddingCache, "put", put)
    assert compare(*two, root, cache=cache, **QUICK).a.cached == 3


def rows_of(tmp_path: Path, seed: int, dim: int, spread: float) -> Path:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(6, dim))
    rows = np.repeat(middles, 8, axis=0) + spread * rng.normal(size=(48, dim))
    path = tmp_path / f"rows-{seed}-{dim}.npy"
    np.save(path, rows.astype(np.float32))
    return path


def labels_of(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("label\n" + "".join(f"c{i // 8}\n" for i in range(48)), "utf-8")
    return path


def test_ready_rows(tmp_path: Path, run: Run) -> None:
    """Law: accuracy and purity are those of `separate`; dims may differ; speed is left out."""
    a, b, labels = rows_of(tmp_path, 0, 16, 0.3), rows_of(tmp_path, 1, 24, 3.0), labels_of(tmp_path)
    found = compare_rows(a, b, labels, resamples=100)
    assert found.separation is not None
    figures = by_name(found)
    for side, one in zip("ab", found.separation, strict=True):
        middle = getattr(figures["nearest middle accuracy"], side).value
        assert middle == pytest.approx(one.figures.accuracy)
        purity = getattr(figures["nearest middle purity@10"], side).value
        assert purity == pytest.approx(one.figures.purity)
        assert one.accuracy_of == "nearest middle"
    assert figures["nearest middle accuracy"].is_clear
    assert (found.rungs[0].dim_a, found.rungs[0].dim_b, found.speed) == (16, 24, {})
    code, out, _ = run("compare", a, b, labels, "--json", "--html", tmp_path / "page.html")
    assert code == 0
    assert json.loads(out)["layout"] == "rows"
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!doctype html>")
    code, out, _ = run("compare", a, b, labels)
    assert code == 0
    assert out.startswith("nearest middle accuracy\t")


def test_rows_that_make_no_pair(tmp_path: Path, run: Run, two: tuple[Path, Path]) -> None:
    a, labels = rows_of(tmp_path, 0, 16, 0.3), labels_of(tmp_path)
    short = tmp_path / "short.npy"
    np.save(short, np.zeros((3, 4), np.float32))
    bad = tmp_path / "bad.npy"
    np.save(bad, np.full((48, 4), np.nan))
    for other, error in ((short, ArrayError), (bad, ArrayError), (tmp_path / "no.npy",
                                                                 NotFoundError)):  # fmt: skip
        with pytest.raises(error):
            compare_rows(a, other, labels)
    one = tmp_path / "one.csv"
    one.write_text("label\n" + "same\n" * 48, "utf-8")
    with pytest.raises(TaskError, match="1 classes"):
        compare_rows(a, a, one)
    assert run("compare", a, two[0], labels)[0] == cli.USAGE
    lost = tmp_path / "none" / "page.html"
    assert run("compare", a, a, labels, "--html", lost)[0] == cli.NOT_FOUND
    assert run("compare", a, a, tmp_path / "none.csv")[0] == cli.NOT_FOUND


@pytest.mark.parametrize(
    "settings", [{"resamples": 3}, {"seed": -1}, {"layout": "no such"}, {"templates": ["x"]},
                 {"limit": 0}, {"precision": "fp16"}, {"split": "no such"}]
)  # fmt: skip
def test_settings_that_make_no_sense(
    tmp_path: Path, two: tuple[Path, Path], settings: dict[str, Any]
) -> None:
    with pytest.raises((ClapError, ValueError)):
        compare(*two, a_set(tmp_path / "set", 2), **{**QUICK, **settings})


def test_nothing_to_read(tmp_path: Path, two: tuple[Path, Path]) -> None:
    with pytest.raises(NotFoundError):
        compare(*two, tmp_path / "none", **QUICK)
    with pytest.raises(NotFoundError):
        compare(tmp_path / "none", two[1], a_set(tmp_path / "set", 2), **QUICK)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError):
        compare(*two, tmp_path / "empty", **QUICK)


@pytest.mark.parametrize("seed", range(5))
def test_spearman_by_its_definition(seed: int) -> None:
    """Law: without ties 1 - 6 sum d^2 / (n (n^2 - 1)); ties take their mean rank."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=30), rng.normal(size=30)
    d = np.argsort(np.argsort(x)) - np.argsort(np.argsort(y))
    assert spearman(x, y) == pytest.approx(1 - 6 * (d @ d) / (30 * (30**2 - 1)))
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    assert spearman(x, x) == pytest.approx(1)
    assert spearman(x, np.ones(30)) is None
    found = correlation(x, x + y, seed=0, resamples=200)
    assert found is not None
    assert found.low < found.rho < found.high
    assert correlation(x[:4], y[:4], seed=0, resamples=200) is None


def test_plane_silhouettes() -> None:
    """Law: far classes have nearly 1, mixed ones about 0, single points 0."""
    rng = np.random.default_rng(0)
    far = np.repeat([[0.0, 0.0], [100.0, 0.0]], 20, axis=0) + rng.normal(size=(40, 2))
    labels = ["a"] * 20 + ["b"] * 20
    assert min(plane_silhouettes(far, labels).values()) > 0.95
    assert abs(plane_silhouettes(rng.normal(size=(400, 2)), ["a", "b"] * 200)["a"]) < 0.15
    assert plane_silhouettes(far, ["a"] * 39 + ["b"])["b"] == 0
    assert np.isfinite(list(plane_silhouettes(np.zeros((4, 2)), ["a", "b"] * 2).values())).all()


def test_neighbours_that_are_shared() -> None:
    """Law: equals the plain definition; a rotation changes nothing, chance is k / (N - 1)."""
    rng = np.random.default_rng(0)
    a = l2_normalize(rng.normal(size=(60, 8)).astype(np.float32))
    turned = (a @ np.linalg.qr(rng.normal(size=(8, 8)))[0]).astype(np.float32)
    assert agreement.shared_neighbours(a, turned) > 0.99
    b = l2_normalize(rng.normal(size=(60, 8)).astype(np.float32))
    near = [np.argsort(-(x @ x.T) + 9 * np.eye(60), axis=1)[:, :10] for x in (a, b)]
    plain = np.mean([len(set(x) & set(y)) / 10 for x, y in zip(*near, strict=True)])
    assert agreement.shared_neighbours(a, b) == pytest.approx(plain)
    assert agreement.shared_neighbours(a[:1], b[:1]) == 1


def test_bursts_take_turns() -> None:
    """Law: calls alternate in bursts, each with a number of its own, and a slower side shows."""
    order: list[tuple[str, int]] = []
    found = bursts(lambda n: order.append(("a", n)), lambda n: order.append(("b", n)), Deadline())
    assert [name for name, _ in order[:12]] == ["a"] * 5 + ["b"] * 5 + ["a"] * 2
    assert len({number for _, number in order}) == len(order)
    assert found.calls == (len(order) - 10) // 2
    with pytest.raises(DeadlineError):
        bursts(lambda n: None, lambda n: None, Deadline.of(1e-9))


def test_separation_knows_each_class_accuracy() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 4)).astype(np.float32)
    found = separate(rows, ["a", "b"] * 20)
    mean = np.mean([one.accuracy for one in found.classes])
    assert found.accuracy == pytest.approx(mean)
