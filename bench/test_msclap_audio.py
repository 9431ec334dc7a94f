"""Windows of 7 s -> their embeddings, from decoded waveforms on, log-mel included.

In:  msclap's audio encoder as shipped, and our front end and graphs over the same seeded weights
     in true layout, plain and with outliers; the same sounds by turns; two threads each.
Out: the ratio; how near each precision is; the form that passed its gate.
Knows nothing about decoding or search. Random weights: speed and numerics, not quality.

The form is the first that passes on the weights with outliers; both fixtures use it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.bundle import golden_waveform
from clap_engine.mel import LogMel
from clap_engine.openvino_session import OpenVinoSession
from clap_engine.session import GraphSession
from clap_export import probes, quantize_towers
from clap_export.graphs.projection import HeadGraph
from clap_export.msclap import random_weights, source, stand_in
from clap_export.msclap.checkpoint import Checkpoint
from clap_export.parity import Gate, GateError, Parity, compare_embeddings
from clap_export.source import AudioSource
from race import check_goal, milliseconds, note, race

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "export"))

import msclap_oracle

THREADS, WINDOWS = 2, 8
# With onnxruntime alone; with the best backend there is.
GOALS = {"int8": 2.7, "bf16": 3.5, "fp32": None}
THROUGHPUT_GOAL = 3.0
PEER = "msclap 1.3.4 as shipped (torch eager)"
FIXTURES = ("outliers", "plain")  # the form is chosen on the first
# Of unit rows, both front ends included; 1e-6 is usual.
EXACT = 1e-4

Embed = Callable[[Float32], Float32]


@dataclass(frozen=True)
class Contenders:
    """msclap over a state, our front end, our graphs by precision, how near int8 is."""

    package: Any
    audio: AudioSource
    graphs: dict[str, bytes]
    form: str
    parity: dict[str, Parity]

    def ours(self, precision: str) -> Embed:
        """Waveforms [B, T] -> embeddings [B, D], one window a call, the graph loaded."""
        front_end = LogMel(self.audio.spec, self.audio.frontend)
        if precision == "bf16":
            session: Any = OpenVinoSession(
                self.graphs["fp32"], name="audio", threads=THREADS, precision="bf16"
            )
        else:
            session = GraphSession(self.graphs[precision], name="audio", threads=THREADS)

        def run(waveforms: Float32) -> Float32:
            log_mel = front_end(waveforms)
            rows = [session.run(["embedding"], {"log_mel": row[None]})[0] for row in log_mel]
            return np.asarray(np.concatenate(rows), np.float32)

        return run

    def msclaps(self, waveforms: Float32) -> Float32:
        """Waveforms [B, T] -> native [B, 1024]: what get_audio_embeddings does after reading."""
        given = torch.from_numpy(waveforms)[:, None]
        return np.asarray(self.package._get_audio_embeddings(given).numpy(), np.float32)


@pytest.fixture(scope="module")
def forms() -> list[str]:
    """What passed on the first fixture: the fastest form."""
    return []


@pytest.fixture(scope="module", params=FIXTURES)
def contenders(request: pytest.FixtureRequest, smoke: bool, forms: list[str]) -> Contenders:
    state = random_weights.random_state(
        "2023", seed=0, layers=1 if smoke else None, outliers=request.param == "outliers"
    )
    tokenizer = stand_in.gpt2_tokenizer_json()
    audio = source.make(Checkpoint(state, "0" * 64, "2023"), tokenizer).audio
    own = {name: value for name, value in state.items() if name.startswith("audio_encoder.")}
    sizes = probes.Sizes(texts=2, sounds=10 if smoke else 100, calibration=2 if smoke else 32)
    found = probes.make(audio.spec, audio.frontend, sizes)
    graphs, form, parity = _choose(audio, found, forms)
    return Contenders(msclap_oracle.wrapper(own), audio, graphs, form, parity)


@pytest.fixture(autouse=True)
def two_threads(one_thread: None) -> Iterator[None]:
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_embed_one_window(
    benchmark: Any,
    request: pytest.FixtureRequest,
    contenders: Contenders,
    precision: str,
    smoke: bool,
) -> None:
    """Law: float32 is msclap's own to 1e-4, its front end included; int8 passed its gate."""
    if precision == "bf16" and importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    ours, windows = contenders.ours(precision), sounds(contenders, 6)
    wanted = np.concatenate([l2_normalize(contenders.msclaps(window)) for window in windows])
    embeddings = np.concatenate([ours(window) for window in windows])
    if precision == "fp32":
        assert np.abs(embeddings - wanted).max() < EXACT
    result = race(benchmark, ours, contenders.msclaps, windows, rounds=2 if smoke else 24, burst=1)
    fixture = request.node.callspec.params["contenders"]
    note(
        benchmark,
        f"one 7 s window, {precision}, {fixture} weights",
        PEER,
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        goal=GOALS[precision],
        processor_ratio=result.processor_ratio,
        backend="OpenVINO" if precision == "bf16" else "onnxruntime",
        form=contenders.form if precision == "int8" else precision,
        cosine_min=float(np.sum(embeddings * wanted, axis=1).min()),
        parity={name: row.as_json() for name, row in contenders.parity.items()},
        subject=f"msclap 2023's layout, seed 0, {fixture}",
    )
    benchmark.extra_info["threads"] = THREADS
    if (goal := GOALS[precision]) is not None:
        check_goal(result.ratio, goal, smoke)


def test_embed_eight_windows(
    benchmark: Any, request: pytest.FixtureRequest, contenders: Contenders, smoke: bool
) -> None:
    """Throughput: msclap takes them as one batch, we one after the other. Law: as above."""
    windows = np.concatenate(sounds(contenders, WINDOWS))
    ours = contenders.ours("int8")
    result = race(benchmark, ours, contenders.msclaps, [windows], rounds=1 if smoke else 5, burst=1)
    fixture = request.node.callspec.params["contenders"]
    note(
        benchmark,
        f"eight 7 s windows, int8, {fixture} weights",
        PEER,
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        goal=THROUGHPUT_GOAL,
        processor_ratio=result.processor_ratio,
        form=contenders.form,
        subject=f"msclap 2023's layout, seed 0, {fixture}",
    )
    benchmark.extra_info["threads"] = THREADS
    check_goal(result.ratio, THROUGHPUT_GOAL, smoke)


def sounds(contenders: Contenders, n: int) -> list[Float32]:
    """Golden waveforms [1, T] at the model's rate: chirps, tones, noise."""
    spec = contenders.audio.spec
    return [golden_waveform(i, spec.rate_hz, spec.window_samples)[None] for i in range(n)]


def _choose(
    audio: AudioSource, found: probes.Probes, forms: list[str]
) -> tuple[dict[str, bytes], str, dict[str, Parity]]:
    """The graphs in float32 and in the form that passed; how each form tried compares."""
    model = audio.build(HeadGraph())
    graphs = {"fp32": model.SerializeToString()}
    reference = _embed(graphs["fp32"], found.log_mel)
    samples = [{"log_mel": row[None]} for row in found.calibration_log_mel]
    made = quantize_towers.candidates(model, "audio", samples)
    parity: dict[str, Parity] = {}
    for name in forms or made:
        graph = made[name].SerializeToString()
        parity[name] = compare_embeddings(reference, _embed(graph, found.log_mel))
        try:
            Gate().check(parity[name], name)
        except GateError:
            continue
        forms[:] = [name]
        return {**graphs, "int8": graph}, name, parity
    raise AssertionError(f"no int8 form passes: {parity}")


def _embed(graph: bytes, log_mel: Float32) -> Float32:
    session = GraphSession(graph, name="audio", threads=THREADS)
    return np.concatenate(
        [session.run(["embedding"], {"log_mel": row[None]})[0] for row in log_mel]
    )
