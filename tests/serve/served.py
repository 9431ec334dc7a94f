"""Servers as processes, and a client that says exactly what it is told to.

In:  a collection, options of `clap-engine serve`.
Out: running servers; answers with status, headers and body.
Knows nothing about what is tested.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_embedder import child_environment
from sounds import encode, noise, tone

import clap_engine

RATE_HZ = 32_000
JSON = {"content-type": "application/json"}
TIMEOUT_S = 60.0
SCRIPT = """
import json, sys
import clap_engine
from clap_engine.serve import server
from clap_engine.serve.settings import Settings

def announce(address):
    print(f"clap-engine: {address} answers", file=sys.stderr, flush=True)

settings = Settings(port=0, **json.loads(sys.argv[2]))
with clap_engine.load(threads=1) as engine:
    with engine.collection(sys.argv[1], read_only=True) as sounds:
        server.run(engine, sounds, settings, announce)
"""


def sound(kind: str = "tone", seconds: float = 1.0, pitch: int = 330) -> bytes:
    """The bytes of a WAV file."""
    count = round(seconds * RATE_HZ)
    return encode(tone(pitch, RATE_HZ, count) if kind == "tone" else noise(1, count), RATE_HZ)


def data_uri(data: bytes) -> str:
    """What JSON takes a sound as."""
    return "data:audio/wav;base64," + base64.b64encode(data).decode("ascii")


def fill_sounds(root: Path) -> None:
    """Nine clips of three kinds below `root`, and their collection beside it."""
    names = []
    (root / "tones").mkdir()
    for number in range(4):
        names.append(root / "tones" / f"tone {number}.wav")
        names[-1].write_bytes(sound("tone", 1 + number, 220 * (number + 1)))
    for number in range(4):
        names.append(root / f"noise-{number}.wav")
        count = RATE_HZ * (number + 1)
        names[-1].write_bytes(encode(noise(number, count), RATE_HZ))
    names.append(root / "long.wav")
    names[-1].write_bytes(sound("tone", 12, 660))
    facts = [{"kind": path.name[:4], "year": 1960 + i} for i, path in enumerate(names)]
    with (
        clap_engine.load(threads=1) as engine,
        engine.collection(root.parent / "sounds.clap", create=True) as sounds,
    ):
        report = sounds.add(names, metadata=facts, root=root)
        assert not report.failed


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body's value."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """Its error, whose shape is checked."""
        found = self.json["error"]
        assert set(self.json) == {"error"}
        assert set(found) == {"type", "code", "message", "param"}
        return dict(found)


@dataclass(frozen=True)
class Client:
    """Requests to one address, each on a connection of its own."""

    port: int

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, None, headers)

    def post(self, path: str, value: Any) -> Answer:
        return self.send("POST", path, json.dumps(value).encode(), JSON)

    def form(self, path: str, fields: list[tuple[str, str]], files: list[bytes]) -> Answer:
        boundary = "----clap"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode()
            for n, v in fields
        ]
        for data in files:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n'
            parts.append(head.encode() + b"\r\n" + data + b"\r\n")
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        return self.send("POST", path, body, kind)

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            known = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, known, response.read())
        finally:
            connection.close()

    def socket(self) -> socket.socket:
        """A bare connection, for what no client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)


@dataclass
class Serving:
    """A server that runs."""

    process: subprocess.Popen[str]
    client: Client
    was_killed: bool = False
    seen: set[int] = field(default_factory=set)
    log: list[str] = field(default_factory=list)  # what it said on standard error

    def stop(self) -> int:
        """End it as an operator would; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=TIMEOUT_S)

    def rss_bytes(self) -> int:
        """Resident memory of the server's own process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def children(self) -> list[int]:
        """Its decoding processes."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    found.append(int(stat.parent.name))
        self.seen.update(found)
        return sorted(found)

    def children_left(self) -> list[int]:
        """Those of the children ever seen that still live."""
        return [pid for pid in self.seen if Path(f"/proc/{pid}").exists()]


@contextmanager
def serving(
    collection: Path,
    *options: object,
    settings: dict[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Serving]:
    """A server over `collection`, by the command line or with any settings."""
    script = "import sys\nfrom clap_engine.cli import main\nsys.exit(main())"
    arguments: list[object] = ["serve", "--collection", collection, "--port", 0, *options]
    if settings is not None:
        script, arguments = SCRIPT, [collection, json.dumps(settings)]
    own = child_environment()
    own.pop("CLAP_ENGINE_API_KEY", None)
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stderr=subprocess.PIPE, text=True, env={**own, **(environment or {})},
    )  # fmt: skip
    assert process.stderr is not None
    reader = None
    try:
        address = ""
        for line in process.stderr:
            if line.rstrip().endswith(" answers"):
                address = line.split()[1]
                break
        assert address, f"the server ended with {process.wait(timeout=TIMEOUT_S)}"
        running = Serving(process, Client(int(address.rpartition(":")[2])))
        # Whoever reads no more of it would stop the server when the pipe is full.
        reader = threading.Thread(target=running.log.extend, args=(process.stderr,))
        reader.start()
        yield running
        running.children()
        assert running.was_killed or running.stop() == 0
    finally:
        process.kill()
        process.wait()
        if reader is not None:
            reader.join()
        process.stderr.close()
