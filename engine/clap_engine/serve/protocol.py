"""HTTP/1.1 connections that don't wait for ever: bounds that uvicorn leaves open.

In:  settings.
Out: uvicorn's protocol class with a deadline and a bound for heads, a bound on connections, errors
     as JSON; who leaves ends the work that was asked for.
Knows nothing about routes.
"""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

from clap_engine.errors import OverloadedError
from clap_engine.serve import leaving
from clap_engine.serve.replies import Fault, RequestError, fault_of
from clap_engine.serve.settings import Settings

MAX_HEAD_BYTES = 1 << 14
_REASONS = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}


def is_fast(settings: Settings) -> bool:
    """Whether requests are read by httptools, a parser in C."""
    return settings.is_native and importlib.util.find_spec("httptools") is not None


def protocol_of(settings: Settings) -> type[asyncio.Protocol]:
    """The class that serves each connection."""
    base: Any
    if is_fast(settings):
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as base
    else:
        from uvicorn.protocols.http.h11_impl import H11Protocol as base

    class Patient(base):  # type: ignore[misc]
        """Closes connections whose head of a request takes too long, or is too long."""

        app: Any
        _timer: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            app = self.app
            self._ends = leaving.Ends()

            def entered(scope: Any, receive: Any, send: Any) -> Any:
                scope[leaving.KEY] = self._ends
                return app(scope, receive, send)

            self.app = entered

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                self._end(fault_of(OverloadedError("too many connections")))
                return
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self._head_bytes = 0
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
                if not self.cycle.more_body and not getattr(self, "pipeline", True):
                    # Reading stopped while a large body was taken; who leaves is seen by reading.
                    self.flow.resume_reading()
                return
            if self.cycle is before:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self.send_400_response("too long")
                    return
            if self._timer is None:
                self._wait_for_head()

        def on_headers_complete(self) -> None:
            """Of httptools alone, which takes heads of any length."""
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                raise ValueError("the head is too long")  # the parser ends by it, with 400
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)
            for end in [*self._ends]:
                end()

        def send_400_response(self, msg: str) -> None:
            now = self.cycle
            if now is not None and not now.response_complete and not now.more_body:
                now.keep_alive = False  # what follows is nonsense; what came before is answered
                self.transport.pause_reading()
                return
            self._end(fault_of(RequestError("this is no HTTP/1.1 request", code="invalid_http")))

        def _wait_for_head(self) -> None:
            self._stop_waiting()
            self._timer = self.loop.call_later(settings.head_timeout_s, self._give_up)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            message = f"no request came in {settings.head_timeout_s:g} s (head_timeout_s)"
            self._end(fault_of(RequestError(message, status=408, code="head_timeout")))

        def _end(self, fault: Fault) -> None:
            """Say so outside of any request, and close."""
            if not self.transport.is_closing():
                self.transport.write(_response(fault))
                self.transport.close()

    return Patient


def _response(fault: Fault) -> bytes:
    body = fault.body()
    headers = {
        "content-type": "application/json", "content-length": str(len(body)),
        "connection": "close", **fault.headers,
    }  # fmt: skip
    lines = [f"HTTP/1.1 {fault.status} {_REASONS[fault.status]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
