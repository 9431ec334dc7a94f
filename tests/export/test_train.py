"""Training on a corpus of a few clips: it learns, resumes to the same weights, and finishes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clap_engine.arrays import l2_normalize
from clap_engine.session import GraphSession
from clap_export import anchors, augment, finish, minilm, train
from clap_export.card_mini import training_card
from clap_export.choices import Choices
from clap_export.corpus import lexicon, render
from clap_export.corpus.classes import KIND_OF
from clap_export.graphs import text_graph
from clap_export.graphs.text_graph import Anchors
from clap_export.refine import Refinement, refine
from clap_export.tower import TowerShape
from clap_export.weights import load_weights, random_weights

pytestmark = pytest.mark.export

CLASSES = ("rain", "owl", "piano", "kick_drum", "polka", "whispering", "banjo", "morse_code")
PLAN = train.Plan(
    samples=16 * 6, batch=16, captions_per_clip=1, learning_rate=3e-3, ema=0.5,
    shape=TowerShape(channels=(4, 8, 8, 16), blocks=(0, 1, 0, 0), hidden=32),
)  # fmt: skip


def write_split(folder: Path, count: int, seed: int) -> None:
    """A split in the format of `render`: each class has a spectrum of its own, plus noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    shapes = np.random.default_rng(99).uniform(0, 200, (len(CLASSES), 1, 64))
    which = np.arange(count) % len(CLASSES)
    log_mel = shapes[which] + rng.normal(0, 25, (count, 128, 64))
    log_mel = np.clip(log_mel, 0, 255).astype(np.uint8)
    log_mel[:, 0, 0] = 255
    lines = [
        json.dumps({"class": CLASSES[i], "kind": KIND_OF[CLASSES[i]], "tempo": "slow"})
        for i in which
    ]
    np.savez(
        folder / "00000.npz",
        log_mel=log_mel,
        attributes=np.frombuffer("\n".join(lines).encode(), dtype=np.uint8),
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for seed, (split, count) in enumerate({"train": 64, "validation": 16, "held_out": 16}.items()):
        write_split(root / split, count, seed)
    return root


def test_a_stopped_run_resumes_to_the_weights_of_one_that_was_not(
    corpus: Path, tmp_path: Path
) -> None:
    whole = train.train(corpus, tmp_path / "whole", PLAN)
    assert whole is not None
    assert train.train(corpus, tmp_path / "cut", PLAN, stop_after_s=0.0) is None
    log = tmp_path / "cut" / "log.jsonl"
    assert 0 < json.loads(log.read_text().splitlines()[-1])["step"] < 6
    resumed: list[dict[str, object]] = []
    again = train.train(corpus, tmp_path / "cut", PLAN, report=resumed.append)
    assert again is not None
    assert any("resumed" in line for line in resumed)
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-5), name
    assert (tmp_path / "cut" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_half_windows_come_first_and_hold_the_loudest_frame(corpus: Path, tmp_path: Path) -> None:
    data = train.prepare(corpus, PLAN, tmp_path)
    frames = [train.batches(data, PLAN, step).log_mel.shape[1] for step in range(6)]
    assert frames == [64, 64, 64, 128, 128, 128]
    log_mel = np.zeros((200, 128, 64), np.uint8)
    log_mel[np.arange(200), np.arange(200) % 128, 5] = 9
    parts = train.cut(log_mel, 64, np.random.default_rng(0))
    assert parts.shape == (200, 64, 64)
    assert (parts.sum(axis=(1, 2)) == 9).all()


def test_more_grooves_are_learnt_from_where_they_are(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    assert len(render.load_training(root)[1]) == 64
    write_split(root / "grooves", 16, 7)
    log_mel, clips = render.load_training(root)
    assert log_mel.shape[0] == len(clips) == 80
    assert np.array_equal(log_mel[64:], render.load(root / "grooves")[0])
    assert np.array_equal(train.prepare(root, PLAN, tmp_path).log_mel, log_mel)


def test_a_run_goes_on_from_weights(corpus: Path) -> None:
    weights = random_weights()
    weights = replace(weights, scalars={"logit_scale": 20.0})
    deeper = replace(TowerShape(), blocks=(0, 2, 3, 2))
    plan = replace(PLAN, shape=deeper, started_from=weights.audio_digest)
    learner = train.begin(plan, weights).eval()
    log_mel = torch.from_numpy(weights.log_mels[:4])
    with torch.inference_mode():
        for a, b in zip(learner.audio(log_mel), weights.tower()(log_mel), strict=True):
            assert torch.allclose(a, b, atol=1e-5)
        text = learner.text(torch.eye(384)[:3]).numpy()
    assert np.allclose(text, l2_normalize(weights.head.weight[:3]), atol=1e-5)
    assert learner.text.logit_scale.exp().item() == pytest.approx(20.0)
    with pytest.raises(ValueError, match="begins with weights"):
        train.begin(replace(plan, started_from=""), weights)
    with pytest.raises(ValueError, match="more blocks"):
        train.begin(replace(plan, shape=TowerShape(blocks=(0, 1, 2, 1))), weights)


def test_a_run_of_another_plan_is_refused(corpus: Path, tmp_path: Path) -> None:
    train.train(corpus, tmp_path, PLAN, stop_after_s=0.0)
    with pytest.raises(ValueError, match="another plan"):
        train.train(corpus, tmp_path, replace(PLAN, learning_rate=1e-4))


def test_it_learns_and_finishes(corpus: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, samples=16 * 60)
    learner = train.train(corpus, tmp_path / "run", plan)
    assert learner is not None
    out = tmp_path / "weights.safetensors"
    figures = finish.finish(
        corpus, tmp_path / "run", learner, plan, out, lambda line: None, Refinement(20, 16)
    )
    # 8 classes: one of two clips of each in the gallery of 16.
    assert figures["chance_hit@1"] < 0.2
    assert figures["known"]["hit@1"] > 2 * figures["chance_hit@1"]
    weights = load_weights(out)
    assert weights.scalars["figures"]["known"] == figures["known"]
    assert "held-out gallery" in training_card(weights.scalars["figures"], weights.scalars["facts"])
    for name, value in learner.audio.state_dict().items():
        if name != "head.weight":
            assert np.allclose(weights.audio[name], value.numpy(), rtol=1e-3, atol=1e-6), name
    log_mel = torch.from_numpy(weights.log_mels)
    with torch.inference_mode():
        before, after = learner.audio(log_mel)[0], weights.tower()(log_mel)[0]
    assert not torch.allclose(after, before, atol=0.05)  # turned, and nothing else
    assert torch.allclose(after @ after.T, before @ before.T, atol=2e-3)


def test_finish_embeds_texts_as_the_graph_does() -> None:
    encoder, words = minilm.load(), lexicon.load()
    rng = np.random.default_rng(0)
    head = rng.normal(0, 0.05, (384, 512)).astype(np.float32)
    phrases = [words.known[name][0] for name in CLASSES]
    from clap_export import sentences

    keys = sentences.embed(encoder, phrases)
    values = l2_normalize(rng.standard_normal((len(CLASSES), 512)).astype(np.float32))
    texts = ["a tawny owl at night", "rain"]
    many = np.repeat(keys, 2, axis=0) + rng.normal(0, 0.1, (2 * len(keys), 384))
    for drawn in (
        None,
        Anchors(keys, None, 0.4, 0.05),
        Anchors(keys, values, 0.6, 0.04),
        Anchors(many.astype(np.float32), values, 0.6, 0.5),
    ):
        expected = finish.embed_texts(sentences.embed(encoder, texts), head, drawn)
        model = text_graph.build(encoder, text_graph.TextHead(head), drawn)
        session = GraphSession(model.SerializeToString(), name="text")
        for text, row in zip(texts, expected, strict=True):
            ids = tokens(encoder.tokenizer_json, text)
            (found,) = session.run(
                ["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            )
            assert np.abs(found[0] - row).max() < 2e-5


def tokens(tokenizer_json: bytes, text: str) -> np.ndarray:
    from tokenizers import Tokenizer

    return np.array([Tokenizer.from_str(tokenizer_json.decode()).encode(text).ids], np.int64)


def test_refining_lowers_the_loss_and_leaves_its_inputs() -> None:
    rng = np.random.default_rng(4)
    audio = l2_normalize(rng.standard_normal((64, 512)).astype(np.float32))
    sentences = l2_normalize(rng.standard_normal((64, 1, 384)).astype(np.float32))
    head = rng.normal(0, 0.05, (384, 512)).astype(np.float32)
    keys = rng.standard_normal((8, 384)).astype(np.float32)
    values = l2_normalize(rng.standard_normal((8, 512)).astype(np.float32))
    start, before = Anchors(keys, values, 0.3, 0.65), (head.copy(), keys.copy())

    def right(weight: np.ndarray, drawn: Anchors) -> float:
        text = finish.embed_texts(sentences[:, 0], weight, drawn)
        return float(((text @ audio.T).argmax(axis=1) == np.arange(64)).mean())

    weight, refined = refine(audio, sentences, head, start, 14.0, Refinement(60, 64))
    assert right(head, start) < 0.1
    assert right(weight, refined) > 0.9
    assert np.array_equal(head, before[0])
    assert np.array_equal(keys, before[1])
    shared = replace(start, keys=np.repeat(keys, 3, axis=0))
    _, refined = refine(audio, sentences, head, shared, 14.0, Refinement(5, 64))
    assert np.allclose(refined.keys.reshape(8, 3, 384), refined.keys[::3, None], atol=1e-6)
    with pytest.raises(ValueError, match="a value for each key"):
        refine(audio, sentences, head, Anchors(keys, None, 0.3, 0.65), 14.0)


def test_keys_near_phrases_know_their_class_and_their_neighbours() -> None:
    rng = np.random.default_rng(6)
    # Two classes of five bunches each, far apart within a class, and keys that say nothing.
    bunches = l2_normalize(rng.standard_normal((10, 384)).astype(np.float32))
    noise = rng.normal(0, 0.02, (90, 384)).astype(np.float32)
    phrases = l2_normalize(np.repeat(bunches, 9, axis=0) + noise)
    classes = [0] * 45 + [1] * 45
    keys = anchors.near_phrases(phrases, classes, np.zeros((2, 384), np.float32), per_class=5)
    assert keys.shape == (10, 384)
    scores = bunches @ keys.T
    assert (scores.reshape(10, 2, 5).max(axis=2).argmax(axis=1) == [0] * 5 + [1] * 5).all()
    few = anchors.near_phrases(phrases[[0, 45]], [0, 1], np.zeros((2, 384), np.float32), 3)
    assert np.allclose(few[:3], phrases[0] / anchors.NEARNESS, atol=1e-4)
    with pytest.raises(ValueError, match="class 2 has no phrases"):
        anchors.near_phrases(phrases, classes, np.zeros((3, 384), np.float32))


def test_what_is_told_in_order_is_not_shifted() -> None:
    log_mel = torch.full((64, 128, 64), -80.0)
    log_mel[:, 10:14] = 0.0
    in_order = torch.arange(64) % 2 == 0
    moved = augment.augment(log_mel, torch.Generator().manual_seed(1), in_order)
    loudest = moved.sum(dim=2).argmax(dim=1)
    stayed = (loudest >= 10) & (loudest < 14)
    assert stayed[in_order].float().mean() > 0.9  # masked time hides it now and then
    assert stayed[~in_order].float().mean() < 0.3


def test_a_stretch_plays_faster_or_slower_from_the_start() -> None:
    log_mel = torch.full((3, 128, 64), -80.0)
    log_mel[:, ::16] = 0.0
    played = augment.stretch(log_mel, torch.tensor([1.0, 0.5, 2.0]))
    assert torch.equal(played[0], log_mel[0])
    for row, every in ((1, 32), (2, 8)):
        assert (played[row].mean(dim=1) == 0).nonzero()[:, 0].tolist() == list(range(0, 128, every))
    slightly = augment.stretch(log_mel[:1], torch.tensor([33 / 32]))[0]
    assert slightly[31, 0].item() == pytest.approx(-2.5, abs=1e-2)  # a 32nd before the beat


def test_only_what_goes_on_as_it_is_gets_another_tempo() -> None:
    log_mel = torch.full((256, 128, 64), -80.0)
    log_mel[:, ::8] = 0.0
    steady = torch.arange(256) % 2 == 0

    def share(moved: torch.Tensor) -> torch.Tensor:
        """Of the spectrum over time, what a beat every eight frames has: masks and noise take
        some."""
        power = torch.fft.rfft(moved.mean(dim=2), dim=1).abs().square()[:, 1:]
        return power[:, 15::16].sum(dim=1) / power.sum(dim=1)

    plain = augment.augment(log_mel, torch.Generator().manual_seed(1))
    moved = augment.augment(log_mel, torch.Generator().manual_seed(1), None, steady)
    assert (share(plain) > 0.6).float().mean() > 0.8
    assert (share(moved[~steady]) > 0.6).float().mean() > 0.8
    off_beat = (share(moved[steady]) < 0.5).float().mean()
    assert 0.35 < off_beat < 0.85  # STRETCHED of them, of which some are played nearly as before


def test_augmentation_keeps_the_range_and_the_peak() -> None:
    generator = torch.Generator().manual_seed(0)
    log_mel = -80 * torch.rand(64, 128, 64, generator=generator)
    before = log_mel.clone()
    moved = augment.augment(log_mel, generator)
    assert torch.equal(before, log_mel)
    assert moved.shape == log_mel.shape
    assert moved.min() >= -80
    assert moved.max() <= 0
    assert (moved != log_mel).any(dim=(1, 2)).all()


def test_batches_depend_on_seed_and_step_alone(corpus: Path, tmp_path: Path) -> None:
    data = train.prepare(corpus, PLAN, tmp_path)
    first = train.batches(data, PLAN, 3)
    again = train.batches(data, PLAN, 3)
    assert torch.equal(first.log_mel, again.log_mel)
    assert torch.equal(first.sentence, again.sentence)
    for one, other in zip(first.asked, again.asked, strict=True):
        assert all(map(torch.equal, one, other))
    assert not torch.equal(first.log_mel, train.batches(data, PLAN, 4).log_mel)
    # Two half clips a pair: one row of log-mels less than captions for each.
    assert len(first.sentence) == PLAN.batch
    assert len(first.log_mel) == PLAN.batch - first.pairs
    singles = PLAN.batch - 2 * first.pairs
    assert {len(truths) for _, truths in first.asked} == {singles}
    assert {len(values) for values in first.targets.values()} == {singles}


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_tower_learns_what_captions_do_not_say(
    corpus: Path, tmp_path: Path, weight: float
) -> None:
    """Loud bands above or below, with the same captions: only a question tells them apart."""
    data = train.prepare(corpus, PLAN, tmp_path)
    rng = np.random.default_rng(1)
    side = np.arange(256) % 2
    log_mel = rng.integers(0, 60, (256, 128, 64))
    log_mel[side == 0, :, :32] += 150
    log_mel[side == 1, :, 32:] += 150
    answers = Choices("side", np.eye(2, 384, dtype=np.float32), np.arange(3), side.astype(np.int64))
    told = replace(
        data, log_mel=log_mel.astype(np.uint8), attributes=[{}] * 256, asked=(answers,),
        sentences=np.repeat(data.sentences[:1], 256, axis=0),
        targets={name: np.full(256, -1) for name in data.targets},
    )  # fmt: skip
    plan = replace(PLAN, choices_weight=weight, samples=16 * 120)
    torch.manual_seed(0)
    learner = train.Learner(plan.shape)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    for step in range(120):
        loss = learner.loss(train.batches(told, plan, step), plan)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    audio = train.embed_clips(learner.audio, told.log_mel)
    with torch.inference_mode():
        text = learner.text(torch.eye(2, 384)).numpy()
    right = float(((audio @ text.T).argmax(axis=1) == side).mean())
    assert right > 0.95 if weight else right < 0.8


def test_the_averaged_weights_follow_the_learner() -> None:
    slow, fast = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    start = slow.weight.detach().clone()
    train.update_average(slow, fast, 0.9)
    assert torch.allclose(slow.weight, 0.9 * start + 0.1 * fast.weight.detach(), atol=1e-7)
