"""Each layout as its authors publish it: clips, captions, classes; what is missing or wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny_sets

from clap_engine import evaluate_verbs
from clap_engine.errors import NotFoundError, TaskError
from clap_engine.evaluation import layouts, read, sets


@pytest.mark.parametrize("name", tiny_sets.ALL)
def test_each_layout_is_told_by_its_files(tmp_path: Path, name: str) -> None:
    found = read(tiny_sets.ALL[name](tmp_path))
    assert found.layout == name
    assert found.split == layouts.LAYOUTS[name].splits[0]
    assert name == "gtzan" or all(clip.path is not None for clip in found.clips)
    assert read(tmp_path, layout=name) == found


def test_esc50(tmp_path: Path) -> None:
    found = read(tiny_sets.esc50(tmp_path))
    assert found.clips[0].name == "1-100032-A-0.wav"
    assert found.clips[0].path == tmp_path / "audio" / "1-100032-A-0.wav"
    assert [clip.labels for clip in found.clips] == [
        {"classify": ("dog",)}, {"classify": ("rain",)}, {"classify": ("vacuum_cleaner",)}
    ]  # fmt: skip
    assert found.classes == {"classify": ("dog", "rain", "vacuum_cleaner")}


def test_a_fold_keeps_all_classes_and_esc10_its_ten(tmp_path: Path) -> None:
    fold = read(tiny_sets.esc50(tmp_path), split="fold2")
    assert [clip.name for clip in fold.clips] == ["2-100786-A-1.wav"]
    assert len(fold.classes["classify"]) == 3
    ten = read(tmp_path, split="esc10")
    assert len(ten.clips) == 2
    assert ten.classes == {"classify": ("dog", "rain")}
    with pytest.raises(TaskError, match="no split 'fold9'; take one of all, esc10, fold1"):
        read(tmp_path, split="fold9")


def test_urbansound8k(tmp_path: Path) -> None:
    found = read(tiny_sets.urbansound8k(tmp_path))
    assert found.clips[2].name == "fold10/106015-5-0-0.wav"
    assert found.clips[2].path == tmp_path / "audio" / "fold10" / "106015-5-0-0.wav"
    assert found.classes == {"classify": ("children_playing", "dog_bark", "engine_idling")}
    assert len(read(tmp_path, split="fold5").clips) == 2


@pytest.mark.parametrize(
    ("folder", "kind"), [("genres", "au"), ("genres_original", "wav"), (".", "wav")]
)
def test_gtzan(tmp_path: Path, folder: str, kind: str) -> None:
    """Law: no list says which files there are, but a hundred a genre are due."""
    found = read(tiny_sets.gtzan(tmp_path, folder, kind))
    assert len(found.clips) == 1000
    there = [clip for clip in found.clips if clip.path]
    assert [clip.labels for clip in there] == [{"classify": (g,)} for g in tiny_sets.GENRES]
    assert there[4].name == "hiphop/hiphop.00000"


def test_audiocaps(tmp_path: Path) -> None:
    """Law: rows of one excerpt are captions of one clip, whatever its downloader called it."""
    found = read(tiny_sets.audiocaps(tmp_path))
    assert [clip.name for clip in found.clips] == ["7fmOlUlwoNg 20", "-6BnG6YZqJ4 130"]
    assert [clip.path and clip.path.name for clip in found.clips] == [
        "7fmOlUlwoNg_20.wav", "Y-6BnG6YZqJ4.wav"
    ]  # fmt: skip
    assert found.clips[1].captions == ("A person snoring", "Snoring, close by")
    assert found.clips[0].longest_s == 11.0


def test_audiocaps_by_its_own_ids_and_in_dataset(tmp_path: Path) -> None:
    tiny_sets.audiocaps(tmp_path)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "test.csv").rename(tmp_path / "dataset" / "test.csv")
    (tmp_path / "test" / "7fmOlUlwoNg_20.wav").rename(tmp_path / "test" / "103548.wav")
    found = read(tmp_path)
    assert found.layout == "audiocaps"
    assert found.clips[0].path == tmp_path / "test" / "103548.wav"


def test_clotho(tmp_path: Path) -> None:
    """Law: a name that two splits have is taken from the split that is measured."""
    found = read(tiny_sets.clotho(tmp_path))
    assert found.split == "evaluation"
    assert [len(clip.captions) for clip in found.clips] == [5, 5]
    assert found.clips[0].path == tmp_path / "evaluation" / "Santa Motor.wav"
    other = tmp_path / "clotho_audio_evaluation"
    (tmp_path / "evaluation").rename(other)
    assert read(tmp_path).clips[0].path == other / "Santa Motor.wav"
    with pytest.raises(NotFoundError, match="clotho_captions_development.csv does not exist"):
        read(tmp_path, split="development")


def test_clotho_converted_to_flac(tmp_path: Path) -> None:
    tiny_sets.clotho(tmp_path)
    (tmp_path / "evaluation" / "Radio, noise 1.5.wav").unlink()
    tiny_sets.sound(tmp_path / "evaluation" / "Radio, noise 1.5.flac", 1, kind="flac")
    found = read(tmp_path)
    assert found.clips[1].path == tmp_path / "evaluation" / "Radio, noise 1.5.flac"


def test_musiccaps(tmp_path: Path) -> None:
    found = read(tiny_sets.musiccaps(tmp_path))
    assert [clip.path and clip.path.name for clip in found.clips] == [
        "[-0Gj8-vB1q4]-[30-40].wav", "-0SdAVK79lg.wav"
    ]  # fmt: skip
    assert found.clips[0].captions == ("A sad piano melody, in poor quality.",)
    assert [clip.name for clip in read(tmp_path, split="eval").clips] == ["-0Gj8-vB1q4 30"]


def plain(root: Path, header: str, *lines: str) -> Path:
    path = root / "set.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_plain_csv(tmp_path: Path) -> None:
    """Law: captions from several columns and rows; labels by task; a cell may hold several."""
    tiny_sets.sound(tmp_path / "a.wav", 1)
    path = plain(
        tmp_path,
        "file,caption,caption_2,label,label_mood,year",
        'a.wav,"rain, softly",drizzle,rain,calm,1999',
        "b.wav,a dog,,dog|animal,,2001",
        "a.wav,more rain,,rain,,1999",
    )
    found = read(tmp_path)
    assert found == read(path)
    first, second = found.clips
    assert first.captions == ("rain, softly", "drizzle", "more rain")
    assert first.labels == {"classify": ("rain", "rain"), "mood": ("calm",)}
    assert (second.path, second.captions) == (None, ("a dog",))
    assert second.labels == {"classify": ("dog", "animal")}
    assert found.classes == {"classify": ("animal", "dog", "rain"), "mood": ("calm",)}
    assert found.blank == 2


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("file,caption", [], "lists no clip"),
        ("file,year", ["a.wav,1999"], "no column `caption`"),
        ("file,caption", ["a.wav,one,two"], "line 2: 3 cells under 2 columns"),
        ("file,caption", ["a.wav,"], "neither captions nor labels"),
        ("file,caption", [" ,rain"], "line 2: file is blank"),
        ("file,caption", ['a.wav,"rain'], "line 2: unexpected end of data"),
        ("file,caption,caption", ["a.wav,a,b"], "the column 'caption' 2 times"),
        ("file,label,class", ["a.wav,x,y"], "has label and class for one task"),
        ("name,caption", ["a.wav,rain"], "lacks the columns file; it has name, caption"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, header: str, lines: list[str], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        read(plain(tmp_path, header, *lines))


def test_other_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(TaskError, match="looks like none of the layouts; name one by --layout"):
        read(tmp_path)
    with pytest.raises(TaskError, match="layout 'esc' is unknown; take auto, esc50"):
        read(tmp_path, layout="esc")
    with pytest.raises(NotFoundError, match="UrbanSound8K.csv does not exist"):
        read(tmp_path, layout="urbansound8k")
    tiny_sets.esc50(tmp_path)
    tiny_sets.musiccaps(tmp_path)
    with pytest.raises(TaskError, match="looks like esc50 and musiccaps"):
        read(tmp_path)
    (tmp_path / "meta" / "esc50.csv").write_bytes(b"filename,fold,category,esc10\n\xff,1,a,b\n")
    with pytest.raises(TaskError, match="is not UTF-8"):
        read(tmp_path, layout="esc50")
    (tmp_path / "meta" / "esc50.csv").write_bytes(b"\xef\xbb\xbffilename,fold\n")
    with pytest.raises(TaskError, match="lacks the columns category, esc10; it has filename, fold"):
        read(tmp_path, layout="esc50")
    tiny_sets.table(tmp_path / "test.csv", tiny_sets.AUDIOCAPS, [(1, "x", "soon", "rain")])
    with pytest.raises(TaskError, match="line 2: start_time is 'soon'; seconds are needed"):
        read(tmp_path, layout="audiocaps")


def test_names_that_cannot_be_paths_are_missing(tmp_path: Path) -> None:
    path = plain(tmp_path, "file,caption", f"{'x' * 5000}.wav,rain", "../../../..,wind")
    assert [clip.path for clip in read(path).clips] == [None, None]


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "musiccaps-public.csv")
    with pytest.raises(TaskError, match="is no regular file"):
        read(tmp_path, layout="musiccaps")
    with pytest.raises(TaskError, match="looks like none"):
        read(tmp_path)


def test_the_command_line_knows_all_layouts() -> None:
    published = [name for name in layouts.LAYOUTS if name != "csv"]
    assert list(evaluate_verbs.LAYOUTS) == ["auto", "csv", *published]


def test_a_limit_draws_by_the_seed_and_keeps_the_classes(tmp_path: Path) -> None:
    found = read(tiny_sets.gtzan(tmp_path))
    some = found.limited(20, 3)
    assert len(some.clips) == 20
    assert some.classes == found.classes
    assert some == found.limited(20, 3)
    assert some.clips != found.limited(20, 4).clips
    names = [clip.name for clip in found.clips]
    assert [clip.name for clip in some.clips] == sorted(
        (clip.name for clip in some.clips), key=names.index
    )
    assert found.limited(5000, 0).clips == found.clips


def test_a_set_past_the_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "MAX_CLIPS", 2)
    with pytest.raises(TaskError, match="3 clips with 0 captions; 2 and"):
        read(tiny_sets.esc50(tmp_path))
