"""Loading by name: what begins in the background, what it changes, what it hides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import make_bundle

import clap_engine
from clap_engine import bundle as bundles
from clap_engine.errors import IntegrityError

TEXTS = ["a dog", "the cat"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("loading") / "tiny")


def test_reading_begins_before_numpy_is_imported() -> None:
    """That it is imported by an engine shows that its absence before means something."""
    code = (
        "import sys, clap_engine; clap_engine.load; print('numpy' in sys.modules);"
        "clap_engine.load(); print('numpy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("precision", [None, "fp32", "int8"])
def test_a_warm_engine_gives_the_same_to_the_bit(tiny: Path, precision: str | None) -> None:
    with clap_engine.load(tiny, threads=1, precision=precision) as cold:
        wanted = cold.embed_text(TEXTS)
    with clap_engine.load(tiny, threads=1, precision=precision, warm=("text", "audio")) as warm:
        np.testing.assert_array_equal(warm.embed_text(TEXTS), wanted)


def test_warm_parts_load_though_nobody_asks(tiny: Path) -> None:
    with clap_engine.load(tiny, threads=1, warm="text") as engine:
        engine.warm("text")  # waits for what is under way
        assert engine.stats().loaded == ("text",)
        assert not engine.bundle._begun


def test_what_is_wrong_with_a_warm_graph_is_told_to_whoever_needs_it(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "torn")
    for graph in path.glob("text.*.onnx"):
        graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with clap_engine.load(path, threads=1, warm="text") as engine:
        with pytest.raises(IntegrityError, match="digest"):
            engine.embed_text(TEXTS)
        assert engine.embed_audio([(np.ones(4_000, np.float32), 32_000)]).shape[0] == 1


@pytest.mark.parametrize("wrong", ["words", ["text", "video"]])
def test_unknown_parts_are_refused(tiny: Path, wrong: str | list[str]) -> None:
    with pytest.raises(ValueError, match="choose among text, audio and caption"):
        clap_engine.load(tiny, warm=wrong)  # type: ignore[arg-type]


def test_bytes_that_were_read_ahead_are_taken_once_or_forgotten(tiny: Path) -> None:
    bundle = bundles.open(tiny)
    name = bundle.manifest.text.graphs["fp32"].file
    bundle.begin(name)
    bundle.begin(name)
    first, second = bundle.read_graph(name), bundle.read_graph(name)
    assert first == second
    assert first is not second
    bundle.begin(name)
    bundle.forget(name)
    bundle.forget(name)
    assert not bundle._begun
