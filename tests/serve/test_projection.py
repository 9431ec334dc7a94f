"""The map's plane is the widest one, the same for the same clips, and fits what it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fake_embedder import FakeEmbedder, fill, power_law

from clap_engine.collection import Collection
from clap_engine.serve.metrics import BUCKETS_S, Metrics
from clap_engine.serve.projection import ClipMap, plane_of


def test_no_plane_is_wider() -> None:
    """Against the singular values of the centred sample."""
    vectors = power_law(300, seed=1, exponent=1.5)
    plane = plane_of([str(i) for i in range(300)], vectors, 300)
    values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    assert abs(plane.share - values[:2].sum() / values.sum()) < 1e-4
    assert np.abs(plane.points).max() == 1
    assert np.allclose(plane.place(vectors), plane.points, atol=1e-5)
    directions = plane.axes / np.linalg.norm(plane.axes, axis=0)
    assert abs(directions[:, 0] @ directions[:, 1]) < 1e-5


def test_it_is_no_mirror_image_of_the_last_one() -> None:
    vectors = power_law(200, seed=2, exponent=1.5)
    keys = [str(i) for i in range(200)]
    whole, part = plane_of(keys, vectors, 200), plane_of(keys[:190], vectors[:190], 190)
    for axis in range(2):
        assert np.corrcoef(whole.points[:190, axis], part.points[:, axis])[0, 1] > 0.8


def test_few_and_equal_clips_lie_somewhere() -> None:
    for rows in (np.zeros((0, 8)), np.ones((1, 8)), np.ones((5, 8))):
        plane = plane_of([str(i) for i in range(len(rows))], rows.astype(np.float32), len(rows))
        assert plane.points.shape == (len(rows), 2)
        assert np.isfinite(plane.points).all()
        assert 0 <= plane.share <= 1


def test_places_of_keys_are_those_of_the_sample(tmp_path: Path) -> None:
    with Collection.open(tmp_path / "x.clap", embedder=FakeEmbedder(), create=True) as sounds:
        keys = fill(sounds, power_law(50, seed=3))
        shown = ClipMap(sounds, 50)
        plane = shown.plane()
        assert plane is shown.plane()
        places = shown.places([keys[7], "none", keys[3]])
        assert list(places) == [keys[7], keys[3]]
        for key, place in places.items():
            assert np.allclose(place, plane.points[plane.keys.index(key)], atol=1e-5)


def test_metrics_are_what_prometheus_reads() -> None:
    metrics = Metrics({"clap_x": ("What.", lambda: 2.5), "clap_y_total": ("Which.", lambda: 3)})
    for seconds in (0.0005, 0.003, 0.003, 99.0):
        metrics.observe("search", 200, seconds)
    metrics.observe("search", 503, 0.001)
    lines = metrics.text().splitlines()
    assert 'clap_requests_total{route="search",status="200"} 4' in lines
    assert 'clap_requests_total{route="search",status="503"} 1' in lines
    counts = [int(line.split()[-1]) for line in lines if "_bucket" in line]
    assert len(counts) == len(BUCKETS_S) + 1
    assert counts == sorted(counts)
    assert counts[-1] == 5
    assert counts[0] == 2
    assert "# TYPE clap_x gauge" in lines
    assert "clap_x 2.5" in lines
    assert "# TYPE clap_y_total counter" in lines
    assert all(line.startswith("#") or len(line.rsplit(" ", 1)) == 2 for line in lines)
