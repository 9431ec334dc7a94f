"""A bundle as one file: an uncompressed tar that can be written in one way only.

In:  the files of a bundle; a file that claims to be such an archive.
Out: the archive, the same bytes wherever it is made; where each file's bytes lie in one.
Knows nothing about manifests, graphs or where bundles are kept.

The rule is one sentence: a header is accepted if it is, byte for byte, the header that `header`
makes of a plain name and a size. So there is no link, device, path that leads out, sparse file,
extension or second reading of a number to refuse one by one: none of them has such a header. Names
ascend after the first, hence none comes twice; sizes add up to the file, hence nothing is hidden.
What unpacks tar files unpacks these: ustar, files of mode 0644 in one folder, no owner, no time.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clap_engine import storage
from clap_engine.errors import IntegrityError
from clap_engine.storage import FileDigest

SUFFIX = ".tar"
# A bundle has seven files, one with captions and three precisions some fifteen.
MAX_FILES = 64
MAX_FILE_BYTES = 8**11 - 1  # what eleven octal digits can say
_BLOCK = 512
_RECORD = 20 * _BLOCK  # what tar pads an archive to
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FOLDER = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Place:
    """Where a file's bytes lie in the archive."""

    offset: int
    size: int


def header(folder: str, name: str, size: int) -> bytes:
    """[512] the ustar header of a file in a folder."""
    path, prefix = f"{folder}/{name}", ""
    if len(path) > 100:
        path, prefix = name, folder
    fields = (
        path.encode("ascii").ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0",
        b"%011o\0" % size, b"00000000000\0", b"        ", b"0", bytes(100),
        b"ustar\00000", bytes(32), bytes(32), b"0000000\0", b"0000000\0",
        prefix.encode("ascii").ljust(155, b"\0"), bytes(12),
    )  # fmt: skip
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def write(
    target: Path, folder: str, names: Iterable[str], read: Callable[[str], bytes | memoryview]
) -> FileDigest:
    """Write the files, the first name first and the others in order; whole or not at all."""
    first, *rest = names
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")

    def chunks() -> Iterator[bytes | memoryview]:
        total = 0
        for name in (first, *sorted(rest)):
            data = read(name)
            yield header(folder, name, len(data))
            yield data
            yield bytes(-len(data) % _BLOCK)
            total += _BLOCK + len(data) + -len(data) % _BLOCK
        yield bytes(_end(total) - total)

    try:
        digest = storage.write_file(draft, chunks())
        storage.rename(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return digest


class Archive:
    """An opened archive. It keeps its file open: another may take its name meanwhile."""

    def __init__(self, path: Path) -> None:
        """Open `path`; IntegrityError unless `write` could have made it."""
        self.path = path
        with storage.opened(path) as (fd, size):
            self.folder, self.places = _scan(path, fd, size)
            self._fd = os.dup(fd)
        weakref.finalize(self, os.close, self._fd)

    def read(self, name: str, sha256: str) -> memoryview:
        """The bytes of one file; IntegrityError unless they have this digest."""
        place = self.places[name]
        return storage.read_part(self._fd, f"{self.path}: {name}", place.offset, place.size, sha256)

    def head(self, name: str, most: int) -> bytes:
        """At most `most` bytes of one file, whatever they are."""
        place = self.places.get(name)
        if place is None:
            raise _refused(self.path, f"it holds no {name}")
        return os.pread(self._fd, min(most, place.size), place.offset)


def _scan(path: Path, fd: int, size: int) -> tuple[str, dict[str, Place]]:
    """The folder, and where each file lies. Reads some 30 blocks, however long the file is."""
    places: dict[str, Place] = {}
    folder, at, last = "", 0, ""
    if size % _RECORD or not size:
        raise _refused(path, f"{size} bytes are no whole number of records")
    while (block := os.pread(fd, _BLOCK, at)) != bytes(_BLOCK):
        found, name, length = _fields(path, block)
        if block != header(found, name, length):
            raise _refused(path, f"the header of {name!r:.80} is not plain")
        if folder not in ("", found):
            raise _refused(path, f"it holds two folders, {folder!r:.80} and {found!r:.80}")
        if name in places or name <= last:
            raise _refused(path, f"{name!r:.80} is out of order")
        if len(places) >= MAX_FILES:
            raise _refused(path, f"it holds more than {MAX_FILES} files")
        last = name if places else ""  # the first stands before all others
        folder, places[name] = found, Place(at + _BLOCK, length)
        at += _BLOCK + length
        _check_zeros(path, fd, at, -length % _BLOCK)
        at += -length % _BLOCK
    if not places or _end(at) != size:
        raise _refused(path, "its files do not add up to its length")
    _check_zeros(path, fd, at, size - at)
    return folder, places


def _check_zeros(path: Path, fd: int, at: int, count: int) -> None:
    if os.pread(fd, count, at) != bytes(count):
        raise _refused(path, "there is something between its files, or it was cut off")


def _fields(path: Path, block: bytes) -> tuple[str, str, int]:
    """Folder, name and size as a header says them, plain ones only."""
    try:
        text = block[:100].rstrip(b"\0").decode("ascii")
        prefix = block[345:500].rstrip(b"\0").decode("ascii")
        folder, _, name = (f"{prefix}/{text}" if prefix else text).rpartition("/")
        size = int(block[124:135].decode("ascii"), 8)
    except ValueError as error:
        raise _refused(path, f"a header makes no sense ({error})") from error
    if not _FOLDER.fullmatch(folder) or not _NAME.fullmatch(name):
        raise _refused(path, f"it holds {folder + '/' + name!r:.80}, which is no plain name")
    return folder, name, size


def _end(used: int) -> int:
    """The length of an archive whose files take `used` bytes."""
    return -(-(used + 2 * _BLOCK) // _RECORD) * _RECORD


def _refused(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is no archive of a bundle: {why}; make one with `clap-engine pack`"
    )
