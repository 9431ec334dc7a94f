"""The verb that measures a bundle: evaluate.

In:  parsed arguments.
Out: figures on standard output, progress and what is left out on standard error, an exit code.
Knows nothing about layouts, formulas or graphs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clap_engine import report
from clap_engine.invocation import INTERRUPTED, OK, SOME_FAILED
from clap_engine.progress import ProgressLine

if TYPE_CHECKING:
    from clap_engine.evaluation import Estimate, Evaluation, RungResult

# Names of clips on standard error; --json has them all.
SHOWN = 10
LAYOUTS = ("auto", "csv", "esc50", "urbansound8k", "gtzan", "audiocaps", "clotho", "musiccaps",
           "folders")  # fmt: skip


def add_arguments(command: Any, positive: Callable[[str], int]) -> None:
    """What `clap-engine evaluate` takes beside the bundle."""
    command.add_argument("--set", metavar="DIR|FILE.csv", required=True, dest="folder",
                         help="sounds with captions or labels")  # fmt: skip
    add_settings(command, positive)


def add_settings(command: Any, positive: Callable[[str], int]) -> None:
    """How a set is read and measured."""
    command.add_argument("--layout", choices=LAYOUTS, default="auto",
                         help="how the set is laid out (default: told by its files)")  # fmt: skip
    command.add_argument("--split", metavar="NAME",
                         help="which part (default: the one its authors test on)")  # fmt: skip
    command.add_argument("--limit", type=positive, metavar="N", help="draw so many clips")
    command.add_argument("--seed", type=int, default=0, metavar="N",
                         help="of that and of the intervals (default: 0)")  # fmt: skip
    command.add_argument("--resamples", type=positive, default=1000, metavar="N",
                         help="draws that the intervals are made of (default: 1000)")  # fmt: skip
    command.add_argument("--template", metavar="TEXT", action="append",
                         help="for classes: 'the sound of {}'; may be given again")  # fmt: skip
    command.add_argument("--cache", metavar="DIR", help="keep embeddings of sounds; resumable")


def evaluate(arguments: argparse.Namespace) -> int:
    """Figures of each precision and rung, with their intervals."""
    from clap_engine import evaluation

    try:
        found = evaluation.evaluate(
            arguments.bundle, arguments.folder, models_dir=arguments.models_dir,
            layout=arguments.layout, split=arguments.split,
            precisions=[arguments.precision] if arguments.precision else None,
            threads=arguments.threads, limit=arguments.limit, seed=arguments.seed,
            resamples=arguments.resamples, templates=arguments.template, cache=arguments.cache,
            stage=lambda total, unit: ProgressLine(total, unit=unit),
        )  # fmt: skip
    except KeyboardInterrupt:
        return interrupted(arguments)
    if arguments.json:
        report.print_json(asdict(found))
    else:
        _tell(found)
    _complain(found)
    return OK if found.is_whole else SOME_FAILED


def interrupted(arguments: argparse.Namespace) -> int:
    """Say what is safe, and how to go on."""
    kept = (
        f"what was embedded is safe in {report.printable(arguments.cache)}; run the same command "
        "to go on"
        if arguments.cache else "nothing was kept; --cache DIR keeps embeddings of sounds"
    )  # fmt: skip
    print(f"interrupted: {kept}", file=sys.stderr)
    if arguments.json:
        report.print_json({"interrupted": True, "cache": arguments.cache})
    return INTERRUPTED


def _tell(found: Evaluation) -> None:
    """A table of figures by rungs on a terminal, else a line for each figure."""
    if not sys.stdout.isatty():
        for one in found.precisions:
            for rung in one.rungs:
                for name, figure in _figures(rung):
                    ends = [
                        "" if end is None else f"{end:.4f}" for end in (figure.low, figure.high)
                    ]
                    cells = one.precision, str(rung.dim), name, f"{figure.value:.4f}", *ends
                    print("\t".join(report.printable(cell) for cell in cells))
        return
    classes = "".join(f", {count} classes of {task}" for task, count in found.classes.items())
    print(
        report.printable(
            f"{found.bundle} {found.revision[:12]} on {found.folder}, read as {found.layout}, "
            f"split {found.split}: {found.clips} clips, {found.captions} captions{classes}; "
            f"intervals of {100 * found.level:.0f} %, {found.resamples} draws, seed {found.seed}"
        )
    )
    for one in found.precisions:
        print(f"\n{one.precision}, {one.clips} clips, {one.cached} sounds known from the cache")
        rungs = one.rungs
        rows = [
            (name, *(_shown(dict(_figures(rung))[name]) for rung in rungs))
            for name, _ in _figures(rungs[-1])
        ]
        header = ("", *(f"{rung.dim} dims" for rung in rungs))
        print(report.table(header, rows, right=range(1, len(header))))


def _figures(rung: RungResult) -> Iterator[tuple[str, Estimate]]:
    for name, figure in rung.text_to_audio.items():
        yield f"text to audio {name}", figure
    for name, figure in rung.audio_to_text.items():
        yield f"audio to text {name}", figure
    for task, figures in rung.tasks.items():
        for name, figure in figures.items():
            yield f"{task} {name}", figure


def _shown(figure: Estimate) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.low:.2f}-{figure.high:.2f}]"


def _complain(found: Evaluation) -> None:
    """What is not in the figures."""
    list_left_out(f"{len(found.missing)} of {found.clips} clips have no file", found.missing)
    for one in found.precisions:
        what = f"{len(one.damaged)} of {found.clips} clips can't be read ({one.precision})"
        list_left_out(what, [f"{failure.clip}: {failure.error}" for failure in one.damaged])


def list_left_out(what: str, lines: Sequence[str]) -> None:
    """The first of what is in no figure, on standard error; nothing where there is none."""
    if not lines:
        return
    print(f"clap-engine: {what}, and are in no figure:", file=sys.stderr)
    for line in lines[:SHOWN]:
        print(f"  {report.printable(line)}", file=sys.stderr)
    if len(lines) > SHOWN:
        print(f"  and {len(lines) - SHOWN} more; --json lists all", file=sys.stderr)
