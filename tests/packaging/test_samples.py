"""The sample clips: enough of them, small, listed, licensed, and what the demo asks for."""

from __future__ import annotations

import csv
from importlib import resources

import pytest
import soundfile

from clap_engine.demo import QUERIES, read_samples

SAMPLES = resources.files("clap_engine.samples")
# A checkout from before they were rendered has none; the README's first command needs them.
pytestmark = pytest.mark.skipif(
    not any(item.name.endswith(".ogg") for item in SAMPLES.iterdir()),
    reason="no samples are rendered yet",
)


def test_there_are_enough_and_they_are_small() -> None:
    clips = [item for item in SAMPLES.iterdir() if item.name.endswith(".ogg")]
    assert len(clips) >= 60
    with resources.as_file(SAMPLES) as folder:
        assert sum((folder / clip.name).stat().st_size for clip in clips) <= 5_000_000


def test_the_list_names_exactly_the_files() -> None:
    with resources.as_file(SAMPLES) as folder:
        with open(folder / "samples.csv", newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert {row["file"] for row in rows} == {path.name for path in folder.glob("*.ogg")}
        assert len(rows) == len({row["file"] for row in rows})
        for row in rows:
            assert row["caption"].strip()
            assert row["class"].strip()
            assert soundfile.info(folder / row["file"]).duration >= 0.5


def test_every_demo_query_has_a_right_answer_among_them() -> None:
    classes = {sample.label for sample in read_samples()}
    for query in QUERIES:
        assert query.right & classes, f"no sample answers {query.text!r}"
