"""The exam on towers that know everything, and on towers that know nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tiny_sets

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.evaluation import evaluate
from clap_export import exam, exam_tasks
from clap_export.card import notice
from clap_export.card_mini import exam_section
from clap_export.corpus import broad, lexicon, recorded
from clap_export.corpus.classes import CLASSES, KIND_OF, family
from clap_export.held_out import Towers

pytestmark = pytest.mark.export

WORDS = lexicon.load()
ORDER = {name: i for i, name in enumerate(KIND_OF)}
FRAMES, MELS = 128, 64
PLAIN = 2 * [
    {"class": name, "kind": KIND_OF[name]}
    for name in ("owl", "rain", "rock_beat", "snare_drum", "techno", "whispering", "violin")
]


def corpus(root: Path, split: str, clips: Sequence[dict[str, str]]) -> Path:
    """A split whose log-mels hold the number of their class in the first entry."""
    log_mel = np.zeros((len(clips), FRAMES, MELS), np.uint8)
    log_mel[:, 0, 0] = [ORDER[clip["class"]] % 256 for clip in clips]
    log_mel[:, 0, 1] = [ORDER[clip["class"]] // 256 for clip in clips]
    lines = "\n".join(json.dumps(clip) for clip in clips)
    (root / split).mkdir()
    np.savez(
        root / split / "00000.npz",
        log_mel=log_mel,
        attributes=np.frombuffer(lines.encode(), dtype=np.uint8),
    )
    return root


def directions() -> Float32:
    return l2_normalize(np.random.default_rng(0).standard_normal((len(ORDER), 512)).astype("f4"))


def class_of(text: str) -> str:
    """The class with the longest phrase in a text."""
    tables = (WORDS.known, WORDS.unseen, WORDS.held)
    found = [(len(p), n) for t in tables for n, ps in t.items() for p in ps if p in text]
    return max(found, default=(0, "owl"))[1]


def knowing() -> Towers:
    rows = directions()

    def embed_windows(log_mel: Float32) -> Float32:
        steps = np.rint((log_mel[:, 0, :2] + 80) * (255 / 80)).astype(int)
        return np.asarray(rows[steps[:, 0] + 256 * steps[:, 1]], np.float32)

    return Towers(lambda texts: rows[[ORDER[class_of(text)] for text in texts]], embed_windows)


def test_towers_that_know_the_classes_get_full_marks(tmp_path: Path) -> None:
    report = exam.examine(corpus(tmp_path, "held_out", PLAIN), knowing())
    marks = {mark.name: mark for mark in report.marks}
    for name in ("known hit@1", "held hit@1", "report hit@1", "effects", "genres", "drum patterns"):
        assert marks[name].value == 1.0, name
    assert marks["d=32 of d=512, hit@10"].value == 1.0
    assert set(report.by_class) == {clip["class"] for clip in PLAIN}
    assert "unseen words, hit@1 | 1.000" in exam.table(report)


def test_rows_without_truths_are_left_out(tmp_path: Path) -> None:
    report = exam.examine(corpus(tmp_path, "held_out", PLAIN), knowing())
    names = {mark.name for mark in report.marks}
    assert not names & {"programs", "major or minor", "slow or fast", "effects, unseen generator"}


def test_other_splits_and_attributes_add_their_rows(tmp_path: Path) -> None:
    more = {"program": "40", "family": "strings", "mode": "minor", "tempo": "fast"}
    clips = [{**clip, **more} if clip["class"] == "violin" else clip for clip in PLAIN]
    root = corpus(tmp_path, "held_out", clips)
    corpus(root, "unseen_generator", PLAIN[:2])
    corpus(root, "another_font", clips[2:])
    corpus(root, "train", PLAIN * 20)
    marks = {mark.name: mark for mark in exam.examine(root, knowing()).marks}
    for name in ("programs", "programs top-5", "major or minor", "slow or fast", "families"):
        assert marks[name].clips == 2, name
    assert marks["effects, unseen generator"].clips == 2
    assert marks["programs, another font"].clips == 2
    assert "shortlist of 200 holds the top ten" in marks


def test_a_clip_of_two_sounds_is_asked_for_no_single_name() -> None:
    scene = {"class": "owl", "kind": "effect", "then": "rain"}
    assert all(task.truth(scene) is None for task in exam_tasks.every())


def test_the_family_follows_from_the_class_where_there_is_no_doubt() -> None:
    assert broad.of_family({"class": "violin", "kind": "instrument"}) == family(40)
    assert broad.of_family({"class": "synth_voice", "kind": "instrument"}) is None
    assert broad.of_family({"class": "owl", "kind": "effect"}) is None


def test_patterns_and_single_drums_are_all_drums() -> None:
    both = exam_tasks.PATTERNS + exam_tasks.SINGLE_DRUMS
    assert sorted(both) == sorted(CLASSES["drum"])
    assert len(exam_tasks.SINGLE_DRUMS) == 20


def test_a_labelled_set_of_recordings_adds_its_rows(tmp_path: Path, bundle_path: Path) -> None:
    """As many as `clap-engine evaluate --json` has for its tasks, by all dims."""
    found = evaluate(bundle_path, tiny_sets.esc50(tmp_path), threads=1, resamples=100)
    said = json.loads(json.dumps(asdict(found)))
    (mark,) = exam.of_recordings(said, found.revision, "int8")
    estimate = found.precisions[0].rungs[-1].tasks["classify"]["accuracy"]
    assert (mark.value, mark.clips, mark.due) == (estimate.value, 3, None)
    assert mark.name == "recorded sounds, 3 classes, accuracy"
    with pytest.raises(ValueError, match="named by revision"):
        exam.of_recordings(said, "0" * 64, "int8")
    with pytest.raises(ValueError, match="not named in fp32"):
        exam.of_recordings(said, found.revision, "fp32")


def test_the_notice_of_trained_weights_names_whose_sounds_they_heard() -> None:
    assert "Maxim Topal" in notice(is_trained=True)
    assert "Maxim Topal" not in notice(is_trained=False)
    heard = {
        package.name
        for package in recorded.packages()
        for path, _ in recorded._places(package, Path())
        if path.parent.name == "train"
    }
    assert len(heard) >= 5
    assert all(name in notice(is_trained=True) for name in heard), heard


def test_the_model_card_shows_the_exam(tmp_path: Path) -> None:
    report = exam.examine(corpus(tmp_path, "held_out", PLAIN), knowing())
    said = exam_section(json.loads(json.dumps(report.as_json())))
    assert "| unseen words, hit@1 | 1.000 |" in said
    assert f"is found of {len(report.by_class)} of the {len(report.by_class)} classes" in said
