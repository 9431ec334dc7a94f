"""Bad input through the command line: a clear error or a defined result, told by the exit code.

Whatever is good in the same run still gets done, and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import encode, noise, tone
from tiny_bundle import make_bundle

from clap_engine import cli
from clap_engine.collection import Collection
from clap_engine.loading import load

RATE_HZ = 16_000
# Enough that an interruption falls into the middle on any machine, some 2 s of work.
MANY = 128
BUNDLE_FILES = (
    "audio.int8.onnx",
    "frontend.npz",
    "goldens.npz",
    "manifest.json",
    "text.int8.onnx",
    "tokenizer.json",
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of three sounds; no test changes it."""
    root = tmp_path_factory.mktemp("indexed")
    for seed in range(3):
        (root / f"{seed}.wav").write_bytes(encode(noise(seed, RATE_HZ), RATE_HZ))
    assert cli.main(["index", str(root), "--into", str(root / "x.clap")]) == 0
    return root / "x.clap"


# What may lie in a folder


def test_a_folder_without_sounds(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sound")
    code, _, err = run("index", tmp_path, "--into", tmp_path / "x.clap")
    assert code == 3
    assert "no sound files" in err
    assert not (tmp_path / "x.clap").exists()


def test_a_folder_that_is_not_there(run: Run, tmp_path: Path) -> None:
    code, _, err = run("index", tmp_path / "missing", "--into", tmp_path / "x.clap")
    assert code == 3
    assert "does not exist" in err
    assert not (tmp_path / "x.clap").exists()


def _nan_wav() -> bytes:
    return encode(np.full(RATE_HZ, np.nan, np.float32), RATE_HZ, "wav", "FLOAT")


BAD: dict[str, bytes] = {
    "empty.wav": b"",
    "text.flac": b"this is no sound\n",
    "torn.flac": encode(noise(7, 4 * RATE_HZ), RATE_HZ, "flac")[:5000],
    "nan.wav": _nan_wav(),
    "headers.ogg": b"OggS" + bytes(200),
    "nothing.wav": encode(np.zeros(0, np.float32), RATE_HZ),
}
ODD: dict[str, bytes] = {
    "silent.wav": encode(np.zeros(RATE_HZ, np.float32), RATE_HZ),
    "one sample.wav": encode(np.ones(1, np.float32) / 2, RATE_HZ),
    "eight channels.wav": encode(noise(8, RATE_HZ, 8), RATE_HZ),
    "8 kHz.wav": encode(noise(9, 8_000), 8_000),
    "192 kHz.wav": encode(noise(10, 192_000), 192_000),
}


def test_bad_files_among_good_ones(run: Run, tmp_path: Path) -> None:
    """Each bad file is named with a reason, each odd one is in, and the exit code is 1."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name, data in {**BAD, **ODD}.items():
        (folder / name).write_bytes(data)
    code, out, err = run("index", folder, "--into", tmp_path / "x.clap", "--json")
    record = json.loads(out)
    assert code == 1
    assert record["added"] == len(ODD)
    assert {failure["key"] for failure in record["failed"]} == set(BAD)
    assert all(failure["error"] for failure in record["failed"])
    assert all(name in err for name in BAD)
    assert run("verify", tmp_path / "x.clap")[0] == 0
    hits = json.loads(run("search", tmp_path / "x.clap", "noise", "--json")[1])["hits"]
    assert {hit["key"] for hit in hits} == set(ODD)


def test_names_that_try_the_terminal(run: Run, tmp_path: Path) -> None:
    """Escape sequences, line ends and bytes that are no UTF-8: shown, never sent."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    data = encode(noise(1, RATE_HZ), RATE_HZ)
    names = [b"\x1b[2J\x1b]0;title\x07.wav", b"two\nlines\tand tabs.wav", b"latin \xe9\xff.wav"]
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(data)
    into = tmp_path / "x.clap"
    assert run("index", folder, "--into", into)[0] == 0
    assert run("index", folder, "--into", into)[1].startswith("0 added, 0 updated, 3 unchanged")
    code, out, _ = run("search", into, "noise")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert all(line.replace("\t", "").isprintable() for line in out.splitlines())
    assert len(json.loads(run("search", into, "noise", "--json")[1])["hits"]) == 3


def test_an_hour_in_one_file(run: Run, tmp_path: Path) -> None:
    """720 windows, streamed; the span of a hit lies inside the hour."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    rate_hz, minute = 8_000, tone(220, 8_000, 60 * 8_000) + noise(4, 60 * 8_000, level=0.01)
    (folder / "hour.flac").write_bytes(encode(minute, rate_hz, "flac", times=60))
    into = tmp_path / "x.clap"
    assert run("index", folder, "--into", into)[0] == 0
    info = json.loads(run("info", into, "--json")[1])
    assert (info["clips"], info["windows"]) == (1, 720)
    (hit,) = json.loads(run("search", into, "a tone", "--json")[1])["hits"]
    assert 0 <= hit["start_s"] < hit["end_s"] <= 3600


# What may be asked


@pytest.mark.parametrize("query", ["", "   ", "\x00\x01\x1f", "\n\t"])
def test_a_query_of_nothing(run: Run, indexed: Path, query: str) -> None:
    code, out, err = run("search", indexed, query, "--json")
    assert code == 2
    assert "empty" in err
    assert json.loads(out)["error"]["exit_code"] == 2


def test_control_characters_inside_a_query_are_spaces(run: Run, indexed: Path) -> None:
    plain = json.loads(run("search", indexed, "a slow banjo", "--json")[1])
    dirty = json.loads(run("search", indexed, "a\x07slow\x1b\x00banjo", "--json")[1])
    assert plain["hits"] == dirty["hits"]


def test_ten_thousand_words_are_refused(run: Run, indexed: Path) -> None:
    code, _, err = run("search", indexed, "banjo " * 10_000)
    assert code == 2
    assert "max_text_chars" in err


def test_a_long_query_is_cut_and_says_so(run: Run, indexed: Path) -> None:
    code, out, err = run("search", indexed, "banjo " * 1_500)
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "the rest was left out" in err


@pytest.mark.parametrize("k", [1, 3, 4, 10_000])
def test_more_than_there_is(run: Run, indexed: Path, k: int) -> None:
    hits = json.loads(run("search", indexed, "noise", "-k", k, "--json")[1])["hits"]
    assert len(hits) == min(k, 3)


def test_an_absurd_k_is_refused(run: Run, indexed: Path) -> None:
    code, _, err = run("search", indexed, "noise", "-k", 10**9)
    assert code == 2
    assert "max_k" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["--minus", "voices"], ["x", "--where", "{"], ["x", "--where", "[" * 100_000],
        ["x", "--where", '{"year": {"~": 1}}'], ["x", "--where", "5"], ["x", "--near", "absent"],
        ["x", "--collapse", "7"], ["x", "--diversity", "-1"], ["x", "--min-calibrated", "nan"],
        ["x", "--minus", "x"],
    ],
)  # fmt: skip
def test_what_can_not_be_searched_is_refused(run: Run, indexed: Path, arguments: list[str]) -> None:
    assert run("search", indexed, *arguments)[0] == 2


def test_an_example_that_is_no_sound(run: Run, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    assert run("search", indexed, "--by-example", tmp_path / "bad.wav")[0] == 2
    assert run("search", indexed, "--by-example", tmp_path / "missing.wav")[0] == 3


# What may be damaged or foreign


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle that ships, to be damaged and mended by each test."""
    source = Path(str(resources.files("clap_engine.models"))) / "clap-mini"
    return Path(shutil.copytree(source, tmp_path_factory.mktemp("bundle") / "copy"))


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_one_flipped_bit_in_a_bundle(
    run: Run, indexed: Path, shipped: Path, tmp_path: Path, name: str
) -> None:
    """`verify` finds it in any file; a command that needs that file refuses; the control works."""
    path = shipped / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x10
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    (sounds / "a.wav").write_bytes(encode(noise(1, RATE_HZ), RATE_HZ))
    commands = {
        "text.int8.onnx": ["search", indexed, "banjo"],
        "tokenizer.json": ["search", indexed, "banjo"],
        "manifest.json": ["search", indexed, "banjo"],
        "audio.int8.onnx": ["index", sounds, "--into", tmp_path / "y.clap"],
        "frontend.npz": ["index", sounds, "--into", tmp_path / "y.clap"],
    }
    command = [*commands.get(name, ["doctor"]), "--bundle", shipped]
    assert run("verify", shipped)[0] == 0
    path.write_bytes(bytes(flipped))
    try:
        assert run("verify", shipped)[0] == 4
        code = run(*command)[0]
        assert code == (1 if command[0] == "doctor" else 4)
        assert not (tmp_path / "y.clap").exists()
    finally:
        path.write_bytes(whole)
    assert run(*command)[0] == 0


def test_a_collection_of_another_bundle(run: Run, indexed: Path, tmp_path: Path) -> None:
    code, _, err = run("search", indexed, "banjo", "--bundle", make_bundle(tmp_path / "tiny"))
    assert code == 6
    assert "clap-mini" in err


@pytest.mark.parametrize("verb", ["search", "info", "verify"])
def test_what_is_no_collection(run: Run, tmp_path: Path, verb: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    query = ["banjo"] if verb == "search" else []
    for name in ("folder", "file", "missing", "a\x00b"):
        code, _, err = run(verb, tmp_path / name, *query)
        assert code == 3, (name, err)
        assert err.startswith("clap-engine: ")


def test_a_collection_with_its_database_torn(run: Run, indexed: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(indexed, tmp_path / "torn.clap"))
    database = torn / "collection.sqlite"
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(database.read_bytes()[:5000])
    assert run("search", torn, "noise")[0] == 4
    assert run("verify", torn)[0] == 4


def test_two_writers(run: Run, indexed: Path, tmp_path: Path) -> None:
    """The second writer is told within two seconds; readers are not in its way."""
    shared = Path(shutil.copytree(indexed, tmp_path / "x.clap"))
    (tmp_path / "new.wav").write_bytes(encode(noise(5, RATE_HZ), RATE_HZ))
    with load(threads=1) as engine, engine.collection(shared) as first:
        first.remove("no such key")
        code, _, err = run("index", tmp_path / "new.wav", "--into", shared)
        assert code == 5
        assert str(os.getpid()) in err
        assert run("search", shared, "noise")[0] == 0


def test_a_place_where_nothing_can_be_made(run: Run, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, _, err = run("index", indexed.parent, "--into", tmp_path / "file" / "x.clap")
    assert code in (3, 8)
    assert err.count("\n") <= 2


def test_a_reader_that_has_enough(indexed: Path) -> None:
    """`clap-engine search ... | head` ends without a complaint."""
    command = [sys.executable, "-m", "clap_engine", "search", str(indexed), "noise", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert b"Traceback" not in err
    assert b"Broken" not in err


# What may end a run


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for seed in range(MANY):
        (root / f"{seed:03}.wav").write_bytes(encode(noise(seed, 5 * RATE_HZ), RATE_HZ))
    return root


def _start_index(folder: Path, into: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clap_engine", "index", str(folder), "--into", str(into)]
    return subprocess.Popen(
        [*command, "--json", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background shell starts its children with SIGINT ignored, which they inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _clips(into: Path) -> int:
    """How many clips are committed by now; 0 before there is a collection."""
    if not (into / "collection.sqlite").exists():
        return 0
    try:
        with Collection.open(into, read_only=True) as sounds:
            return len(sounds)
    except FileNotFoundError:
        return 0


def _wait_for_clips(process: subprocess.Popen[str], into: Path, least: int) -> int:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = _clips(into)
        if found >= least:
            return found
        assert process.poll() is None, "indexing ended before it could be interrupted"
        time.sleep(0.05)
    raise TimeoutError(f"{least} clips were not committed within 120 s")


def _finish(folder: Path, into: Path) -> dict[str, Any]:
    process = _start_index(folder, into)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    record: dict[str, Any] = json.loads(out)
    return record


def test_ctrl_c_loses_nothing_and_says_how_to_go_on(many: Path, tmp_path: Path, run: Run) -> None:
    into = tmp_path / "x.clap"
    process = _start_index(many, into)
    seen = _wait_for_clips(process, into, 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "run the same command to go on" in err
    assert "Traceback" not in err
    safe = json.loads(out)["clips"]
    assert seen <= safe < MANY
    assert run("search", into, "noise", "-k", 5)[0] == 0
    record = _finish(many, into)
    assert (record["unchanged"], record["added"]) == (safe, MANY - safe)
    assert record["clips"] == MANY


def test_kill_9_loses_nothing_that_was_committed(many: Path, tmp_path: Path, run: Run) -> None:
    into = tmp_path / "x.clap"
    process = _start_index(many, into)
    seen = _wait_for_clips(process, into, 1)
    process.kill()
    process.communicate(timeout=300)
    safe = _clips(into)
    assert seen <= safe
    code, out, _ = run("search", into, "noise", "-k", 5, "--json")
    assert code == 0
    assert len(json.loads(out)["hits"]) == min(5, safe)
    assert run("verify", into)[0] == 0
    record = _finish(many, into)
    assert (record["unchanged"], record["added"]) == (safe, MANY - safe)
