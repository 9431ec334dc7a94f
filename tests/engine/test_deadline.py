"""Deadlines: the clock, cancelling, and that every verb ends by them with nothing half done."""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_embedder import FakeEmbedder, power_law, sound_of
from sounds import encode, noise
from tiny_bundle import RATE_HZ, WINDOW_S, make_bundle

from clap_engine.collection import Collection
from clap_engine.deadline import Deadline, within
from clap_engine.engine import Engine
from clap_engine.errors import ClapError, DeadlineError
from clap_engine.loading import load
from clap_engine.query import Clip

WINDOW = round(RATE_HZ * WINDOW_S)
# Where a law is about time: far more than a window takes, far less than the work would.
SOON_S = 5.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
    with load(path, precision="fp32", threads=1) as opened:
        opened.warm()
        yield opened


def test_one_that_never_ends() -> None:
    deadline = Deadline()
    deadline.check()
    assert deadline.remaining_s is None
    assert not deadline.is_over


def test_it_ends_by_the_clock() -> None:
    assert Deadline(0).is_over
    long = Deadline(1000)
    long.check()
    assert 990 < (long.remaining_s or 0) <= 1000
    short = Deadline(1e-9)
    with pytest.raises(DeadlineError, match="timeout_s of 1e-09 s") as caught:
        short.check()
    assert isinstance(caught.value, ClapError)
    assert isinstance(caught.value, TimeoutError)
    assert short.remaining_s == 0


def test_it_ends_when_it_is_cancelled_by_another_thread() -> None:
    deadline, woken = Deadline(), threading.Event()
    deadline.watch(woken.set)
    threading.Thread(target=deadline.cancel).start()
    assert woken.wait(20)
    with pytest.raises(DeadlineError, match="cancelled"):
        deadline.check()
    assert deadline.remaining_s == 0
    late = threading.Event()
    deadline.watch(late.set)
    assert late.is_set()


def test_what_no_longer_watches_is_not_called() -> None:
    deadline, calls = Deadline(), list[int]()

    def wake() -> None:
        calls.append(1)

    deadline.watch(wake)
    deadline.unwatch(wake)
    deadline.unwatch(wake)
    deadline.cancel()
    assert calls == []


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, "1", True])
def test_seconds_are_checked(engine: Engine, wrong: Any) -> None:
    with pytest.raises(ValueError, match="give seconds"):
        engine.embed_text("a dog", timeout_s=wrong)


def test_an_embedder_without_deadlines_is_taken_as_it_is() -> None:
    embedder = FakeEmbedder()
    assert within(embedder, Deadline()) is embedder


class Endless(io.RawIOBase):
    """The header of a long WAV, then noise for ever; or with `delay_s` a slow one."""

    def __init__(self, data: bytes, delay_s: float) -> None:
        self._file, self._delay_s, self.reads = io.BytesIO(data), delay_s, 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        time.sleep(self._delay_s)
        return self._file.read(min(size, 1024))


def long_clip(windows: int) -> tuple[Any, int]:
    return noise(1, windows * WINDOW), RATE_HZ


def _verbs(engine: Engine) -> dict[str, Callable[[Any], object]]:
    """Each with more work than its deadline allows: some minutes of it."""
    slow = encode((noise(2, 200 * WINDOW) * 20_000).astype(np.int16), RATE_HZ, "wav")
    texts = [f"a dog barks {i}" for i in range(200_000)]
    clips = [long_clip(50)] * 20_000
    return {
        "embed_text": lambda timeout_s: engine.embed_text(texts, timeout_s=timeout_s),
        "embed_text_timed": lambda timeout_s: engine.embed_text_timed(texts, timeout_s=timeout_s),
        "embed_audio": lambda timeout_s: engine.embed_audio(clips, timeout_s=timeout_s),
        "embed_windows": lambda timeout_s: engine.embed_windows(
            Endless(slow, 0.1),  # type: ignore[arg-type]
            timeout_s=timeout_s,
        ),
    }


@pytest.mark.parametrize("verb", ["embed_text", "embed_text_timed", "embed_audio", "embed_windows"])
@pytest.mark.parametrize("timeout_s", [0, 0.05, 0.3])
def test_every_verb_ends_in_time(engine: Engine, verb: str, timeout_s: float) -> None:
    """Law: it raises within its deadline plus one window, here milliseconds."""
    began_s = time.monotonic()
    with pytest.raises(DeadlineError):
        _verbs(engine)[verb](timeout_s)
    assert time.monotonic() - began_s < timeout_s + SOON_S
    assert engine.stats().lanes["text"].running == engine.stats().lanes["audio"].running == 0
    engine.embed_text("a dog", timeout_s=60)


def test_that_test_can_fail(engine: Engine) -> None:
    """Its control: with time enough the same verbs return, so it is the deadline that ends them."""
    texts = [f"a dog barks {i}" for i in range(300)]
    assert len(engine.embed_text(texts, timeout_s=60)) == 300
    assert np.array_equal(engine.embed_text(texts, timeout_s=60), engine.embed_text(texts))
    clip = long_clip(40)
    # Few windows at a time where little time is left: the shape of a batch may move the last bit.
    np.testing.assert_allclose(
        engine.embed_audio([clip], timeout_s=60), engine.embed_audio([clip]), atol=1e-5
    )


def test_cancelling_ends_a_call_at_its_next_window(engine: Engine) -> None:
    deadline, began = Deadline(), threading.Event()
    ended: list[BaseException] = []

    def clips() -> Iterator[Any]:
        while True:
            began.set()
            yield long_clip(1)

    def work() -> None:
        try:
            engine.embed_audio(clips(), timeout_s=deadline)  # type: ignore[call-overload]
        except DeadlineError as error:
            ended.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    assert began.wait(20)
    deadline.cancel()
    worker.join(20)
    assert "cancelled" in str(ended[0])


# Collections


def test_a_search_ends_between_its_stages(engine: Engine, tmp_path: Path) -> None:
    with engine.collection(tmp_path / "c", create=True) as sounds:
        sounds.add([long_clip(3)], keys=["a"])
        for query in ("a dog", Clip(long_clip(2)), engine.embed_text("a dog")[0]):
            with pytest.raises(DeadlineError):
                sounds.search(query, timeout_s=0)
            with pytest.raises(DeadlineError):
                sounds.search_batch([query] * 3, timeout_s=0)
            assert [hit.key for hit in sounds.search(query, timeout_s=60).hits] == ["a"]
            cancelled = Deadline()
            cancelled.cancel()
            with pytest.raises(DeadlineError, match="cancelled"):
                sounds.search(query, timeout_s=cancelled)


def test_a_search_by_an_embedder_without_deadlines_ends_too(tmp_path: Path) -> None:
    deadline = Deadline()

    class Slow(FakeEmbedder):
        def embed_text(self, texts: list[str]) -> Any:
            deadline.cancel()  # as if the text had taken all the time there was
            return super().embed_text(texts)

    with Collection.open(tmp_path / "c", embedder=Slow(), create=True) as sounds:
        sounds.add([sound_of(power_law(1, seed=1))], keys=["a"])
        with pytest.raises(DeadlineError):
            sounds.search("banjo", timeout_s=deadline)
        assert sounds.search("banjo").hits


@pytest.mark.parametrize("embedded", [0, 1, 33, 70])
def test_an_add_that_ran_out_leaves_whole_clips_and_says_so(tmp_path: Path, embedded: int) -> None:
    deadline = Deadline()

    class Slow(FakeEmbedder):
        def embed_windows(self, source: Any) -> Any:
            if len(self.embedded) == embedded:
                deadline.cancel()
                deadline.check()  # in the midst of a clip
            return super().embed_windows(source)

    rows = power_law(100, seed=1)
    keys = [f"k{i:03d}" for i in range(100)]
    with Collection.open(tmp_path / "c", embedder=Slow(), create=True) as sounds:
        with pytest.raises(DeadlineError) as caught:
            sounds.add([sound_of(row) for row in rows], keys=keys, timeout_s=deadline)
        report: Any = caught.value.report
        assert (report.added, report.failed) == (embedded, ())
        assert sounds.keys() == keys[:embedded]
        assert sounds.verify() == []
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as sounds:
        again = sounds.add([sound_of(row) for row in rows], keys=keys, timeout_s=600)
        assert (again.added, again.unchanged) == (100 - embedded, embedded)


def test_an_add_with_an_engine_ends_in_time(engine: Engine, tmp_path: Path) -> None:
    began_s = time.monotonic()
    with engine.collection(tmp_path / "c", create=True) as sounds:
        with pytest.raises(DeadlineError) as caught:
            sounds.add(
                (long_clip(20) for _ in range(100_000)), keys=map(str, range(100_000)),
                timeout_s=0.3,
            )  # fmt: skip
        assert caught.value.report.added == len(sounds)  # type: ignore[attr-defined]
        assert sounds.verify() == []
    assert time.monotonic() - began_s < SOON_S
