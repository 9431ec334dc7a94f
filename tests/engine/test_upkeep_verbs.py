"""The verbs compact, backup and migrate: their reports, their JSON, their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sounds import encode, noise
from tiny_bundle import make_bundle, make_files, make_manifest, resealed, write_bundle

from clap_engine import cli

RATE_HZ = 8_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "sounds"
    root.mkdir()
    for i in range(6):
        (root / f"{i}.wav").write_bytes(encode(noise(i, RATE_HZ), RATE_HZ))
    return root


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A bundle of another space."""
    files = make_files(seed=1)
    manifest = resealed(make_manifest(files), space_id="f" * 16, id="newer")
    return write_bundle(tmp_path / "newer", files, manifest)


@pytest.fixture
def indexed(run: Run, folder: Path, tmp_path: Path) -> Path:
    into = tmp_path / "sounds.clap"
    bundle = make_bundle(tmp_path / "tiny")
    assert run("index", folder, "--into", into, "--bundle", bundle)[0] == 0
    return into


def test_compact(run: Run, indexed: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "0.wav").unlink()
    assert run("index", folder, "--into", indexed, "--bundle", tmp_path / "tiny", "--prune")[0] == 0
    code, out, _ = run("compact", indexed, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["collection"] == str(indexed)
    assert min(found["before_bytes"], found["after_bytes"]) > 0
    code, out, _ = run("compact", indexed)
    assert code == 0
    assert "0 removed windows" in out
    assert run("compact", tmp_path / "nowhere")[0] == 3
    assert json.loads(run("info", indexed, "--json")[1])["clips"] == 5


def test_backup(run: Run, indexed: Path, tmp_path: Path) -> None:
    code, out, _ = run("backup", indexed, tmp_path / "copy.clap", "--json")
    found = json.loads(out)
    assert (code, found["clips"], found["path"]) == (0, 6, str(tmp_path / "copy.clap"))
    assert run("verify", tmp_path / "copy.clap")[0] == 0
    code, out, _ = run("backup", indexed, tmp_path / "another.clap")
    assert code == 0
    assert "6 clips" in out
    code, _, err = run("backup", indexed, tmp_path / "copy.clap")
    assert code == 2
    assert "there already" in err


def test_migrate(run: Run, indexed: Path, folder: Path, other: Path, tmp_path: Path) -> None:
    (folder / "5.wav").rename(tmp_path / "5.wav")
    (folder / "4.wav").write_bytes(encode(noise(40, RATE_HZ), RATE_HZ))
    code, out, err = run("migrate", indexed, "--model", other)
    assert code == 1
    assert "nothing was switched" in out
    assert "missing: 5.wav" in err
    assert "4.wav: its file changed" in err
    assert run("search", indexed, "banjo", "--bundle", tmp_path / "tiny")[0] == 0
    (tmp_path / "5.wav").rename(folder / "5.wav")
    code, out, _ = run("migrate", indexed, "--bundle", other, "--json")
    found = json.loads(out)
    assert (code, found["is_switched"], found["embedded"], found["clips"]) == (0, True, 1, 6)
    assert (found["changed"], found["missing"]) == (["4.wav"], [])
    assert run("search", indexed, "banjo", "--bundle", other)[0] == 0
    assert run("search", indexed, "banjo", "--bundle", tmp_path / "tiny")[0] == 6
    code, out, _ = run("migrate", indexed, "--model", other)
    assert code == 0
    assert "0 clips embedded" in out


def test_migrate_into_and_without_what_is_missing(
    run: Run, indexed: Path, folder: Path, other: Path, tmp_path: Path
) -> None:
    (folder / "5.wav").unlink()
    into = tmp_path / "new.clap"
    code, out, err = run("migrate", indexed, "--model", other, "--into", into, "--drop-missing")
    assert code == 0
    assert "left out: 5.wav" in err
    assert f"5 are in the new space; {into} serves them" in out
    assert (
        len(json.loads(run("search", into, "banjo", "--bundle", other, "--json")[1])["hits"]) == 5
    )
    assert run("search", indexed, "banjo", "--bundle", tmp_path / "tiny")[0] == 0
    assert run("migrate", indexed, "--model", tmp_path / "nothing")[0] == 3
    assert run("migrate", tmp_path / "nowhere", "--model", other)[0] == 3


def test_migrate_names_the_model(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["migrate", str(indexed)])
    assert caught.value.code == 2
    assert "--model" in capsys.readouterr().err


def test_an_interrupted_migration_says_how_to_go_on(
    run: Run, indexed: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clap_engine.encoders import AudioEncoder

    with monkeypatch.context() as patches:

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patches.setattr(AudioEncoder, "encode", interrupt)
        code, _, err = run("migrate", indexed, "--model", other)
    assert code == 130
    assert "run the same command" in err
    assert run("migrate", indexed, "--model", other)[0] == 0
