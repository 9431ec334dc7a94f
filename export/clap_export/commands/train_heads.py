"""`clap-export train heads`: Matryoshka heads trained on pairs of sounds and captions.

In:  the command line.
Out: a head file that `clap-export convert --heads FILE` takes; a work folder beside it.
Knows nothing about losses or towers: `clap_export.head_training` and `native_towers` do.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from clap_engine import __version__
from clap_engine.storage import make_dir, write_atomic
from clap_export import features, head_choice, head_plan, head_training, rotation
from clap_export.commands import heads_args
from clap_export.head_checkpoint import Run, write_curves
from clap_export.head_choice import DIM, ladder_of
from clap_export.head_plan import STARTS, Plan
from clap_export.head_training import Trained
from clap_export.rotation import Head

Say = Callable[[str], None]

# Fields of `Plan` that are options of their own.
WHOLE = {
    "steps": "at most",
    "batch": "clips a step, each the others' counterexample",
    "examine_steps": "between two looks at the validation clips",
    "patience": "such looks without a better loss, then it stops",
    "seed": "of the split and of all batches",
}
REAL = {
    "learning_rate": "the highest, after the warm-up",
    "weight_decay": "towards the start",
    "noise": "its length, on unit rows",
    "validation": "share of the clips that validates",
}

_Line = Mapping[str, Any]  # of a run's history

EPILOG = """\
Towers stay frozen: each clip and caption is embedded once, and its row kept in the work folder
(OUT.work: features/, checkpoint.safetensors, history.jsonl, loss.png, recall.png). Stopped at any
time, by Ctrl-C too, the same command goes on. What is trained is one linear map a side from the
model's own space, beginning with the rotation that `fit rotation` gives, or with the model's own
dims where they are a ladder already; the matrices with the least validation loss are written. Clips
of MusicCaps' layout are looked for under --audio by ytid: YTID.wav, YTID_30_40.wav,
[YTID]-[30-40].wav and the like; those that are not there are counted."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export train heads`."""
    plan = Plan(ladder=())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    heads_args.add_maker(parser)
    parser.add_argument("--work", type=Path, help="folder of the run; default: OUT.work")
    parser.add_argument("--restart", action="store_true", help="begin anew, from step 0")
    parser.add_argument(
        "--ladder",
        type=heads_args.ladder,
        help="rungs; default 32,64,128,256,512 as far as it goes",
    )
    parser.add_argument(
        "--start",
        help=f"{', '.join(STARTS)}, or a head file; default: own for a space that has a ladder, "
        "such as clap-mini's, else rotation",
    )
    parser.add_argument(
        "--only-text",
        action="store_true",
        help="leave sounds where --start puts them, so that collections need no re-embedding",
    )
    for kind, options in ((int, WHOLE), (float, REAL)):
        for name, told in options.items():
            option, default = "--" + name.replace("_", "-"), getattr(plan, name)
            parser.add_argument(option, type=kind, default=default, help=f"{told} (%(default)s)")


def run(args: argparse.Namespace, say: Say) -> int:
    """Embed, train, write."""
    heads_args.check_out(args.out, args.force)
    work = Run(args.work or args.out.with_name(args.out.name + ".work"))
    towers = heads_args.source(args, say)
    if args.start is None:
        args.start = "own" if len(towers.ladder) > 1 else Plan(()).start
    start = None if args.start in STARTS else rotation.load(Path(args.start), towers.dim)
    if start is not None:
        head_choice.check_origin(start, towers.digest, Path(args.start))
        args.ladder = args.ladder or start.ladder or ladder_of(start.matrix.shape[1])
    plan = Plan(
        ladder=args.ladder or ladder_of(min(DIM, towers.dim)),
        start=args.start if start is None else digest(start),
        only_text=args.only_text,
        **{name: getattr(args, name) for name in (*WHOLE, *REAL)},
    )
    head_plan.check(plan, towers.dim, start)
    pairs, _ = heads_args.clips(args, towers, say)
    embedded = features.embed(pairs.clips, towers, args.cache or work.folder / "features", say)
    learn, validate = head_plan.split(embedded, plan)
    say(f"{len(learn)} clips to train on, {len(validate)} to validate on")
    if args.restart:
        work.checkpoint.unlink(missing_ok=True)
    torch.set_num_threads(args.threads)
    trained = head_training.train(learn, validate, plan, towers.logit_scale, work, say, start)
    write_curves(work, trained.history, trained.best_step)
    made = head(trained, plan)
    before, after = (
        next(line for line in trained.history if line["step"] == step)
        for step in (0, trained.best_step)
    )
    provenance = {
        "pairs": pairs.facts(),
        "source": {"id": towers.id, "sha256": towers.digest, "text": towers.text_digest,
                   "audio": towers.audio_digest},
        "plan": asdict(plan),
        "steps": trained.best_step,
        "clips": {"trained": len(learn), "validated": len(validate)},
        "validation": {"start": before, "kept": after},
        "producer": {"clap_export": __version__, "torch": str(torch.__version__)},
    }  # fmt: skip
    factor = shortlist_factor(made, validate, plan)
    made = replace(made, shortlist_per_sqrt_row=factor, provenance=provenance)
    make_dir(args.out.absolute().parent, parents=True)
    write_atomic(args.out, rotation.save(made))
    say(_verdict(trained, before, after, plan))
    say(f"{args.out}: {towers.dim} dims to {plan.ladder[-1]}; pictures in {work.folder}")
    return 0


def digest(start: Head) -> str:
    """What a run that began with a given head is bound to."""
    return "head of sha256 " + hashlib.sha256(rotation.save(start)).hexdigest()


def head(trained: Trained, plan: Plan) -> Head:
    """A run's best matrices."""
    return Head(
        trained.audio, "trained", trained.text, plan.ladder, logit_scale=trained.logit_scale
    )


def shortlist_factor(made: Head, validate: features.Features, plan: Plan) -> float | None:
    """As the planner wants it; None where the validation clips are too few to tell."""
    if len(validate) < 200 or 32 not in plan.ladder:
        return None
    text = made.matrix if made.text is None else made.text
    return rotation.shortlist_factor(validate.texts @ text, validate.sounds(made.matrix))


def _verdict(trained: Trained, before: _Line, after: _Line, plan: Plan) -> str:
    if trained.best_step == 0:
        return (
            "nothing better than the start was found: the file holds the "
            f"{_named(plan)} it began with; more pairs or a smaller --learning-rate may help"
        )
    why = "nothing better came since" if trained.stopped_early else "the last step was reached"
    rungs = "  ".join(
        f"{rung}: {before['recall@10'][rung]:.3f} -> {after['recall@10'][rung]:.3f}"
        for rung in after["recall@10"]
    )
    return (
        f"kept step {trained.best_step} ({why}); validation loss {before['validation']:.4f} -> "
        f"{after['validation']:.4f}; recall@10 by rung, {_named(plan)} -> trained: {rungs}"
    )


def _named(plan: Plan) -> str:
    return plan.start if plan.start in STARTS else "given head"
