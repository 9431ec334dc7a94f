"""The shapes of requests and responses: what the OpenAPI page shows, and bodies are checked by.

In:  the settings and the model that is served.
Out: JSON Schemas by name.
Knows nothing about routes or values.
"""

from __future__ import annotations

from typing import Any

from clap_engine.engine import Engine
from clap_engine.serve.settings import Settings

MAX_KEY_CHARS = 4096


def requests_of(engine: Engine, settings: Settings) -> dict[str, dict[str, Any]]:
    """The bodies that are taken."""
    chars = engine.limits.max_text_chars
    text = {"type": "string", "minLength": 1, "maxLength": chars}
    uri = {
        "type": "string",
        "minLength": 1,
        "maxLength": settings.max_body_bytes,
        "description": "data:audio/wav;base64,... of any format that is read; no address is "
        "ever fetched",
    }
    uri_or_text = {"type": "string", "minLength": 1, "maxLength": settings.max_body_bytes}
    model = {"type": "string", "minLength": 1, "description": "what /v1/models names"}
    dimensions = {
        "type": "integer", "minimum": 1, "maximum": engine.dim,
        "description": f"a rung of the ladder: {', '.join(map(str, engine.ladder))}",
    }  # fmt: skip
    encoding = {"type": "string", "enum": ["float", "base64"], "default": "float"}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "EmbeddingsRequest": {
            "type": "object", "additionalProperties": False, "required": ["input"],
            "properties": {
                "input": {
                    "anyOf": [
                        uri_or_text,
                        {
                            "type": "array", "minItems": 1, "maxItems": settings.max_inputs,
                            "items": uri_or_text,
                        },
                    ],
                },
                "model": model,
                "modality": {"type": "string", "enum": ["text", "audio"], "default": "text"},
                "dimensions": dimensions,
                "encoding_format": encoding,
                "user": {"type": "string", "description": "not used"},
            },
        },
        "AudioForm": {
            "type": "object", "additionalProperties": False, "required": ["file"],
            "properties": {
                "file": {
                    "type": "array", "minItems": 1, "maxItems": settings.max_files,
                    "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                },
                "model": model,
                "dimensions": dimensions,
                "encoding_format": encoding,
                "windows": {"type": "boolean", "description": "each window's row and span, too"},
            },
        },
        "SearchRequest": {
            "type": "object", "additionalProperties": False,
            "properties": {
                "text": text,
                "audio": uri,
                "near": {
                    "type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS,
                    "description": "the key of a stored clip",
                },
                "negatives": {"type": "array", "maxItems": 16, "items": text},
                "filters": {
                    "type": "object",
                    "description": 'conditions on metadata, such as {"year": {">=": 1970}}',
                },
                "k": {
                    "type": "integer", "minimum": 1, "maximum": settings.max_hits, "default": 10
                },
                "min_score": {"type": "number", "minimum": -2, "maximum": 2},
                "min_calibrated": share,
                "collapse": share,
                "diversity": share,
                "explain": {"type": "boolean", "default": False},
                "map": {"type": "boolean", "default": False},
            },
        },
        "ClassifyRequest": {
            "type": "object", "additionalProperties": False, "required": ["audio", "labels"],
            "properties": {
                "audio": uri,
                "labels": {
                    "type": "array", "minItems": 1, "maxItems": settings.max_labels, "items": text,
                },
                "multi_label": {"type": "boolean", "default": False},
                "top_k": {"type": "integer", "minimum": 1, "maximum": settings.max_labels},
            },
        },
    }  # fmt: skip


def responses() -> dict[str, dict[str, Any]]:
    """The bodies that are sent."""
    number, text = {"type": "number"}, {"type": "string"}
    vector = {"anyOf": [{"type": "array", "items": number}, text]}
    window = _object({"start_s": number, "end_s": number, "embedding": vector})
    embedding = _object(
        {
            "object": {"const": "embedding"}, "index": {"type": "integer"}, "embedding": vector,
            "duration_s": number, "windows": {"type": "array", "items": window},
        },
        required=("object", "index", "embedding"),
    )  # fmt: skip
    hit = _object(
        {
            "key": text, "score": number, "calibrated": _nullable("number"), "start_s": number,
            "end_s": number, "metadata": {"type": "object"},
            "duplicates": {"type": "array", "items": text}, "audio": _nullable("string"),
            "map": _nullable("array"),
        },
        required=("key", "score", "start_s", "end_s", "metadata"),
    )  # fmt: skip
    return {
        "Error": _object(
            {
                "error": _object(
                    {
                        "type": text, "code": text, "message": text,
                        "param": _nullable("string"),
                    }
                )
            }
        ),
        "EmbeddingsResponse": _object(
            {
                "object": {"const": "list"}, "data": {"type": "array", "items": embedding},
                "model": text,
                "usage": _object(
                    {"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}}
                ),
            }
        ),
        "SearchResponse": _object(
            {
                "hits": {"type": "array", "items": hit},
                "timings_ms": {"type": "object", "additionalProperties": number},
                "plan": {"type": "object"}, "generation": {"type": "integer"},
                "space_id": text, "explain": _nullable("object"),
            }
        ),
        "ClassifyResponse": _object(
            {
                "model": text,
                "labels": {
                    "type": "array", "items": _object({"label": text, "score": number})
                },
            }
        ),
        "MapResponse": _object(
            {
                "clips": {"type": "integer"}, "share": number,
                "points": {
                    "type": "array", "items": _object({"key": text, "x": number, "y": number})
                },
            }
        ),
        "Models": _object(
            {"object": {"const": "list"}, "data": {"type": "array", "items": {"type": "object"}}}
        ),
        "Status": _object({"status": text}),
        "Collection": {"type": "object"},
    }  # fmt: skip


def _object(properties: dict[str, Any], required: tuple[str, ...] | None = None) -> dict[str, Any]:
    names = list(properties if required is None else required)
    return {"type": "object", "required": names, "properties": properties}


def _nullable(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}
