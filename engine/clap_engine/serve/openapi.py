"""The OpenAPI 3.1 page of the routes.

In:  schemas by name, the version of the package, whether keys are needed.
Out: the page as JSON values.
Knows nothing about what the routes do.
"""

from __future__ import annotations

from typing import Any

ERRORS = {
    "400": "the request is malformed or asks for something that is not allowed",
    "401": "no API key, or an unknown one",
    "404": "no such model, clip or sound",
    "408": "the body came too slowly",
    "413": "the body is too large",
    "415": "another content type is wanted",
    "421": "the Host header names another server",
    "503": "as many requests are under way as the server takes",
    "504": "the request took too long",
}


def page(schemas: dict[str, Any], version: str, *, needs_key: bool) -> dict[str, Any]:
    """All routes, with the schemas of what they take and send."""
    paths = {
        "/v1/embeddings": _post("embeddings", "Embed texts, or sounds as data URIs",
                                "EmbeddingsRequest", "EmbeddingsResponse"),
        "/v1/audio/embeddings": _post("audio_embeddings", "Embed sound files", "AudioForm",
                                      "EmbeddingsResponse", kind="multipart/form-data"),
        "/v1/search": _post("search", "The clips that fit words, sounds or stored clips best",
                            "SearchRequest", "SearchResponse"),
        "/v1/classify": _post("classify", "Which labels fit a sound", "ClassifyRequest",
                              "ClassifyResponse"),
        "/v1/models": _get("models", "The model that is served", "Models"),
        "/v1/collection": _get("about", "What the collection holds", "Collection"),
        "/v1/map": _get("clip_map", "A sample of the clips on a plane", "MapResponse"),
        "/v1/clips/{key}/audio": _sound(),
        "/health": _get("health", "Whether the process lives", "Status", is_open=True),
        "/ready": _get("ready", "Whether it answers requests", "Status", ("503",), is_open=True),
        "/metrics": _get("metrics", "Counts and durations for Prometheus", None),
        "/openapi.json": _get("openapi", "This page", "Collection", is_open=True),
    }  # fmt: skip
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "clap-engine", "version": version,
                 "description": "Search, embed and describe sound by words."},
        "paths": paths,
        "components": {"schemas": schemas},
    }  # fmt: skip
    if needs_key:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


def _post(
    name: str, what: str, body: str, answer: str, *, kind: str = "application/json"
) -> dict[str, Any]:
    content = {kind: {"schema": _ref(body)}}
    return {
        "post": {
            "operationId": name, "summary": what,
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": _json("found", answer), **_refusals(*ERRORS),
            },
        }
    }  # fmt: skip


def _get(
    name: str, what: str, answer: str | None, more: tuple[str, ...] = (), *, is_open: bool = False
) -> dict[str, Any]:
    good = (
        {"description": what, "content": {"text/plain": {"schema": {"type": "string"}}}}
        if answer is None
        else _json(what, answer)
    )
    refusals = _refusals("421", *more, *(() if is_open else ("401", "503")))
    operation = {
        "operationId": name, "summary": what, "responses": {"200": good, **refusals},
    }  # fmt: skip
    return {"get": {**operation, **({"security": []} if is_open else {})}}


def _sound() -> dict[str, Any]:
    sound = {"content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}}}
    key = {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}
    part = {"name": "Range", "in": "header", "required": False, "schema": {"type": "string"}}
    return {
        "get": {
            "operationId": "clip_audio", "summary": "The sound of a clip, or a range of its bytes",
            "parameters": [key, part],
            "responses": {
                "200": {"description": "the whole file", **sound},
                "206": {"description": "the range", **sound},
                "416": {"description": "the range lies outside", **sound},
                **_refusals("401", "404", "421", "503"),
            },
        }
    }  # fmt: skip


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: _json(ERRORS[status], "Error") for status in statuses}


def _json(what: str, schema: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": _ref(schema)}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
