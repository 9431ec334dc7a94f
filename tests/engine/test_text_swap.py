"""Another text graph takes over while texts are embedded: no answer mixes the two."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import make_files, make_manifest, npz, resealed, write_bundle

import clap_engine
from clap_engine import bundle, embedding
from clap_engine.engine import Engine
from clap_engine.errors import ClosedError, GraphError, NotFoundError, SpaceMismatchError

TEXTS = ("a slow banjo melody", "rain on a tin roof")
SWAPS = 20
WAIT_S = 30.0


def made(place: Path, seed: int, **changes: Any) -> Path:
    """A bundle with the text graph of `seed`, everything else of seed 0, and true goldens."""
    files, other = make_files(), make_files(seed)
    files |= {name: data for name, data in other.items() if name.startswith("text.")}
    first = write_bundle(place.with_name(f"{place.name} draft"), files, make_manifest(files))
    with clap_engine.load(first, precision="fp32") as engine:
        rows = engine.embed_text(list(TEXTS))
        audio = engine.bundle.goldens()[1]
    files["goldens.npz"] = npz(text=rows, audio=audio)
    return write_bundle(place, files, resealed(make_manifest(files), **changes))


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    return made(tmp_path / "one", 0), made(tmp_path / "two", 1)


def loaded(place: Path, **options: Any) -> Engine:
    return clap_engine.load(place, precision="fp32", **options)


def rows_of(place: Path) -> Any:
    with loaded(place) as engine:
        return engine.embed_text(list(TEXTS))


def test_texts_are_embedded_by_the_other_graph(places: tuple[Path, Path]) -> None:
    one, two = places
    before, after = rows_of(one), rows_of(two)
    assert not np.allclose(before, after)
    with loaded(one) as engine:
        sound = (np.sin(np.arange(16_000, dtype=np.float32) / 9), 8_000)
        audio, revision = engine.embed_audio([sound]), engine.revision
        assert np.array_equal(engine.embed_text(list(TEXTS)), before)
        engine.swap_text(two)
        assert np.array_equal(engine.embed_text(list(TEXTS)), after)  # none of it from the cache
        assert np.array_equal(engine.embed_audio([sound]), audio)
        assert (engine.revision, engine.text_revision) == (
            revision, bundle.open(two).manifest.revision,
        )  # fmt: skip
        engine.swap_text("one", models_dir=one.parent)
        assert np.array_equal(engine.embed_text(list(TEXTS)), before)
    with pytest.raises(ClosedError):
        engine.swap_text(two)


def swapped(places: tuple[Path, Path]) -> list[str]:
    """What four threads saw that is wrong, through 20 swaps."""
    one, two = places
    known = [rows_of(one), rows_of(two)]
    wrong: list[str] = []
    stop, news = threading.Event(), threading.Condition()
    answers = 0

    with loaded(one) as engine:

        def ask() -> None:
            nonlocal answers
            while not stop.wait(0.001):
                try:
                    found = [engine.embed_text([text])[0] for text in TEXTS]
                    for i, row in enumerate(found):
                        if not any(np.array_equal(row, rows[i]) for rows in known):
                            wrong.append("a mixture")
                except BaseException as error:  # noqa: BLE001 (whatever it is, the test shows it)
                    wrong.append(repr(error))
                with news:
                    answers += 1
                    news.notify_all()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for i in range(SWAPS):
            engine.swap_text(places[(i + 1) % 2])
            due = known[(i + 1) % 2]
            for _ in range(3):
                if not np.array_equal(engine.embed_text(list(TEXTS)), due):
                    wrong.append("older than the swap")
            with news:
                goal = answers + 8
                assert news.wait_for(lambda goal=goal: answers >= goal, WAIT_S)  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join()
    return wrong


def test_no_request_fails_or_mixes_through_20_swaps(places: tuple[Path, Path]) -> None:
    assert swapped(places) == []


def test_that_test_can_fail(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its control: with a cache that outlives the graph, answers are older than the swap."""
    monkeypatch.setattr(embedding.Embedding, "forget_texts", lambda self: None)
    assert "older than the swap" in swapped(places)


def test_a_tower_that_was_unloaded_comes_back_as_the_newer(places: tuple[Path, Path]) -> None:
    one, two = places
    after = rows_of(two)
    with loaded(one, idle_unload_s=0.02) as engine:
        engine.swap_text(two)
        for _ in range(int(WAIT_S / 0.01)):
            if "text" not in engine.stats().loaded:
                break
            threading.Event().wait(0.01)
        assert engine.stats().loaded == ()
        engine._embedding.forget_texts()
        assert np.array_equal(engine.embed_text(list(TEXTS)), after)


def test_what_does_not_fit_changes_nothing(places: tuple[Path, Path], tmp_path: Path) -> None:
    one, _ = places
    before = rows_of(one)
    strange = made(tmp_path / "strange", 1, space_id="f" * 16)
    narrow = made(tmp_path / "narrow", 1, ladder=(2, 8))
    files = make_files(1)  # goldens that its graph does not give
    wrong = write_bundle(tmp_path / "wrong", files, make_manifest(files))
    with loaded(one) as engine:
        for place, error, words in (
            (strange, SpaceMismatchError, "migrate"), (narrow, SpaceMismatchError, r"\[4\]"),
            (wrong, GraphError, "golden"), (tmp_path / "nothing", NotFoundError, "nothing"),
        ):  # fmt: skip
            with pytest.raises(error, match=words):
                engine.swap_text(place)
            assert np.array_equal(engine.embed_text(list(TEXTS)), before)
        assert engine.text_revision == engine.revision
