"""The routes: read a request within its limits, do its work in a lane, send JSON.

In:  requests.
Out: responses.
Knows nothing about how answers are found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from clap_engine.serve import leaving, playback
from clap_engine.serve.admission import Lane
from clap_engine.serve.bodies import Bodies
from clap_engine.serve.checking import check
from clap_engine.serve.metrics import CONTENT_TYPE, Metrics
from clap_engine.serve.replies import RequestError, failure, reply, to_json
from clap_engine.serve.service import Service
from clap_engine.serve.settings import Settings

Handler = Callable[[Request], Awaitable[Response]]
PAGE = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "map.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Routes:
    """All routes over one service."""

    def __init__(
        self, service: Service, settings: Settings, metrics: Metrics, api: dict[str, Any]
    ) -> None:
        self._service = service
        self._settings = settings
        self._metrics = metrics
        self._api = to_json(api)
        self._schemas: Mapping[str, Any] = api["components"]["schemas"]
        self._bodies = Bodies(settings)
        self.text = Lane("text", settings.text_threads, settings.text_patience)
        self.audio = Lane("audio", settings.audio_threads, settings.audio_patience)
        folder = resources.files("clap_engine.serve") / "page"
        self._page = {name: (folder / name).read_bytes() for name in PAGE}

    def check_room(self) -> dict[str, Callable[[], None]]:
        """By path, what refuses a request before its body is read; most of these are in words."""
        return dict.fromkeys(("/v1/search", "/v1/embeddings"), self.text.check_room)

    def all(self) -> list[BaseRoute]:
        """Each path with its handler."""
        posts = {
            "/v1/embeddings": self.embeddings,
            "/v1/audio/embeddings": self.audio_embeddings,
            "/v1/search": self.search,
            "/v1/classify": self.classify,
        }
        gets = {
            "/v1/models": self.models,
            "/v1/collection": self.about,
            "/v1/map": self.clip_map,
            "/v1/clips/{key:path}/audio": self.clip_audio,
            "/health": self.health,
            "/ready": self.ready,
            "/metrics": self.metrics,
            "/openapi.json": self.openapi,
            "/": self.page,
            "/page/{name}": self.page,
        }
        return [
            *(Route(path, _told(handler), methods=["POST"]) for path, handler in posts.items()),
            *(Route(path, _told(handler), methods=["GET"]) for path, handler in gets.items()),
        ]

    async def embeddings(self, request: Request) -> Response:
        """Texts, or sounds as data URIs."""
        async with self._bodies.json(request, self._schemas["EmbeddingsRequest"]) as body:
            if body.get("modality") == "audio":
                return await self._answer(request, self.audio, self._service.embed_uris, body)
            return await self._answer(request, self.text, self._service.embed_texts, body)

    async def audio_embeddings(self, request: Request) -> Response:
        """The files of a form."""
        async with self._bodies.form(request) as form:
            options = _options(form.fields, self._schemas["AudioForm"])
            if not form.files:
                raise RequestError("the form has no file; send one called file", param="file")
            work = self._service.embed_files
            return await self._answer(request, self.audio, work, form.files, options)

    async def search(self, request: Request) -> Response:
        """Words, a sound, a stored clip, and what they shall not be."""
        async with self._bodies.json(request, self._schemas["SearchRequest"]) as body:
            lane = self.audio if "audio" in body else self.text
            return await self._answer(request, lane, self._service.search, body)

    async def classify(self, request: Request) -> Response:
        """Labels for a sound."""
        async with self._bodies.json(request, self._schemas["ClassifyRequest"]) as body:
            return await self._answer(request, self.audio, self._service.classify, body)

    async def models(self, request: Request) -> Response:
        """The one model."""
        return reply({"object": "list", "data": self._service.models()})

    async def about(self, request: Request) -> Response:
        """The collection."""
        return await self.text.run(_sent, self._service.about)

    async def clip_map(self, request: Request) -> Response:
        """A sample of the clips on a plane."""
        return await self.audio.run(_sent, self._service.map)

    async def clip_audio(self, request: Request) -> Response:
        """The sound of a clip."""
        root = self._settings.sounds_root
        if root is None:
            raise RequestError(
                "this server plays no sounds; it was started without --sounds",
                status=404, code="no_sound",
            )  # fmt: skip
        clip = await self.text.run(self._service.clip, request.path_params["key"])
        return playback.response(root, clip.path, request.headers.get("range"))

    async def health(self, request: Request) -> Response:
        """The process lives."""
        return reply({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """The collection can be read; the graphs were loaded before the first request."""
        await self.text.run(self._service.count_clips)
        return reply({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """The page that says all this."""
        return Response(self._api, media_type="application/json")

    async def page(self, request: Request) -> Response:
        """The one page, and its files."""
        name = request.path_params.get("name", "index.html")
        if name not in PAGE:
            raise RequestError("there is no such file", status=404, code="not_found")
        return Response(self._page[name], media_type=PAGE[name])

    async def _answer(
        self, request: Request, lane: Lane, work: Callable[..., Any], *given: Any
    ) -> Response:
        """`work(..., until=deadline)` as JSON, for as long as the client is there."""
        with leaving.watched(request.scope) as until:
            return await lane.run(_sent, partial(work, until=until), *given, until=until)


def _sent(work: Callable[..., Any], *arguments: Any) -> Response:
    """The answer as JSON, made in the thread that found it."""
    return reply(work(*arguments))


def _told(handler: Handler) -> Handler:
    """The handler, whose errors become responses: the one place where all of them end."""

    @wraps(handler)
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - what is unknown is logged, and told as 500
            return failure(error)

    return handle


def _options(fields: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form as the values that its schema describes."""
    options: dict[str, Any] = dict(fields)
    properties = {k: v for k, v in schema["properties"].items() if k != "file"}
    for name, text in fields.items():
        kind = properties.get(name, {}).get("type")
        if kind == "integer" and text.isascii() and text.isdigit() and len(text) < 10:
            options[name] = int(text)
        elif kind == "boolean" and text in ("true", "false"):
            options[name] = text == "true"
    check(options, {**schema, "properties": properties, "required": []})
    return options
