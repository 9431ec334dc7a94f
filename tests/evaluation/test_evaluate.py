"""A bundle on a set: every layout with the bundle that ships, what is left out, resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sets
from tiny_bundle import make_bundle, resealed

import clap_engine
from clap_engine import bundle as bundles
from clap_engine import demo
from clap_engine import manifest as manifests
from clap_engine.errors import NotFoundError, TaskError
from clap_engine.evaluation import Evaluation, PrecisionResult, evaluate

Run = Callable[..., tuple[int, str, str]]
FIGURES = {"R@1", "R@5", "R@10", "mAP@10"}


def csv_set(root: Path, count: int = 6) -> Path:
    """Clips with a caption and a label each."""
    for number in range(count):
        tiny_sets.sound(root / f"{number}.wav", number)
    rows = [(f"{n}.wav", f"a slow banjo {'melody ' * n}", "dog" if n % 2 else "rain")
            for n in range(count)]  # fmt: skip
    tiny_sets.table(root / "set.csv", ("file", "caption", "label"), rows)
    return root


def fp32(bundle: Path, root: Path, **settings: Any) -> PrecisionResult:
    """The small bundle in one precision."""
    found = evaluate(bundle, root, threads=1, resamples=100, precisions=["fp32"], **settings)
    return found.precisions[0]


@pytest.mark.parametrize("layout", tiny_sets.ALL)
def test_every_layout_with_the_bundle_that_ships(
    tmp_path: Path, bundle_path: Path, layout: str
) -> None:
    found = evaluate(bundle_path, tiny_sets.ALL[layout](tmp_path), threads=1, resamples=100)
    (one,) = found.precisions
    assert (found.layout, one.precision, one.damaged) == (layout, "int8", ())
    assert [rung.dim for rung in one.rungs] == [32, 64, 128, 256, 512]
    assert one.clips == found.clips - len(found.missing) == (10 if layout == "gtzan" else one.clips)
    for rung in one.rungs:
        if found.captions:
            assert set(rung.text_to_audio) == set(rung.audio_to_text) == FIGURES
            assert rung.text_to_audio["R@10"].value == 1.0  # no more than ten clips
        else:
            assert rung.text_to_audio == rung.audio_to_text == {}
            assert 0 <= rung.tasks["classify"]["accuracy"].value <= 1
    if found.classes:
        assert found.templates["classify"] == ("{}", "the sound of {}", "a recording of {}")


def test_the_sample_clips_are_found_and_named(bundle_path: Path) -> None:
    """Law: of 80 sample clips with a caption each, the bundle that ships finds 60 % first and 90 %
    among ten, and names half; each rung within .1 of the others at ten."""
    folder = demo.read_samples()[0].path.parent
    found = evaluate(bundle_path, folder, threads=1)
    (one,) = found.precisions
    whole = one.rungs[-1]
    assert whole.text_to_audio["R@1"].value >= 0.6
    assert whole.text_to_audio["R@10"].value >= 0.9
    assert whole.tasks["classify"]["accuracy"].value >= 0.5
    tens = [rung.text_to_audio["R@10"].value for rung in one.rungs]
    assert max(tens) - min(tens) <= 0.1
    low, high = whole.text_to_audio["R@1"].low, whole.text_to_audio["R@1"].high
    assert low is not None
    assert high is not None
    assert low < whole.text_to_audio["R@1"].value < high


def test_figures_are_those_of_the_engines_own_rows(tmp_path: Path, tiny_path: Path) -> None:
    """Law: R@1 and accuracy equal what embed_text, embed_audio and classify give by hand."""
    root = csv_set(tmp_path / "set")
    one = fp32(tiny_path, root)
    texts = [f"a slow banjo {'melody ' * n}".strip() for n in range(6)]
    files = [root / f"{n}.wav" for n in range(6)]
    with clap_engine.load(tiny_path, threads=1, precision="fp32") as engine:
        scores = engine.embed_text(texts) @ engine.embed_audio(files).T
        named = [best[0]["label"] for best in engine.classify(files, ["dog", "rain"])]
    whole = one.rungs[-1]
    first = np.mean(scores.argmax(axis=1) == np.arange(6))
    assert whole.text_to_audio["R@1"].value == pytest.approx(first)
    right = np.mean([n == ("dog" if i % 2 else "rain") for i, n in enumerate(named)])
    assert whole.tasks["classify"]["accuracy"].value == pytest.approx(right)


def test_missing_and_damaged_sounds_are_counted_and_told(
    tmp_path: Path, tiny_path: Path, run: Run
) -> None:
    root = csv_set(tmp_path / "set")
    (root / "1.wav").unlink()
    (root / "2.wav").write_bytes(b"RIFF")
    (root / "4.wav").unlink()
    (root / "4.wav").mkdir()  # no file either
    command = ("evaluate", "--bundle", tiny_path, "--set", root)
    code, out, err = run(*command, "--json")
    record = json.loads(out)
    assert code == 1
    assert (record["clips"], record["missing"]) == (6, ["1.wav", "4.wav"])
    one, other = record["precisions"]
    assert (one["precision"], other["precision"]) == ("fp32", "int8")
    assert one["clips"] == 3
    assert [failure["clip"] for failure in one["damaged"]] == ["2.wav"]
    assert one["rungs"][-1]["text_to_audio"]["R@1"]["clips"] == 3
    assert "2 of 6 clips have no file, and are in no figure:\n  1.wav\n  4.wav" in err
    assert "1 of 6 clips can't be read (fp32), and are in no figure:\n  2.wav: " in err
    code, out, _ = run(*command)
    assert code == 1
    assert out.splitlines()[0].split("\t")[2] == "text to audio R@1"


def test_whole_recordings_are_not_taken_for_excerpts(tmp_path: Path, tiny_path: Path) -> None:
    root = tiny_sets.musiccaps(tmp_path)
    tiny_sets.sound(root / "data" / "-0SdAVK79lg.wav", 2, seconds=30)
    one = fp32(tiny_path, root)
    assert one.clips == 1
    assert "lasts 30.0 s, the clip that is meant at most 11 s; cut it" in one.damaged[0].error


def test_one_clip_one_caption(tmp_path: Path, tiny_path: Path) -> None:
    """Law: nothing to confuse it with, so all is found, and no interval is claimed."""
    tiny_sets.sound(tmp_path / "a.wav", 1)
    tiny_sets.table(tmp_path / "set.csv", ("file", "caption"), [("a.wav", "a banjo")])
    one = fp32(tiny_path, tmp_path)
    for rung in one.rungs:
        for figure in (*rung.text_to_audio.values(), *rung.audio_to_text.values()):
            assert (figure.value, figure.low, figure.high) == (1.0, None, None)


def test_duplicates_are_ranked_in_the_order_of_the_set(tmp_path: Path, tiny_path: Path) -> None:
    """Law: of N clips that are the same sound under the same caption, the k first are found."""
    n = 20
    tiny_sets.sound(tmp_path / "0.wav", 1)
    for number in range(1, n):
        (tmp_path / f"{number}.wav").write_bytes((tmp_path / "0.wav").read_bytes())
    rows = [(f"{number}.wav", "rain") for number in range(n)]
    tiny_sets.table(tmp_path / "set.csv", ("file", "caption"), rows)
    one = fp32(tiny_path, tmp_path)
    for rung in one.rungs:
        for figures in (rung.text_to_audio, rung.audio_to_text):
            assert [figures[f"R@{k}"].value for k in (1, 5, 10)] == [1 / n, 5 / n, 10 / n]


def test_the_same_seed_gives_the_same_figures(tmp_path: Path, tiny_path: Path) -> None:
    root = csv_set(tmp_path / "set", 8)

    def ask(seed: int) -> Evaluation:
        return evaluate(tiny_path, root, threads=1, resamples=100, limit=5, seed=seed)

    assert ask(1) == ask(1)
    assert ask(1).clips == 5
    assert ask(1).precisions != ask(2).precisions


@pytest.mark.filterwarnings("ignore::clap_engine.errors.PrecisionWarning")
def test_each_precision_of_both_towers(tmp_path: Path, tiny: bundles.Bundle) -> None:
    """Law: a precision that one tower lacks is not measured; with none in common, what each tower
    runs best, and no cache of that."""
    root = csv_set(tmp_path / "set")
    both = evaluate(tiny.path, root, threads=1, resamples=100).precisions
    assert [one.precision for one in both] == ["fp32", "int8"]
    only = evaluate(tiny.path, root, threads=1, resamples=100, precisions=["int8"]).precisions
    assert only == both[1:]
    audio, text = tiny.manifest.audio, tiny.manifest.text
    for kept, wanted in ((("fp32", "int8"), ["int8"]), (("fp32",), ["mixed"])):
        graphs = {p: audio.graphs[p] for p in kept}
        some = resealed(
            tiny.manifest,
            audio=replace(audio, graphs=graphs),
            text=replace(text, graphs={"int8": text.graphs["int8"]}),
        )
        (tiny.path / "manifest.json").write_bytes(manifests.dump(some))
        found = evaluate(tiny.path, root, threads=1, resamples=100).precisions
        assert [one.precision for one in found] == wanted
    with pytest.raises(TaskError, match="share no precision"):
        evaluate(tiny.path, root, threads=1, cache=tmp_path / "cache")


class Interrupted:
    """A stage that Ctrl-C meets when so many clips are done."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, total: int, unit: str) -> AbstractContextManager[Callable[..., None]]:
        def progress(done: int, label: str) -> None:
            if "clips" in unit and done == self.after:
                raise KeyboardInterrupt

        return nullcontext(progress)


def test_an_interrupted_run_is_resumed(tmp_path: Path, tiny_path: Path) -> None:
    """Law: with a cache nothing is embedded twice, and the figures are as if nothing happened."""
    root, cache = csv_set(tmp_path / "set"), tmp_path / "cache"
    plain = fp32(tiny_path, root)
    with pytest.raises(KeyboardInterrupt):
        fp32(tiny_path, root, cache=cache, stage=Interrupted(4))
    resumed = fp32(tiny_path, root, cache=cache)
    assert resumed.cached == 4
    again = fp32(tiny_path, root, cache=cache)
    assert again.cached == 6
    for found in (resumed, again):
        assert found.rungs == plain.rungs
    (root / "0.wav").write_bytes((root / "1.wav").read_bytes())  # another sound, the same name
    other = fp32(tiny_path, root, cache=cache)
    assert other.cached == 5  # files, not clips
    assert other.rungs != plain.rungs


def test_ctrl_c_says_what_is_safe(
    tmp_path: Path, tiny_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = csv_set(tmp_path / "set")
    monkeypatch.setattr(
        "clap_engine.evaluate_verbs.ProgressLine", lambda n, unit: Interrupted(2)(n, unit)
    )
    command = ("evaluate", "--bundle", tiny_path, "--set", root)
    code, _, err = run(*command, "--cache", tmp_path / "cache")
    assert code == 130
    assert "is safe in" in err
    assert "run the same command to go on" in err
    code, out, err = run(*command, "--json")
    assert (code, json.loads(out)) == (130, {"interrupted": True, "cache": None})
    assert "nothing was kept; --cache DIR keeps embeddings" in err


def test_what_cannot_be_measured_is_refused(tmp_path: Path, tiny_path: Path, run: Run) -> None:
    root = csv_set(tmp_path / "set", 2)
    with pytest.raises(NotFoundError, match="precision 'fp16' is not in this bundle"):
        evaluate(tiny_path, root, precisions=["fp16"])
    with pytest.raises(TaskError, match="limit is 0"):
        evaluate(tiny_path, root, limit=0)
    with pytest.raises(TaskError, match="resamples is 10; 100 to"):
        evaluate(tiny_path, root, resamples=10)
    with pytest.raises(TaskError, match="has no place for the label"):
        evaluate(tiny_path, root, templates=["the sound"])
    (root / "0.wav").write_bytes(b"")
    (root / "1.wav").write_bytes(b"")
    with pytest.raises(TaskError, match="none of the 2 sounds .* can be read"):
        evaluate(tiny_path, root)
    for number in range(2):
        (root / f"{number}.wav").unlink()
    with pytest.raises(TaskError, match="none of the 2 clips .* is there; the first is '0.wav'"):
        evaluate(tiny_path, root)
    code, out, err = run("evaluate", "--bundle", tiny_path, "--set", tmp_path / "no", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (3, "NotFoundError")
    tiny_sets.table(root / "set.csv", ("file", "caption"), [])
    code, _, err = run("evaluate", "--bundle", tiny_path, "--set", root)
    assert code == 2
    assert "lists no clip; nothing to measure" in err


def test_a_table_on_a_terminal(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_bundle(tmp_path / "tiny")
    root = csv_set(tmp_path / "set")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    code, out, _ = run("evaluate", "--bundle", path, "--set", root, "--template", "sound of {}")
    assert code == 0
    assert "read as csv, split all: 6 clips, 6 captions, 2 classes of classify; " in out
    assert "text to audio R@1" in out
    assert "8 dims" in out
