"""Training clap-mini: the audio tower from scratch, one Matryoshka head per side, frozen trunk.

In:  a rendered corpus, the sentence encoder, a `Plan`.
Out: a folder with `checkpoint.pt` (resumes), `log.jsonl`, `curves.png` and `weights.safetensors`.
Knows nothing about graphs, bundles or rendering.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clap_engine.arrays import Float32
from clap_export import choices, minilm, retrieval, sentences
from clap_export.augment import augment
from clap_export.choices import Choices
from clap_export.corpus import captions, render
from clap_export.corpus import lexicon as words
from clap_export.corpus.captions import ATTRIBUTE_FORMS
from clap_export.corpus.classes import FAMILIES, KIND_OF
from clap_export.heads import TextHead, matryoshka_loss
from clap_export.tower import AudioTower, TowerShape, deepened
from clap_export.weights import Weights

PROGRESS_STEPS = 50
# Of a plan, by a run that resumes.
MAY_CHANGE = ("threads", "device", "kept")


@dataclass(frozen=True)
class Plan:
    """Everything that a training run depends on, beside the corpus."""

    samples: int = 768_000
    batch: int = 256
    learning_rate: float = 2e-3
    short_share: float = 0.5  # of the steps, the first ones: half windows, at twice the speed
    started_from: str = ""  # digest of the audio tower that the run begins with, if any
    kept: float = 0.0  # how much of those weights stays in what is finished (`interpolate`)
    weight_decay: float = 0.05
    warmup: float = 0.03
    captions_per_clip: int = 4
    sentence_noise: float = 0.05
    attribute_weight: float = 0.3
    choices_weight: float = 0.5  # of the mean over all questions
    pairs: float = 0.1
    ema: float = 0.999
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    shape: TowerShape = field(default_factory=TowerShape)


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    The first `pairs` rows of `log_mel` [B, F, M] are two clips, half a window each; their captions
    are the first 2 * pairs of `sentence` [B + pairs, 384]. `targets` and the truths of what is
    `asked`, one sentence an answer [A, 384] and the right one [B - pairs], are of the others.
    """

    log_mel: Tensor
    sentence: Tensor
    targets: dict[str, Tensor]
    asked: tuple[tuple[Tensor, Tensor], ...]
    pairs: int

    def to(self, device: torch.device) -> Batch:
        """The same there."""
        return Batch(
            self.log_mel.to(device),
            self.sentence.to(device),
            {name: value.to(device) for name, value in self.targets.items()},
            tuple((answers.to(device), truths.to(device)) for answers, truths in self.asked),
            self.pairs,
        )


@dataclass(frozen=True)
class Batchable:
    """A split in memory: log-mels uint8 [N, F, M], captions [N, C, 384], attribute targets, and
    questions that its clips answer."""

    log_mel: np.ndarray
    attributes: list[dict[str, str]]
    sentences: Float32
    targets: dict[str, np.ndarray]
    asked: tuple[Choices, ...] = ()

    def lacks(self, names: frozenset[str]) -> np.ndarray:
        """bool [N]: the clips of which none of these attributes is told."""
        return np.array([names.isdisjoint(clip) for clip in self.attributes])

    @cached_property
    def steady(self) -> np.ndarray:
        """bool [N]: sounds that fill their window, so that either half is as good as the whole."""
        return self.lacks(frozenset({"timing", "count", "length", "then"}))

    @cached_property
    def single(self) -> np.ndarray:
        """Indices of the clips that are no sequence: the part around the loudest frame will do."""
        return np.flatnonzero(self.lacks(frozenset({"then"})))


TARGETS: dict[str, tuple[str, ...]] = {
    "class": tuple(KIND_OF),
    "program": tuple(str(program) for program in range(8 * len(FAMILIES))),
    "family": FAMILIES,
    **{name: tuple(forms) for name, forms in ATTRIBUTE_FORMS.items()},
}


class AttributeHeads(nn.Module):
    """Linear classifiers of what captions claim, on the mean hidden features; training only."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {name: nn.Linear(hidden, len(values)) for name, values in TARGETS.items()}
        )

    def loss(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy over attributes; -1 marks a clip without that attribute."""
        total = hidden.new_zeros(())
        for name, head in self.heads.items():
            if (targets[name] >= 0).any():
                total = total + functional.cross_entropy(
                    head(hidden), targets[name], ignore_index=-1
                )
        return total / len(self.heads)


class Learner(nn.Module):
    """All that is trained, and the loss of one batch."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.audio = AudioTower(shape)
        self.text = TextHead(dim=shape.dim)
        self.attributes = AttributeHeads(shape.hidden)

    def loss(self, batch: Batch, plan: Plan) -> Tensor:
        """Captions, attributes and questions; of two clips in one window each half must match its
        own caption: so frames learn to speak for themselves."""
        log_mel, pairs = batch.log_mel, batch.pairs
        hidden, weights = self.audio.features(log_mel)
        hidden, weights = hidden.float(), weights.float()
        frames = self.audio.head(hidden) * weights
        half = frames.shape[1] // 2
        first = torch.stack([frames[:pairs, :half].sum(1), frames[:pairs, half:].sum(1)], dim=1)
        embedding = torch.cat([first.flatten(0, 1), frames[pairs:].sum(1)])
        text = torch.split(
            self.text(torch.cat([batch.sentence, *(answers for answers, _ in batch.asked)])),
            [len(batch.sentence), *(len(answers) for answers, _ in batch.asked)],
        )
        scale = self.text.logit_scale
        loss = matryoshka_loss(embedding, text[0], scale)
        mean = (hidden * weights).sum(1)[pairs:]
        loss = loss + plan.attribute_weight * self.attributes.loss(mean, batch.targets)
        for answers, (_, truths) in zip(text[1:], batch.asked, strict=True):
            one = choices.loss(embedding[2 * pairs :], answers, truths, scale)
            loss = loss + plan.choices_weight / len(batch.asked) * one
        return loss


def attribute_targets(clips: Sequence[dict[str, str]]) -> dict[str, np.ndarray]:
    return {
        name: np.array(
            [values.index(clip[name]) if clip.get(name) in values else -1 for clip in clips],
            dtype=np.int64,
        )
        for name, values in TARGETS.items()
    }


def prepare(
    corpus: Path, plan: Plan, cache: Path, progress: Callable[[int, int], None] | None = None
) -> Batchable:
    """All training clips, with `captions_per_clip` captions a clip as sentence vectors, and what
    may be asked of its clips."""
    log_mel, clips = render.load_training(corpus)
    lexicon = words.load()
    rng = np.random.default_rng([plan.seed, 3])
    texts = [
        captions.known(rng, lexicon, clip).text
        for clip in clips
        for _ in range(plan.captions_per_clip)
    ]
    key = render.digest(texts)
    path = cache / f"sentences-{key}.npy"
    if path.exists():
        vectors = np.load(path, allow_pickle=False)
    else:
        cache.mkdir(parents=True, exist_ok=True)
        vectors = sentences.embed(minilm.load(), texts, bfloat16=True, progress=progress).astype(
            np.float16
        )
        np.save(path, vectors)
    shape = (len(clips), plan.captions_per_clip, -1)
    asked = (*choices.of_clips(minilm.load(), clips), *choices.of_classes(clips))
    return Batchable(log_mel, clips, vectors.reshape(shape), attribute_targets(clips), asked)


def to_decibels(log_mel: np.ndarray) -> Tensor:
    return torch.from_numpy(log_mel).float() * render.DB_STEP - 80.0


@torch.inference_mode()
def embed_clips(tower: AudioTower, log_mel: np.ndarray, batch: int = 128) -> Float32:
    """uint8 [N, F, M] -> float32 [N, D]."""
    tower.eval()
    device = next(tower.parameters()).device
    rows: Float32 = in_batches(lambda x: tower(x)[0], log_mel, device, batch).cpu().numpy()
    return rows


def in_batches(
    function: Callable[[Tensor], Tensor],
    log_mel: np.ndarray,
    device: torch.device,
    batch: int = 128,
) -> Tensor:
    """`function` of the dB [B, F, M] of clips uint8 [N, F, M], some at a time."""
    starts = range(0, len(log_mel), batch)
    return torch.cat([function(to_decibels(log_mel[i : i + batch]).to(device)) for i in starts])


class Examiner:
    """hit@k on the validation split, in known wording and in unseen words for development."""

    def __init__(self, corpus: Path, limit: int = 1000) -> None:
        log_mel, clips = render.load(corpus / "validation")
        self.log_mel, clips = log_mel[:limit], clips[:limit]
        lexicon, encoder = words.load(), minilm.load()
        self.sets = {}
        for wording in ("known", "development"):
            asked = retrieval.queries(lexicon, clips, wording)
            vectors = sentences.embed(encoder, [caption.text for caption in asked])
            self.sets[wording] = (vectors, retrieval.relevance(asked, clips))

    @torch.inference_mode()
    def examine(self, learner: Learner) -> dict[str, float]:
        audio = embed_clips(learner.audio, self.log_mel)
        device = learner.text.linear.weight.device
        result = {}
        for wording, (vectors, relevant) in self.sets.items():
            text = learner.text(torch.from_numpy(vectors).to(device)).cpu().numpy()
            for name, value in retrieval.hits(text, audio, relevant, (32, 512), (1, 10)).items():
                result[f"{wording} {name}"] = value
        return result


def begin(plan: Plan, weights: Weights | None) -> Learner:
    """A learner as the plan's seed draws it, or one that goes on from the weights of a bundle.

    ValueError where `plan.started_from` speaks of other weights.
    """
    digest = "" if weights is None else weights.audio_digest
    if digest != plan.started_from:
        raise ValueError(f"the plan begins with weights {plan.started_from!r}, not {digest!r}")
    torch.manual_seed(plan.seed)
    learner = Learner(plan.shape)
    if weights is not None:
        tower = weights.tower()
        learner.audio = deepened(tower.state_dict(), tower.shape, plan.shape)
        with torch.no_grad():
            learner.text.linear.weight.copy_(torch.from_numpy(weights.head.weight.T))
            learner.text.logit_scale.fill_(math.log(weights.scalars["logit_scale"]))
    return learner


def cut(log_mel: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """[N, F, M] -> [N, frames, M]: a part of each window in which its loudest frame lies."""
    count, whole, _ = log_mel.shape
    loudest = log_mel.sum(axis=2, dtype=np.int64).argmax(axis=1)
    first = loudest - rng.integers(frames, size=count)
    first = np.clip(first, 0, whole - frames)
    return log_mel[np.arange(count)[:, None], first[:, None] + np.arange(frames)]


def batches(data: Batchable, plan: Plan, step: int) -> Batch:
    """Batch number `step`; it depends on the plan's seed and the step alone, so runs resume."""
    rng = np.random.default_rng([plan.seed, 4, step])
    _, frames, mels = data.log_mel.shape
    is_short = step < plan.short_share * (plan.samples // plan.batch)
    candidates = data.single if is_short else np.arange(len(data.log_mel))
    rows = rng.choice(candidates, plan.batch, replace=False)
    pairs = int(plan.batch * plan.pairs) // 2
    halves = rows[data.steady[rows]][: 2 * pairs]
    pairs = len(halves) // 2
    halves = halves[: 2 * pairs]
    rest = np.setdiff1d(rows, halves)
    if is_short:
        frames //= 2
    halved = data.log_mel[halves][:, : frames // 2].reshape(pairs, frames, mels)
    single = cut(data.log_mel[rest], frames, rng) if is_short else data.log_mel[rest]
    log_mel = to_decibels(np.concatenate([halved, single]))
    order = np.concatenate([halves, rest])
    which = rng.integers(data.sentences.shape[1], size=len(order))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))

    def noisy(vectors: Float32) -> Tensor:
        sentence = torch.from_numpy(vectors.astype(np.float32))
        noise = torch.randn(sentence.shape, generator=generator)
        return functional.normalize(sentence + plan.sentence_noise * noise, dim=-1)

    sentence = noisy(data.sentences[order, which])
    asked = tuple(
        (noisy(each.drawn(rng)), torch.from_numpy(each.truths[rest])) for each in data.asked
    )
    in_order = torch.from_numpy(~np.isin(rest, data.single))
    steady = torch.from_numpy(data.steady[rest])
    whole = augment(log_mel[pairs:], generator, in_order, steady)
    log_mel = torch.cat([log_mel[:pairs], whole])
    targets = {name: torch.from_numpy(values[rest]) for name, values in data.targets.items()}
    return Batch(log_mel, sentence, targets, asked, pairs)


def learning_rate(plan: Plan, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine."""
    warm = max(1, int(plan.warmup * steps))
    if step < warm:
        return plan.learning_rate * (step + 1) / warm
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def train(
    corpus: Path,
    out: Path,
    plan: Plan,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    examine_every_s: float = 240.0,
    stop_after_s: float = math.inf,
    weights: Weights | None = None,
) -> Learner | None:
    """Trains (or resumes) until the plan's samples are seen; the averaged weights, or None when
    `stop_after_s` came first. `weights` are what a run with `plan.started_from` begins with."""
    torch.set_num_threads(plan.threads)
    out.mkdir(parents=True, exist_ok=True)
    data = prepare(corpus, plan, out, lambda done, n: report({"sentences": done, "of": n}))
    examiner = Examiner(corpus)
    device = torch.device(plan.device)
    learner, average = begin(plan, weights).to(device), Learner(plan.shape).to(device)
    # Channels last is what the matrix instructions of CPUs and GPUs want.
    for module in (learner, average):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.load_state_dict(learner.state_dict())
    decay = [p for p in learner.parameters() if p.ndim > 1]
    plain = [p for p in learner.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": plan.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=plan.learning_rate,
        betas=(0.9, 0.98),
    )
    steps = plan.samples // plan.batch
    checkpoint = out / "checkpoint.pt"
    first, spent_s = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        if state["plan"] != fixed_part(plan):
            raise ValueError(
                f"{checkpoint} belongs to another plan ({state['plan']}); give another folder"
            )
        learner.load_state_dict(state["learner"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent_s = state["step"], state["spent_s"]
        report({"resumed": first, "of": steps})
    began = examined = time.monotonic()
    losses: list[float] = []
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step, steps)
        batch = batches(data, plan, step).to(device)
        learner.train()
        with torch.autocast(device.type, torch.bfloat16):
            loss = learner.loss(batch, plan)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        update_average(average, learner, min(plan.ema, (step + 1) / (step + 10)))
        losses.append(loss.item())
        now = time.monotonic()
        if (step + 1) % PROGRESS_STEPS == 0:
            rate = (step + 1 - first) * plan.batch / (now - began)
            report({"step": step + 1, "of": steps, "clips_per_s": round(rate)})
        last = step + 1 == steps
        if now - examined > examine_every_s or last or now - began > stop_after_s:
            line = {
                "step": step + 1,
                "of": steps,
                "samples": (step + 1) * plan.batch,
                "loss": round(float(np.mean(losses)), 4),
                "minutes": round((spent_s + now - began) / 60, 1),
                **{name: round(value, 4) for name, value in examiner.examine(average).items()},
            }
            losses.clear()
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            report(line)
            save_checkpoint(
                checkpoint,
                {
                    "plan": fixed_part(plan),
                    "learner": learner.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "spent_s": spent_s + now - began,
                },
            )
            plot_curves(out)
            examined = time.monotonic()
            if not last and now - began > stop_after_s:
                return None
    return average


def fixed_part(plan: Plan) -> dict[str, Any]:
    """The plan without what a resumed run may change."""
    values = json.loads(json.dumps(asdict(plan)))
    return {name: value for name, value in values.items() if name not in MAY_CHANGE}


@torch.no_grad()
def update_average(average: nn.Module, learner: nn.Module, decay: float) -> None:
    for a, b in zip(average.state_dict().values(), learner.state_dict().values(), strict=True):
        if a.dtype.is_floating_point:
            a.lerp_(b, 1 - decay)
        else:
            a.copy_(b)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def plot_curves(out: Path) -> None:
    """curves.png: loss and validation hit@10 over samples seen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    seen = [line["samples"] / 1e6 for line in lines]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    left.plot(seen, [line["loss"] for line in lines])
    left.set(title="training loss", xlabel="million clips seen")
    for name in ("known hit@10", "known hit@10 d=32", "development hit@10"):
        right.plot(seen, [line[name] for line in lines], label=name)
    right.set(title="validation hit@10", xlabel="million clips seen", ylim=(0, 1))
    right.legend()
    figure.tight_layout()
    figure.savefig(out / "curves.png", dpi=90)
    pyplot.close(figure)
