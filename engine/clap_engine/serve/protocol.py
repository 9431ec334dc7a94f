"""HTTP/1.1 connections that don't wait for ever: bounds that uvicorn leaves open.

In:  settings.
Out: uvicorn's protocol class with a deadline for heads, a bound on connections, errors as JSON.
Knows nothing about routes.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from clap_engine.errors import OverloadedError
from clap_engine.serve.replies import Fault, RequestError, fault_of
from clap_engine.serve.settings import Settings

_REASONS = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}


def protocol_of(settings: Settings) -> type[H11Protocol]:
    """The class that serves each connection."""

    class Patient(H11Protocol):
        """Closes connections whose head of a request takes too long."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                self._end(fault_of(OverloadedError("too many connections")))
                return
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
            elif self._timer is None:
                self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
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
