"""Installed bundles: archives in the user's own folder, each there whole or not at all.

In:  the place of an archive and its digest.
Out: the same archive under its name, from where it is loaded without any network.
Knows nothing about graphs; what a bundle must be is bundle.py's.

An installed bundle is the archive itself, not unpacked: one rename makes it visible, and replaces
one that is in use without harm to who has it open. What is not whole has a hidden name that
nothing loads; a lock on it tells a download under way from what a kill left behind.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clap_engine import archive, bundle, data_folder, download, storage
from clap_engine.errors import InstallError, IntegrityError

_DRAFT = ".pull-"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Installed:
    """A bundle that `load(name)` finds; `is_new` is False where it was there already."""

    name: str
    path: str
    sha256: str
    size: int
    is_new: bool


def pull(
    place: str,
    sha256: str,
    *,
    name: str | None = None,
    replace: bool = False,
    models_dir: str | os.PathLike[str] | None = None,
    max_bytes: int = download.MAX_BYTES,
    timeout_s: float = download.TIMEOUT_S,
    progress: download.Progress = lambda done, total: None,
) -> Installed:
    """Install the archive at a URL or path under the bundle's id, or `name`.

    Its digest must be `sha256`, it must be an archive as `pack` makes them, and each file in it
    what its manifest says: until all of that is known nothing gets a name. InstallError where the
    name is another bundle's, unless `replace`; DownloadError, IntegrityError, StorageError (a full
    disk) leave nothing behind. `models_dir` is where to, instead of the user's own folder.
    """
    wanted = sha256.lower()
    if not _SHA256.fullmatch(wanted):
        raise InstallError(f"{sha256!r:.80} is no sha256; give the 64 hex digits of the archive")
    _check_name(name)
    root = data_folder.models() if models_dir is None else Path(models_dir)
    if (there := _there(root, name, wanted)) is not None:
        return there
    storage.make_dir(root, parents=True)
    _clear(root)
    with _drafted(root) as draft:
        # One that is too long, slow or cut off ends here.
        found = storage.write_file(
            draft,
            download.chunks(place, max_bytes=max_bytes, timeout_s=timeout_s, progress=progress),
        )
        if found.sha256 != wanted:
            raise IntegrityError(
                f"{place:.200} has the digest {found.sha256}, and {wanted} was asked for; nothing "
                "was installed"
            )
        opened = bundle.open(draft)
        opened.verify()
        called = name or opened.manifest.id
        target = root / f"{called}{archive.SUFFIX}"
        _check_free(root, called, target, replace)
        draft.chmod(0o644)  # mkstemp hides it from others, an installed bundle is no secret
        storage.rename(draft, target)
    return Installed(called, os.fspath(target), wanted, found.size, True)


def _check_name(name: str | None) -> None:
    if name is not None and (not _NAME.fullmatch(name) or name.endswith(archive.SUFFIX)):
        raise InstallError(
            f"{name!r:.120} is no name for a bundle; give lower-case letters, digits, . _ and -"
        )


def _there(root: Path, name: str | None, sha256: str) -> Installed | None:
    """The archive that is asked for, where it is installed already: then no byte is fetched."""
    if not root.is_dir():
        return None
    for path in root.glob(f"{name or '[!.]*'}{archive.SUFFIX}"):
        with suppress(OSError):
            found = storage.file_digest(path)
            if found.sha256 == sha256:
                called = bundle.name_of(path)
                return Installed(called, os.fspath(path), sha256, found.size, False)
    return None


def _check_free(root: Path, name: str, target: Path, replace: bool) -> None:
    """InstallError where `name` would not load what is about to be installed under it."""
    others = [path for path in bundle.installed() if bundle.name_of(path) == name]
    if any(path.parent != root.absolute() for path in others):
        raise InstallError(
            f"{name} is the name of {others[0]}, which is found first; give another (--name)"
        )
    if (root / name).exists():
        raise InstallError(f"{root / name} is there already; remove it, or give another name")
    if target.exists() and not replace:
        raise InstallError(
            f"{target} is another archive; give another name (--name), or --replace it"
        )


@contextmanager
def _drafted(root: Path) -> Iterator[Path]:
    """A hidden file, locked for as long as the body runs; gone after it, unless it got a name."""
    with storage.translated("write", root):
        fd, name = tempfile.mkstemp(prefix=_DRAFT, suffix=archive.SUFFIX, dir=root)
    draft = Path(name)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield draft
    finally:
        draft.unlink(missing_ok=True)
        os.close(fd)


def _clear(root: Path) -> None:
    """Remove what downloads left that were killed: nobody holds their lock."""
    for draft in root.glob(f"{_DRAFT}*"):
        with suppress(OSError), draft.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
