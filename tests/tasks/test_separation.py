"""How well classes are told apart: each figure against its definition, files, the picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import encode, noise, tone

from clap_engine import cli
from clap_engine.arrays import l2_normalize
from clap_engine.errors import ArrayError, NotFoundError, TaskError
from clap_engine.tasks import separation_files
from clap_engine.tasks.separation import separate

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 32_000


def cloud(seed: int, sizes: list[int], spread: float = 0.5, dim: int = 6) -> tuple[Any, list[str]]:
    """Unit rows around unit middles; labels a, b, ..."""
    rng = np.random.default_rng(seed)
    middles = l2_normalize(rng.normal(size=(len(sizes), dim)).astype(np.float32))
    rows = np.repeat(middles, sizes, axis=0)
    rows = l2_normalize((rows + spread * rng.normal(size=rows.shape)).astype(np.float32))
    return rows, [chr(97 + i) for i, n in enumerate(sizes) for _ in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_figures_by_their_definitions(seed: int) -> None:
    """Law: silhouette, purity, Fisher, Davies-Bouldin and accuracy equal the plain definitions."""
    x, labels = cloud(seed, [7, 4, 9])
    found = separate(x, labels, neighbours=3)
    x = x.astype(np.float64)
    names = np.array(labels)
    distance = 1 - x @ x.T
    silhouettes, purities = [], []
    for i in range(len(x)):
        own = [distance[i, j] for j in range(len(x)) if names[j] == names[i] and j != i]
        others = [distance[i, names == c].mean() for c in set(labels) - {labels[i]}]
        a, b = np.mean(own), min(others)
        silhouettes.append((b - a) / max(a, b))
        order = [j for j in np.argsort(distance[i], kind="stable") if j != i][:3]
        purities.append(np.mean(names[order] == names[i]))
    assert found.silhouette == pytest.approx(np.mean(silhouettes), abs=1e-5)
    assert found.purity == pytest.approx(np.mean(purities), abs=1e-9)
    middles = {c: x[names == c].mean(axis=0) for c in "abc"}
    within = np.mean([np.sum((row - middles[c]) ** 2) for row, c in zip(x, labels, strict=True)])
    between = np.mean([np.sum((middles[c] - x.mean(axis=0)) ** 2) for c in labels])
    assert found.fisher == pytest.approx(between / within, rel=1e-5)
    spread = {c: np.sqrt(np.mean(np.sum((x[names == c] - m) ** 2, axis=1)))
              for c, m in middles.items()}  # fmt: skip
    index = np.mean([
        max((spread[c] + spread[o]) / np.linalg.norm(middles[c] - middles[o])
            for o in "abc" if o != c)
        for c in "abc"
    ])  # fmt: skip
    assert found.davies_bouldin == pytest.approx(index, rel=1e-5)
    right = 0
    for i, (row, c) in enumerate(zip(x, labels, strict=True)):
        sums = {o: (x[names == o].sum(axis=0) - (row if o == c else 0)) for o in "abc"}
        right += max(sums, key=lambda o: row @ sums[o] / np.linalg.norm(sums[o])) == c
        assert i >= 0
    assert found.accuracy == pytest.approx(right / len(x))
    wrong = sum(one.count for one in found.confusions)
    assert wrong == len(x) - right


def test_classes_far_apart_and_on_top_of_each_other() -> None:
    far = separate(*cloud(1, [12, 12], 0.01))
    assert (far.accuracy, far.purity, far.confusions) == (1, 1, ())
    assert far.silhouette > 0.9
    assert far.fisher is not None
    assert far.fisher > 10
    x, _ = cloud(2, [200], 1.0)
    mixed = separate(x, ["a", "b"] * 100)
    assert abs(mixed.silhouette) < 0.1
    assert mixed.fisher is not None
    assert mixed.fisher < 0.1
    assert 0.35 < mixed.purity < 0.65


def test_order_of_rows_does_not_matter() -> None:
    x, labels = cloud(3, [5, 6, 7])
    order = np.random.default_rng(0).permutation(len(x))
    a, b = separate(x, labels), separate(x[order], [labels[i] for i in order])
    assert a.silhouette == pytest.approx(b.silhouette, abs=1e-6)
    assert a.classes[0].label == b.classes[0].label == "a"
    np.testing.assert_allclose(np.abs(a.plane.points[order]), np.abs(b.plane.points), atol=1e-5)


def test_degenerate_classes_are_defined() -> None:
    """Law: single rows, equal rows and equal middles give numbers or None, never NaN."""
    x, _ = cloud(4, [3], 1.0)
    single = separate(x, ["a", "b", "c"])
    assert (single.silhouette, single.purity, single.accuracy) == (0, 0, 0)
    assert single.fisher is None
    same = np.repeat(x[:1], 4, axis=0)
    equal = separate(same, ["a", "a", "b", "b"])
    assert (equal.fisher, equal.davies_bouldin) == (None, None)
    assert np.isfinite([equal.silhouette, equal.purity, equal.accuracy, equal.plane.share]).all()
    narrow = separate(np.array([[1.0], [1.0], [-1.0]]), ["a", "a", "b"])
    assert narrow.plane.points.shape == (3, 2)
    zero = separate(np.zeros((4, 3)), ["a", "a", "b", "b"])
    assert np.isfinite(zero.silhouette)


@pytest.mark.parametrize(
    ("rows", "labels", "error"),
    [
        (np.eye(3), ["a", "a", "a"], TaskError),
        (np.eye(3), ["a", "b"], TaskError),
        (np.eye(2), ["a", " "], TaskError),
        (np.eye(2), ["a", 3], TaskError),
        (np.zeros((0, 3)), [], TaskError),
        (np.array([[np.nan, 1], [0, 1]]), ["a", "b"], ArrayError),
        (np.zeros(3), ["a", "b", "c"], ArrayError),
    ],
)
def test_bad_rows_are_refused(rows: Any, labels: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        separate(rows, labels)


def test_many_rows_in_bounded_memory() -> None:
    """Law: rows beyond a chunk give what one product gives (1,500 rows)."""
    x, labels = cloud(5, [500, 500, 500])
    found = separate(x, labels)
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :10]
    names = np.array(labels)
    assert found.purity == pytest.approx((names[nearest] == names[:, None]).mean(), abs=1e-3)


def test_ellipse_holds_its_share() -> None:
    """Law: two standard deviations hold 86 % of a normal cloud (20,000 points, seed 0)."""
    rng = np.random.default_rng(0)
    mix = np.array([[2.0, 0.3], [0.0, 0.5]])
    points = rng.normal(size=(20_000, 2)) @ mix
    outline = separation_files.ellipse(points) - points.mean(axis=0)
    inverse = np.linalg.inv(np.cov(points.T))
    radius = np.sqrt(np.einsum("nd,de,ne->n", outline, inverse, outline))
    np.testing.assert_allclose(radius, 2.0, atol=1e-9)
    away = points - points.mean(axis=0)
    inside = np.sqrt(np.einsum("nd,de,ne->n", away, inverse, away)) < 2
    assert inside.mean() == pytest.approx(1 - np.exp(-2), abs=0.01)


@pytest.mark.parametrize("name", ["x.png", "x.svg"])
def test_plot(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    x, labels = cloud(6, [5, 2, 1])
    separation_files.plot(separate(x, [f"${label}_" for label in labels]), tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(TaskError, match="svg"):
        separation_files.plot(separate(x, labels), tmp_path / "x.jpg")


def write_rows(tmp_path: Path) -> tuple[Path, Path]:
    x, labels = cloud(7, [6, 6], 0.1)
    rows, table = tmp_path / "rows.npy", tmp_path / "labels.csv"
    np.save(rows, x)
    table.write_text("id,label\n" + "".join(f"{i},{c}\n" for i, c in enumerate(labels)), "utf-8")
    return rows, table


def test_ready_rows(tmp_path: Path) -> None:
    rows, table = write_rows(tmp_path)
    x, labels = separation_files.read_rows(rows, table)
    assert separate(x, labels).accuracy == 1
    with pytest.raises(NotFoundError):
        separation_files.read_rows(tmp_path / "none.npy", table)
    with pytest.raises(NotFoundError):
        separation_files.read_rows(rows, tmp_path / "none.csv")
    table.write_text("id,class\n1,a\n", "utf-8")
    with pytest.raises(TaskError, match="column"):
        separation_files.read_rows(rows, table)
    table.write_text("label\na\n", "utf-8")
    with pytest.raises(ArrayError):
        separation_files.read_rows(rows, table)
    np.save(rows, np.array([{}], object), allow_pickle=True)
    with pytest.raises(TaskError, match="npy"):
        separation_files.read_rows(rows, table)
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(TaskError, match="several"):
        separation_files.read_rows(tmp_path / "x.npz", table)


def test_verb(run: Run, tmp_path: Path) -> None:
    """Law: sounds and their ready embeddings give the same report."""
    root = tmp_path / "classes"
    for seed in range(3):
        for name, wave in (
            ("hiss", noise(seed, RATE_HZ)), ("tone", tone(300 + 9 * seed, RATE_HZ, RATE_HZ))
        ):  # fmt: skip
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{seed}.wav").write_bytes(encode(wave, RATE_HZ))
    code, out, _ = run("separate", root, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["accuracy"] == 1
    assert [one["label"] for one in found["classes"]] == ["hiss", "tone"]
    assert len(found["plane"]["points"]) == 6
    rows, table = write_rows(tmp_path)
    code, out, _ = run("separate", rows, "--labels", table)
    assert code == 0
    assert "silhouette" in out
    (root / "tone" / "bad.wav").write_bytes(b"x")
    assert run("separate", root)[0] == cli.USAGE
    assert run("separate", tmp_path / "none")[0] == cli.NOT_FOUND
    assert run("separate", rows, "--labels", table, "--plot", "x.pdf")[0] == cli.USAGE
