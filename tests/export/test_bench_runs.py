"""The benchmark whose reference computes texts by itself still runs, and agrees with the graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_embedder import child_environment

pytestmark = pytest.mark.export


def test_the_reference_in_torch_agrees_with_the_shipped_text_graph(source_root: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "bench", "bench/test_text.py", "--smoke"]
    found = subprocess.run(
        command, cwd=source_root, env=child_environment(), capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-2000:]
    assert "1 passed" in found.stdout
