"""Tiny sets of sounds in the layouts that authors publish, for tests.

In:  a folder, sounds by name.
Out: the metadata files with their authors' columns, and WAV files where they lie.
Knows nothing about what reads them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from sounds import encode, noise, tone

RATE_HZ = 8_000
ESC50 = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
URBANSOUND8K = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
AUDIOCAPS = ("audiocap_id", "youtube_id", "start_time", "caption")
CLOTHO = ("file_name", "caption_1", "caption_2", "caption_3", "caption_4", "caption_5")
MUSICCAPS = ("ytid", "start_s", "end_s", "audioset_positive_labels", "aspect_list", "caption",
             "author_id", "is_balanced_subset", "is_audioset_eval")  # fmt: skip
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae",
          "rock")  # fmt: skip


def sound(path: Path, seed: int, seconds: float = 0.5, kind: str = "wav") -> None:
    """A tone in noise, another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n = round(seconds * RATE_HZ)
    path.write_bytes(encode(tone(200 + 150 * seed, RATE_HZ, n) + noise(seed, n), RATE_HZ, kind))


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV as Python writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def esc50(root: Path) -> Path:
    """Three clips of two folds."""
    rows = [("1-100032-A-0.wav", 1, 0, "dog", "True", 100032, "A"),
            ("1-17367-A-10.wav", 1, 10, "rain", "True", 17367, "A"),
            ("2-100786-A-1.wav", 2, 36, "vacuum_cleaner", "False", 100786, "A")]  # fmt: skip
    table(root / "meta" / "esc50.csv", ESC50, rows)
    for seed, row in enumerate(rows):
        sound(root / "audio" / str(row[0]), seed)
    return root


def urbansound8k(root: Path) -> Path:
    """Three clips of two folds."""
    rows = [("100032-3-0-0.wav", 100032, 0.0, 0.317551, 1, 5, 3, "dog_bark"),
            ("100263-2-0-117.wav", 100263, 58.5, 62.5, 1, 5, 2, "children_playing"),
            ("106015-5-0-0.wav", 106015, 0.0, 4.0, 1, 10, 5, "engine_idling")]  # fmt: skip
    table(root / "metadata" / "UrbanSound8K.csv", URBANSOUND8K, rows)
    for seed, row in enumerate(rows):
        sound(root / "audio" / f"fold{row[5]}" / str(row[0]), seed)
    return root


def gtzan(root: Path, folder: str = "genres", kind: str = "au") -> Path:
    """One clip a genre."""
    for seed, genre in enumerate(GENRES):
        sound(root / folder / genre / f"{genre}.00000.{kind}", seed, kind=kind)
    return root


def audiocaps(root: Path) -> Path:
    """Two clips with two captions each, named in two ways."""
    rows = [(103549, "7fmOlUlwoNg", 20, "Constant rattling noise and sharp vibrations"),
            (103548, "7fmOlUlwoNg", 20, "A rocket flies by, followed by a loud explosion"),
            (103542, "-6BnG6YZqJ4", 130, "A person snoring"),
            (103541, "-6BnG6YZqJ4", 130, "Snoring, close by")]  # fmt: skip
    table(root / "test.csv", AUDIOCAPS, rows)
    sound(root / "test" / "7fmOlUlwoNg_20.wav", 1)
    sound(root / "test" / "Y-6BnG6YZqJ4.wav", 2)
    return root


def clotho(root: Path) -> Path:
    """Two clips of the evaluation split, five captions each, and a file of the same name beside."""
    rows = [("Santa Motor.wav", *(f"A machine whines, {word}." for word in "abcde")),
            ("Radio, noise 1.5.wav", *(f"Static crackles, {n}." for n in "abcde"))]  # fmt: skip
    table(root / "clotho_captions_evaluation.csv", CLOTHO, rows)
    metadata = "file_name,keywords,sound_link,start_end_samples,manufacturer,license\n"
    metadata += 'Santa Motor.wav,café,https://freesound.org,"[0, 1]",Zoë,CC0\n'
    (root / "clotho_metadata_evaluation.csv").write_bytes(metadata.encode("latin-1"))
    for seed, row in enumerate(rows):
        sound(root / "evaluation" / row[0], seed)
    sound(root / "development" / "Santa Motor.wav", 9)
    return root


def musiccaps(root: Path) -> Path:
    """Two clips, one of AudioSet's evaluation split."""
    rows = [("-0Gj8-vB1q4", 30, 40, "/m/0140xf,/m/02cjck", "['sad piano melody']",
             "A sad piano melody, in poor quality.", 4, False, True),
            ("-0SdAVK79lg", 30, 40, "/m/0155w", "['guitar song']",
             "This song features an electric guitar.", 0, False, False)]  # fmt: skip
    table(root / "musiccaps-public.csv", MUSICCAPS, rows)
    sound(root / "data" / "[-0Gj8-vB1q4]-[30-40].wav", 1)
    sound(root / "data" / "-0SdAVK79lg.wav", 2)
    return root


ALL = {"esc50": esc50, "urbansound8k": urbansound8k, "gtzan": gtzan, "audiocaps": audiocaps,
       "clotho": clotho, "musiccaps": musiccaps}  # fmt: skip
