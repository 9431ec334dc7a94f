"""The file system, made durable: every byte that must survive goes through here or a database.

In:  paths, bytes.
Out: verified bytes, files that are whole or absent, a lock.
Knows nothing about clips, vectors or bundles.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clap_engine.errors import ClapError, IntegrityError, LockedError, NotFoundError

# The system calls that change a disk, by name, so that the crash tests can fail the n-th one.
_write = os.write
_fsync = os.fsync
_replace = os.replace
_mkdir = os.mkdir

_CHUNK_BYTES = 1 << 20
_GATHERED_BYTES = 4 << 20


class StorageError(ClapError, OSError):
    """The disk or the database refused an operation: full, read-only, failing."""


@dataclass(frozen=True)
class FileDigest:
    """What a file must be: its size in bytes and its sha256 in hex."""

    size: int
    sha256: str


@contextmanager
def translated(action: str, path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except ClapError:
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"{os.fspath(path)} does not exist; cannot {action} it") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            error.errno or errno.EIO,
            f"cannot {action} {os.fspath(path)}: {reason}; nothing that was committed is lost",
        ) from error


def _open_regular(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file; never blocks on a FIFO, never touches a device."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise IntegrityError(f"{os.fspath(path)} is not a regular file; replace it by one")
    return fd


def read_exact(path: str | os.PathLike[str], size: int, sha256: str) -> bytes:
    """The file's bytes, read once; IntegrityError unless both size and digest are as given."""
    with translated("read", path):
        fd = _open_regular(path)
        with os.fdopen(fd, "rb") as file:
            _check_size(path, os.fstat(fd).st_size, size)
            data = file.read(size + 1)
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise _changed(path, sha256)
    return data


def read_large(path: str | os.PathLike[str], size: int, sha256: str) -> memoryview:
    """As read_exact, for files of many megabytes: the bytes are not touched before the read."""
    at = 0
    with translated("read", path):
        fd = _open_regular(path)
        with os.fdopen(fd, "rb", buffering=0) as file:
            _check_size(path, os.fstat(fd).st_size, size)
            # Anonymous memory, not a map of the file: one cut short would end the process.
            pages = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with suppress(AttributeError, OSError):  # not Linux; a kernel without large pages
                pages.madvise(mmap.MADV_HUGEPAGE)
            view = memoryview(pages)[:size]
            while count := file.readinto(view[at:]):
                at += count
    # In one piece: a thread that took turns with others for each block would wait at each.
    if at != size or hashlib.sha256(view).hexdigest() != sha256:
        raise _changed(path, sha256)
    return view.toreadonly()


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """A descriptor of a regular file to read, and its size in bytes."""
    with translated("read", path):
        fd = _open_regular(path)
        try:
            yield fd, os.fstat(fd).st_size
        finally:
            os.close(fd)


def read_part(
    fd: int, path: str | os.PathLike[str], offset: int, size: int, sha256: str
) -> memoryview:
    """As read_large, for a part of a file that is open; `path` names it in errors."""
    at = 0
    with translated("read", path):
        pages = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = memoryview(pages)[:size]
        while at < size and (count := os.preadv(fd, [view[at:]], offset + at)):
            at += count
    if at != size or hashlib.sha256(view).hexdigest() != sha256:
        raise _changed(path, sha256)
    return view.toreadonly()


def _check_size(path: str | os.PathLike[str], found: int, size: int) -> None:
    if found != size:
        raise IntegrityError(
            f"{os.fspath(path)} has {found} bytes where {size} were written; "
            "restore it from its source"
        )


def _changed(path: str | os.PathLike[str], sha256: str) -> IntegrityError:
    return IntegrityError(
        f"{os.fspath(path)} does not have the digest {sha256[:12]}...; "
        "its bytes changed after they were written: restore it from its source"
    )


def file_facts(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(size in bytes, mtime in ns) of a regular file, not opened: cheap signs of a change."""
    with translated("read", path):
        facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise IntegrityError(f"{os.fspath(path)} is not a regular file; give one that is")
    return facts.st_size, facts.st_mtime_ns


def file_identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(device, inode) of a regular file: as long as it is held open, no other has the same."""
    with translated("read", path):
        facts = os.stat(path)
    return facts.st_dev, facts.st_ino


def file_digest(path: str | os.PathLike[str]) -> FileDigest:
    """Size and sha256 of a regular file, in bounded memory."""
    digest = hashlib.sha256()
    size = 0
    with translated("read", path), os.fdopen(_open_regular(path), "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileDigest(size, digest.hexdigest())


def map_exact(
    path: str | os.PathLike[str], size: int, sha256: str, *, touch: bool = True
) -> memoryview:
    """The file mapped read-only, hashed through the same mapping that is returned.

    Without `touch` it is hashed by reading, so that no page of the map is resident before its use.
    """
    with translated("map", path):
        fd = _open_regular(path)
        try:
            found = os.fstat(fd).st_size
            if found != size:
                raise IntegrityError(f"{os.fspath(path)} has {found} bytes where {size} are due")
            view = memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b"")
            digest = hashlib.sha256()
            for start in range(0, 0 if touch else size, _CHUNK_BYTES):
                digest.update(os.pread(fd, _CHUNK_BYTES, start))
        finally:
            os.close(fd)
    if touch:
        digest.update(view)
    if digest.hexdigest() != sha256:
        raise IntegrityError(f"{os.fspath(path)} does not have the digest {sha256[:12]}...")
    return view


def gathered(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same bytes in pieces of 4 MB: ext4 keeps in huge pages what is written so.

    Of a million rows of 512 dims, 100 anywhere are then scored in 54 us, not 64.
    """
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(bytes(chunk))
        size += len(waiting[-1])
        if size >= _GATHERED_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def write_file(path: str | os.PathLike[str], chunks: Iterable[bytes | memoryview]) -> FileDigest:
    """Write a new file from chunks and fsync it; its name is durable only after fsync_dir."""
    digest = hashlib.sha256()
    size = 0
    with translated("write", path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            for chunk in chunks:
                digest.update(chunk)
                view = memoryview(chunk).cast("B")
                size += len(view)
                while len(view):  # a short write is no error: the next one tells why
                    view = view[_write(fd, view) :]
            _fsync(fd)
        finally:
            os.close(fd)
    return FileDigest(size, digest.hexdigest())


def copy_exact(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    digest: FileDigest,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Copy a file in bounded memory and fsync it; IntegrityError unless its digest is `digest`.

    `check` is called before each part and ends it by what it raises.
    """
    with translated("read", source), os.fdopen(_open_regular(source), "rb") as file:

        def part() -> bytes:
            check()
            return file.read(_CHUNK_BYTES)

        found = write_file(target, iter(part, b""))
    if found != digest:
        raise _changed(source, digest.sha256)


def tree_bytes(path: str | os.PathLike[str]) -> int:
    """What the files under a directory hold; one that vanishes meanwhile counts nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def fsync_path(path: str | os.PathLike[str]) -> None:
    """fsync a file that a library wrote by its path."""
    with translated("fsync", path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _fsync(fd)
        finally:
            os.close(fd)


def fsync_dir(path: str | os.PathLike[str]) -> None:
    """Make the names in a directory durable."""
    fsync_path(path)


def make_dir(path: str | os.PathLike[str], *, parents: bool = False) -> None:
    """A new, durable directory; with `parents`, whatever is missing above it and maybe itself."""
    target = Path(path)
    if parents:
        if target.is_dir():
            return
        make_dir(target.absolute().parent, parents=True)
    with translated("make", target):
        _mkdir(target, 0o755)
    fsync_dir(target.parent)


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename within one directory and make it durable; both names must share a parent."""
    with translated("rename", source):
        _replace(source, target)
    fsync_dir(Path(target).parent)


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove a directory if it can be: what stays is garbage, never a fault."""
    import shutil  # 3 ms of every start; trees are removed seldom

    shutil.rmtree(path, ignore_errors=True)


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file: after a crash it holds the old bytes or the new ones, never a mixture."""
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        write_file(draft, [data])
        rename(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


class FileLock:
    """One owner at a time, kept by the operating system: it ends with the process, even killed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        return self._fd is not None

    def acquire(self, timeout_s: float = 0.5) -> None:
        """Take the lock or raise LockedError once `timeout_s` has passed."""
        if self._fd is not None:
            return
        deadline = time.monotonic() + timeout_s
        with translated("lock", self._path):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                while True:
                    try:
                        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if time.monotonic() >= deadline:
                            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                            raise LockedError(
                                f"{self._path.parent} is being written by process "
                                f"{owner or 'unknown'}; wait for it, or open with read_only=True"
                            ) from None
                        time.sleep(0.02)
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
            except BaseException:
                os.close(fd)
                raise
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # a forked child may hold the descriptor too
            os.close(self._fd)
            self._fd = None
