"""`clap-export train mini`: trains clap-mini from a rendered corpus.

In:  the command line.
Out: a run folder (checkpoint.pt, log.jsonl, curves.png), and the weights when it is done.
Knows nothing about losses or towers: `clap_export.train` has them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from clap_export import train
from clap_export.corpus import render
from clap_export.finish import finish
from clap_export.interpolate import interpolated
from clap_export.tower import TowerShape
from clap_export.weights import load_weights


def configure(parser: argparse.ArgumentParser) -> None:
    plan = train.Plan()
    parser.epilog = "Stopped at any time, the same command resumes from the last checkpoint."
    parser.add_argument("--corpus", type=Path, default=Path("work/corpus"), help="%(default)s")
    parser.add_argument("--run", type=Path, default=Path("work/run"), help="%(default)s")
    parser.add_argument("--out", type=Path, default=Path("export/weights/clap-mini.safetensors"))
    parser.add_argument(
        "--samples", type=int, default=plan.samples, help="clips seen (%(default)s)"
    )
    parser.add_argument(
        "--begin-with", type=Path, metavar="FILE", help="weights to go on from, instead of none"
    )
    parser.add_argument(
        "--blocks", type=int, nargs=4, default=plan.shape.blocks, metavar="N",
        help="residual blocks of the tower's four stages; more than those of --begin-with "
        "deepen it (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=float, default=plan.kept, metavar="SHARE",
        help="of the weights of --begin-with, in the mean with those that were trained "
        "(%(default)s): finds sounds of other sources better",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=float, default=plan.learning_rate, help="learning rate (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--threads", type=int, default=2, help="of torch (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--stop-after-s", type=float, default=math.inf, help="then resume later")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    if not 0 <= args.keep < 1 or (args.keep and not args.begin_with):
        raise ValueError(f"--keep is {args.keep}; give a share below 1, and --begin-with")
    weights = load_weights(args.begin_with) if args.begin_with else None
    plan = train.Plan(
        samples=args.samples,
        learning_rate=args.rate,
        started_from=weights.audio_digest if weights else "",
        kept=args.keep,
        shape=replace(TowerShape(), blocks=tuple(args.blocks)),
        seed=args.seed,
        threads=args.threads,
        device=args.device,
    )
    learner = train.train(
        args.corpus,
        args.run,
        plan,
        report=lambda line: say(json.dumps(line)),
        stop_after_s=args.stop_after_s,
        weights=weights,
    )
    if learner is None:
        say("stopped before the end; the same command resumes")
        return 0
    if plan.kept:
        say(f"keeping {plan.kept} of the weights that it began with")
        log_mel, _ = render.load_training(args.corpus)
        learner = interpolated(learner, train.begin(plan, weights), plan.kept, log_mel)
    report = finish(args.corpus, args.run, learner, plan, args.out, say)
    say(json.dumps(report, indent=2))
    return 0
