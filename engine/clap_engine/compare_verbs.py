"""The verb that puts two models side by side: compare.

In:  parsed arguments.
Out: figures on standard output, a page of HTML, progress and what is left out on standard error, an
     exit code.
Knows nothing about layouts, formulas or graphs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_engine import evaluate_verbs, report
from clap_engine.errors import NotFoundError
from clap_engine.invocation import OK, SOME_FAILED
from clap_engine.progress import ProgressLine

if TYPE_CHECKING:
    from clap_engine.comparison import Comparison
    from clap_engine.comparison.results import Correlation
    from clap_engine.evaluation import Estimate


def add_arguments(command: Any, positive: Callable[[str], int]) -> None:
    """What `clap-engine compare` takes."""
    command.add_argument("a", metavar="A", help="a bundle's name or place, or ROWS.npy")
    command.add_argument("b", metavar="B", help="the other")
    command.add_argument("data", metavar="DATA", help="sounds with captions or labels, as evaluate "
                         "takes them, a folder for each class; with rows, LABELS.csv")  # fmt: skip
    command.add_argument("--html", metavar="OUT.html", help="write a page that needs nothing else")
    command.add_argument("--precision", choices=("fp32", "int8", "fp16"),
                         help="of both (default: the best each has here)")  # fmt: skip
    command.add_argument("--threads", type=positive, metavar="N")
    command.add_argument("--no-speed", action="store_true", help="time nothing")
    evaluate_verbs.add_settings(command, positive)


def compare(arguments: argparse.Namespace) -> int:
    """Figures of both, their differences, and what they agree on."""
    from clap_engine import comparison, storage
    from clap_engine.comparison.page import page
    from clap_engine.comparison.runs import is_rows

    if arguments.html and not Path(arguments.html).absolute().parent.is_dir():
        raise NotFoundError(f"there is no folder for {arguments.html}; make it first")
    try:
        if is_rows(arguments.a, arguments.b):
            found = comparison.compare_rows(
                arguments.a, arguments.b, arguments.data, seed=arguments.seed,
                resamples=arguments.resamples,
            )  # fmt: skip
        else:
            found = comparison.compare(
                arguments.a, arguments.b, arguments.data, models_dir=arguments.models_dir,
                layout=arguments.layout, split=arguments.split, precision=arguments.precision,
                threads=arguments.threads, limit=arguments.limit, seed=arguments.seed,
                resamples=arguments.resamples, templates=arguments.template,
                cache=arguments.cache, is_timed=not arguments.no_speed,
                stage=lambda total, unit: ProgressLine(total, unit=unit),
            )  # fmt: skip
    except KeyboardInterrupt:
        return evaluate_verbs.interrupted(arguments)
    if arguments.html:
        storage.write_atomic(arguments.html, page(found).encode("utf-8"))
    if arguments.json:
        report.print_json(found.record())
    else:
        _tell(found)
    _complain(found)
    return OK if found.is_whole else SOME_FAILED


def _tell(found: Comparison) -> None:
    """Tables on a terminal, else tab-separated lines: figure, a, b, difference and its ends."""
    rows = [
        (one.name, _shown(one.a), _shown(one.b), _shown(one.difference)) for one in found.figures
    ]
    for rung in found.rungs:
        dims = f"{rung.dim_a}" if rung.dim_a == rung.dim_b else f"{rung.dim_a}/{rung.dim_b}"
        for name, value in rung.agreement.__dict__.items():
            if value is not None:
                rows.append((f"{name} at {dims} dims", "", "", f"{value:.3f}"))
    for name in ("silhouette", "purity", "fisher", "davies_bouldin", "accuracy"):
        if found.separation is not None:
            a, b = (getattr(side.figures, name) for side in found.separation)
            rows.append((f"separation {name}", _optional(a), _optional(b), ""))
    if found.separation is not None:
        a, b = found.separation
        for name, x, y in (
            ("plane tells accuracy", a.plane_tells, b.plane_tells),
            ("all dims tell accuracy", a.all_dims_tell, b.all_dims_tell),
        ):
            rows.append((name, _correlation(x), _correlation(y), ""))
    for name, one in found.speed.items():
        rows.append((f"{name} ms", f"{one.a_ms:.2f}", f"{one.b_ms:.2f}", f"{one.ratio:.2f}x"))
    if found.a.total_bytes is not None and found.b.total_bytes is not None:
        sizes = [f"{size / 1e6:.1f}" for size in (found.a.total_bytes, found.b.total_bytes)]
        rows.append(("MB", sizes[0], sizes[1], ""))
    header = ("", found.a.name, found.b.name, "difference")
    report.print_rows(header, rows, right=(1, 2, 3))


def _shown(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.3f}"
    return f"{one.value:.3f} [{one.low:.2f}, {one.high:.2f}]"


def _optional(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _correlation(one: Correlation | None) -> str:
    return "none" if one is None else f"{one.rho:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _complain(found: Comparison) -> None:
    """What is not in the figures."""
    evaluate_verbs.list_left_out(
        f"{len(found.missing)} of {found.listed} clips have no file", found.missing
    )
    for model in (found.a, found.b):
        lines = [f"{failure.clip}: {failure.error}" for failure in model.damaged]
        what = (
            f"{len(lines)} of {found.listed} clips can't be read ({report.printable(model.name)})"
        )
        evaluate_verbs.list_left_out(what, lines)
    if found.separation is None and not found.figures:
        print("clap-engine: nothing to compare by: no captions and no classes", file=sys.stderr)
