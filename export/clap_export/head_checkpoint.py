"""A run of head training on disk: its checkpoint, and pictures of how it went.

In:  tensors and facts of a run; its history.
Out: `checkpoint.safetensors`, replaced whole; `loss.png`, `recall.png`, `history.jsonl`.
Knows nothing about losses or optimizers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from clap_engine.arrays import Float32
from clap_engine.errors import IntegrityError
from clap_engine.storage import make_dir, write_atomic


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"


def write_run(run: Run, tensors: Mapping[str, Float32], facts: Mapping[str, Any]) -> None:
    """Replace the checkpoint: after a crash it is the old one or the new one."""
    make_dir(run.folder, parents=True)
    data = save(dict(tensors), {"facts": json.dumps(facts, allow_nan=False)})
    write_atomic(run.checkpoint, data)


def read_run(run: Run) -> tuple[dict[str, Float32], dict[str, Any]]:
    """Tensors and facts of the last checkpoint; IntegrityError where it is damaged."""
    data = run.checkpoint.read_bytes()
    try:
        length = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["facts"])
        return load(data), dict(facts)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{run.checkpoint} is damaged ({error}); remove it, or give --restart: the features "
            "are kept, only the steps are trained again"
        ) from error


def write_curves(run: Run, history: Sequence[Mapping[str, Any]], best_step: int) -> None:
    """`history.jsonl` and, from it, the two pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    make_dir(run.folder, parents=True)
    lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in history)
    write_atomic(run.folder / "history.jsonl", lines.encode())
    steps = [line["step"] for line in history]

    figure, axes = pyplot.subplots(figsize=(6, 4))
    seen = [line for line in history if line["loss"] is not None]
    axes.plot([x["step"] for x in seen], [x["loss"] for x in seen], label="training")
    axes.plot(steps, [line["validation"] for line in history], label="validation")
    axes.axvline(best_step, color="grey", linestyle=":", label="kept")
    axes.set(title="contrastive loss, mean over the ladder", xlabel="step")
    axes.legend()
    figure.tight_layout()
    figure.savefig(run.folder / "loss.png", dpi=90)
    pyplot.close(figure)

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    rungs = list(history[0]["recall@10"])
    for rung in rungs:
        left.plot(steps, [line["recall@10"][rung] for line in history], label=f"d = {rung}")
    left.set(title="validation recall@10, caption to clip", xlabel="step")
    left.legend()
    kept = next(line for line in history if line["step"] == best_step)
    for name, line in (("start (step 0)", history[0]), (f"kept (step {best_step})", kept)):
        right.plot(rungs, [line["recall@10"][rung] for rung in rungs], "o-", label=name)
    right.set(title="recall@10 by rung", xlabel="dims")
    right.legend()
    figure.tight_layout()
    figure.savefig(run.folder / "recall.png", dpi=90)
    pyplot.close(figure)
