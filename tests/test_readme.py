"""What the README and the docs say can be typed, and the README's example runs as printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sounds import encode, noise, tone

from clap_engine.cli import parser

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
RATE_HZ = 22_050


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def _commands() -> list[str]:
    lines = (
        line.split("#")[0].strip()
        for page in PAGES
        for block in _blocks(page, "sh")
        for line in block.splitlines()
    )
    return sorted({line for line in lines if line.startswith("clap-engine ")})


def test_the_first_block_is_the_two_commands() -> None:
    """`.ci/run` runs these two lines as they stand."""
    lines = [line for line in _blocks(README, "sh")[0].splitlines() if line.strip()]
    assert len(lines) == 2
    assert lines[0].endswith("clap-engine demo")
    assert lines[1].endswith("pytest")
    assert "torch" not in lines[0]


def test_the_claim_stands_before_the_commands() -> None:
    head = README.read_text(encoding="utf-8").split("```")[0].split("\n\n")
    title, claim = (part.strip() for part in head if part.strip())
    assert title == "# clap-engine"
    assert claim.count(". ") == 0
    assert claim.endswith(".")


@pytest.mark.parametrize("command", _commands())
def test_a_command_in_the_docs_is_one(command: str) -> None:
    parser().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize(
    "verb",
    [
        "index",
        "search",
        "info",
        "verify",
        "doctor",
        "models",
        "caption",
        "classify",
        "probe",
        "detect",
        "moderate",
        "rank",
        "condition",
        "separate",
        "compare",
        "backup",
        "compact",
        "migrate",
        "serve",
        "snapshot",
        "pack",
        "pull",
    ],
)
def test_every_verb_is_in_the_readme(verb: str) -> None:
    assert f"clap-engine {verb}" in README.read_text(encoding="utf-8")


def test_the_example_runs_as_it_is_printed(tmp_path: Path) -> None:
    (example,) = _blocks(README, "python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 7
    (tmp_path / "banjo.flac").write_bytes(encode(tone(330, RATE_HZ, 7 * RATE_HZ), RATE_HZ, "flac"))
    (tmp_path / "rain.wav").write_bytes(encode(noise(1, 2 * RATE_HZ), RATE_HZ))
    command = [sys.executable, "-W", "error", "-c", example]
    found = subprocess.run(
        command, check=True, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    lines = found.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"banjo.flac", "rain.wav"}


def test_links_lead_somewhere(source_root: Path) -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"
