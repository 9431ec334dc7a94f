"""Pairs of sounds and captions, from a CSV file and a folder of sounds.

In:  a CSV of `path,caption`, or MusicCaps' own (`ytid,start_s,end_s,...,caption`); the folder.
Out: `Pairs`: clips that are there, each with its captions; how many are not.
Knows nothing about towers or what is in a sound.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clap_engine import audio
from clap_export.clip_files import Clip, ClipFile
from clap_export.errors import PairsError

PLAIN = ("path", "caption")
MUSICCAPS = ("ytid", "start_s", "end_s", "caption")
# Downloaders name MusicCaps' clips in these ways, with any suffix that `audio.sound_files` knows.
# {from_} and {to} are whole seconds, {ms} and {ms_to} milliseconds.
NAMES = (
    "{ytid}",
    "Y{ytid}",
    "{ytid}_{from_}",
    "{ytid}-{from_}",
    "{ytid}_{from_}_{to}",
    "{ytid}-{from_}-{to}",
    "{ytid}_{from_}-{to}",
    "[{ytid}]-[{from_}-{to}]",
    "{ytid}_{ms}",
    "{ytid}_{ms}_{ms_to}",
    "Y{ytid}_{ms}_{ms_to}",
)


@dataclass(frozen=True)
class Pairs:
    """What a file of pairs gives: `clips` in the order of their first rows."""

    clips: Sequence[Clip]
    name: str
    sha256: str  # of the CSV
    rows: int
    missing: tuple[str, ...] = ()  # clips that are not under the folder
    blank: int = 0  # rows without a caption

    def only(self, chosen: slice) -> Pairs:
        """The same with some of the clips; PairsError where none are left."""
        kept = self.clips[chosen]
        if not kept:
            raise PairsError(f"{self.name} has {len(self.clips)} clips; none is in {chosen}")
        return replace(self, clips=kept)

    def facts(self) -> dict[str, object]:
        """What a head file says of them."""
        return {
            "file": self.name,
            "sha256": self.sha256,
            "rows": self.rows,
            "clips": len(self.clips),
            "missing": len(self.missing),
            "captions": sum(len(clip.captions) for clip in self.clips),
        }

    def line(self) -> str:
        """What was found, for a person."""
        found = f"{self.name}: {self.rows} rows, {len(self.clips)} clips found"
        if self.missing:
            shown = ", ".join(self.missing[:3])
            found += f", {len(self.missing)} missing and left out ({shown}, ...)"
        return found + (f", {self.blank} rows without a caption left out" if self.blank else "")


def read(path: Path, root: Path) -> Pairs:
    """The pairs of `path` whose sounds are under `root`; PairsError says what is wrong with them.

    The layout is told by the header: `ytid` makes it MusicCaps'. A clip that has several rows has
    several captions. Missing clips are counted, and refused only where none is there.
    """
    if not path.is_file():
        raise PairsError(f"{path} is not there; give a CSV file of pairs with --pairs")
    if not root.is_dir():
        raise PairsError(f"{root} is not a folder; give the folder of the sounds with --audio")
    data = path.read_bytes()
    header, rows = _table(path, data)
    musiccaps = "ytid" in header
    columns = MUSICCAPS if musiccaps else PLAIN
    if lacking := [name for name in columns if name not in header]:
        raise PairsError(
            f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(header) or 'none'}. "
            f"Needed are {','.join(PLAIN)} or, as MusicCaps has them, {','.join(MUSICCAPS)}"
        )
    if not rows:
        raise PairsError(f"{path} has a header and no rows; give pairs, one a line")
    finder = _Recordings(root) if musiccaps else _Paths(root)
    captions: dict[_Found, list[str]] = {}
    missing: Counter[str] = Counter()
    blank = 0
    for number, row in rows:
        caption = row["caption"].strip()
        if not caption:
            blank += 1
            continue
        found = finder.find(row, f"{path}, line {number}")
        if isinstance(found, str):
            missing[found] += 1
        else:
            captions.setdefault(found, []).append(caption)
    if not captions and not missing:
        raise PairsError(f"{path}: none of the {len(rows)} rows has a caption; write them")
    if not captions:
        raise PairsError(
            f"none of the {len(missing)} clips of {path} is under {root}, which holds "
            f"{finder.count} sound files; looked for {finder.looked_for(next(iter(missing)))}"
        )
    return Pairs(
        clips=[
            ClipFile(name, sound, tuple(dict.fromkeys(said)), span)
            for (name, sound, span), said in captions.items()
        ],
        name=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        rows=len(rows),
        missing=tuple(missing),
        blank=blank,
    )


_Found = tuple[str, Path, "tuple[float, float] | None"]
_Row = dict[str, str]


def _table(path: Path, data: bytes) -> tuple[list[str], list[tuple[int, _Row]]]:
    """The header, and each row with its line."""
    try:
        # Excel begins its files with a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PairsError(f"{path} is not UTF-8 ({error}); save it as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, _Row]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise PairsError(
                f"{path} is empty; its first line names the columns: {','.join(PLAIN)}"
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise PairsError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells under {len(header)} "
                    'columns; a caption with commas stands in quotes: "..."'
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise PairsError(f"{path}, line {reader.line_num}: {error}; write the CSV again") from error
    return header, rows


class _Paths:
    """The plain layout: `path` is relative to the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def count(self) -> int:
        return len(audio.sound_files(self._root))

    def find(self, row: _Row, where: str) -> _Found | str:
        """The clip, or its name where it is missing."""
        name = os.path.normpath(row["path"].strip())
        if not row["path"].strip() or "\0" in name:
            raise PairsError(f"{where}: no path; name a file under {self._root}")
        if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
            raise PairsError(f"{where}: {name} is not relative to {self._root}; write it so")
        path = self._root / name
        return (name, path, None) if path.is_file() else name

    def looked_for(self, name: str) -> str:
        return str(self._root / name)


class _Recordings:
    """MusicCaps' layout: files anywhere under the folder, named by `NAMES`."""

    def __init__(self, root: Path) -> None:
        self._files: dict[str, Path] = {}
        for path in audio.sound_files(root):
            self._files.setdefault(path.stem, path)

    @property
    def count(self) -> int:
        return len(self._files)

    def find(self, row: _Row, where: str) -> _Found | str:
        """The clip, or its id where it is missing."""
        ytid = row["ytid"].strip()
        start_s, end_s = (_seconds(row[name], name, where) for name in ("start_s", "end_s"))
        if not ytid:
            raise PairsError(f"{where}: no ytid")
        if end_s <= start_s:
            raise PairsError(
                f"{where}: start_s {start_s:g} to end_s {end_s:g}; the end comes later"
            )
        for stem in self._stems(ytid, start_s, end_s):
            if stem in self._files:
                path = self._files[stem]
                # A name with times is that of a clip that was cut out already.
                span = (start_s, end_s) if stem in (ytid, f"Y{ytid}") else None
                return f"{ytid} {start_s:g}-{end_s:g}", path, span
        return ytid

    def looked_for(self, name: str) -> str:
        stems = self._stems(name, 30, 40)[::-1][:5]
        return ", ".join(f"{stem}.wav" for stem in stems) + " and the like (times 30 to 40, say)"

    def _stems(self, ytid: str, start_s: float, end_s: float) -> list[str]:
        # The most telling name first: one recording may have given several clips.
        times = {
            "from_": f"{start_s:g}",
            "to": f"{end_s:g}",
            "ms": str(round(1000 * start_s)),
            "ms_to": str(round(1000 * end_s)),
        }
        return [form.format(ytid=ytid, **times) for form in reversed(NAMES)]


def _seconds(text: str, name: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise PairsError(
            f"{where}: {name} is {text!r}; seconds from the recording's start are needed"
        )
    return value
