"""The bytes of a stored clip's file, whole or in part, from below one folder and nowhere else.

In:  the folder, the path that the collection holds, a Range header.
Out: a response that streams the file.
Knows nothing about collections or keys.

The path is resolved first and must lie inside the folder; then it is walked from there without
following any link, so that a link that appears meanwhile leads nowhere.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from starlette.responses import Response, StreamingResponse

from clap_engine.serve.replies import RequestError

# Of files that are no sound nothing is given away, whatever the collection says.
TYPES = {
    ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".oga": "audio/ogg",
    ".opus": "audio/ogg", ".mp3": "audio/mpeg", ".aiff": "audio/aiff", ".aif": "audio/aiff",
    ".au": "audio/basic",
}  # fmt: skip
_CHUNK = 1 << 16
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def response(root: Path, stored: str | None, header: str | None) -> Response:
    """The file's bytes, or the part that a Range header asks for; RequestError where none is."""
    descriptor, kind = _open(root, stored)
    facts = os.fstat(descriptor)
    tag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
    headers = {"accept-ranges": "bytes", "etag": tag, "cache-control": "private, max-age=60"}
    part = _part(header, facts.st_size)
    if part is None:
        os.close(descriptor)
        return Response(b"", 416, {**headers, "content-range": f"bytes */{facts.st_size}"}, kind)
    start, end = part
    headers["content-length"] = str(end - start)
    is_whole = header is None or end - start == facts.st_size
    if not is_whole:
        headers["content-range"] = f"bytes {start}-{end - 1}/{facts.st_size}"
    body = _chunks(descriptor, start, end)
    return StreamingResponse(body, 200 if is_whole else 206, headers, kind)


def _open(root: Path, stored: str | None) -> tuple[int, str]:
    """An open regular file of a sound below `root`, and its media type."""
    missing = RequestError("the sound of this clip is not here", status=404, code="no_sound")
    if stored is None or "\0" in stored:
        raise missing
    try:
        base = root.resolve(strict=True)
        path = (base / stored).resolve(strict=True)
        parts = path.relative_to(base).parts
        kind = TYPES[path.suffix.lower()]
        descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        for place, name in enumerate(parts, 1):
            flags = os.O_NONBLOCK if place == len(parts) else os.O_DIRECTORY
            try:
                inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise missing from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise missing
    return descriptor, kind


def _part(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end) of one range; the whole for what is no range; None for one that is outside."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return 0, size
    first, last = match[1], match[2]
    if not first:  # the last so many bytes
        count = min(int(last), size)
        return (size - count, size) if count else None
    start, end = int(first), int(last) + 1 if last else size
    if end <= start:
        return (0, size) if last and int(last) < start else None
    return (start, min(end, size)) if start < size else None


def _chunks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    with open(descriptor, "rb", buffering=0) as file:
        file.seek(start)
        left = end - start
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
