"""The ASGI application: gate, routes and the service behind them.

In:  an engine, an open collection, settings.
Out: an application for any ASGI server; what it started ends with its lifespan.
Knows nothing about sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from clap_engine import __version__
from clap_engine.collection import Collection
from clap_engine.engine import Engine
from clap_engine.serve import openapi, schemas
from clap_engine.serve.access import Gate
from clap_engine.serve.metrics import Metrics, Tally
from clap_engine.serve.replies import RequestError, failure
from clap_engine.serve.routes import Routes
from clap_engine.serve.service import Service
from clap_engine.serve.settings import Settings


def app_of(
    engine: Engine,
    sounds: Collection,
    settings: Settings,
    tally: Tally | None = None,
    place: int = 0,
) -> Starlette:
    """The application; engine and collection stay the caller's, to close after it.

    Where several processes serve, they share `tally`, each counting in its `place`.
    """
    shapes = {**schemas.requests_of(engine, settings), **schemas.responses()}
    api = openapi.page(shapes, __version__, needs_key=bool(settings.api_keys))
    service = Service(engine, sounds, settings)
    metrics = Metrics(
        {
            "clap_text_in_flight": (
                "Requests in words under way.", lambda: float(routes.text.in_flight),
            ),
            "clap_audio_in_flight": (
                "Requests with sounds under way.", lambda: float(routes.audio.in_flight),
            ),
            "clap_decoders_replaced_total": (
                "Decoding processes that hung or died.", lambda: float(service.decoders.replaced),
            ),
            "clap_collection_clips": (
                "Clips in the collection.", lambda: float(service.count_clips()),
            ),
        },
        tally,
        place,
    )  # fmt: skip
    routes = Routes(service, settings, metrics, api)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(service.warm)
        try:
            yield
        finally:
            await asyncio.to_thread(routes.text.close)
            await asyncio.to_thread(routes.audio.close)
            service.close()

    return Starlette(
        routes=routes.all(),
        middleware=[
            Middleware(Gate, settings=settings, metrics=metrics, check_room=routes.check_room())
        ],
        exception_handlers={HTTPException: _http_failure},
        lifespan=lifespan,
    )


async def _http_failure(_: Request, error: Exception) -> Response:
    """What the router refuses: no such route, or not by this method."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "invalid_request")
    headers = dict(error.headers or {})
    return failure(
        RequestError(
            error.detail.lower(), status=error.status_code, code=code, headers=headers
        )
    )  # fmt: skip
