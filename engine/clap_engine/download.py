"""A file from elsewhere: over HTTP, by a file URL or a path, in bounded steps.

In:  a place; the most bytes to take; how long to wait for the next of them.
Out: chunks of bytes; DownloadError says what went wrong.
Knows nothing about what is in the file, or whether it is right: the digest says that.
"""

from __future__ import annotations

import http.client
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import IO, Any

from clap_engine import storage
from clap_engine.errors import DownloadError

# The largest archive of a bundle known so far has 1 GB.
MAX_BYTES = 8 * 2**30
# Without a byte for so long it is given up; in all it may take TOTAL_S.
TIMEOUT_S = 30.0
TOTAL_S = 4 * 3600.0
_CHUNK_BYTES = 1 << 20
_MAX_REDIRECTS = 5

Progress = Callable[[int, int], None]


def chunks(
    place: str,
    *,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = TIMEOUT_S,
    progress: Progress = lambda done, total: None,
) -> Iterator[bytes]:
    """The bytes of a URL (http, https, file) or of a path.

    `progress(done, total)` counts bytes; the total is 0 where nobody says. DownloadError for what
    is longer than `max_bytes`, shorter than announced, slow, or not there.
    """
    try:
        scheme, found = urllib.parse.urlsplit(place).scheme.lower(), 0
    except ValueError as error:
        raise _failed(place, error) from error
    if scheme in ("http", "https"):
        opened, total = _opened(place, timeout_s)
    elif scheme in ("", "file") or len(scheme) == 1:  # a letter is a drive of Windows
        opened, total = _local(place if scheme != "file" else _path_of(place))
    else:
        raise DownloadError(f"{place:.200} is of scheme {scheme}; give http, https, file or a path")
    until_s = time.monotonic() + TOTAL_S
    with closing(opened):
        if total > max_bytes:
            raise DownloadError(f"{place:.200} has {total} bytes; {max_bytes} are allowed")
        while data := _read(opened, place):
            found += len(data)
            if found > max_bytes:
                raise DownloadError(f"{place:.200} has more than the {max_bytes} bytes allowed")
            if time.monotonic() > until_s:
                raise DownloadError(f"{place:.200} took longer than {TOTAL_S:.0f} s; try again")
            progress(found, total)
            yield data
    if total and found != total:
        raise DownloadError(f"{place:.200} ended after {found} of {total} bytes; try again")


def _opened(place: str, timeout_s: float) -> tuple[IO[bytes], int]:
    """The answer of a server, and how long it says that it is; 0: it doesn't say."""
    # Not urlopen's own: that one would also open file: and ftp: where a server redirects to them.
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), _Redirects(),
    ):  # fmt: skip
        director.add_handler(handler)
    request = urllib.request.Request(place, headers={"Accept-Encoding": "identity"})
    try:
        answer = director.open(request, timeout=timeout_s)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failed(place, error) from error
    if answer is None:
        raise DownloadError(f"{place:.200} can't be asked for; give http, https, file or a path")
    length = answer.headers.get("Content-Length", "")
    return answer, int(length) if length.isascii() and length.isdigit() else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To http and https alone, and never from the second to the first."""

    max_redirections = _MAX_REDIRECTS

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            raise urllib.error.URLError(f"it redirects to {newurl:.200}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _local(path: str) -> tuple[IO[bytes], int]:
    with storage.opened(path) as (fd, size):
        return os.fdopen(os.dup(fd), "rb", buffering=0), size


def _path_of(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise DownloadError(f"{url:.200} names the host {parts.netloc:.80}; give file:///path")
    return urllib.request.url2pathname(parts.path)


def _read(opened: IO[bytes], place: str) -> bytes:
    try:
        return opened.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _failed(place, error) from error


def _failed(place: str, error: Exception) -> DownloadError:
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    if isinstance(error, urllib.error.HTTPError):
        reason = f"{error.code} {error.reason}"
        error.close()
    return DownloadError(f"{place:.200} can't be read: {reason}")
