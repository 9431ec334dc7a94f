"""`clap-engine serve`: what it refuses to start with, and how it ends."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import JSON, Serving, data_uri, serving, sound

Run = Callable[..., tuple[int, str, str]]


def test_the_network_is_not_served_without_a_key(
    run: Run, collection_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLAP_ENGINE_API_KEY", raising=False)
    code, _, said = run("serve", "--collection", collection_path, "--host", "0.0.0.0")
    assert code == 2
    assert "--api-key-file" in said


def test_what_is_missing_is_named(run: Run, collection_path: Path, tmp_path: Path) -> None:
    code, _, said = run("serve", "--collection", tmp_path / "none.clap")
    assert (code, "does not exist" in said) == (3, True)
    code, _, said = run("serve", "--collection", collection_path, "--sounds", tmp_path / "none")
    assert (code, "is no folder" in said) == (3, True)
    code, _, said = run("serve", "--collection", collection_path, "--api-key-file", tmp_path / "k")
    assert (code, "does not exist" in said) == (3, True)
    (tmp_path / "k").write_text("\n \n")
    code, _, said = run("serve", "--collection", collection_path, "--api-key-file", tmp_path / "k")
    assert (code, "holds no key" in said) == (2, True)


def test_a_port_that_is_taken_is_named(run: Run, collection_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, said = run("serve", "--collection", collection_path, "--port", port)
    assert (code, f"127.0.0.1:{port}" in said) == (2, True)


def test_a_key_from_the_environment_is_used(collection_path: Path) -> None:
    with serving(collection_path, environment={"CLAP_ENGINE_API_KEY": "from-outside"}) as running:
        assert running.client.get("/v1/models").status == 401
        answer = running.client.get("/v1/models", authorization="Bearer from-outside")
        assert answer.status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_finished_at_the_end(
    start: Callable[..., Any], number: signal.Signals
) -> None:
    with start() as running:
        body = {"audio": data_uri(sound("noise", 120)), "k": 1}
        answers: list[Any] = []
        caller = threading.Thread(
            target=lambda: answers.append(running.client.post("/v1/search", body))
        )
        caller.start()
        deadline = time.monotonic() + 30
        while _audio_in_flight(running) < 1 and caller.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        running.process.send_signal(number)
        caller.join()
        assert running.process.wait(timeout=30) == 0
    assert [answer.status for answer in answers] == [200]
    assert not running.children_left()


def _audio_in_flight(running: Serving) -> float:
    lines = running.client.get("/metrics").body.decode().splitlines()
    (line,) = [line for line in lines if line.startswith("clap_audio_in_flight ")]
    return float(line.split()[1])


def test_a_server_that_was_killed_leaves_nothing_behind(start: Callable[..., Any]) -> None:
    """Its decoders end with it, and the next one serves the same collection at once."""
    with start() as running:
        expected = running.client.post("/v1/search", {"text": "a tone"}).json["hits"]
        assert running.children()
        connection = running.client.socket()
        connection.sendall(b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\n")
        running.process.kill()
        running.process.wait()
        connection.close()
        deadline = time.monotonic() + 10
        while running.children_left() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not running.children_left()
        running.was_killed = True
    with start() as again:
        hits = again.client.post("/v1/search", {"text": "a tone"}).json["hits"]
        assert [hit["key"] for hit in hits] == [hit["key"] for hit in expected]


def test_overload_is_told_fast_and_passes(start: Callable[..., Any]) -> None:
    """Far more callers than places: each is answered rightly or told 503 with Retry-After.

    Fast means: refusals take less than the work itself. Afterwards all are served again.
    """
    with start() as running:
        body = {"input": data_uri(sound("noise", 60)), "modality": "audio"}
        client, start_s = running.client, time.monotonic()
        assert client.post("/v1/embeddings", body).status == 200
        work_s = time.monotonic() - start_s
        answers: list[tuple[float, Any]] = []

        def ask() -> None:
            begun = time.monotonic()
            answer = client.post("/v1/embeddings", body)
            answers.append((time.monotonic() - begun, answer))

        callers = [threading.Thread(target=ask) for _ in range(24)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        done = [answer for _, answer in answers if answer.status == 200]
        refused = [(taken, answer) for taken, answer in answers if answer.status != 200]
        assert len(done) >= 3
        assert {answer.status for _, answer in refused} == {503}
        for _, answer in refused:
            assert answer.error["code"] == "overloaded"
            assert int(answer.headers["retry-after"]) >= 1
        soonest = min(taken for taken, _ in refused)
        assert soonest < max(1.0, 2 * work_s)
        assert client.post("/v1/embeddings", body).status == 200


def test_a_request_that_takes_too_long_is_ended(start: Callable[..., Any]) -> None:
    with start(settings={"request_timeout_s": 0.0}) as running:
        late = running.client.post("/v1/search", {"text": "a tone"})
        assert (late.status, late.error["code"]) == (504, "deadline")
        assert running.client.get("/ready").status == 200


def test_words_are_served_while_sounds_queue(start: Callable[..., Any]) -> None:
    with start() as running:
        body = {"audio": data_uri(sound("noise", 100)), "k": 1}
        callers = [
            threading.Thread(target=running.client.post, args=("/v1/search", body))
            for _ in range(4)
        ]
        for caller in callers:
            caller.start()
        served = 0
        while any(caller.is_alive() for caller in callers):
            assert running.client.post("/v1/search", {"text": "a tone"}).status == 200
            served += 1
        for caller in callers:
            caller.join()
    assert served >= 10


def test_keep_alive_serves_many_requests_on_one_connection(start: Callable[..., Any]) -> None:
    import http.client

    with start() as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.client.port, timeout=30)
        for _ in range(50):
            connection.request("POST", "/v1/search", b'{"text": "a tone"}', JSON)
            response = connection.getresponse()
            assert (response.status, bool(response.read())) == (200, True)
        connection.close()
