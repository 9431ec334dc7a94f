"""Makes the fixtures of this folder: a small collection in each format that this release writes.

In:  the formats to make, as `python tests/formats/make.py 1 2 3`; none of a released one again.
     `snapshot` makes snapshot-1.zip from collection-2.zip, `archive` archive-1.tar.
Out: collection-N.zip, with the answers that a reader must give in answers.json.
Knows nothing about how tests read them.

A fixture of a released format is never made anew: it is what that release wrote.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fake_embedder import FakeEmbedder, hashed  # noqa: E402 (the folder of tests is found above)
from tiny_bundle import make_bundle  # noqa: E402

from clap_engine import bundle, planner  # noqa: E402
from clap_engine.arrays import Float32, l2_normalize  # noqa: E402
from clap_engine.collection import Collection  # noqa: E402
from clap_engine.records import Tuning  # noqa: E402

DIM = 32
GRANULARITY = {1: "window", 2: "window", 3: "both"}
TEXTS = ("a slow banjo", "rain", "a door")


class SmallEmbedder(FakeEmbedder):
    """32 dims, so that a fixture takes a few kilobytes."""

    bundle_id = "fixture"
    dim = DIM
    ladder = (8, 16, 32)

    def embed_text(self, texts: list[str]) -> Float32:
        return self._cut(np.concatenate([hashed(text.encode(), 1) for text in texts]))

    def embed_windows(self, source: Any) -> tuple[Float32, Any, float]:
        vectors, spans, duration_s = super().embed_windows(source)
        return self._cut(vectors), spans, duration_s

    def _cut(self, vectors: Float32) -> Float32:
        return l2_normalize(np.ascontiguousarray(vectors[:, :DIM]))


def answers(sounds: Collection) -> dict[str, Any]:
    """What a collection says about itself, as JSON."""
    info = sounds.info()
    return {
        "keys": sounds.keys(),
        "hits": {
            text: [
                [hit.key, round(hit.score, 5), hit.start_s, hit.end_s, hit.metadata]
                for hit in sounds.search(text, k=20, shortlist="all").hits
            ]
            for text in TEXTS
        },
        "few": [hit.key for hit in sounds.search("rain", where={"n": {"<": 4}}).hits],
        "info": {
            name: info[name]
            for name in (
                "bundle_id", "revision", "space_id", "dim", "created_s", "clips", "windows",
                "duration_s", "generation", "tail_rows", "removed_rows", "filters", "prefix_dim",
                "plan",
            )
        },
    }  # fmt: skip


def make(number: int, target: Path) -> None:
    """One collection with all that its format can hold: a graph, a tail, removals, a plan."""
    planner.HNSW_ROWS_PER_CANDIDATE = 0
    planner.SHORTLIST_MIN_UNMEASURED = planner.SHORTLIST_PER_HIT = 1
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "collection"
        with Collection.open(
            folder, embedder=SmallEmbedder(), create=True,
            granularity=GRANULARITY[number],  # type: ignore[arg-type]
        ) as sounds:  # fmt: skip
            names = [f"clip {i}" for i in range(12)]
            sounds.add([name.encode() * (1 + i % 3) for i, name in enumerate(names)], keys=names,
                       metadata=[{"n": i, "tags": ["ä", "b"]} for i in range(12)])  # fmt: skip
            if number == 2:
                sounds.declare_filters(["n", "artist.name"])
            plan = Tuning("hnsw", 16, 8, 0, 0, 20, 5, 0.9, 0.95, 1.0, 20, "given", 0, 1.0e9)
            sounds._open_writer().put_tuning(plan)
            sounds.rebuild()
            sounds.remove("clip 2")
            sounds.add([b"new", b"clip 3 anew"], keys=["new", "clip 3"])
            assert sounds.info()["format"] == number
            found = answers(sounds)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file() and file.name != "writer.lock":
                    archive.write(file, file.relative_to(folder))
            archive.writestr("answers.json", json.dumps(found, indent=1, sort_keys=True))


def make_snapshot(source: Path, target: Path) -> None:
    """A snapshot of another fixture."""
    with tempfile.TemporaryDirectory() as work:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(Path(work) / "collection")
        (Path(work) / "collection" / "answers.json").unlink()
        folder = Path(work) / "snapshot"
        with Collection.open(Path(work) / "collection", embedder=SmallEmbedder()) as sounds:
            sounds.snapshot(folder)
        with Collection.open(folder, embedder=SmallEmbedder()) as sounds:
            found = answers(sounds)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder))
            archive.writestr("answers.json", json.dumps(found, indent=1, sort_keys=True))


def make_archive(target: Path) -> None:
    """The small bundle of the tests, packed."""
    with tempfile.TemporaryDirectory() as work:
        bundle.pack(bundle.open(make_bundle(Path(work) / "tiny")), target)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if argument == "snapshot":
            make_snapshot(HERE / "collection-2.zip", HERE / "snapshot-1.zip")
            continue
        if argument == "archive":
            make_archive(HERE / "archive-1.tar")
            continue
        make(int(argument), HERE / f"collection-{argument}.zip")
