"""Questions with few answers: their words, their truths, and that the text side learns them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clap_engine.arrays import Float32, l2_normalize
from clap_export import choices, finish, minilm
from clap_export.choices import Choices
from clap_export.corpus import broad, lexicon
from clap_export.corpus.classes import CLASSES
from clap_export.exam_tasks import MODES, SOURCES, TEMPI
from clap_export.graphs.text_graph import Anchors
from clap_export.refine import Refinement, refine

pytestmark = pytest.mark.export

OWL = {"class": "owl", "kind": "effect"}
VIOLIN = {"class": "violin", "kind": "instrument", "tempo": "slow", "mode": "minor"}


def test_broad_words_hold_no_word_of_the_questions() -> None:
    said = [p for table in broad.phrases().values() for ps in table.values() for p in ps]
    assert len(said) > 250
    assert lexicon.problems(lexicon.load(), said) == []


def test_the_exam_asks_in_other_words_than_training_read() -> None:
    """But for plain names, for which there are no others."""
    plain = {"speech", "music"}
    for question, asked in (("source", SOURCES), ("tempo", TEMPI), ("mode", MODES)):
        read = {p for phrases in broad.phrases()[question].values() for p in phrases}
        assert read & {p for phrases in asked.values() for p in phrases} <= plain, question


def test_what_is_true_of_a_clip() -> None:
    def told(clip: dict[str, str]) -> dict[str, str | None]:
        return {question: broad.truth(question, clip) for question in broad.phrases()}

    assert told(OWL)["source"] == told(OWL)["kind"] == "effect"
    assert told(OWL)["family"] is told(OWL)["tempo"] is None
    found = told(VIOLIN)
    assert [found[name] for name in ("source", "kind", "family", "tempo", "mode")] == [
        "music", "instrument", "strings", "slow", "minor",
    ]  # fmt: skip
    assert set(told({**VIOLIN, "with": "rain"}).values()) == {None}


def test_choices_of_clips() -> None:
    asked = {each.name: each for each in choices.of_clips(minilm.load(), [OWL, VIOLIN])}
    tempo = asked["tempo"]
    assert len(tempo) == 2
    assert tempo.truths.tolist() == [-1, 0]
    assert tempo.vectors.shape == (tempo.starts[-1], 384)
    drawn = tempo.drawn(np.random.default_rng(0))
    places = [int(np.flatnonzero((tempo.vectors == row).all(axis=1))[0]) for row in drawn]
    assert tempo.owners[places].tolist() == [0, 1]
    vectors, owners = choices.numbered(list(asked.values()))
    assert len(vectors) == len(owners)
    assert np.unique(owners).tolist() == list(range(sum(map(len, asked.values()))))
    centres = choices.centres(list(asked.values()), np.eye(2, 512, dtype=np.float32))
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)


def test_choices_of_classes() -> None:
    scene = {**OWL, "then": "rain"}
    words = lexicon.load()
    asked = choices.of_classes([OWL, VIOLIN, scene])
    assert [each.name for each in asked] == [f"which {kind}" for kind in CLASSES]
    for each, names in zip(asked, CLASSES.values(), strict=True):
        assert len(each) == len(names)
        assert np.diff(each.starts).tolist() == [len(words.known[name]) for name in names]
    effects, instruments = (
        next(each for each in asked if each.name == f"which {kind}")
        for kind in ("effect", "instrument")
    )
    assert effects.truths.tolist() == [CLASSES["effect"].index("owl"), -1, -1]
    assert instruments.truths.tolist() == [-1, CLASSES["instrument"].index("violin"), -1]


def test_the_loss_is_that_of_choosing() -> None:
    audio, text = torch.eye(4, 512), torch.eye(2, 512)
    scale = torch.tensor(3.0)
    right = choices.loss(audio, text, torch.tensor([0, 1, -1, -1]), scale)
    wrong = choices.loss(audio, text, torch.tensor([1, 0, -1, -1]), scale)
    assert right < 1e-6
    assert wrong.item() == pytest.approx(scale.exp().item(), rel=1e-4)
    assert choices.loss(audio, text, torch.full((4,), -1), scale) == 0


def test_refining_learns_what_captions_do_not_say() -> None:
    """Clips differ by one direction that no caption speaks of, and a question asks for it."""
    rng = np.random.default_rng(4)
    side = np.repeat([0, 1], 64)
    audio = rng.standard_normal((128, 512)).astype(np.float32)
    audio[:, 0] += np.where(side == 1, 12.0, -12.0)
    audio = l2_normalize(audio)
    captions = l2_normalize(rng.standard_normal((128, 1, 384)).astype(np.float32))
    words = l2_normalize(rng.standard_normal((10, 384)).astype(np.float32))
    question = Choices("side", words[:6], np.array([0, 3, 6]), side)
    head = rng.normal(0, 0.05, (384, 512)).astype(np.float32)
    keys = l2_normalize(np.concatenate([words[6:], words[:6:3]])) * 20
    values = l2_normalize(rng.standard_normal((6, 512)).astype(np.float32))
    start, plan = Anchors(keys, values, 0.3, 0.65), Refinement(80, 64, choices=1.0)

    def right(head: Float32, drawn: Anchors) -> float:
        text = finish.embed_texts(words[[1, 4]], head, drawn)
        return float(((audio @ text.T).argmax(axis=1) == side).mean())

    plain = refine(audio, captions, head, start, 14.0, plan)
    asked = refine(audio, captions, head, start, 14.0, plan, [question])
    assert right(*plain) < 0.8
    assert right(*asked) > 0.95
    assert np.array_equal(np.asarray(plain[1].values), values)
    learned = np.asarray(asked[1].values)
    assert np.array_equal(learned[:4], values[:4])
    assert np.allclose(np.linalg.norm(learned, axis=1), 1, atol=1e-5)
    assert (learned[4:] * values[4:]).sum(axis=1).max() < 0.999
