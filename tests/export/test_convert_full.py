"""Full-size towers against the gate, on weights with the outliers of trained transformers.

2023 runs always, on 20 texts and 10 sounds; the rest, and larger samples, are campaigns.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from clap_engine import bundle
from clap_export.convert import Plan, convert
from clap_export.head_choice import HeadPlan
from clap_export.msclap import layout, random_weights, source, stand_in
from clap_export.msclap.checkpoint import Checkpoint
from clap_export.parity import Gate
from clap_export.probes import Sizes
from clap_export.source import Source

pytestmark = pytest.mark.export

SMALL = Sizes(texts=20, sounds=10, calibration=16)


def full(version: str, outliers: bool) -> Source:
    """The source of random weights of full size."""

    def read(name: str) -> Checkpoint:
        state = random_weights.random_state(name, seed=0, outliers=outliers)
        for key in [key for key in state if layout.is_unused(key) or key in layout.TIED]:
            del state[key]
        return Checkpoint(state, "0" * 64, name)

    if version == "2022":
        return source.make(read(version), stand_in.bert_tokenizer_json())
    captions = read("clapcap") if version == "clapcap" else None
    return source.make(read("2023"), stand_in.gpt2_tokenizer_json(), captions)


def check(version: str, outliers: bool, sizes: Sizes, out: Path) -> None:
    """Float32 exact; int8 within the gate, or left out and said so."""
    said: list[str] = []
    plan = Plan(head=HeadPlan(fit=False), sizes=sizes, threads=2)
    manifest = convert(full(version, outliers), out, plan, said.append)
    print("\n".join(said))
    assert max(manifest.parity["fp32"]["max_error"].values()) < Gate().fp32_error
    assert "int8" in manifest.text.graphs, said
    assert bundle.open(out).manifest.revision == manifest.revision


def test_2023_with_outliers(tmp_path: Path) -> None:
    check("2023", True, SMALL, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("version", layout.VERSIONS)
@pytest.mark.parametrize("outliers", [False, True])
def test_every_version_on_the_whole_sample(version: str, outliers: bool, tmp_path: Path) -> None:
    check(version, outliers, Sizes(), tmp_path / "out")
