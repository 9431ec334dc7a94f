"""The facade: shapes, units, rungs, spans, threads, fork and close, on the tiny bundle."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sounds import encode, noise, tone
from tiny_bundle import DIM, RATE_HZ, WINDOW_S, make_bundle

import clap_engine
from clap_engine.engine import Engine, clip_embedding, default_threads
from clap_engine.errors import (
    AudioError,
    ClosedError,
    DependencyError,
    DimError,
    ForkedError,
    GraphError,
    NotFoundError,
    TextError,
)
from clap_engine.loading import load
from clap_engine.session import provider_names

WINDOW = round(RATE_HZ * WINDOW_S)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def engine(tiny: Path) -> Iterator[Engine]:
    with load(tiny, precision="fp32", threads=1) as opened:
        yield opened


def test_text_rows_are_unit_and_in_order(engine: Engine) -> None:
    rows = engine.embed_text(["a slow banjo", "rain on a tin roof", "a slow banjo"])
    assert rows.shape == (3, DIM)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0], rows[1])


def test_one_text_may_stand_alone(engine: Engine) -> None:
    assert np.array_equal(engine.embed_text("a dog"), engine.embed_text(["a dog"]))


def test_nothing_in_nothing_out(engine: Engine) -> None:
    assert engine.embed_text([]).shape == (0, DIM)
    assert engine.embed_text([], dim=4).shape == (0, 4)
    assert engine.embed_audio([]).shape == (0, DIM)
    assert engine.embed_audio([], windows=True) == []


@pytest.mark.parametrize("dim", [2, 4, 8])
def test_a_rung_is_the_normalised_prefix(engine: Engine, dim: int) -> None:
    clip = (noise(3, 3 * WINDOW), RATE_HZ)
    for whole, rung in (
        (engine.embed_text(["a dog", "rain"]), engine.embed_text(["a dog", "rain"], dim=dim)),
        (engine.embed_audio([clip]), engine.embed_audio([clip], dim=dim)),
    ):
        prefix = whole[:, :dim] / np.linalg.norm(whole[:, :dim], axis=1, keepdims=True)
        np.testing.assert_allclose(rung, prefix, atol=1e-6)


def test_between_rungs_is_refused(engine: Engine) -> None:
    with pytest.raises(DimError, match="not on the ladder"):
        engine.embed_text(["a dog"], dim=3)


def test_every_form_of_a_clip_is_the_same_clip(engine: Engine, tmp_path: Path) -> None:
    """Law 2 over path, bytes, file object and lossless containers: equal to the bit."""
    samples = np.round(noise(5, 2 * WINDOW + 17) * 20_000).astype(np.int16)
    wav = encode(samples, RATE_HZ, "wav")
    path = tmp_path / "clip.wav"
    path.write_bytes(wav)
    forms = [path, str(path), wav, io.BytesIO(wav), (samples, RATE_HZ)]
    forms.append(encode(samples, RATE_HZ, "flac"))
    rows = engine.embed_audio(forms)
    assert all(np.array_equal(rows[0], row) for row in rows)


def test_two_clips_in_a_tuple_are_two_clips(engine: Engine) -> None:
    clips = ((noise(1, WINDOW), RATE_HZ), (noise(2, WINDOW), RATE_HZ))
    assert np.array_equal(engine.embed_audio(clips), engine.embed_audio(list(clips)))


def test_company_changes_nothing(engine: Engine) -> None:
    clips = [(noise(seed, WINDOW * (1 + seed)), RATE_HZ) for seed in range(4)]
    together = engine.embed_audio(clips)
    alone = np.concatenate([engine.embed_audio([clip]) for clip in clips])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_windows_say_where(engine: Engine) -> None:
    (clip,) = engine.embed_audio([(noise(1, 2 * WINDOW + WINDOW // 2), RATE_HZ)], windows=True)
    assert clip.vectors.shape == (3, DIM)
    expected = [[0, WINDOW_S], [WINDOW_S, 2 * WINDOW_S], [1.5 * WINDOW_S, 2.5 * WINDOW_S]]
    np.testing.assert_allclose(clip.spans, expected)
    assert clip.duration_s == pytest.approx(2.5 * WINDOW_S)
    np.testing.assert_allclose(clip.embedding, clip_embedding(clip.vectors))
    np.testing.assert_allclose(np.linalg.norm(clip.embedding), 1, atol=1e-6)


def test_a_short_clip_keeps_its_own_span(engine: Engine) -> None:
    (clip,) = engine.embed_audio([(tone(440, RATE_HZ, WINDOW // 3), RATE_HZ)], windows=True)
    assert clip.vectors.shape == (1, DIM)
    assert clip.duration_s == pytest.approx((WINDOW // 3) / RATE_HZ)


def test_the_callers_array_is_unchanged(engine: Engine) -> None:
    waveform = noise(9, WINDOW + 5)
    before = waveform.copy()
    engine.embed_audio([(waveform, RATE_HZ)])
    assert np.array_equal(waveform, before)


@pytest.mark.parametrize(
    "one", ["clip.wav", Path("clip.wav"), b"RIFF", (noise(0, 9), RATE_HZ), noise(0, 9)]
)
def test_one_clip_instead_of_a_list_is_refused(engine: Engine, one: object) -> None:
    with pytest.raises(AudioError, match="write \\[clip\\]"):
        engine.embed_audio(one)  # type: ignore[call-overload]


def test_bad_inputs_are_typed(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(TextError):
        engine.embed_text(["  "])
    with pytest.raises(NotFoundError):
        engine.embed_audio([tmp_path / "missing.wav"])
    with pytest.raises(AudioError):
        engine.embed_audio([b"not a sound"])


def test_timed_text_is_the_same_text(engine: Engine) -> None:
    rows, stages = engine.embed_text_timed(["a dog barks"])
    assert np.array_equal(rows, engine.embed_text(["a dog barks"]))
    assert list(stages) == ["tokenize", "text"]
    assert all(ms >= 0 for ms in stages.values())


def test_nothing_is_loaded_before_it_is_needed(tiny: Path) -> None:
    with load(tiny, threads=1) as engine:
        assert engine.stats().loaded == ()
        engine.embed_text(["a dog"])
        assert engine.stats().loaded == ("text",)


def test_first_use_from_many_threads_loads_one_tower(engine: Engine) -> None:
    seen, start = [], threading.Barrier(8)

    def use() -> None:
        start.wait()
        engine.embed_text(["a dog barks"])
        seen.append(engine._text_encoder())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(encoder) for encoder in seen}) == 1
    assert len(seen) == 8


def test_closed_means_closed(tiny: Path) -> None:
    engine = load(tiny, threads=1)
    engine.embed_text(["a dog"])
    engine.close()
    engine.close()
    for use in (
        lambda: engine.embed_text(["a dog"]),
        lambda: engine.embed_audio([(noise(0, 9), RATE_HZ)]),
        lambda: engine.collection("x.clap", create=True),
    ):
        with pytest.raises(ClosedError):
            use()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("loaded", [True, False])
def test_fork_works_or_says_so(tiny: Path, loaded: bool) -> None:
    """A tower that was loaded before fork() is refused in the child; an untouched engine works."""
    engine = load(tiny, threads=1)
    if loaded:
        engine.embed_text(["a dog"])
    child = os.fork()
    if child == 0:
        code = 9
        try:
            engine.embed_text(["a dog"])
            code = 0
        except ForkedError:
            code = 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (1 if loaded else 0)
    engine.close()


def test_a_collection_is_not_made_by_opening(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        engine.collection(tmp_path / "x.clap")
    assert not (tmp_path / "x.clap").exists()


def test_a_demonstration_bundle_says_so(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "clap_engine"), load(tiny, threads=1):
        assert "small demonstration model" in caplog.text


def test_default_threads_are_few() -> None:
    assert 1 <= default_threads() <= 4


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused(tiny: Path, threads: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        load(tiny, threads=threads)


@pytest.mark.parametrize(
    "settings",
    [
        {"provider": "gpu"},
        {"provider": "cpu", "providers": ["CPUExecutionProvider"]},
        {"gpu_mem_limit": -1},
        {"provider": "cpu", "gpu_mem_limit": 2**30},
    ],
)
def test_where_to_run_is_checked_at_once(tiny: Path, settings: dict[str, object]) -> None:
    with pytest.raises(GraphError):
        load(tiny, threads=1, **settings)  # type: ignore[arg-type]


def test_a_provider_by_name_is_where_it_runs(tiny: Path) -> None:
    rows = []
    for settings in (
        {"provider": "cpu", "strict_provider": True},
        {"providers": ["CPUExecutionProvider"]},
        {"strict_provider": True, "gpu_mem_limit": 2**30, "cache_dir": "unused"},
    ):
        with load(tiny, precision="fp32", threads=1, **settings) as engine:  # type: ignore[arg-type]
            rows.append(engine.embed_text("a dog"))
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], rows[2])


@pytest.mark.skipif("CUDAExecutionProvider" in provider_names(), reason="it is there")
def test_a_gpu_that_is_not_there_is_said(tiny: Path) -> None:
    with load(tiny, precision="fp32", threads=1, provider="cuda") as engine:
        with pytest.raises(DependencyError, match="CUDAExecutionProvider"):
            engine.embed_text("a dog")
        with pytest.raises(DependencyError, match="CUDAExecutionProvider"):
            engine.embed_audio([(noise(0, WINDOW), RATE_HZ)])


def test_the_face_is_the_module(tiny: Path) -> None:
    assert clap_engine.load is load
    assert clap_engine.Engine is Engine
    with clap_engine.load(str(tiny), threads=1) as engine:
        assert "tiny" in repr(engine)
        assert (engine.dim, engine.ladder) == (DIM, (2, 4, 8))
        assert engine.bundle_id == "tiny"
        assert engine.space_id
        assert engine.revision
