"""Clients that leave: their work ends, what had not begun never does, others are served."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from served import Client, data_uri, sound

from clap_engine.deadline import Deadline
from clap_engine.errors import DeadlineError
from clap_engine.serve import leaving
from clap_engine.serve.replies import RequestError

Start = Callable[..., Any]
LEFT = 'route="embeddings",status="499"'


def _counts(client: Client) -> dict[str, int]:
    """Requests by what is in the braces."""
    lines = client.get("/metrics").body.decode().splitlines()
    found = (line.split() for line in lines if line.startswith("clap_requests_total{"))
    return {name[20:-1]: int(count) for name, count in found}


def _until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@contextmanager
def _asked(client: Client, path: str, value: Any) -> Iterator[None]:
    """A request that is sent; whoever leaves the block leaves the server."""
    body = json.dumps(value).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with client.socket() as connection:
        connection.sendall(head.encode() + body)
        yield


def test_work_for_a_client_that_left_ends_before_it_is_done(start: Start) -> None:
    """Law: what was asked for by nobody any more ends at its next window, or never begins.

    The control: with the client there, the same request is answered.
    """
    body = {"input": [data_uri(sound("noise", 60))] * 4, "modality": "audio"}
    with start() as running:
        assert running.client.post("/v1/embeddings", body).status == 200
        for left in range(1, 5):
            with _asked(running.client, "/v1/embeddings", body):
                _until(lambda: "clap_audio_in_flight 0" not in _text(running.client))
            _until(lambda wanted=left: _counts(running.client).get(LEFT) == wanted)  # type: ignore[misc]
        assert _counts(running.client)['route="embeddings",status="200"'] == 1
        assert running.client.post("/v1/search", {"audio": data_uri(sound())}).status == 200


def test_without_the_native_parts_it_serves_and_sees_who_leaves(start: Start) -> None:
    body = {"input": [f"words {number}" for number in range(128)]}
    with start(settings={"is_native": False}) as running:
        assert running.client.post("/v1/embeddings", body).status == 200
        for left in range(1, 4):
            fresh = {"input": [f"more words {left} {number}" for number in range(128)]}
            with _asked(running.client, "/v1/embeddings", fresh):
                _until(lambda: "clap_text_in_flight 0" not in _text(running.client))
            _until(lambda wanted=left: _counts(running.client).get(LEFT) == wanted)  # type: ignore[misc]


def _text(client: Client) -> str:
    return client.get("/metrics").body.decode()


def _leave(scope: dict[str, Any], until: Deadline) -> None:
    """The end of the connection, and the next window."""
    for end in [*scope[leaving.KEY]]:
        end()
    until.check()


def test_what_was_called_off_is_told_as_such_and_nothing_else() -> None:
    scope: dict[str, Any] = {leaving.KEY: set()}
    with pytest.raises(DeadlineError), leaving.watched(scope) as until:
        raise DeadlineError("too long")
    with pytest.raises(RequestError) as caught, leaving.watched(scope) as until:
        _leave(scope, until)
    assert caught.value.status == leaving.STATUS
    assert not scope[leaving.KEY]


def test_a_part_ends_with_the_whole_and_not_the_other_way_round() -> None:
    whole = Deadline()
    first, second = whole.part(60), whole.part()
    first.cancel()
    assert (first.is_over, second.is_over, whole.is_over) == (True, False, False)
    whole.cancel()
    assert second.is_over
    assert whole.part(5).is_over
    short = Deadline(0).part(60)
    assert short.is_over
    assert Deadline(60).part(5).timeout_s == 5
