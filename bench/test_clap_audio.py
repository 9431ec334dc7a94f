"""Windows of 7 s (msclap) or 10 s (ClapModel) -> their embeddings, from decoded waveforms on.

In:  msclap's and transformers' front ends and audio towers as their users call them, and ours over
     the same seeded weights, plain and with outliers; the same sounds by turns; two threads.
Out: the ratio; how near each precision is; the form that passed its gate.
Knows nothing about decoding or search. Random weights: speed and numerics, not quality.

The form is the first that passes on the weights with outliers; those without use it as well.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import clap_models
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.encoders import side_by_side
from clap_engine.goldens import golden_waveform
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel
from clap_export import probes
from clap_export.graphs.projection import HeadGraph
from clap_models import Model
from race import check_goal, milliseconds, note, race
from towers import THREADS, Forms, choose

pytestmark = pytest.mark.usefixtures("two_threads")

WINDOWS = 8
# With onnxruntime alone; with the best backend there is.
GOALS = {"int8": 2.7, "bf16": 3.5, "fp32": None}
THROUGHPUT_GOAL = 3.0
# Of unit rows, both front ends included; 1e-6 is usual.
EXACT = 1e-4

Embed = Callable[[Float32], Float32]


@dataclass(frozen=True)
class Contenders:
    """A model as its user runs it, our graphs of it."""

    model: Model
    forms: Forms

    @property
    def spec(self) -> AudioSpec:
        return self.model.source.audio.spec

    def ours(self, precision: str) -> Embed:
        """Waveforms [B, T] -> embeddings [B, D], one window a call, the graph loaded."""
        front_end = LogMel(self.spec, self.model.source.audio.frontend)
        session = self.forms.session(precision, "audio")

        def one(waveform: Float32) -> Float32:
            (embedding,) = session.run(["embedding"], {"log_mel": front_end(waveform)})
            return np.asarray(embedding, np.float32)

        def run(waveforms: Float32) -> Float32:
            if len(waveforms) == 1:
                return one(waveforms)
            return side_by_side(lambda i: one(waveforms[i : i + 1]), len(waveforms), THREADS)

        return run


@pytest.fixture(scope="module")
def passed() -> dict[str, str]:
    """Model -> the form that passed on its weights with outliers."""
    return {}


@pytest.fixture(scope="module", params=clap_models.CASES, ids=", ".join)
def contenders(
    request: pytest.FixtureRequest,
    smoke: bool,
    passed: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Contenders:
    name, weights = request.param
    folder = tmp_path_factory.mktemp("model")
    model = clap_models.make(name, weights, folder, layers=1 if smoke else None)
    audio = model.source.audio
    sizes = probes.Sizes(texts=2, sounds=10 if smoke else 100, calibration=2 if smoke else 32)
    found = probes.make(audio.spec, audio.frontend, sizes)
    calibration, compared = (
        [{"log_mel": row[None]} for row in rows]
        for rows in (found.calibration_log_mel, found.log_mel)
    )
    graph = audio.build(HeadGraph())
    forms = choose(graph, "audio", calibration, compared, passed.get(name))
    passed[name] = forms.form
    return Contenders(model, forms)


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_embed_one_window(
    benchmark: Any, contenders: Contenders, precision: str, smoke: bool
) -> None:
    """Law: float32 is the model's own to 1e-4, its front end included; int8 passed its gate."""
    if precision == "bf16" and importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    model = contenders.model
    ours, windows = contenders.ours(precision), sounds(contenders.spec, 6)
    wanted = np.concatenate([l2_normalize(model.embed_audio(window)) for window in windows])
    embeddings = np.concatenate([ours(window) for window in windows])
    if precision == "fp32":
        assert np.abs(embeddings - wanted).max() < EXACT
    result = race(benchmark, ours, model.embed_audio, windows, rounds=2 if smoke else 24, burst=1)
    goal = GOALS[precision]
    note(
        benchmark,
        f"{model.name}: one window of {contenders.spec.window_s:g} s, {precision}, {model.weights}",
        clap_models.PEERS[model.name, "audio"],
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        goal=goal,
        threads=THREADS,
        processor_ratio=result.processor_ratio,
        backend="OpenVINO" if precision == "bf16" else "onnxruntime",
        cosine_min=float(np.sum(embeddings * wanted, axis=1).min()),
        subject=model.subject,
        **contenders.forms.facts(precision),
    )
    if goal is not None:
        check_goal(result.ratio, goal, smoke)


def test_embed_eight_windows(benchmark: Any, contenders: Contenders, smoke: bool) -> None:
    """Throughput: the peer takes them in one batch, we one a call, two at a time. Law: as above."""
    model = contenders.model
    windows = np.concatenate(sounds(contenders.spec, WINDOWS))
    ours = contenders.ours("int8")
    result = race(benchmark, ours, model.embed_audio, [windows], rounds=1 if smoke else 5, burst=1)
    note(
        benchmark,
        f"{model.name}: eight windows of {contenders.spec.window_s:g} s, int8, {model.weights}",
        clap_models.PEERS[model.name, "audio"],
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        goal=THROUGHPUT_GOAL,
        threads=THREADS,
        processor_ratio=result.processor_ratio,
        subject=model.subject,
        **contenders.forms.facts("int8"),
    )
    check_goal(result.ratio, THROUGHPUT_GOAL, smoke)


def sounds(spec: AudioSpec, n: int) -> list[Float32]:
    """Golden waveforms [1, T] at the model's rate: chirps, tones, noise."""
    return [golden_waveform(i, spec.rate_hz, spec.window_samples)[None] for i in range(n)]
