"""Lying lengths, floods, slow bodies and storms of parts: refused by status, others served.

Memory stays flat meanwhile; the control is a body of the same size that is taken.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Client, Serving, data_uri, serving, sound

MB = 1024**2
# Small bounds, so that a test meets them in a second.
TIGHT = {
    "body_timeout_s": 1.0, "head_timeout_s": 1.0, "max_connections": 40,
    "max_body_bytes": 4 * MB, "max_buffered_bytes": 8 * MB,
}  # fmt: skip


@pytest.fixture(scope="module")
def serving_tightly(collection_path: Path) -> Iterator[Serving]:
    with serving(collection_path, settings=TIGHT) as running:
        yield running


@pytest.fixture
def client(serving_tightly: Serving) -> Iterator[Client]:
    """Whatever a test sends, others are served after it."""
    yield serving_tightly.client
    start = time.monotonic()
    assert serving_tightly.client.post("/v1/search", {"text": "a tone"}).status == 200
    assert time.monotonic() - start < 5


def _head(length: str, kind: str = "application/json", path: str = "/v1/search") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n{length}\r\n\r\n"
    ).encode()


def _read(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """(status, error) of what comes until the server closes; (0, {}) for nothing."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            data += chunk
            head, found, body = data.partition(b"\r\n\r\n")
            if found and body.endswith(b"}"):
                break
    if not data:
        return 0, {}
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.JSONDecoder().raw_decode(body.decode())[0]["error"]


@pytest.mark.parametrize("length", ["5000000", "99999999999999999999", "4194305"])
def test_a_length_beyond_the_limit_is_refused_before_a_byte(client: Client, length: str) -> None:
    with client.socket() as connection:
        connection.sendall(_head(f"content-length: {length}"))
        status, error = _read(connection)
    # What 64 bits can't hold is no length at all for the parser in C.
    is_length = int(length) < 2**64
    assert (status, error["code"]) == (
        (413, "body_too_large") if is_length else (400, "invalid_http")
    )


@pytest.mark.parametrize(
    "length",
    ["content-length: -1", "content-length: 1e3", "content-length: ten",
     "content-length: 5\r\ncontent-length: 6", "content-length: " + "9" * 30,
     "content-length: " + "1" * 30_000],
)  # fmt: skip
def test_a_length_that_is_none_is_refused(client: Client, length: str) -> None:
    with client.socket() as connection:
        connection.sendall(_head(length))
        status, error = _read(connection)
    assert status in (400, 413), error


def test_a_body_shorter_than_its_length_is_a_timeout(client: Client) -> None:
    with client.socket() as connection:
        connection.sendall(_head("content-length: 1000") + b'{"text":')
        status, error = _read(connection)
    assert (status, error["code"]) == (408, "body_timeout")


def test_a_body_longer_than_its_length_is_another_request(client: Client) -> None:
    body = b'{"text": "a tone", "k": 0}'
    with client.socket() as connection:
        connection.sendall(_head(f"content-length: {len(body)}") + body + b"more of it\r\n\r\n")
        status, error = _read(connection)
    assert (status, error["param"]) == (400, "k")


def test_a_client_that_leaves_costs_nothing(client: Client) -> None:
    for _ in range(20):
        with client.socket() as connection:
            connection.sendall(_head("content-length: 100000") + b"x" * 1000)


@pytest.mark.parametrize("chunk", [b"10000\r\n" + b"x" * 0x10000 + b"\r\n", b"1\r\nx\r\n" * 5000])
def test_a_flood_of_chunks_ends_at_the_limit(
    client: Client, serving_tightly: Serving, chunk: bytes
) -> None:
    before = serving_tightly.rss_bytes()
    with client.socket() as connection:
        connection.sendall(_head("transfer-encoding: chunked"))
        sent, refused, rest = 0, None, chunk
        connection.settimeout(0.0)
        while sent < 64 * MB and refused is None:
            try:
                count = connection.send(rest)
                sent, rest = sent + count, rest[count:] or chunk
            except BlockingIOError:
                time.sleep(0.001)  # the server reads at its own pace
            except ConnectionError:
                break
            with contextlib.suppress(BlockingIOError, ConnectionError):
                refused = connection.recv(65536) or None
    if refused is not None:
        assert refused.split()[1] in (b"413", b"408")
    assert sent < 64 * MB, "the flood was taken"
    assert serving_tightly.rss_bytes() - before < 32 * MB


def test_slow_heads_and_slow_bodies_are_ended(client: Client) -> None:
    """Slowloris: a byte now and then keeps nothing open."""
    heads = [client.socket() for _ in range(6)]
    bodies = [client.socket() for _ in range(6)]
    try:
        for connection in heads:
            connection.sendall(b"POST /v1/search HTTP/1.1\r\nx: ")
        for connection in bodies:
            connection.sendall(_head("content-length: 100000"))
        open_, start = {*heads, *bodies}, time.monotonic()
        statuses: list[bytes] = []
        for connection in open_:
            connection.setblocking(False)
        while open_ and time.monotonic() - start < 20:
            for connection in list(open_):
                with contextlib.suppress(BlockingIOError):
                    try:
                        connection.send(b"x")
                        data = connection.recv(65536)
                    except ConnectionError:
                        data = b""
                    statuses += [data.split()[1]] if data else []
                    open_.discard(connection)
            time.sleep(0.05)
        assert not open_, f"{len(open_)} slow connections are open after 20 s"
        assert set(statuses) == {b"408"}
    finally:
        for connection in (*heads, *bodies):
            connection.close()


def test_storms_of_parts_are_refused(client: Client, serving_tightly: Serving) -> None:
    before = serving_tightly.rss_bytes()
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\nx\r\n'
    storms = {
        "fields": "".join(part.format(f"f{i}", "") for i in range(20_000)),
        "files": "".join(part.format("file", '; filename="x"') for i in range(20_000)),
        "one field": part.format("model", "").replace("x\r\n", "x" * 3 * MB),
        "headers": "--b\r\n" + "X-A: b\r\n" * 200_000,
        "one header": '--b\r\nContent-Disposition: form-data; name="' + "x" * 3 * MB,
        "no end": "--b\r\n" * 300_000,
        "dashes": "-" * 3 * MB,
        "line ends": "\r\n" * MB,
        "no boundary": "hello",
    }
    for name, text in storms.items():
        body, start = text.encode(), time.monotonic()
        kind = "multipart/form-data" + ("" if name == "no boundary" else "; boundary=b")
        refused = client.send("POST", "/v1/audio/embeddings", body, {"content-type": kind})
        assert refused.status in (400, 413), name
        assert refused.error["code"] in ("invalid_form", "invalid_request", "body_too_large"), name
        assert time.monotonic() - start < 10, name
    assert serving_tightly.rss_bytes() - before < 48 * MB


def test_too_many_connections_are_told_so(client: Client) -> None:
    crowd = []
    try:
        for _ in range(60):
            crowd.append(client.socket())
        answers = []
        for connection in crowd:
            answers.append(_read(connection))
        assert {status for status, _ in answers} == {408, 503}
    finally:
        for connection in crowd:
            connection.close()


def test_bodies_share_a_budget_of_bytes(client: Client) -> None:
    """Bodies of 3 MB each, all under way: beyond 8 MB in all, more are refused."""
    crowd = [client.socket() for _ in range(6)]
    try:
        for connection in crowd:
            connection.sendall(_head(f"content-length: {3 * MB + 1}") + b" " * 3 * MB)
        statuses = sorted(_read(connection)[0] for connection in crowd)
        assert statuses[-1] == 503
        assert statuses[0] == 408
    finally:
        for connection in crowd:
            connection.close()


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_no_request(client: Client, seed: int) -> None:
    rng = random.Random(seed)
    data = rng.choice([b"", b"GET / HTTP/1.1\r\n", b"POST /v1/search HTTP/1.1\r\nhost: x\r\n"])
    with client.socket() as connection:
        connection.sendall(data + rng.randbytes(3000) + b"\r\n\r\n")
        status, _ = _read(connection)
    assert status in (0, 400, 404, 405, 408, 421)


def test_the_control_a_large_honest_body_is_taken(client: Client) -> None:
    answer = client.post("/v1/search", {"audio": data_uri(sound("noise", 20)), "k": 1})
    assert answer.status == 200
