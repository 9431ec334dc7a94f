"""What every test shares: which folders need the exporter, and where the source tree is.

In:  the environment the tests run in.
Out: collection rules and fixtures.
Knows nothing about what is tested.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clap_engine import bundle as bundles
from clap_engine import cli

# pytest's importlib mode puts no folder on the path; tests share tiny_bundle.py.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tiny_bundle import make_bundle

ROOT = Path(__file__).resolve().parents[1]
EXPORTER = Path(__file__).resolve().parent / "export"

# The lean environment has no torch: those modules can't even be imported there.
HAS_EXPORTER = all(importlib.util.find_spec(name) for name in ("torch", "onnx", "safetensors"))
collect_ignore = [] if HAS_EXPORTER else [str(EXPORTER)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything under tests/export carries the marker `export`."""
    for item in items:
        if EXPORTER in item.path.parents:
            item.add_marker(pytest.mark.export)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`run("search", ...)` in this process -> (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def source_root() -> Path:
    """The source tree; tests of the installed wheel run without one."""
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("runs in the source tree only")
    return ROOT


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    """The bundle that ships: the installed one, or the source tree's."""
    models = ROOT / "models"
    return bundles.find(None, models_dir=models if models.is_dir() else None)


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> bundles.Bundle:
    """The bundle that ships, opened."""
    return bundles.open(bundle_path)


@pytest.fixture
def tiny_path(tmp_path: Path) -> Path:
    """A small bundle of this test's own, to use and to damage."""
    return make_bundle(tmp_path / "tiny")


@pytest.fixture
def tiny(tiny_path: Path) -> bundles.Bundle:
    """The small bundle, opened."""
    return bundles.open(tiny_path)
