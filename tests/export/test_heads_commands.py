"""`train heads`, `fit rotation` and `report heads`, from the command line to a bundle's answers."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pair_files
import pytest

from clap_export import cli, head_choice, head_training, rotation
from clap_export.corpus import render
from clap_export.errors import HeadError
from clap_export.head_choice import HeadPlan

pytestmark = pytest.mark.export

LADDER = (32, 64, 128, 256, 512)
QUICK = ["--steps", "30", "--batch", "16", "--examine-steps", "10", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 clips of the corpus' own generator with pairs.csv, and a cache of features."""
    root = tmp_path_factory.mktemp("pairs")
    pair_files.write(root, 40)
    return root


def words(folder: Path, *more: str | Path) -> list[str]:
    """Source and pairs on clap-mini."""
    own = ["--bundle-source", "clap-mini", "--pairs", folder / "pairs.csv", "--audio", folder]
    return [*map(str, own), "--cache", str(folder / "cache"), *map(str, more)]


def test_train_fit_and_report_on_the_bundle_that_ships(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, fitted = tmp_path / "heads" / "trained.npz", tmp_path / "fitted.npz"
    assert cli.main(["train", "heads", *words(folder, "--out", trained), *QUICK]) == 0
    said = capsys.readouterr().out
    assert "pairs.csv: 40 rows, 40 clips found" in said
    assert "recall@10 by rung, own -> trained" in said or "nothing better" in said
    work = tmp_path / "heads" / "trained.npz.work"
    assert {p.name for p in work.iterdir()} >= {"loss.png", "recall.png", "history.jsonl"}
    head = rotation.load(trained, 512)
    assert (head.kind, head.ladder) == ("trained", LADDER)
    assert head.provenance["pairs"]["clips"] == 40
    assert len(head.provenance["pairs"]["sha256"]) == 64
    assert head.provenance["source"]["sha256"] == pair_files.mini().digest
    assert head.provenance["plan"]["steps"] == 30

    assert cli.main(["fit", "rotation", *words(folder, "--out", fitted), "--few"]) == 0
    assert "fitted on" in capsys.readouterr().out
    rotated = rotation.load(fitted, 512)
    np.testing.assert_allclose(rotated.matrix.T @ rotated.matrix, np.eye(512), atol=1e-5)
    assert rotated.provenance["fit"]["is_enough"] is False

    asked = ["--heads", str(trained), str(fitted), "--shortlists", "10,20", "--threads", "1"]
    out = tmp_path / "report.md"
    assert cli.main(["report", "heads", *words(folder, *asked, "--out", out)]) == 0
    said = capsys.readouterr().out
    for name in ("plain truncation", "turned at random", "trained: trained", "fitted: fitted"):
        assert f"| {name} | 32 |" in said
    assert "was made from these very pairs" in said
    assert out.read_text() in said


def test_a_given_head_is_the_start_and_texts_alone_may_move(folder: Path, tmp_path: Path) -> None:
    """What collections are bound to keeps its bytes."""
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    command = ["train", "heads", *words(folder), *QUICK]
    assert cli.main([*command, "--start", "rotation", "--out", str(first)]) == 0
    more = ["--start", str(first), "--only-text", "--out", str(second)]
    assert cli.main([*command, *more]) == 0
    before, after = (rotation.load(path, 512) for path in (first, second))
    np.testing.assert_array_equal(before.matrix, after.matrix)
    assert before.of_sounds() == after.of_sounds()
    assert after.provenance["plan"]["start"].startswith("head of sha256 ")
    assert after.provenance["plan"]["only_text"] is True


def test_stopped_and_resumed_the_file_has_the_same_bytes(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
    assert cli.main(["train", "heads", *words(folder, "--out", whole), *QUICK]) == 0
    real, steps = head_training.batch, []

    def pressed(*arguments):  # type: ignore[no-untyped-def]
        steps.append(arguments[-1])
        if len(steps) == 13:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(head_training, "batch", pressed)
    command = ["train", "heads", *words(folder, "--out", cut), *QUICK]
    assert cli.main(command) == 130
    assert not cut.exists()
    capsys.readouterr()
    assert cli.main(command) == 0
    assert "resumed at step 13" in capsys.readouterr().out
    assert steps == list(range(30))
    assert cut.read_bytes() == whole.read_bytes()


def test_on_a_corpus_that_was_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Log-mels as `clap-export corpus` leaves them; hit@10 by what captions claim."""
    for split, number in (("train", 36), ("held_out", 24)):
        out = tmp_path / "corpus" / split
        out.mkdir(parents=True)
        names = tuple(pair_files.CLASSES[i % 4] for i in range(number))
        render.render_chunk(render.Job(out, 0, 0, names, 3, "train"))
    own = ["--bundle-source", "clap-mini", "--corpus", str(tmp_path / "corpus"), "--threads", "1"]
    head = tmp_path / "head.npz"
    command = ["train", "heads", *own, "--out", str(head), *QUICK, "--ladder", "16,64"]
    assert cli.main(command) == 0
    assert "corpus/train: 72 rows, 36 clips found" in capsys.readouterr().out
    assert rotation.load(head, 512).ladder == (16, 64)
    assert rotation.load(head, 512).matrix.shape == (512, 64)
    asked = ["--heads", str(head), "--shortlists", "10", "--cache", str(tmp_path / "cache")]
    assert cli.main(["report", "heads", *own, *asked]) == 0
    said = capsys.readouterr().out
    assert "| K = 10 | hit@10 |" in said
    assert "| trained: head | 32 |" in said
    assert cli.main(["report", "heads", *own, *asked, "--split", "test"]) == 1
    assert "split 'test'; the corpus has train, validation, held_out" in capsys.readouterr().err
    assert cli.main(["report", "heads", *own, *asked, "--clips", "99:"]) == 1
    assert "has 24 clips; none is in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--ladder", "32,1024"], "rising dims of 1 to 512"),
        (["--clips", "9"], "write A:B"),
        (["--clips", "20:10"], "names no clips"),
        (["--clips", "0:11"], "at least 12"),
        (["--audio", "/nowhere"], "is not a folder"),
        (["--corpus", "/nowhere"], "or --corpus DIR for clap-mini"),
        (["--bundle-source", "clap-maxi"], "is nothing that is known: give clap-mini or"),
        (["--bundle-source", "ucs-clap"], "needs --checkpoint"),
    ],
)
def test_refusals_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], said: str
) -> None:
    out = tmp_path / "head.npz"
    command = ["train", "heads", *words(folder, "--out", out), *QUICK, *change]
    assert cli.main(command) == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert not out.exists()


def test_an_existing_file_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "head.npz").touch()
    for verb in ("train heads", "fit rotation", "report heads"):
        command = [*verb.split(), "--bundle-source", "nothing", "--out", str(tmp_path / "head.npz")]
        assert cli.main(command) == 1
        assert "exists; give another --out, or --force" in capsys.readouterr().err
        assert cli.main([*command[:-1], str(tmp_path)]) == 1
        assert "is a folder" in capsys.readouterr().err


def test_too_few_for_second_moments_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", "rotation", *words(folder, "--out", tmp_path / "head.npz")]
    assert cli.main(command) == 1
    shown = capsys.readouterr().err
    assert "40 clips and" in shown
    assert f"{head_choice.CLIPS} of each are needed, so that 2000 are left to fit on" in shown
    assert "--few" in shown
    assert cli.main([*command, "--dim", "1024", "--few"]) == 1
    assert "--dim 1024; the model's own space has 512" in capsys.readouterr().err


def test_a_head_of_other_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    made = rotation.Head(
        np.eye(8, dtype=np.float32), "fitted", provenance={"source": {"sha256": "a" * 64}}
    )
    path = tmp_path / "head.npz"
    path.write_bytes(rotation.save(made))
    native = head_choice.Native(None, None, None, None, b"", "b" * 64)  # type: ignore[arg-type]
    with pytest.raises(HeadError, match="was fitted on weights of sha256 aaaaaaaaaaaa; these have"):
        head_choice.choose(HeadPlan(file=path), 8, native, print)
    same = head_choice.Native(None, None, None, None, b"", "a" * 64)  # type: ignore[arg-type]
    assert head_choice.choose(HeadPlan(file=path), 8, same, print).ladder == (8,)


def test_help_says_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, told in (
        ("train heads", "the same command goes on"),
        ("fit rotation", "at least 2000 of each"),
        ("report heads", "turned at"),
    ):
        with pytest.raises(SystemExit):
            cli.main([*verb.split(), "--help"])
        shown = capsys.readouterr().out
        assert told in shown
        assert "--bundle-source WHAT" in shown
    assert cli.main(["--help"]) == 0
    assert "train heads" in capsys.readouterr().out


def documented() -> list[str]:
    page = Path(__file__).resolve().parents[2] / "docs" / "heads.md"
    if not page.is_file():
        return []  # the tests run beside an installed package, too
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("#")[0] for line in lines if line.startswith("clap-export ")]


@pytest.mark.parametrize("command", documented())
def test_a_command_in_the_docs_is_one(command: str) -> None:
    arguments = shlex.split(command)[1:]
    verb = next(v for v in cli.VERBS if arguments[: len(v.words.split())] == v.words.split())
    parser = argparse.ArgumentParser(verb.words)
    importlib.import_module(verb.module).configure(parser)
    parser.parse_args(arguments[len(verb.words.split()) :])


def test_history_is_kept_as_lines(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "head.npz"
    assert cli.main(["train", "heads", *words(folder, "--out", out), *QUICK, "--steps", "10"]) == 0
    work = tmp_path / "head.npz.work"
    lines = [json.loads(x) for x in (work / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 10]
    kept = rotation.load(out, 512).provenance["validation"]["kept"]
    assert kept in lines
