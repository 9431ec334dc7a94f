"""Pairs: both layouts are read, what is missing is counted, what is wrong is named."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pair_files
import pytest
import soundfile

from clap_engine.errors import AudioError
from clap_export import clip_files, pairs
from clap_export.clip_files import ClipFile
from clap_export.errors import PairsError

pytestmark = pytest.mark.export

RATE = 8_000
MUSICCAPS = (
    "ytid", "start_s", "end_s", "audioset_positive_labels", "aspect_list", "caption", "author_id",
    "is_balanced_subset", "is_audioset_eval",
)  # fmt: skip


def sound(path: Path, seconds: float, hz: float = 440.0) -> None:
    t = np.arange(round(seconds * RATE)) / RATE
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * hz * t), RATE)


def musiccaps(path: Path, rows: list[tuple[str, float, float, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(MUSICCAPS)
        for ytid, start_s, end_s, caption in rows:
            table.writerow(
                [ytid, start_s, end_s, "/m/04rlf", "['slow']", caption, 4, "False", "True"]
            )
    return path


def test_plain_rows_of_one_file_become_one_clip_with_its_captions(tmp_path: Path) -> None:
    sound(tmp_path / "a" / "one.wav", 1)
    sound(tmp_path / "two.flac", 1)
    path = tmp_path / "pairs.csv"
    path.write_bytes(
        '\ufeffcaption, path ,more\r\n"rain, hard",a/one.wav,1\r\n"a\nhorn",two.flac,\r\n'
        "rain again,./a/one.wav,2\r\n,two.flac,3\r\n\r\nlost,gone.wav,4\r\n".encode()
    )
    found = pairs.read(path, tmp_path)
    assert [(clip.name, clip.captions) for clip in found.clips] == [
        ("a/one.wav", ("rain, hard", "rain again")),
        ("two.flac", ("a\nhorn",)),
    ]
    assert (found.rows, found.missing, found.blank) == (5, ("gone.wav",), 1)
    assert "5 rows, 2 clips found, 1 missing and left out (gone.wav" in found.line()
    assert "1 rows without a caption" in found.line()


@pytest.mark.parametrize(
    "name",
    [
        "-a_B1234567.wav",
        "sub/-a_B1234567.flac",
        "Y-a_B1234567.wav",
        "-a_B1234567_30.wav",
        "-a_B1234567_30_40.wav",
        "-a_B1234567-30-40.wav",
        "[-a_B1234567]-[30-40].wav",
        "Y-a_B1234567_30000_40000.flac",
    ],
)
def test_musiccaps_clips_are_found_by_their_usual_names(tmp_path: Path, name: str) -> None:
    sound(tmp_path / "audio" / name, 10)
    path = musiccaps(
        tmp_path / "musiccaps-public.csv",
        [("-a_B1234567", 30, 40, "A low, slow song"), ("missing0001", 0, 10, "gone")],
    )
    found = pairs.read(path, tmp_path / "audio")
    (clip,) = found.clips
    assert isinstance(clip, ClipFile)
    assert clip.path == tmp_path / "audio" / name
    assert clip.captions == ("A low, slow song",)
    assert found.missing == ("missing0001",)


def test_two_clips_of_one_recording_are_told_apart_by_the_times_in_their_names(
    tmp_path: Path,
) -> None:
    for name in ("abc_0_10", "abc_30_40"):
        sound(tmp_path / f"{name}.wav", 10)
    path = musiccaps(tmp_path / "m.csv", [("abc", 30, 40, "late"), ("abc", 0, 10, "early")])
    assert [
        (clip.captions[0], clip.path.stem)  # type: ignore[attr-defined]
        for clip in pairs.read(path, tmp_path).clips
    ] == [("late", "abc_30_40"), ("early", "abc_0_10")]


def test_of_a_whole_recording_the_span_alone_is_heard(tmp_path: Path) -> None:
    """10 s of 440 Hz, 10 s of 2 kHz, 10 s of 440 Hz: seconds 10 to 20 are those of a 2 kHz file,
    to a thousandth of a dB away from the cut's edges."""
    towers = pair_files.mini()
    front_end = towers.log_mel()
    parts = [np.sin(2 * np.pi * hz * np.arange(10 * RATE) / RATE) for hz in (440, 2000, 440)]
    soundfile.write(tmp_path / "whole.wav", 0.5 * np.concatenate(parts), RATE)
    soundfile.write(tmp_path / "cut.wav", 0.5 * parts[1], RATE)
    path = musiccaps(
        tmp_path / "m.csv",
        [("whole", 10, 20, "high"), ("cut", 10, 20, "high"), ("cut", 99, 109, "")],
    )
    whole, cut = pairs.read(path, tmp_path).clips
    heard = [clip.windows(towers.spec, front_end) for clip in (whole, cut)]
    assert heard[0].shape == heard[1].shape == (2, *heard[0].shape[1:])
    assert (heard[0].mean(axis=1).argmax(axis=1) == heard[1].mean(axis=1).argmax(axis=1)).all()
    np.testing.assert_allclose(heard[0][:, 4:-4].max(2), heard[1][:, 4:-4].max(2), atol=0.05)


def test_a_file_that_is_neither_clip_nor_recording_is_refused(tmp_path: Path) -> None:
    towers = pair_files.mini()
    sound(tmp_path / "abc.wav", 25)
    path = musiccaps(tmp_path / "m.csv", [("abc", 30, 40, "a song")])
    (clip,) = pairs.read(path, tmp_path).clips
    with pytest.raises(AudioError, match=r"lasts 25\.0 s: neither the clip of 10 s"):
        clip.windows(towers.spec, towers.log_mel())


def test_a_long_clip_gives_no_more_windows_than_allowed(tmp_path: Path) -> None:
    towers = pair_files.mini()
    sound(tmp_path / "long.wav", (clip_files.MAX_WINDOWS + 9) * towers.spec.window_s)
    clip = ClipFile("long", tmp_path / "long.wav", ("a tone",))
    assert len(clip.windows(towers.spec, towers.log_mel())) == clip_files.MAX_WINDOWS


def test_another_file_of_the_same_name_is_another_clip(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", 1)
    clip = ClipFile("a", tmp_path / "a.wav", ("a tone",))
    before = clip.identity()
    assert clip.identity() == before
    sound(tmp_path / "a.wav", 2)
    assert clip.identity() != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty; its first line names the columns"),
        (b"path,caption\n", "a header and no rows"),
        (b"file,text\na.wav,rain\n", "lacks the columns path, caption; it has file, text"),
        (b"ytid,caption\nabc,rain\n", "lacks the columns start_s, end_s"),
        (b"path,caption\na.wav,rain, hard\n", "line 2: 3 cells under 2 columns"),
        (b'path,caption\na.wav,"rain\n', "line 2"),
        (b"path,caption\na.wav,\xff\n", "is not UTF-8"),
        (b"path,caption\n/etc/passwd,rain\n", "is not relative to"),
        (b"path,caption\n../a.wav,rain\n", "is not relative to"),
        (b"path,caption\n ,rain\n", "line 2: no path"),
        (b"path,caption\nb.wav,rain\nc.wav,hail\n", "none of the 2 clips .* holds 1 sound files"),
        (b"path,caption\na.wav, \n", "none of the 1 rows has a caption"),
        (b"ytid,start_s,end_s,caption\nabc,ten,20,rain\n", "line 2: start_s is 'ten'"),
        (b"ytid,start_s,end_s,caption\nabc,nan,20,rain\n", "line 2: start_s is 'nan'"),
        (b"ytid,start_s,end_s,caption\nabc,20,10,rain\n", "the end comes later"),
        (b"ytid,start_s,end_s,caption\n,0,10,rain\n", "line 2: no ytid"),
        (b"ytid,start_s,end_s,caption\nxyz,0,10,rain\n", r"looked for .*xyz_30_40\.wav"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: bytes, said: str) -> None:
    root = tmp_path / "sounds"
    sound(root / "a.wav", 1)
    path = tmp_path / "pairs.csv"
    path.write_bytes(text)
    with pytest.raises(PairsError, match=said):
        pairs.read(path, root)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="--pairs"):
        pairs.read(tmp_path / "none.csv", tmp_path)
    (tmp_path / "p.csv").write_text("path,caption\na.wav,rain\n")
    with pytest.raises(PairsError, match="--audio"):
        pairs.read(tmp_path / "p.csv", tmp_path / "none")
    sound(tmp_path / "a.wav", 1)
    found = pairs.read(tmp_path / "p.csv", tmp_path)
    with pytest.raises(PairsError, match="has 1 clips"):
        found.only(slice(5, 9))
