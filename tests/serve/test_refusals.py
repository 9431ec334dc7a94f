"""What is refused, by which status and code, and that no refusal tells of paths or code."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import JSON, Client, data_uri, sound

WAV = data_uri(sound())
BAD = [
    ("/v1/embeddings", {}, 400, "invalid_request", "input"),
    ("/v1/embeddings", {"input": ""}, 400, "invalid_request", "input"),
    ("/v1/embeddings", {"input": []}, 400, "invalid_request", "input"),
    ("/v1/embeddings", {"input": [1, 2, 3]}, 400, "invalid_request", "input[0]"),
    ("/v1/embeddings", {"input": ["a"] * 129}, 400, "invalid_request", "input"),
    ("/v1/embeddings", {"input": "a\ud800"}, 400, "invalid_request", "input"),
    ("/v1/embeddings", {"input": " \n"}, 400, "invalid_text", None),
    ("/v1/embeddings", {"input": "a " * 5001}, 400, "invalid_text", None),
    ("/v1/embeddings", {"input": "a", "model": "gpt-4"}, 404, "model_not_found", "model"),
    ("/v1/embeddings", {"input": "a", "dimensions": True}, 400, "invalid_request", "dimensions"),
    ("/v1/embeddings", {"input": "a", "modality": "video"}, 400, "invalid_request", "modality"),
    ("/v1/embeddings", {"input": "a", "oops": 1}, 400, "invalid_request", "oops"),
    ("/v1/search", {}, 400, "invalid_request", "text"),
    ("/v1/search", {"negatives": ["a"]}, 400, "invalid_request", "text"),
    ("/v1/search", {"text": "a", "k": 0}, 400, "invalid_request", "k"),
    ("/v1/search", {"text": "a", "k": 10**30}, 400, "invalid_request", "k"),
    ("/v1/search", {"text": "a", "k": 1.0}, 400, "invalid_request", "k"),
    ("/v1/search", {"text": "a", "filters": {"x": {"??": 1}}}, 400, "invalid_filter", "filters"),
    ("/v1/search", {"text": "a", "filters": [1]}, 400, "invalid_request", "filters"),
    ("/v1/search", {"text": "a", "negatives": ["a"]}, 400, "invalid_query", None),
    ("/v1/search", {"near": "no such key"}, 400, "invalid_request", None),
    ("/v1/search", {"audio": "http://127.0.0.1/x.wav"}, 400, "invalid_data_uri", "audio"),
    ("/v1/search", {"audio": "file:///etc/passwd"}, 400, "invalid_data_uri", "audio"),
    ("/v1/search", {"audio": "data:audio/wav;base64,%%"}, 400, "invalid_data_uri", "audio"),
    ("/v1/search", {"audio": "data:audio/wav;base64,"}, 400, "invalid_data_uri", "audio"),
    ("/v1/search", {"audio": "data:;base64,AAAA"}, 400, "invalid_audio", None),
    ("/v1/classify", {"audio": WAV, "labels": ["a", "a"]}, 400, "invalid_labels", "labels"),
    ("/v1/classify", {"audio": "data:;base64,A", "labels": []}, 400, "invalid_request", "labels"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "code", "param"), BAD)
def test_a_bad_body_is_refused_by_name(
    client: Client, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    refused = client.post(path, body)
    found = refused.error
    assert (refused.status, found["code"], found["param"]) == (status, code, param)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"text": NaN}', b"[" * 100_000, b"9" * 5000],
)
def test_what_is_no_json_object_is_refused(client: Client, body: bytes) -> None:
    refused = client.send("POST", "/v1/search", body, JSON)
    assert refused.status == 400
    assert refused.error["code"] in ("invalid_json", "invalid_request")


def test_another_content_type_is_refused(client: Client) -> None:
    """A form of another site's page can't be sent as JSON."""
    refused = client.send("POST", "/v1/search", b"{}", {"content-type": "text/plain"})
    assert (refused.status, refused.error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"this is no sound at all", "can be read"),
        (b"", "is empty"),
        (b"RIFF" + b"\xff" * 400, "can't be decoded"),
    ],
)
def test_a_damaged_sound_is_the_requests_fault(client: Client, data: bytes, said: str) -> None:
    refused = client.form("/v1/audio/embeddings", [], [data])
    assert (refused.status, refused.error["code"]) == (400, "invalid_audio")
    assert said in refused.error["message"]


def test_unknown_routes_and_methods(client: Client) -> None:
    assert client.get("/v1/nothing").error["code"] == "not_found"
    refused = client.get("/v1/search")
    assert (refused.status, refused.error["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


def test_another_sites_name_is_refused(client: Client) -> None:
    refused = client.get("/v1/models", host="evil.example")
    assert (refused.status, refused.error["code"]) == (421, "unknown_host")
    for name in ("localhost", "127.0.0.1:1", "[::1]:80", "LOCALHOST:5"):
        assert client.get("/health", host=name).status == 200


def test_no_answer_tells_where_things_lie(
    client: Client, sounds_root: Path, collection_path: Path
) -> None:
    """Refusals and pages name neither folders of this machine nor lines of code."""
    answers = [client.post(path, body) for path, body, *_ in BAD]
    answers += [client.form("/v1/audio/embeddings", [], [b"RIFFxxxxWAVE"])]
    answers += [client.get(path) for path in ("/v1/collection", "/v1/models", "/metrics", "/")]
    answers += [client.get("/v1/clips/none/audio"), client.get("/v1/map")]
    answers += [client.post("/v1/search", {"text": "a tone"})]
    for answer in answers:
        text = answer.body.decode()
        for secret in (
            str(sounds_root.parent),
            "site-packages",
            "Traceback",
            "clap_engine/",
            ".py",
        ):
            assert secret not in text


def test_responses_forbid_what_a_page_does_not_need(client: Client) -> None:
    for path in ("/", "/health", "/v1/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_keys_open_what_they_should(start: Callable[..., Any], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key\n\nsecond key\n")
    with start("--api-key-file", keys) as serving:
        client = serving.client
        for path in ("/", "/health", "/ready", "/openapi.json", "/page/app.js"):
            assert client.get(path).status == 200
        assert client.get("/openapi.json").json["security"] == [{"key": []}]
        for path in ("/v1/models", "/metrics", "/v1/nothing"):
            refused = client.get(path)
            assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
            assert refused.headers["www-authenticate"] == "Bearer"
        for good in ("Bearer first-key", "bearer second key"):
            assert client.get("/v1/models", authorization=good).status == 200
        basic = "Basic " + base64.b64encode(b"first-key").decode()
        for bad in ("first-key", "Bearer", "Bearer first-ke", "Bearer caf\xe9", basic):
            assert client.get("/v1/models", authorization=bad).status == 401
        assert (
            client.get("/v1/models", host="any.name", authorization="Bearer first-key").status
            == 200
        )


def test_limits_are_named(start: Callable[..., Any]) -> None:
    with start("--max-duration-s", 2, "--max-body-mb", 1) as serving:
        long = serving.client.form("/v1/audio/embeddings", [], [sound("tone", 3)])
        assert long.status == 400
        assert "max_duration_s" in long.error["message"]
        large = serving.client.post("/v1/search", {"audio": data_uri(sound("noise", 20))})
        assert (large.status, large.error["code"]) == (413, "body_too_large")
        assert "max_body_bytes" in large.error["message"]
        assert serving.client.get("/health").status == 200
