"""Training Matryoshka heads on cached features: one linear map a side, towers frozen.

In:  `Features` to train on and to validate on, a `Plan`, perhaps a run to go on with.
Out: the matrices with the least validation loss, and the run's history.
Knows nothing about towers, files of pairs or head files.

A head begins as the fitted rotation and learns what to add to it; weight decay pulls towards the
rotation, not towards zero, so directions that the pairs say nothing of stay as they were.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.progress import ProgressLine
from clap_export.errors import TrainingError
from clap_export.features import Features
from clap_export.head_checkpoint import Run, read_run, write_run
from clap_export.head_plan import Plan, batch, begun, learning_rate
from clap_export.heads import MAX_LOGIT_SCALE, matryoshka_loss
from clap_export.interrupts import deferred
from clap_export.rotation import Head

SAVE_S = 10.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """The best matrices [S, D] of a run, and its history."""

    audio: Float32
    text: Float32
    logit_scale: float
    best_step: int
    history: tuple[dict[str, Any], ...]  # one line an examination, the first at step 0
    stopped_early: bool


def train(
    learn: Features,
    validate: Features,
    plan: Plan,
    logit_scale: float,
    run: Run | None = None,
    say: Say = lambda line: None,
    start: Head | None = None,
) -> Trained:
    """Train, or go on where `run` was left; KeyboardInterrupt only with the run on disk.

    A run that was interrupted and resumed goes through the same numbers as one that was not: each
    batch depends on the seed and the step alone. Bitwise equal on one machine and thread count.
    """
    learner = _Learner(*begun(learn, plan, start), logit_scale, plan.only_text)
    optimizer = torch.optim.AdamW(
        [
            {"params": [learner.audio, learner.text], "weight_decay": plan.weight_decay},
            {"params": [learner.logit_scale], "weight_decay": 0.0},
        ],
        lr=plan.learning_rate,
        betas=(0.9, 0.98),
    )
    state = _State(bound_to=_digest(learn, validate, plan))
    if run is not None and run.checkpoint.exists():
        state = _resumed(run, state.bound_to, learner, optimizer)
        say(f"resumed at step {state.step} of at most {plan.steps}")
    else:
        state.examine(learner, validate, plan)
        say(_line(state.history[-1]))
    saved = time.monotonic()
    with deferred() as interrupts, ProgressLine(plan.steps, unit="steps") as progress:
        while state.step < plan.steps and not state.is_done(plan):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan, state.step)
            audio, text = (torch.from_numpy(x) for x in batch(learn, plan, state.step))
            loss = learner.loss(audio, text, plan.ladder)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss.item()} at step {state.step}; a smaller --learning-rate "
                    "goes on from the last checkpoint's plan only in a new --work folder"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            learner.clamp()
            state.losses.append(loss.item())
            state.step += 1
            if state.step % plan.examine_steps == 0 or state.step == plan.steps:
                state.examine(learner, validate, plan)
                say(_line(state.history[-1]))
            progress(state.step)
            over = state.step == plan.steps or state.is_done(plan)
            if run is not None and (interrupts.came or over or time.monotonic() - saved > SAVE_S):
                _save(run, state, learner, optimizer)
                saved = time.monotonic()
            interrupts.check()
    return Trained(
        audio=learner.audio_began.numpy() + state.best["audio"],
        text=learner.text_began.numpy() + state.best["text"],
        logit_scale=float(np.exp(state.best["logit_scale"])),
        best_step=state.best_step,
        history=tuple(state.history),
        stopped_early=state.step < plan.steps,
    )


class _Learner(nn.Module):
    """What is added to the start on each side, and the temperature."""

    def __init__(self, audio: Float32, text: Float32, logit_scale: float, only_text: bool) -> None:
        super().__init__()
        self.audio_began, self.text_began = torch.from_numpy(audio), torch.from_numpy(text)
        self.audio = nn.Parameter(torch.zeros(audio.shape), requires_grad=not only_text)
        self.text = nn.Parameter(torch.zeros(text.shape))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(max(1.0, logit_scale))))
        self.clamp()

    def loss(self, audio: Tensor, text: Tensor, ladder: tuple[int, ...]) -> Tensor:
        """[B, S], [B, S] -> the symmetric contrastive loss, mean over the ladder."""
        sides = audio @ (self.audio_began + self.audio), text @ (self.text_began + self.text)
        return matryoshka_loss(*sides, self.logit_scale, ladder)

    @torch.no_grad()
    def clamp(self) -> None:
        """exp(logit_scale) in 1..100: beyond, its gradient would be 0 for good."""
        self.logit_scale.clamp_(0.0, MAX_LOGIT_SCALE)

    def arrays(self) -> dict[str, Float32]:
        """Copies of the parameters."""
        named = self.named_parameters()
        return {name: np.array(value.detach().numpy(), np.float32) for name, value in named}


class _State:
    """How far a run is."""

    def __init__(self, bound_to: str) -> None:
        self.bound_to = bound_to
        self.step = 0
        self.losses: list[float] = []  # since the last examination
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Float32] = {}
        self.best_step = 0

    def examine(self, learner: _Learner, validate: Features, plan: Plan) -> None:
        """Measure on the validation clips; keep what is best."""
        line: dict[str, Any] = {
            "step": self.step,
            "loss": float(np.mean(self.losses)) if self.losses else None,
            **_measured(learner, validate, plan),
            "scale": float(learner.logit_scale.detach().exp()),
        }
        self.losses.clear()
        if not self.history or line["validation"] < min(x["validation"] for x in self.history):
            self.best, self.best_step = learner.arrays(), self.step
        self.history.append(line)

    def is_done(self, plan: Plan) -> bool:
        """Has nothing been better for `patience` examinations?"""
        return self.step - self.best_step >= plan.patience * plan.examine_steps


@torch.no_grad()
def _measured(learner: _Learner, validate: Features, plan: Plan) -> dict[str, Any]:
    """Loss of each clip's first caption in batches of the training's size, and for every rung the
    share of captions whose clip is among the ten best."""
    audio = np.array((learner.audio_began + learner.audio).numpy())
    text = np.array((learner.text_began + learner.text).numpy())
    first = validate.said[:-1]
    sounds, texts = validate.sounds(audio), validate.texts @ text
    parts = max(1, round(len(validate) / plan.batch))
    losses = [
        matryoshka_loss(
            torch.from_numpy(sounds[rows]),
            torch.from_numpy(texts[first[rows]]),
            learner.logit_scale,
            plan.ladder,
        ).item()
        for rows in np.array_split(np.arange(len(validate)), parts)
    ]
    recall = {
        str(rung): round(recall_at(texts[:, :rung], sounds[:, :rung], validate.owners()), 4)
        for rung in plan.ladder
    }
    return {"validation": float(np.mean(losses)), "recall@10": recall}


def recall_at(texts: Float32, sounds: Float32, owners: Int64, k: int = 10) -> float:
    """Share of captions whose own clip is among the k best of all clips; ties count against it."""
    scores = l2_normalize(texts) @ l2_normalize(sounds).T
    own = np.take_along_axis(scores, owners[:, None], axis=1)
    return float(np.mean((scores >= own).sum(axis=1) <= k))


def _digest(learn: Features, validate: Features, plan: Plan) -> str:
    """Of all that a run's numbers depend on, the machine apart."""
    state = hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode())
    for part in (learn, validate):
        for array in (part.windows, part.starts, part.texts, part.said):
            state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def _save(run: Run, state: _State, learner: _Learner, optimizer: torch.optim.Optimizer) -> None:
    tensors = {f"now.{name}": value for name, value in learner.arrays().items()}
    tensors["began.audio"] = learner.audio_began.numpy()
    tensors["began.text"] = learner.text_began.numpy()
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for place, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"adam.{place}.{name}"] = np.array(value.numpy(), np.float32)
    facts = {
        "bound_to": state.bound_to,
        "step": state.step,
        "best_step": state.best_step,
        "losses": state.losses,
        "history": state.history,
    }
    write_run(run, tensors, facts)


def _resumed(
    run: Run, bound_to: str, learner: _Learner, optimizer: torch.optim.Optimizer
) -> _State:
    tensors, facts = read_run(run)
    if facts["bound_to"] != bound_to:
        raise TrainingError(
            f"{run.checkpoint} belongs to another run: other pairs, towers, ladder or settings; "
            "give another --work folder, or --restart to begin anew in this one"
        )
    state = _State(bound_to)
    state.step, state.best_step = int(facts["step"]), int(facts["best_step"])
    state.losses, state.history = list(facts["losses"]), list(facts["history"])
    state.best = {name: tensors[f"best.{name}"] for name in learner.arrays()}
    # Another build of LAPACK fits another rotation in its last digits.
    learner.audio_began = torch.from_numpy(tensors["began.audio"])
    learner.text_began = torch.from_numpy(tensors["began.text"])
    with torch.no_grad():
        for name, parameter in learner.named_parameters():
            parameter.copy_(torch.from_numpy(tensors[f"now.{name}"]))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, place, what = name.split(".")
            moments.setdefault(int(place), {})[what] = torch.from_numpy(np.array(value))
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return state


def _line(row: dict[str, Any]) -> str:
    loss = "" if row["loss"] is None else f"loss {row['loss']:.4f}  "
    recall = " ".join(f"{rung}:{value:.3f}" for rung, value in row["recall@10"].items())
    return (
        f"step {row['step']}  {loss}validation {row['validation']:.4f}  recall@10 {recall}  "
        f"scale {row['scale']:.1f}"
    )
