"""Pull: from a real server into the user's own folder, whole or not at all, then offline."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from fake_embedder import child_environment
from tiny_bundle import make_bundle, make_files, make_manifest, resealed, write_bundle

import clap_engine
from clap_engine import bundle, data_folder, install, storage
from clap_engine.errors import DownloadError, InstallError, IntegrityError, NotFoundError
from clap_engine.storage import StorageError

Run = Callable[..., tuple[int, str, str]]


class Handler(BaseHTTPRequestHandler):
    """Answers by what the path says; `server.data` is the archive."""

    def do_GET(self) -> None:
        data: bytes = self.server.data  # type: ignore[attr-defined]
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        what = self.path.strip("/")
        if match := re.fullmatch(r"to/(.+)", what):
            self.send_response(302)
            self.send_header("Location", match[1])
            self.end_headers()
            return
        if what == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        if what != "unsaid":
            length = {"short": len(data) + 1, "huge": 2**50, "rubbish": -5}.get(what, len(data))
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if what == "endless":
            while True:
                self.wfile.write(bytes(1 << 16))
        if what == "stalls":
            self.wfile.write(data[:100])
            self.wfile.flush()
            self.server.done.wait(30)  # type: ignore[attr-defined]
            return
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(archive: Path) -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.data, found.asked = archive.read_bytes(), []  # type: ignore[attr-defined]
    found.done = threading.Event()  # type: ignore[attr-defined]
    found.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up
    thread = threading.Thread(target=found.serve_forever, args=(0.02,))
    thread.start()
    yield found
    found.done.set()  # type: ignore[attr-defined]
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def archive(tiny: bundle.Bundle, tmp_path: Path) -> Path:
    bundle.pack(tiny, tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def digest(archive: Path) -> str:
    return storage.file_digest(archive).sha256


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder, empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data" / "clap-engine" / "models"


def url_of(server: ThreadingHTTPServer, path: str = "tiny.tar") -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def left(home: Path) -> list[str]:
    return sorted(entry.name for entry in home.iterdir()) if home.is_dir() else []


def test_a_pulled_bundle_is_loaded_by_name_without_any_network(
    server: ThreadingHTTPServer, digest: str, home: Path, tiny_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    found = install.pull(url_of(server), digest, progress=lambda *counts: seen.append(counts))
    assert (found.name, found.is_new, left(home)) == ("tiny", True, ["tiny.tar"])
    assert seen[-1] == (found.size, found.size)
    asked = len(server.asked)  # type: ignore[attr-defined]
    with clap_engine.load("tiny") as engine, clap_engine.load(tiny_path) as folder:
        assert np.array_equal(engine.embed_text(["rain"]), folder.embed_text(["rain"]))
    again = install.pull(url_of(server), digest.upper())
    assert (again.is_new, again.path) == (False, found.path)
    assert len(server.asked) == asked  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["path", "file URL", "unsaid", "to/tiny.tar"])
def test_other_ways_to_the_same(
    server: ThreadingHTTPServer, archive: Path, digest: str, home: Path, how: str
) -> None:
    places = {"path": str(archive), "file URL": archive.as_uri()}
    place = places.get(how) or url_of(server, how.replace("to/", f"to/{url_of(server, '')}"))
    assert install.pull(place, digest, name="other").name == "other"
    assert left(home) == ["other.tar"]
    assert bundle.open(bundle.find("other")).manifest.id == "tiny"


def test_what_a_server_may_do_wrong(
    server: ThreadingHTTPServer, digest: str, home: Path, tmp_path: Path
) -> None:
    """Nothing of it is left behind; the control is the same server doing right."""
    for path, words in {
        "missing": "404", "short": "ended after|IncompleteRead|bytes read", "huge": "allowed",
        "endless": "digest|allowed|bytes", "stalls": "timed out",
        "to/ftp://127.0.0.1/x": "not followed", f"to/file://{tmp_path}/archive": "not allowed",
        "to/" + url_of(server, "to/" + url_of(server, "missing")): "404",
    }.items():  # fmt: skip
        with pytest.raises((DownloadError, IntegrityError), match=words):
            install.pull(url_of(server, path), digest, timeout_s=0.5, max_bytes=10**7)
        assert left(home) == []
    loop = url_of(server, "to/%2Fto%2F")
    server.asked.clear()  # type: ignore[attr-defined]
    for place in (loop, "http://127.0.0.1:1/x", "ftp://127.0.0.1/x", "gopher:x",
                  "http://[::bad/x", "file://elsewhere/x", "http:///x"):  # fmt: skip
        with pytest.raises(DownloadError):
            install.pull(place, digest, timeout_s=2)
    for place in (str(tmp_path / "nothing"), (tmp_path / "nothing").as_uri()):
        with pytest.raises(NotFoundError):
            install.pull(place, digest)
    assert left(home) == []
    with pytest.raises(DownloadError, match="allowed"):
        install.pull(url_of(server, "unsaid"), digest, max_bytes=1000)
    with pytest.raises(IntegrityError, match="was asked for"):
        install.pull(url_of(server), "0" * 64)
    assert left(home) == []
    assert install.pull(url_of(server), digest).is_new


def test_a_right_digest_of_the_wrong_thing(tmp_path: Path, home: Path) -> None:
    for data in (b"", b"not a tar", bytes(10240)):
        (tmp_path / "x.tar").write_bytes(data)
        with pytest.raises(IntegrityError, match="no archive"):
            install.pull(str(tmp_path / "x.tar"), storage.file_digest(tmp_path / "x.tar").sha256)
    assert left(home) == []
    for text in ("", "zz", "0" * 63, "sha256:" + "0" * 64):
        with pytest.raises(InstallError, match="64 hex digits"):
            install.pull("nowhere", text)


def test_names_that_are_taken(archive: Path, digest: str, home: Path, tmp_path: Path) -> None:
    for name in ("", "..", "../x", ".x", "X", "a/b", "x.tar", "x" * 101, "a b", "é"):
        with pytest.raises(InstallError, match="no name"):
            install.pull(str(archive), digest, name=name)
    with pytest.raises(InstallError, match="found first"):
        install.pull(str(archive), digest, name=bundle.DEFAULT_NAME)
    install.pull(str(archive), digest)
    newer = make_bundle(tmp_path / "newer", seed=1)
    bundle.pack(bundle.open(newer), tmp_path / "newer.tar")
    second = storage.file_digest(tmp_path / "newer.tar").sha256
    with pytest.raises(InstallError, match="--replace"):
        install.pull(str(tmp_path / "newer.tar"), second)
    opened = bundle.open(bundle.find("tiny"))
    assert install.pull(str(tmp_path / "newer.tar"), second, replace=True).is_new
    opened.verify()  # who has the old one open keeps it
    assert bundle.open(bundle.find("tiny")).manifest.revision != opened.manifest.revision
    assert left(home) == ["tiny.tar"]
    (home / "folder").mkdir()
    with pytest.raises(InstallError, match="there already"):
        install.pull(str(archive), digest, name="folder", replace=True)


def test_another_models_dir(archive: Path, digest: str, home: Path, tmp_path: Path) -> None:
    found = install.pull(str(archive), digest, name="here", models_dir=tmp_path / "models" / "deep")
    assert Path(found.path).parent == tmp_path / "models" / "deep"
    assert left(home) == []
    with pytest.raises(NotFoundError):
        bundle.find("here")
    assert bundle.find("here", models_dir=tmp_path / "models" / "deep") == Path(found.path)


@pytest.mark.parametrize("call", ["_write", "_fsync", "_replace", "_mkdir"])
def test_a_disk_that_refuses(
    archive: Path, digest: str, home: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patches:
        patches.setattr(storage, call, refuse)
        with pytest.raises(StorageError, match="No space left"):
            install.pull(str(archive), digest)
    assert left(home) == []
    assert install.pull(str(archive), digest).is_new


LIMITED = """
import resource, signal, sys
from clap_engine import install
from clap_engine.storage import StorageError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    install.pull(sys.argv[1], sys.argv[2])
except StorageError as error:
    print(error)
"""


def test_a_disk_that_is_really_full(archive: Path, digest: str, home: Path) -> None:
    """The kernel itself refuses to let the file grow."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(archive), digest],
        capture_output=True, text=True, check=True, env=child_environment(), timeout=60,
    )  # fmt: skip
    assert "File too large" in done.stdout
    assert left(home) == []


KILLED = """
import os, signal, sys
from clap_engine import install, storage

count, n = [0], int(sys.argv[3])
def wrapped(call):
    def run(*arguments, **options):
        count[0] += 1
        if count[0] == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return run

for name in ("_write", "_fsync", "_replace", "_mkdir"):
    setattr(storage, name, wrapped(getattr(storage, name)))
install.pull(sys.argv[1], sys.argv[2])
"""


def test_kill_9_at_every_step_leaves_no_half_model(archive: Path, digest: str, home: Path) -> None:
    """And the next pull clears away what was left."""
    codes: list[int] = []
    hidden = 0
    while not codes or codes[-1]:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(archive), digest, str(len(codes) + 1)],
            capture_output=True, text=True, check=False, env=child_environment(), timeout=60,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        codes.append(done.returncode)
        names = left(home)
        hidden += any(name.startswith(".pull-") for name in names)
        visible = [name for name in names if not name.startswith(".")]
        assert visible in ([], ["tiny.tar"])
        if visible:
            bundle.open(bundle.find("tiny")).verify()
            (home / "tiny.tar").unlink()
        else:
            with pytest.raises(NotFoundError):
                bundle.find("tiny")
    assert len(codes) >= 5
    assert hidden
    assert install.pull(str(archive), digest).is_new
    assert left(home) == ["tiny.tar"]


def test_downloads_at_the_same_time(
    server: ThreadingHTTPServer, archive: Path, digest: str, home: Path
) -> None:
    """What one clears away is never what another is writing."""
    stalled: list[BaseException] = []

    def pull() -> None:
        try:
            install.pull(url_of(server, "stalls"), digest, name="slow", timeout_s=20)
        except DownloadError as error:
            stalled.append(error)

    thread = threading.Thread(target=pull)
    thread.start()
    while not any(name.startswith(".pull-") for name in left(home)):
        threading.Event().wait(0.01)
    assert install.pull(str(archive), digest).is_new
    assert len(left(home)) == 2
    server.done.set()  # type: ignore[attr-defined]
    thread.join()
    assert stalled
    assert left(home) == ["tiny.tar"]


def test_where_a_user_keeps_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, variables, due in (
        ("linux", {"XDG_DATA_HOME": "/x"}, "/x/clap-engine/models"),
        ("linux", {"XDG_DATA_HOME": "x", "HOME": "/h"}, "/h/.local/share/clap-engine/models"),
        ("linux", {"HOME": "/h"}, "/h/.local/share/clap-engine/models"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/clap-engine/models"),
        ("win32", {"LOCALAPPDATA": "/l", "HOME": "/h"}, "/l/clap-engine/models"),
    ):
        with monkeypatch.context() as patches:
            patches.setattr(sys, "platform", platform)
            for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
                patches.delenv(name, raising=False)
            for name, value in variables.items():
                patches.setenv(name, value)
            assert os.fspath(data_folder.models()) == due


def test_the_verb(run: Run, server: ThreadingHTTPServer, digest: str, home: Path) -> None:
    code, out, _ = run("pull", url_of(server), "--sha256", digest, "--json")
    found = json.loads(out)
    assert (code, found["name"], found["is_new"]) == (0, "tiny", True)
    assert found["path"] == str(home / "tiny.tar")
    assert "tiny" in {one["name"] for one in json.loads(run("models", "--json")[1])}
    assert "\ntiny" in run("models")[1]
    code, out, _ = run("pull", url_of(server), "--sha256", digest)
    assert (code, "installed already" in out) == (0, True)
    code, _, err = run("pull", url_of(server, "missing"), "--sha256", "0" * 64, "--name", "x")
    assert (code, "404" in err) == (9, True)
    assert run("pull", url_of(server), "--sha256", "0" * 64, "--name", "x")[0] == 4
    assert run("pull", "/nowhere", "--sha256", "0" * 64)[0] == 3


def test_a_manifest_whose_id_is_another(tmp_path: Path) -> None:
    """The folder in the archive is the bundle's id; a file system's name never enters."""
    files = make_files()
    place = write_bundle(tmp_path / "b", files, resealed(make_manifest(files), id="another-one"))
    bundle.pack(bundle.open(place), tmp_path / "b.tar")
    found = storage.file_digest(tmp_path / "b.tar").sha256
    assert install.pull(str(tmp_path / "b.tar"), found).name == "another-one"
