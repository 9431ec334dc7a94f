"""A language model's API on this machine, which behaves as a test wants it to.

In:  a function from the messages of a request to what is sent: a reply's text, or raw bytes.
Out: a served address, and what was asked.
Knows nothing about answers.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clap_engine.answers.language_model import LanguageModel

Messages = list[dict[str, str]]
# What a test does with a connection itself: (its socket, the test's end) -> None.
Raw = Callable[[socket.socket, threading.Event], None]


@dataclass
class Stub:
    """What was asked so far; `over` is set when the test ends."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def model(self, **options: Any) -> LanguageModel:
        """A model at this address."""
        return LanguageModel(self.url, "stub", **{"timeout_s": 30.0, **options})


def completion(text: Any) -> bytes:
    """A reply in the API's shape."""
    record = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    return json.dumps(record).encode()


@contextmanager
def serving(behave: Callable[[Messages], str | bytes | Raw], status: int = 200) -> Iterator[Stub]:
    """A stub that answers each request by `behave`: text, a whole body, or its own doing."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            record = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.asked.append(record)
            stub.headers.append(dict(self.headers))
            stub.paths.append(self.path)
            given = behave(record["messages"])
            if callable(given):
                self.close_connection = True
                given(self.connection, stub.over)
                return
            body = completion(given) if isinstance(given, str) else given
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{stub.url}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *given: Any) -> None:
            """Nothing on standard error."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = True

        def handle_error(self, *given: Any) -> None:
            """The engine hangs up on what takes too long: that is no error of the stub."""

    server = Server(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def hang(connection: socket.socket, over: threading.Event) -> None:
    """Nothing at all, until the test is over."""
    over.wait(60)


def drip(connection: socket.socket, over: threading.Event) -> None:
    """One byte of a header after the other, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not over.wait(0.01):
        connection.sendall(b"a")


def endless(connection: socket.socket, over: threading.Event) -> None:
    """A body without an end, as fast as it is read."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not over.is_set():
        connection.sendall(b'{"choices": [' * 1000)


def huge(connection: socket.socket, over: threading.Event) -> None:
    """A length of a terabyte, and a little of it."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n")
    connection.sendall(b" " * 100_000)
    over.wait(60)


def cut(connection: socket.socket, over: threading.Event) -> None:
    """Half a reply."""
    body = completion("banjo.wav [1]")
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:30])


def nonsense(connection: socket.socket, over: threading.Event) -> None:
    """What is no HTTP."""
    connection.sendall(b"\x00\xff" * 500)
