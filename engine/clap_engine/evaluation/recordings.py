"""Where a set's sounds lie, whatever its downloader called them.

In:  the folder of a set; the names that a clip may have.
Out: the path of a clip, or None.
Knows nothing about captions, labels or what is in a sound.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from clap_engine import audio

# How downloaders name excerpts of YouTube videos, the most telling first: one video may have
# given several. {from_} and {to} are seconds, {ms} and {ms_to} milliseconds.
EXCERPTS = (
    "Y{id}_{ms}_{ms_to}",
    "{id}_{ms}_{ms_to}",
    "{id}_{ms}",
    "[{id}]-[{from_}-{to}]",
    "{id}_{from_}-{to}",
    "{id}-{from_}-{to}",
    "{id}_{from_}_{to}",
    "{id}-{from_}",
    "{id}_{from_}",
    "Y{id}",
    "{id}",
)


def excerpt_stems(video: str, start_s: float, end_s: float) -> list[str]:
    """The names, without suffix, that an excerpt may have."""
    times = {
        "from_": f"{start_s:g}",
        "to": f"{end_s:g}",
        "ms": str(round(1000 * start_s)),
        "ms_to": str(round(1000 * end_s)),
    }
    return [form.format(id=video, **times) for form in EXCERPTS]


class Recordings:
    """The sound files under a folder; it is walked when a file is not where it should be."""

    def __init__(self, root: Path, split: str = "") -> None:
        """A name that is there several times is taken from under a folder called `split`."""
        self.root = root
        self._split = split

    @cached_property
    def _by_stem(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in audio.sound_files(self.root):
            parts = path.relative_to(self.root).parts[:-1]
            if path.stem not in found or (
                self._is_in_split(parts)
                and not self._is_in_split(found[path.stem].relative_to(self.root).parts[:-1])
            ):
                found[path.stem] = path
        return found

    def _is_in_split(self, parts: Iterable[str]) -> bool:
        return bool(self._split) and any(self._split in part for part in parts)

    def at(self, path: Path) -> Path | None:
        """The file itself, or one of the same stem anywhere: converted to FLAC, say."""
        # Not path.is_file(): that is an error for names that are too long.
        return path if os.path.isfile(path) else self.called([path.stem])

    def called(self, stems: Sequence[str]) -> Path | None:
        """The first of these that is there."""
        return next((self._by_stem[stem] for stem in stems if stem in self._by_stem), None)
