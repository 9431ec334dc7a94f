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


def test_answers_are_those_that_the_page_prints(tmp_path: Path, source_root: Path) -> None:
    """Of the bundle that ships, to the word; numbers nearly, since machines round differently.

    Where several are asked, their citations are left out of the page.
    """
    page = (source_root / "docs" / "answers.md").read_text(encoding="utf-8")
    shown = re.findall(
        r"^```sh\n((?:clap-engine [^\n]*\n)+)```\n\n```\n(.*?)^```", page, re.M | re.S
    )
    assert [commands.count("clap-engine answer") for commands, _ in shown] == [1, 2]
    number = re.compile(r"\b0\.\d{3}\b|\d+\.\d(?= %)")  # a score, a share of unrelated pairs
    for commands, printed in shown:
        found = []
        for command in commands.splitlines():
            words = [sys.executable, "-m", "clap_engine", *shlex.split(command)[1:]]
            done = subprocess.run(
                words, check=True, cwd=tmp_path, capture_output=True, text=True, timeout=300
            )
            if words[3] == "answer":
                found.append(done.stdout)
        told = found[0] if len(found) == 1 else "".join(f"{one.splitlines()[0]}\n" for one in found)
        assert number.sub("#", told) == number.sub("#", printed)
        numbers = [[float(one) for one in number.findall(text)] for text in (told, printed)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.002, rel=0.003)


def test_links_lead_somewhere(source_root: Path) -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


@pytest.mark.parametrize(
    ("said", "row"),
    [
        (r"training's wording (\d+) % find", "known wording, hit@10"),
        (
            r"dictionary words never seen in training (\d+) %",
            "unseen words of a dictionary, hit@10",
        ),
        (r"names and the like (\d+) %", "unseen names, hit@10"),
        (r"recorded sounds it names (\d+) % right", "recorded sounds, 78 classes, accuracy"),
    ],
)
def test_what_the_readme_says_of_the_model_its_card_says(
    said: str, row: str, source_root: Path
) -> None:
    card = (source_root / "models" / "clap-mini" / "README.md").read_text(encoding="utf-8")
    (figure,) = re.findall(rf"^\| {re.escape(row)} \| ([\d.]+) \|", card, re.M)
    (percent,) = re.findall(said, README.read_text(encoding="utf-8"))
    assert int(percent) == round(100 * float(figure))
