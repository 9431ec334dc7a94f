"""Labels for sounds: the shape of the answer, its laws, and that sample clips get their names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import noise

import clap_engine
from clap_engine import bundle as bundles
from clap_engine import cli, demo
from clap_engine.arrays import l2_normalize
from clap_engine.engine import Engine
from clap_engine.errors import AudioError, NotFoundError, TaskError
from clap_engine.tasks import label_sets
from clap_engine.tasks.classify import by_share, ranked
from clap_engine.tasks.labels import Labels
from clap_engine.tasks.prompts import Prompts
from clap_engine.tasks.scores import Background, shares

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 32_000
SILENCE = (np.zeros(RATE_HZ, np.float32), RATE_HZ)


@pytest.fixture(scope="module")
def engine(bundle: bundles.Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def samples() -> dict[str, demo.Sample]:
    return {sample.label: sample for sample in demo.read_samples()}


def test_effects_get_their_names(engine: Engine, samples: dict[str, demo.Sample]) -> None:
    """Law: of the sample effects, at least four in five are named right among each other."""
    names = ["rain", "thunder", "police_siren", "church_bell", "helicopter", "chainsaw",
             "footsteps", "glass_breaking", "gunshot", "dog_bark", "owl", "cricket",
             "applause", "heartbeat", "laser"]  # fmt: skip
    labels = [name.replace("_", " ") for name in names]
    found = engine.classify([samples[name].path for name in names], labels)
    right = [best[0]["label"] == label for best, label in zip(found, labels, strict=True)]
    assert np.mean(right) >= 0.8
    heard = engine.classify([samples[name].path for name in names], labels, multi_label=True)
    marked = [{s["label"] for s in scores if s["score"] >= 0.5} for scores in heard]
    assert np.mean([lab in some for lab, some in zip(labels, marked, strict=True)]) >= 0.7
    assert sum(map(len, marked)) <= 2 * len(labels)


def test_shares_sum_to_one_and_come_best_first(
    engine: Engine, samples: dict[str, demo.Sample]
) -> None:
    scores = engine.classify(samples["banjo"].path, ["rain", "banjo", "a dog"])
    assert [set(one) for one in scores] == [{"label", "score"}] * 3
    values = [one["score"] for one in scores]
    assert sum(values) == pytest.approx(1, abs=1e-9)
    assert values == sorted(values, reverse=True)
    assert scores[0]["label"] == "banjo"
    assert engine.classify(samples["banjo"].path, ["rain", "banjo", "a dog"], top_k=2) == scores[:2]
    assert len(engine.classify(samples["banjo"].path, ["rain", "banjo"], top_k=99)) == 2


def test_a_list_of_clips_gives_a_list(engine: Engine, samples: dict[str, demo.Sample]) -> None:
    """Law: a clip's scores don't depend on its company."""
    paths = [samples["rain"].path, samples["owl"].path]
    both = engine.classify(paths, ["rain", "owl"])
    assert both == [engine.classify(path, ["rain", "owl"]) for path in paths]
    assert engine.classify([], ["rain"]) == []
    assert engine.classify([paths[0]], ["rain"]) == [[{"label": "rain", "score": 1.0}]]


def test_multi_label_takes_each_label_alone(
    engine: Engine, samples: dict[str, demo.Sample]
) -> None:
    """Law: other labels beside it change no label's probability."""
    path = samples["dog_bark"].path
    alone = engine.classify(path, ["dog bark"], multi_label=True)[0]["score"]
    among = engine.classify(path, ["rain", "dog bark", "piano"], multi_label=True)
    assert among[0]["label"] == "dog bark"
    assert among[0]["score"] == pytest.approx(alone, abs=1e-6)
    assert alone > 0.5 > among[1]["score"]


def test_long_clip_counts_by_its_best_window(
    engine: Engine, samples: dict[str, demo.Sample]
) -> None:
    """Law: with multi_label a sound heard once in a long clip keeps its probability."""
    from clap_engine import audio

    bark = audio.load(samples["dog_bark"].path, RATE_HZ)
    window = np.resize(bark, 5 * RATE_HZ)
    long = np.concatenate([window, np.zeros(25 * RATE_HZ, np.float32)])
    one = engine.classify((window, RATE_HZ), ["dog bark"], multi_label=True)[0]["score"]
    found = engine.classify((long, RATE_HZ), ["dog bark"], multi_label=True)[0]["score"]
    assert found >= one - 1e-6


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ([], "0 labels"),
        (["a", "a"], "2 times"),
        (["a", " a "], "2 times"),
        (["a", " "], "blank"),
        (["a", 3], "text"),
        ("banjo", "list"),
        (b"banjo", "list"),
        (7, "int"),
        ({}, "0 labels"),
        ({"a": []}, "no text"),
        ({"a": ["b", "b"]}, "2 times"),
        ({"a": 7}, "text"),
        ([f"{i}" for i in range(10_001)], "10001"),
        ({"a": [f"{i}" for i in range(20_001)]}, "20001"),
    ],
)
def test_bad_labels_are_refused(labels: Any, word: str) -> None:
    with pytest.raises(TaskError, match=word):
        Labels.of(labels)


@pytest.mark.parametrize("top_k", [0, -1, True, 1.5, "2"])
def test_bad_top_k_is_refused(engine: Engine, top_k: Any) -> None:
    with pytest.raises(TaskError, match="top_k"):
        engine.classify(SILENCE, ["a"], top_k=top_k)


@pytest.mark.parametrize("templates", ["no place", [], ["{}", "none"], [7], 7])
def test_bad_templates_are_refused(engine: Engine, templates: Any) -> None:
    with pytest.raises(TaskError, match="template"):
        engine.classify(SILENCE, ["a"], templates=templates)


def test_silence_and_nan(engine: Engine) -> None:
    """Law: silence has shares like any sound and is heard as no label; NaN is refused."""
    assert sum(s["score"] for s in engine.classify(SILENCE, ["rain", "dog"])) == pytest.approx(1)
    heard = engine.classify(SILENCE, ["gunshot", "dog bark"], multi_label=True)
    assert all(0 <= s["score"] < 0.5 for s in heard)
    with pytest.raises(AudioError, match="NaN"):
        engine.classify((np.full(RATE_HZ, np.nan, np.float32), RATE_HZ), ["rain"])
    with pytest.raises(NotFoundError):
        engine.classify(["nowhere.wav"], ["rain"])


def test_braces_mean_nothing_else(engine: Engine) -> None:
    (one,) = engine.classify(SILENCE, ["{0.__class__} {oops"], templates="a {} {x}")
    assert one["label"] == "{0.__class__} {oops"


def test_wordings_of_a_label_compete(engine: Engine, samples: dict[str, demo.Sample]) -> None:
    """Law: a label with several wordings scores as its best one alone."""
    path = samples["dog_bark"].path
    several = engine.classify(path, {"pet": ["a goldfish", "dog bark"]}, multi_label=True)
    one = engine.classify(path, ["dog bark"], multi_label=True)
    assert several[0]["label"] == "pet"
    assert several[0]["score"] == pytest.approx(one[0]["score"], abs=1e-6)


class Embedder:
    """Seeded rows for texts; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> Any:
        self.asked += texts
        rows = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
        return l2_normalize(np.array(rows, np.float32))


def test_prompts_are_averaged_and_kept() -> None:
    """Law: a row is the normalised mean over the templates; the same set again embeds nothing."""
    embed = Embedder()
    prompts = Prompts(embed, {"classify": ("{}", "the sound of {label}")}, max_rows=5)
    rows = prompts.rows(("a", "b"), "classify")
    wanted = l2_normalize(
        np.stack([embed([t, f"the sound of {t}"]).mean(axis=0) for t in ("a", "b")])
    )
    np.testing.assert_allclose(rows, wanted, atol=1e-6)
    count = len(embed.asked)
    assert prompts.rows(("a", "b"), "classify") is rows
    assert prompts.rows(("a", "b"), "detect") is rows
    assert len(embed.asked) == count
    assert not rows.flags.writeable
    prompts.rows(("c", "d", "e", "f"), "classify")  # six rows are too many: the oldest go
    assert prompts.rows(("a", "b"), "classify") is not rows


def test_prompts_can_be_forgotten(tiny: bundles.Bundle) -> None:
    """Law: labels are embedded anew after forget_prompts, which a swap of text graphs calls."""
    rate_hz = tiny.manifest.audio.rate_hz
    sound = (noise(0, rate_hz), rate_hz)
    with Engine(tiny, precision="fp32", threads=1) as engine:
        before = engine.classify(sound, ["dog", "rain"])
        rows = engine._prompts.rows(("dog", "rain"), "classify")
        engine.forget_prompts()
        again = engine._prompts.rows(("dog", "rain"), "classify")
        assert again is not rows
        np.testing.assert_array_equal(again, rows)
        assert engine.classify(sound, ["dog", "rain"]) == before


def test_thousands_of_labels(engine: Engine) -> None:
    """Law: a set larger than the cache works, in as many rows as labels."""
    embed = Embedder()
    prompts = Prompts(embed, {}, max_rows=10)
    rows = prompts.rows(tuple(map(str, range(3000))), "classify")
    assert rows.shape == (3000, 8)
    labels = Labels.of([str(i) for i in range(3000)])
    scores = by_share(rows[17:18], labels, rows, 1000.0, 0.0)
    assert ranked(labels, scores, 1)[0]["label"] == "17"


def test_ties_keep_the_order_of_the_labels() -> None:
    labels = Labels.of(["c", "a", "b"])
    assert [s["label"] for s in ranked(labels, np.array([0.5, 0.5, 0.5]))] == ["c", "a", "b"]


def test_shares_of_large_logits_stay_finite() -> None:
    found = shares(np.array([1.0, -1.0]), 1e6)
    np.testing.assert_array_equal(found, [1, 0])


def test_background_is_its_own_inverse() -> None:
    background = Background.of({"text_mean": 0.1, "text_std": 0.05})
    for probability in (0.01, 0.5, 0.9):
        cosine = background.cosine(probability)
        assert background.probabilities(np.array(cosine)) == pytest.approx(probability, abs=1e-12)
    assert np.isfinite(background.probabilities(np.array([-1e9, 1e9]))).all()
    own = Background.of({"text_mean": 0.1, "text_std": 0.05, "label_level": 1.0})
    assert own.cosine(0.5) == pytest.approx(0.15)


def test_a_bundle_without_calibration(tiny: bundles.Bundle) -> None:
    """Law: shares need none, probabilities say what is missing."""
    rate_hz = tiny.manifest.audio.rate_hz
    with Engine(tiny, precision="fp32", threads=1) as engine:
        assert len(engine.classify((noise(0, rate_hz), rate_hz), ["dog", "rain"])) == 2
        with pytest.raises(TaskError, match="text_mean"):
            engine.classify((noise(0, rate_hz), rate_hz), ["dog"], multi_label=True)


def test_label_sets_are_whole() -> None:
    """Law: each set loads, says what it can be trusted with, and has the size of its standard."""
    sizes = {name: len(label_sets.load(name).labels) for name in label_sets.names()}
    standard = {"gm-instruments": 128, "gm-families": 16, "ucs-categories": 82}
    assert standard.items() <= sizes.items()
    assert {"genres", "voice-emotions", "speaker-counts"} <= sizes.keys()
    assert all("clap-mini" in label_sets.load(name).trust for name in sizes)
    with pytest.raises(NotFoundError, match="gm-families"):
        label_sets.load("nothing")


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"labels": {}}', b'{"description":"","trust":"","labels":[]}',
             b'{"description":"","trust":"","labels":{}}']
)  # fmt: skip
def test_malformed_label_sets_are_refused(data: bytes) -> None:
    with pytest.raises(TaskError):
        label_sets.read("x", data)


def test_verb(run: Run, samples: dict[str, demo.Sample], tmp_path: Path) -> None:
    """Law: the verb gives what the library gives; a file that can't be read costs only itself."""
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"nothing")
    code, out, _ = run("classify", samples["owl"].path, bad, "--labels", "owl,rain", "--json")
    found = json.loads(out)
    assert code == 1
    assert [entry["file"] for entry in found["failed"]] == [str(bad)]
    (entry,) = found["classified"]
    assert entry["scores"][0]["label"] == "owl"
    code, out, _ = run(
        "classify", samples["owl"].path, "--label-set", "ucs-categories", "--top-k", 1,
        "--multi-label", "--template", "the sound of {}", "--template", "{}",
    )  # fmt: skip
    assert code == 0
    assert out.strip().endswith("BIRDS")
    for more in ([], ["--labels", "a", "--label-set", "genres"], ["--labels", " , "]):
        assert run("classify", bad, *more)[0] == cli.USAGE
    assert run("classify", bad, "--label-set", "nothing")[0] == cli.NOT_FOUND


def test_public_names() -> None:
    assert issubclass(clap_engine.TaskError, (clap_engine.ClapError, ValueError))
