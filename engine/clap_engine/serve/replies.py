"""What goes wrong, as HTTP says it: {"error": {type, code, message, param}}, and nothing more.

In:  an exception, ours or any other.
Out: a status, headers and the JSON of a `Fault`.
Knows nothing about routes.

Messages of errors that blame the request are passed on: they name what was found and what is
allowed. All others could name paths or code: they are logged, and the client is told a number
to ask for.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from clap_engine.errors import (
    ArrayError,
    AudioError,
    ClapError,
    ClosedError,
    CollectionError,
    DeadlineError,
    DimError,
    FilterError,
    LockedError,
    NotFoundError,
    OverloadedError,
    SpaceMismatchError,
    TaskError,
    TextError,
)

log = logging.getLogger("clap_engine")

RETRY_AFTER_S = 1


class RequestError(ClapError, ValueError):
    """A request is malformed or asks for something that is not allowed."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "invalid_request",
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.headers = headers or {}


@dataclass(frozen=True)
class Fault:
    """One error, ready to be sent."""

    status: int
    type: str
    code: str
    message: str
    param: str | None
    headers: dict[str, str]

    def body(self) -> bytes:
        """The JSON that tells of it."""
        error = {
            "type": self.type, "code": self.code, "message": self.message, "param": self.param,
        }  # fmt: skip
        return to_json({"error": error})


# The first that fits decides. Those that blame the server say no more than their name.
_BLAMED: tuple[tuple[type[ClapError], str, str | None], ...] = (
    (AudioError, "invalid_audio", None),
    (TextError, "invalid_text", None),
    (DimError, "invalid_dimensions", "dimensions"),
    (FilterError, "invalid_filter", "filters"),
    (ArrayError, "invalid_query", None),
    (TaskError, "invalid_labels", "labels"),
    (CollectionError, "invalid_request", None),
)
_OURS = (NotFoundError, LockedError, SpaceMismatchError)


def fault_of(error: BaseException) -> Fault:
    """What a client is told of this exception."""
    if isinstance(error, RequestError):
        kind = _type_of(error.status)
        return Fault(error.status, kind, error.code, str(error), error.param, error.headers)
    if isinstance(error, OverloadedError):
        later = {"retry-after": str(RETRY_AFTER_S)}
        message = "as many requests are under way as this server takes; try again"
        return Fault(503, "overloaded_error", "overloaded", message, None, later)
    if isinstance(error, DeadlineError):
        message = "the request took longer than it may (request_timeout_s); ask for less"
        return Fault(504, "timeout_error", "deadline", message, None, {})
    if isinstance(error, ClosedError):
        return Fault(503, "overloaded_error", "closing", "the server is closing", None, {})
    if not isinstance(error, _OURS):
        for kind_of, code, param in _BLAMED:
            if isinstance(error, kind_of):
                return Fault(400, _type_of(400), code, str(error), param, {})
    number = secrets.token_hex(4)
    log.error("request %s failed: %s: %s", number, type(error).__name__, error, exc_info=error)
    message = f"the server failed; its log says more under {number}"
    return Fault(500, "server_error", "internal_error", message, None, {})


def _type_of(status: int) -> str:
    known = {
        401: "authentication_error",
        404: "not_found_error",
        408: "timeout_error",
        503: "overloaded_error",
    }
    return known.get(status, "invalid_request_error")


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON values as a response."""
    return Response(to_json(value), status, headers, "application/json")


def failure(error: BaseException) -> Response:
    """The response to what went wrong."""
    fault = fault_of(error)
    return Response(fault.body(), fault.status, fault.headers, "application/json")


def to_json(value: Any) -> bytes:
    """Compact JSON; a number that is not finite is a mistake of ours, never sent."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
