"""The layouts of sets, as their authors publish them.

In:  the folder of a set, one of its splits.
Out: `EvaluationSet`, missing sounds included.
Knows nothing about models, figures or what is in a sound.

csv           a CSV in the folder, or itself: file, caption or caption_1..n, label; a row a caption
folders       a folder of sounds for each class, whose name is the folder's
esc50         meta/esc50.csv (filename, fold, target, category, esc10, src_file, take), audio/
              Piczak 2015, github.com/karolpiczak/ESC-50
urbansound8k  metadata/UrbanSound8K.csv (slice_file_name, fsID, start, end, salience, fold, classID,
              class), audio/fold1..fold10/; Salamon et al. 2014, urbansounddataset.weebly.com
gtzan         a folder a genre, in genres/ (or genres_original/, as mirrors call it):
              blues/blues.00000.au or .wav; Tzanetakis and Cook 2002
audiocaps     train.csv, val.csv, test.csv (audiocap_id, youtube_id, start_time, caption), also in
              dataset/; Kim et al. 2019, github.com/cdjkim/audiocaps. No sounds are published:
              those of a downloader, 10 s each, by any name that `recordings.EXCERPTS` knows
clotho        clotho_captions_{development,validation,evaluation}.csv (file_name, caption_1 to
              caption_5), also in clotho_csv_files/; the archives' folders development/ and so on;
              Drossos et al. 2020, zenodo.org/records/4783391
musiccaps     musiccaps-public.csv (ytid, start_s, end_s, audioset_positive_labels, aspect_list,
              caption, author_id, is_balanced_subset, is_audioset_eval); Agostinelli et al. 2023.
              No sounds are published, see audiocaps
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clap_engine import audio
from clap_engine.errors import TaskError
from clap_engine.evaluation import tables
from clap_engine.evaluation.gathered import Gathered
from clap_engine.evaluation.recordings import Recordings, excerpt_stems
from clap_engine.evaluation.sets import EvaluationSet

ALL = "all"
# The task of a set with one: the bundle's templates for `classify` fit it.
TASK = "classify"
EXCERPT_S = 10.0
# Excerpts are cut at key frames by some downloaders, so they may be a little longer.
LONGEST_S = 11.0
CLOTHO = ("evaluation", "validation", "development")
AUDIOCAPS_FOLDERS = (".", "dataset", "csv_files_v1", "csv_files")
CLOTHO_FOLDERS = (".", "clotho_csv_files")
GTZAN_FOLDERS = ("genres", "genres_original", "Data/genres_original")
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae",
          "rock")  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How to tell and read a layout; the first split is the one that its authors test on."""

    is_in: Callable[[Path], bool]
    read: Callable[[Path, str], EvaluationSet]
    splits: tuple[str, ...] = (ALL,)


def recognised(root: Path) -> str:
    """The name of the layout in a folder; TaskError unless exactly one fits."""
    found = [name for name, layout in LAYOUTS.items() if layout.is_in(root)]
    for plain in ("folders", "csv"):
        if len(found) > 1 and found[-1] == plain:
            found.pop()  # whatever else has folders or a `file` column, the published one is meant
    if len(found) != 1:
        raise TaskError(
            f"{root} looks like {' and '.join(found) or 'none of the layouts'}; name one by "
            f"--layout: {', '.join(LAYOUTS)}"
        )
    return found[0]


def _plain_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == ".csv" else []
    files = [path for path in sorted(root.glob("*.csv")) if not path.name.startswith(".")]
    return [path for path in files if {"file", "path"} & _columns(path)]


def _columns(path: Path) -> set[str]:
    """Of a CSV that may be anything."""
    try:
        return set(tables.header(path))
    except TaskError:
        return set()


def _plain(root: Path, split: str) -> EvaluationSet:
    """Any columns beside those named above are left alone; several labels stand with | between."""
    files = _plain_files(root)
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise TaskError(
            f"{root} has to hold one CSV with a column `file`; found: {found}; give the file itself"
        )
    (path,) = files
    names = tables.header(path)
    column = "path" if "path" in names and "file" not in names else "file"
    said = [name for name in names if name == "caption" or name.startswith("caption_")]
    tasks = {name: _task(name) for name in names if _task(name)}
    if not said and not tasks:
        raise TaskError(f"{path} has no column `caption`, `caption_...`, `label` or `label_...`")
    if len(set(tasks.values())) < len(tasks):
        raise TaskError(f"{path} has {' and '.join(tasks)} for one task; rename one to label_NAME")
    gathered = Gathered()
    for where, row in tables.rows(path, [column]):
        name = _filled(row, column, where)
        file = path.parent / name
        labels = {task: row[column].split("|") for column, task in tasks.items()}
        is_there = os.path.isfile(file)  # false, not an error, for what can't be a path
        gathered.add(name, file if is_there else None, [row[column] for column in said], labels)
    return gathered.as_set(path.parent, "csv", split)


def _task(column: str) -> str:
    """The task that a column of labels belongs to; empty for other columns."""
    if column in ("label", "labels", "class"):
        return TASK
    return column.removeprefix("label_") if column.startswith("label_") else ""


def _class_folders(root: Path) -> list[Path]:
    """The folders in a folder that hold a sound."""
    if not root.is_dir():
        return []
    below = [path for path in sorted(root.iterdir()) if path.is_dir()]
    return [path for path in below if path.name[0] not in "._" and audio.sound_files(path)]


def _folders(root: Path, split: str) -> EvaluationSet:
    gathered = Gathered()
    for folder in _class_folders(root):
        for path in audio.sound_files(folder):
            gathered.add(path.relative_to(root).as_posix(), path, (), {TASK: [folder.name]})
    return gathered.as_set(root, "folders", split)


def _esc50(root: Path, split: str) -> EvaluationSet:
    gathered, sounds = Gathered(), Recordings(root)
    for where, row in tables.rows(
        root / "meta" / "esc50.csv", ["filename", "fold", "category", "esc10"]
    ):
        label = {TASK: [_filled(row, "category", where)]}
        name = _filled(row, "filename", where)
        is_in = split in (ALL, f"fold{row['fold'].strip()}") or (
            split == "esc10" and row["esc10"].strip().lower() == "true"
        )
        # ESC-10 is a set of its own, with ten classes; a fold has all fifty.
        if is_in:
            gathered.add(name, sounds.at(root / "audio" / name), (), label)
        elif split != "esc10":
            gathered.add_classes(label)
    return gathered.as_set(root, "esc50", split)


def _urbansound8k(root: Path, split: str) -> EvaluationSet:
    gathered, sounds = Gathered(), Recordings(root)
    for where, row in tables.rows(
        root / "metadata" / "UrbanSound8K.csv", ["slice_file_name", "fold", "class"]
    ):
        label = {TASK: [_filled(row, "class", where)]}
        fold = f"fold{_filled(row, 'fold', where)}"
        name = _filled(row, "slice_file_name", where)
        if split in (ALL, fold):
            path = sounds.at(root / "audio" / fold / name)
            gathered.add(f"{fold}/{name}", path, (), label)
        else:
            gathered.add_classes(label)
    return gathered.as_set(root, "urbansound8k", split)


def _genres(root: Path) -> Path | None:
    places = [root / name for name in GTZAN_FOLDERS] + [root]
    return next((place for place in places if all((place / g).is_dir() for g in GENRES)), None)


def _gtzan(root: Path, split: str) -> EvaluationSet:
    folder = _genres(root)
    if folder is None:
        raise TaskError(f"{root} has no folder for each of the genres {', '.join(GENRES)}")
    gathered = Gathered()
    for genre in GENRES:
        gathered.add_classes({TASK: [genre]})
        files = {path.stem: path for path in audio.sound_files(folder / genre)}
        # Nothing lists the files but their numbers; every genre has a hundred.
        for stem in sorted({*files, *(f"{genre}.{number:05d}" for number in range(100))}):
            gathered.add(f"{genre}/{stem}", files.get(stem), (), {TASK: [genre]})
    return gathered.as_set(root, "gtzan", split)


def _audiocaps(root: Path, split: str) -> EvaluationSet:
    needed = ["audiocap_id", "youtube_id", "start_time", "caption"]
    path = next(_files(root, AUDIOCAPS_FOLDERS, f"{split}.csv"), root / f"{split}.csv")
    gathered, sounds = Gathered(), Recordings(root, split)
    for where, row in tables.rows(path, needed):
        video = _filled(row, "youtube_id", where)
        start_s = _seconds(row, "start_time", where)
        stems = excerpt_stems(video, start_s, start_s + EXCERPT_S)
        file = sounds.called([*stems, row["audiocap_id"].strip()])
        name = f"{video} {start_s:g}"
        gathered.add(name, file, [row["caption"]], longest_s=LONGEST_S)
    return gathered.as_set(root, "audiocaps", split)


def _clotho(root: Path, split: str) -> EvaluationSet:
    name = f"clotho_captions_{split}.csv"
    path = next(_files(root, CLOTHO_FOLDERS, name), root / name)
    said = [f"caption_{number}" for number in range(1, 6)]
    gathered, sounds = Gathered(), Recordings(root, split)
    for where, row in tables.rows(path, ["file_name", *said]):
        file = _filled(row, "file_name", where)
        gathered.add(file, sounds.at(root / split / file), [row[column] for column in said])
    return gathered.as_set(root, "clotho", split)


def _musiccaps(root: Path, split: str) -> EvaluationSet:
    needed = ["ytid", "start_s", "end_s", "caption", "is_audioset_eval"]
    gathered, sounds = Gathered(), Recordings(root)
    for where, row in tables.rows(root / "musiccaps-public.csv", needed):
        if split == "eval" and row["is_audioset_eval"].strip().lower() != "true":
            continue
        video = _filled(row, "ytid", where)
        start_s, end_s = (_seconds(row, column, where) for column in ("start_s", "end_s"))
        file = sounds.called(excerpt_stems(video, start_s, end_s))
        longest_s = end_s - start_s + LONGEST_S - EXCERPT_S
        gathered.add(f"{video} {start_s:g}", file, [row["caption"]], longest_s=longest_s)
    return gathered.as_set(root, "musiccaps", split)


def _files(root: Path, folders: tuple[str, ...], name: str) -> Iterator[Path]:
    return (path for folder in folders if (path := root / folder / name).is_file())


def _has_audiocaps(root: Path) -> bool:
    files = (f for split in ("test", "val", "train")
             for f in _files(root, AUDIOCAPS_FOLDERS, f"{split}.csv"))  # fmt: skip
    return any("youtube_id" in _columns(file) for file in files)


def _filled(row: tables.Row, column: str, where: str) -> str:
    value = row[column].strip()
    if not value:
        raise TaskError(f"{where}: {column} is blank; fill it or take the line out")
    return value


def _seconds(row: tables.Row, column: str, where: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise TaskError(f"{where}: {column} is {row[column]!r:.40}; seconds are needed")
    return value


LAYOUTS = {
    "esc50": Layout(
        lambda root: (root / "meta" / "esc50.csv").is_file(),
        _esc50,
        (ALL, "esc10", *(f"fold{number}" for number in range(1, 6))),
    ),
    "urbansound8k": Layout(
        lambda root: (root / "metadata" / "UrbanSound8K.csv").is_file(),
        _urbansound8k,
        (ALL, *(f"fold{number}" for number in range(1, 11))),
    ),
    "gtzan": Layout(lambda root: _genres(root) is not None, _gtzan),
    "audiocaps": Layout(_has_audiocaps, _audiocaps, ("test", "val", "train")),
    "clotho": Layout(
        lambda root: any(
            next(_files(root, CLOTHO_FOLDERS, f"clotho_captions_{split}.csv"), None)
            for split in CLOTHO
        ),
        _clotho,
        CLOTHO,
    ),
    "musiccaps": Layout(
        lambda root: (root / "musiccaps-public.csv").is_file(), _musiccaps, (ALL, "eval")
    ),
    "csv": Layout(lambda root: bool(_plain_files(root)), _plain),
    "folders": Layout(lambda root: bool(_class_folders(root)), _folders),
}
