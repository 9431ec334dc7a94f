"""Several serving processes over one snapshot: killed ones are replaced, answers stay right."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import JSON, Client, Serving, serving

import clap_engine
from clap_engine.serve.metrics import Metrics, Tally

WORDS = ("a tone", "noise", "a long tone", "hiss", "a whistle", "rain")


@pytest.fixture(scope="module")
def snapshot(collection_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers") / "snapshot"
    with (
        clap_engine.load(threads=1) as engine,
        engine.collection(collection_path, read_only=True) as sounds,
    ):
        sounds.snapshot(folder)
    return folder


@pytest.fixture(scope="module")
def running(snapshot: Path) -> Iterator[Serving]:
    with serving(snapshot, "--workers", 2) as found:
        yield found


def _keys(client: Client, text: str) -> list[str]:
    answer = client.post("/v1/search", {"text": text, "k": 3})
    assert answer.status == 200
    return [hit["key"] for hit in answer.json["hits"]]


def _until(is_so: object) -> None:
    end_s = time.monotonic() + 60
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < end_s
        time.sleep(0.02)


def _restarted(client: Client) -> int:
    lines = client.get("/metrics").body.decode().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("clap_workers_")))


def test_killing_processes_under_load_costs_no_wrong_answer(
    running: Serving, snapshot: Path
) -> None:
    """Law: each answer is the library's; a connection may break, and the next one is served."""
    with (
        clap_engine.load(threads=1) as engine,
        engine.collection(snapshot, read_only=True) as sounds,
    ):
        right = {text: [hit.key for hit in sounds.search(text, k=3).hits] for text in WORDS}
    wrong: list[object] = []
    answered, broken = [0], [0]
    stop = threading.Event()

    def ask(start: int) -> None:
        number = start
        while not stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", running.client.port, timeout=60)
            with contextlib.closing(connection):
                while not stop.is_set():
                    text = WORDS[number % len(WORDS)]
                    number += 1
                    body = json.dumps({"text": text, "k": 3})
                    try:
                        connection.request("POST", "/v1/search", body, JSON)
                        response = connection.getresponse()
                        found = json.loads(response.read())
                    except (OSError, http.client.HTTPException):
                        broken[0] += 1
                        break
                    keys = [hit["key"] for hit in found.get("hits", ())]
                    if response.status not in (200, 503):
                        wrong.append(found)
                    elif response.status == 200 and keys != right[text]:
                        wrong.append((text, keys))
                    answered[0] += response.status == 200

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for asker in askers:
        asker.start()
    try:
        for kill in range(1, 3):
            before = answered[0]
            _until(lambda least=before + 20: answered[0] >= least)
            os.kill(running.children()[0], signal.SIGKILL)
            _until(lambda wanted=kill: _restarted(running.client) == wanted)
        before = answered[0]
        _until(lambda: answered[0] >= before + 20)
    finally:
        stop.set()
        for asker in askers:
            asker.join(60)
    assert not wrong
    assert broken[0] <= 4 * 2  # those that the killed processes had accepted


def test_counts_are_those_of_all_processes_and_never_fall(running: Serving) -> None:
    def count() -> int:
        lines = running.client.get("/metrics").body.decode().splitlines()
        name = 'clap_requests_total{route="models",status="200"} '
        return int(next((line for line in lines if line.startswith(name)), name + "0").split()[-1])

    before = count()
    for _ in range(10):
        assert running.client.get("/v1/models").status == 200
    assert count() == before + 10


def test_each_process_serves_a_live_collection_too(collection_path: Path) -> None:
    with serving(collection_path, "--workers", 2) as running:
        assert {tuple(_keys(running.client, "a tone")) for _ in range(4)} == {
            tuple(_keys(running.client, "a tone"))
        }


def test_the_children_end_with_a_parent_that_is_killed(snapshot: Path) -> None:
    with serving(snapshot, "--workers", 2) as running:
        _keys(running.client, "a tone")
        children = running.children()
        assert len(children) == 2
        running.was_killed = True
        running.process.kill()
        running.process.wait()
        _until(lambda: not any(_lives(pid) for pid in children))


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_tally_adds_up_and_outlives_whoever_counted() -> None:
    busy = {"clap_text_in_flight": ("Under way.", lambda: 2.0),
            "clap_decoders_replaced_total": ("Replaced.", lambda: 1.0)}  # fmt: skip
    tally = Tally(2)
    for place in (0, 1, 1):  # the second one was replaced
        metrics = Metrics(busy, tally, place)
        metrics.observe("search", 200, 0.002)
    lines = metrics.text().splitlines()
    assert 'clap_requests_total{route="search",status="200"} 3' in lines
    assert "clap_text_in_flight 4" in lines
    assert "clap_decoders_replaced_total 3" in lines
    assert 'clap_request_seconds_bucket{route="search",le="0.0025"} 3' in lines
