"""The arguments of the tasks' verbs.

In:  two functions of the command line's parser: one adds a verb, one the choice of a bundle.
Out: nothing; the parser knows the verbs of task_verbs.py.
Knows nothing about what the verbs do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from clap_engine import task_verbs
from clap_engine.tasks.settings import DetectSettings, names

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], Any]


def add(verb: Verb, runs_model: Callable[[Any], Any], positive: Callable[[str], int]) -> None:
    """All verbs of the tasks."""
    classify = runs_model(verb("classify", task_verbs.classify, "which labels fit each sound"))
    classify.add_argument("files", metavar="FILE", nargs="+")
    _labels(classify)
    _templates(classify)
    classify.add_argument("--multi-label", action="store_true",
                          help="each label for itself; from .5 on it counts as heard")  # fmt: skip
    classify.add_argument("--top-k", type=positive, metavar="K", help="how many (default: all)")

    probe = runs_model(verb("probe", task_verbs.probe, "learn classes from a few examples each"))
    probe.add_argument("probe", metavar="X.npz")
    probe.add_argument("files", metavar="FILE", nargs="*", help="sounds to tell apart")
    probe.add_argument("--fit", metavar="FOLDER", help="write X.npz: a folder of sounds each class")
    probe.add_argument("--words", action="store_true",
                       help="with --fit: the folders' names say what is heard")  # fmt: skip
    probe.add_argument("--top-k", type=positive, metavar="K", help="how many (default: all)")

    detect = runs_model(verb("detect", task_verbs.detect, "when each label sounds"))
    detect.add_argument("files", metavar="FILE", nargs="+")
    _labels(detect)
    _templates(detect)
    default = DetectSettings()
    for option, value, text in (
        ("--threshold", default.threshold, "probability that an event must reach"),
        ("--release", default.release, "probability at which it begins and ends"),
        ("--min-duration", default.min_duration_s, "seconds below which it is dropped"),
        ("--merge", default.merge_s, "seconds between two that make one"),
    ):
        detect.add_argument(option, type=float, default=value, metavar="X",
                            help=f"{text} (default: {value:g})")  # fmt: skip
    detect.add_argument("--hop", type=float, metavar="S", help="from one window to the next")
    detect.add_argument("--csv", metavar="OUT", help="write the events as CSV")
    detect.add_argument("--audacity", metavar="OUT", help="write a label track for Audacity")
    detect.add_argument("--plot", metavar="OUT.png", help="draw a timeline (extra: plot)")

    moderate = runs_model(
        verb("moderate", task_verbs.moderate, "sounds against a policy; 1 where one is met")
    )
    moderate.add_argument("files", metavar="FILE", nargs="+")
    moderate.add_argument("--policy", metavar="NAME|FILE.json", default="danger",
                          help=", ".join(names("policies")) + ", or your own")  # fmt: skip

    rank = runs_model(verb("rank", task_verbs.rank, "which takes fit a prompt best"))
    rank.add_argument("takes", metavar="TAKES", nargs="+", help="sounds, or folders of them")
    rank.add_argument("--prompt", metavar="WORDS", required=True)
    rank.add_argument("--against", metavar="WORDS", action="append", default=[],
                      help="what is not wanted; may be given again")  # fmt: skip

    condition = runs_model(
        verb("condition", task_verbs.condition, "rows that text-to-audio systems take")
    )
    condition.add_argument("out", metavar="OUT", help=".npy, .npz or .safetensors")
    condition.add_argument("--text", metavar="WORDS", action="append", default=[])
    condition.add_argument("--sound", metavar="FILE", action="append", default=[])
    condition.add_argument("--raw", action="store_true", help="as long as the source made them")

    separate = runs_model(verb("separate", task_verbs.separate, "how well classes are told apart"))
    separate.add_argument("data", metavar="FOLDER|ROWS.npy", help="a folder of sounds each class")
    separate.add_argument("--labels", metavar="LABELS.csv",
                          help="with ROWS.npy: a column `label`, a line for each row")  # fmt: skip
    separate.add_argument("--plot", metavar="OUT.svg", help="draw the plane (extra: plot)")


def _templates(command: Any) -> None:
    command.add_argument("--template", metavar="TEXT", action="append",
                         help="such as 'the sound of {}'; may be given again")  # fmt: skip


def _labels(command: Any) -> None:
    command.add_argument("--labels", metavar="A,B", help="what to listen for, with commas between")
    command.add_argument("--label", metavar="A", action="append", default=[],
                         help="one more, commas and all; may be given again")  # fmt: skip
    command.add_argument("--label-set", metavar="NAME", help="labels that come along")
