"""Pairs of sounds and captions, from a CSV file and a folder of sounds.

In:  a CSV of `path,caption`, or MusicCaps' own (`ytid,start_s,end_s,...,caption`); the folder.
Out: `Pairs`: clips that are there, each with its captions; how many are not.
Knows nothing about towers or what is in a sound: `ClipFile.windows` asks the runtime's audio.
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
from typing import Protocol

import numpy as np

from clap_engine import audio
from clap_engine.arrays import Float32
from clap_engine.errors import AudioError
from clap_engine.limits import DEFAULT_LIMITS
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel
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
# Beyond this a clip says nothing new about its caption, and a podcast would fill the cache.
MAX_WINDOWS = 32
SLACK_S = 1.0  # by which a cut-out clip may be longer than its row says, or a recording shorter


class Clip(Protocol):
    """One sound with its captions; whatever holds log-mels may stand for a file."""

    @property
    def name(self) -> str: ...
    @property
    def captions(self) -> tuple[str, ...]: ...
    def identity(self) -> str:
        """What changes when the sound does: the cache of features is bound to it."""
        ...

    def windows(self, spec: AudioSpec, front_end: LogMel) -> Float32:
        """Log-mels [W, F, M]; AudioError where there are none."""
        ...


@dataclass(frozen=True)
class ClipFile:
    """A sound file; with `span_s` only that part of it, if the file is the whole recording."""

    name: str
    path: Path
    captions: tuple[str, ...]
    span_s: tuple[float, float] | None = None

    def identity(self) -> str:
        """Name, size and time of change: reading gigabytes for a digest would take as long as
        embedding them does."""
        facts = self.path.stat()
        return f"{self.name}|{facts.st_size}|{facts.st_mtime_ns}|{self.span_s}"

    def windows(self, spec: AudioSpec, front_end: LogMel) -> Float32:
        """The clip's first `MAX_WINDOWS` windows; AudioError where the file can't be read or is
        neither the clip nor the recording it was cut from."""
        source: audio.Source = self.path
        if self.span_s is not None and self._is_whole(self.span_s):
            source = (_part(self.path, spec.rate_hz, self.span_s), spec.rate_hz)
        rows: list[Float32] = []
        for windows, _ in audio.windows(source, spec, DEFAULT_LIMITS):
            rows.append(front_end(windows))
            if sum(map(len, rows)) >= MAX_WINDOWS:
                break
        return np.asarray(np.concatenate(rows)[:MAX_WINDOWS], np.float32)

    def _is_whole(self, span_s: tuple[float, float]) -> bool:
        start_s, end_s = span_s
        found_s = audio.probe(self.path).duration_s
        if found_s is None or found_s <= end_s - start_s + SLACK_S:
            return False  # cut out already
        if found_s < end_s - SLACK_S:
            raise AudioError(
                f"{self.path} lasts {found_s:.1f} s: neither the clip of {end_s - start_s:g} s nor "
                f"a recording that reaches {end_s:g} s; fetch it again"
            )
        return True


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


def _part(path: Path, rate_hz: int, span_s: tuple[float, float]) -> Float32:
    """Seconds `span_s` of a recording, at `rate_hz`; what lies before is decoded, not kept."""
    first, last = (round(rate_hz * t) for t in span_s)
    kept: list[Float32] = []
    place = 0
    for block in audio.decode_blocks(path, rate_hz):
        kept.append(block[max(0, first - place) : max(0, last - place)])
        place += len(block)
        if place >= last:
            break
    return np.concatenate(kept)
