"""The gate before all routes: whose requests are served, and what every response says.

In:  an ASGI application, settings, metrics.
Out: the application behind keys, a check of the host's name, security headers and a stopwatch.
Knows nothing about what the routes do.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clap_engine.errors import OverloadedError
from clap_engine.serve.metrics import Metrics
from clap_engine.serve.replies import RequestError, failure
from clap_engine.serve.settings import LOOPBACK, Settings

OPEN = ("/", "/health", "/ready", "/openapi.json")
PAGE = "/page/"
SECURITY = {
    "content-security-policy": "default-src 'self'; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_SECURITY = tuple((name.encode(), value.encode()) for name, value in SECURITY.items())


class Gate:
    """ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        metrics: Metrics,
        check_room: Mapping[str, Callable[[], None]],
    ) -> None:
        """`check_room` of a path raises OverloadedError where nothing needs to be read at all."""
        self._app = app
        self._check_room = check_room
        self._metrics = metrics
        self._keys = tuple(key.encode() for key in settings.api_keys)
        # A page of another site can make its name point here (DNS rebinding) and so read what a
        # server without keys tells; a browser still sends that name.
        self._needs_own_name = settings.is_loopback and not self._keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = message.get("headers", [])
                names = {name for name, _ in given}
                message["headers"] = [*given, *(one for one in _SECURITY if one[0] not in names)]
            await send(message)

        try:
            self._check(scope)
        except (RequestError, OverloadedError) as refusal:
            await failure(refusal)(scope, receive, sent)
        else:
            await self._app(scope, receive, sent)
        finally:
            route = getattr(scope.get("endpoint"), "__name__", "none")
            self._metrics.observe(route, status, time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._needs_own_name:
            name = headers.get("host", "").lower().rpartition(":")[0] or headers.get("host", "")
            if name.strip("[]").lower() not in LOOPBACK:
                raise RequestError(
                    f"the host is {name!r:.80}; this server answers to {', '.join(LOOPBACK)} "
                    "unless it has an API key",
                    status=421, code="unknown_host", headers={"connection": "close"},
                )  # fmt: skip
        path = scope["path"]
        if self._keys and path not in OPEN and not path.startswith(PAGE):
            self._check_key(headers)
        if path in self._check_room:
            self._check_room[path]()

    def _check_key(self, headers: Headers) -> None:
        kind, _, given = headers.get("authorization", "").partition(" ")
        # Every key is compared, in constant time: how long it takes says nothing.
        matches = [hmac.compare_digest(given.strip().encode(), key) for key in self._keys]
        if kind.lower() != "bearer" or not any(matches):
            raise RequestError(
                "an API key is needed: Authorization: Bearer KEY",
                status=401, code="invalid_api_key", headers={"www-authenticate": "Bearer"},
            )  # fmt: skip
