"""Request bodies: read within bytes and seconds, then parsed; whatever they claim, counted.

In:  a request whose body has not been read.
Out: JSON values that fit their schema; the parts of a form; the bytes of a data URI.
Knows nothing about models or what the values mean.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import anyio
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from clap_engine.serve.admission import Budget
from clap_engine.serve.checking import check
from clap_engine.serve.replies import RequestError
from clap_engine.serve.settings import Settings

# Larger bodies are parsed in a thread: the event loop serves others meanwhile.
_LARGE_BYTES = 1 << 16
_MAX_FIELDS = 16
_DISCARD_S = 1.0
_DISCARD_BODIES = 4
_CLOSE = {"connection": "close"}
_DATA_URI = re.compile(r"data:[\w.+/-]{0,100}(?:;[\w.+-]{1,50}=[\w.+-]{1,50})*;base64,")


@dataclass(frozen=True)
class Form:
    """The parts of a form: texts by name, and the bytes of its files in order."""

    fields: dict[str, str]
    files: tuple[bytes, ...]


class Bodies:
    """Reads bodies of one server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.budget = Budget(settings.max_buffered_bytes)

    @asynccontextmanager
    async def json(self, request: Request, schema: Mapping[str, Any]) -> AsyncIterator[Any]:
        """The value of a JSON body; its bytes count until the block ends."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(
                f"the content type is {kind!r:.60}; application/json is wanted",
                status=415, code="unsupported_media_type", headers=_CLOSE,
            )  # fmt: skip
        async with self._read(request) as data:
            if len(data) > _LARGE_BYTES:
                value = await asyncio.to_thread(_parsed, data, schema)
            else:
                value = _parsed(data, schema)
            yield value

    @asynccontextmanager
    async def form(self, request: Request) -> AsyncIterator[Form]:
        """The parts of a multipart body; its bytes count until the block ends."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            raise RequestError(
                f"the content type is {kind!r:.60}; multipart/form-data is wanted",
                status=415, code="unsupported_media_type", headers=_CLOSE,
            )  # fmt: skip
        async with self._read(request) as data:
            yield await self._parts(request, data)

    @asynccontextmanager
    async def _read(self, request: Request) -> AsyncIterator[bytes]:
        settings, size = self._settings, 0
        chunks: list[bytes] = []
        claimed = request.headers.get("content-length", "0")
        if not claimed.isascii() or not claimed.isdigit():
            self._refuse_length(f"content-length is {claimed!r:.40}", 400)
        if int(claimed[:20]) > settings.max_body_bytes:
            await _discard(request, _DISCARD_BODIES * settings.max_body_bytes)
            self._refuse_length(f"the body has {claimed[:20]} bytes")
        with self.budget.held() as take:
            try:
                with anyio.fail_after(settings.body_timeout_s):
                    async for chunk in request.stream():
                        size += len(chunk)
                        if size > settings.max_body_bytes:
                            chunks.clear()
                            await _discard(request, _DISCARD_BODIES * settings.max_body_bytes)
                            self._refuse_length(f"the body has more than {size - 1} bytes")
                        take(len(chunk))
                        chunks.append(chunk)
            except TimeoutError:
                raise RequestError(
                    f"the body was not there after {settings.body_timeout_s:g} s (body_timeout_s)",
                    status=408, code="body_timeout", headers=_CLOSE,
                ) from None  # fmt: skip
            except ClientDisconnect:
                raise RequestError("the client left before its body was there") from None
            yield chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _refuse_length(self, found: str, status: int = 413) -> NoReturn:
        most = self._settings.max_body_bytes
        code = "body_too_large" if status == 413 else "invalid_request"
        raise RequestError(
            f"{found}; {most} are allowed (max_body_bytes)",
            status=status, code=code, headers=_CLOSE,
        )  # fmt: skip

    async def _parts(self, request: Request, data: bytes) -> Form:
        async def stream() -> AsyncGenerator[bytes, None]:
            for start in range(0, len(data), _LARGE_BYTES):
                yield data[start : start + _LARGE_BYTES]
                await asyncio.sleep(0)  # others are served between the parts of a storm

        parser = MultiPartParser(
            request.headers, stream(),
            max_files=self._settings.max_files, max_fields=_MAX_FIELDS, max_part_size=_LARGE_BYTES,
        )  # fmt: skip
        try:
            form = await parser.parse()
        except (MultiPartException, ValueError, KeyError) as error:
            said = error.message if isinstance(error, MultiPartException) else "it is malformed"
            raise RequestError(
                f"the form can't be read: {said}; at most {self._settings.max_files} files and "
                f"{_MAX_FIELDS} fields are allowed",
                code="invalid_form",
            ) from error
        try:
            fields: dict[str, str] = {}
            files = []
            for name, part in form.multi_items():
                if isinstance(part, UploadFile):
                    if name != "file":
                        raise RequestError(
                            f"a file is called {name!r:.60}; call it file", param=f"{name:.60}"
                        )
                    files.append(await part.read())
                elif name in fields:
                    raise RequestError(f"{name!r:.60} is given twice", param=f"{name:.60}")
                else:
                    fields[name] = part
            return Form(fields, tuple(files))
        finally:
            await form.close()


async def _discard(request: Request, most: int) -> None:
    """Read on for a moment: a client that is still sending would not see why it is refused."""
    left = most
    with anyio.move_on_after(_DISCARD_S), contextlib.suppress(ClientDisconnect):
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                break


def _parsed(data: bytes, schema: Mapping[str, Any]) -> Any:
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RequestError(f"the body is no JSON: {said}", code="invalid_json") from error
    check(value, schema)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def data_of(uri: str, param: str) -> bytes:
    """The bytes of a base64 data URI; no other URI is ever followed."""
    head = _DATA_URI.match(uri[:400])
    if head is None:
        raise RequestError(
            f"{param} starts with {uri[:20]!r}; a data URI such as data:audio/wav;base64,... is "
            "wanted: no address is ever fetched",
            code="invalid_data_uri", param=param,
        )  # fmt: skip
    try:
        data = base64.b64decode(uri[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            f"{param} is no base64: {error}", code="invalid_data_uri", param=param
        ) from error
    if not data:
        raise RequestError(f"{param} holds no bytes", code="invalid_data_uri", param=param)
    return data
