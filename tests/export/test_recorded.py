"""Laws of the recorded sounds: what is listed, what is kept from training, how a file is read."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clap_export.corpus import packages, recorded
from clap_export.corpus.classes import KIND_OF
from clap_export.corpus.draw import Draw
from clap_export.corpus.dsp import RATE_HZ

pytestmark = pytest.mark.export

FREE = re.compile(
    r"CC0-1\.0|CC-BY(-SA)?(-[34]\.0)?|GPL-2\.0(-or-later)?|GFDL-1\.3|public domain|, | and | or "
)


def _tone(seconds: float, rate: int, lead_s: float = 0.0) -> bytes:
    """A WAV file: silence, then a rising tone."""
    t = np.arange(int(seconds * rate)) / rate
    wave = np.concatenate([np.zeros(int(lead_s * rate)), t / seconds * np.sin(2700 * t)])
    out = io.BytesIO()
    soundfile.write(out, 0.5 * wave, rate, format="WAV")
    return out.getvalue()


def test_every_package_is_pinned_free_and_of_known_classes() -> None:
    paths = set()
    for package in recorded.packages():
        assert package.tool in ("apt", "pip")
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
        assert package.version
        assert package.credit
        assert FREE.sub("", package.licence) == "", package.licence
        for name, members in package.clips.items():
            assert KIND_OF[name] in ("effect", "speech")
            for member in members:
                assert not member.startswith("/")
                assert ".." not in member
                assert (package.key, member) not in paths
                paths.add((package.key, member))
    assert len(paths) >= 200


def test_a_class_has_an_exam_that_no_training_package_shares() -> None:
    """Every class with recordings is examined; only CC0, CC-BY and the public domain train."""
    exam = recorded.exam_packages()
    where = Path("r")
    sides: dict[str, dict[str, set[str]]] = {}
    for package in recorded.packages():
        for path, _ in recorded._places(package, where):
            name = path.name.split("-")[0]
            sides.setdefault(name, {}).setdefault(path.parent.name, set()).add(package.key)
            if path.parent.name == "train":
                assert package.is_trainable
                assert "GPL" not in package.licence
                assert "SA" not in package.licence
    assert sides.keys() == exam.keys()
    for side in sides.values():
        assert side["exam"]
        assert not side["exam"] & side.get("train", set())
    assert sum("train" in side for side in sides.values()) >= 20


def test_a_recording_is_cut_to_its_loudest_five_seconds(tmp_path: Path) -> None:
    """Mono at 32 kHz, peak 0.9; leading silence goes, and of a long one the quiet part."""
    (tmp_path / "short.wav").write_bytes(_tone(1.0, 8000, lead_s=2.0))
    x = recorded.decoded(tmp_path, "short.wav")
    assert x.dtype == np.float32
    assert 0.9 * RATE_HZ < len(x) < 1.1 * RATE_HZ
    assert np.abs(x).max() == pytest.approx(0.9, abs=1e-3)
    (tmp_path / "long.wav").write_bytes(_tone(9.0, 16000))
    x = recorded.decoded(tmp_path, "long.wav")
    assert len(x) == 5 * RATE_HZ
    assert np.abs(x[:RATE_HZ]).max() > 0.3  # the tone rises: its first seconds are left out


def test_a_sound_set_is_read_entry_by_entry() -> None:
    """OpenTTD's container: a table of offsets and lengths, then name and RIFF of each sound."""
    waves = [_tone(0.2, 11025), _tone(0.3, 22050)]
    body, table, at = b"", b"", 16
    for number, wave in enumerate(waves):
        entry = bytes([4]) + f"s{number}x\0".encode() + wave + b"\5s.wav\0"
        table += np.array([at + len(body), len(wave)], dtype="<u4").tobytes()
        body += entry
    for number, wave in enumerate(waves):
        assert recorded.sound_set_entry(table + body, number) == wave


def test_training_hears_only_its_own_folder(tmp_path: Path) -> None:
    """Files of train/ by class, each sounding another way every time; none of exam/."""
    for use, name in (("train", "crow"), ("train", "crow"), ("exam", "owl")):
        folder = tmp_path / use
        folder.mkdir(exist_ok=True)
        number = len(list(folder.glob("*.flac")))
        wave = recorded.decoded_bytes(_tone(1.0 + number, 16000))
        soundfile.write(folder / f"{name}-x-{number}.flac", wave, RATE_HZ)
    waves = recorded.training(tmp_path)
    assert set(waves) == {"crow"}
    assert len(waves["crow"]) == 2
    assert recorded.digest(tmp_path) != recorded.digest(tmp_path / "nothing") == "none"
    clips = [
        recorded.sound(Draw(np.random.default_rng(s), False), waves["crow"]) for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(clips[0], clips[1])
    assert len(clips[0]) != len(clips[2]) or not np.array_equal(clips[0], clips[2])
    assert all(0.4 * RATE_HZ < len(clip) < 3 * RATE_HZ for clip in clips)


def test_a_table_names_every_file(tmp_path: Path) -> None:
    for name in ("crow-a-0", "dog_bark-b-1"):
        (tmp_path / f"{name}.flac").touch()
    recorded._table(tmp_path)
    with (tmp_path / "recorded.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["crow", "dog_bark"]
    assert rows[1]["caption"] == "dog bark"


def test_an_archive_with_another_digest_is_refused(tmp_path: Path) -> None:
    """Checked before anything of it is unpacked; the message names the package wanted."""
    package = recorded.packages()[0]
    archive = tmp_path / "x_1_all.deb"
    archive.write_bytes(b"another version")
    with pytest.raises(ValueError, match=f"has the digest.*{package.name}"):
        recorded.check(archive, package)


def test_a_missing_tool_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no-such-tool is not installed"):
        packages.run(["no-such-tool"], tmp_path)
    with pytest.raises(RuntimeError, match="false failed"):
        packages.run(["false"], tmp_path)
