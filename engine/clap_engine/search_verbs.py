"""The verbs that ask a collection something, or measure how it is best asked: search, tune.

In:  parsed arguments.
Out: text on standard output, progress on standard error, an exit code.
Knows nothing about argument syntax, graphs, audio or storage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_engine import report
from clap_engine.errors import FilterError, NotFoundError, TextError
from clap_engine.invocation import OK, SOME_FAILED, engine_of
from clap_engine.progress import ProgressLine

if TYPE_CHECKING:
    from clap_engine.collection import Hit, SearchResult
    from clap_engine.engine import Part
    from clap_engine.query import Query
    from clap_engine.search import Explanation
    from clap_engine.trials import Trial
    from clap_engine.tune import TuneReport

HIT_HEADER = ("#", "score", "span", "clip")
TRIAL_HEADER = ("index", "dims", "shortlist", "middle", "recall", "ms", "p99 ms", "")


def search(arguments: argparse.Namespace) -> int:
    """The best clips for words or for a sound."""
    query = _query(arguments)
    where = None if arguments.where is None else _json("--where", arguments.where)
    has_words = arguments.query is not None or bool(arguments.plus or arguments.minus)
    parts: list[Part] = ["text"] if has_words else []
    parts += [] if arguments.by_example is None else ["audio"]
    start = time.perf_counter()
    with (
        engine_of(arguments, warm=parts) as engine,
        engine.collection(arguments.collection) as sounds,
    ):
        if parts:
            engine.warm(*parts)
        load_ms = (time.perf_counter() - start) * 1e3
        result = sounds.search(
            query,
            k=arguments.k,
            where=where,
            min_score=arguments.min_score,
            min_calibrated=arguments.min_calibrated,
            collapse=arguments.collapse,
            diversity=arguments.diversity,
            explain=arguments.explain,
        )
    result = replace(result, timings_ms={"load": load_ms, **result.timings_ms})
    if arguments.json:
        report.print_json(result_record(result))
    else:
        report.print_rows(HIT_HEADER, hit_rows(result.hits), right=(0, 1))
        if result.explain is not None:
            print(_explained(result.explain), file=sys.stderr)
        print(report.milliseconds(result.timings_ms), file=sys.stderr)
    return OK


def _explained(found: Explanation) -> str:
    rows = [
        (stage.name, str(stage.dim), str(stage.candidates_in), str(stage.candidates_out),
         f"{stage.ms:.2f}")
        for stage in found.stages
    ]  # fmt: skip
    recall = "unknown" if found.expected_recall is None else f"{found.expected_recall:.3f}"
    return (
        f"plan: {found.source}, {found.reason}; recall {recall}, widened {found.widened} times\n"
        + report.table(("stage", "dims", "in", "out", "ms"), rows, right=(1, 2, 3, 4))
    )


def tune(arguments: argparse.Namespace) -> int:
    """Measure which plan finds enough of what is there soonest, and keep it."""
    queries = None if arguments.queries is None else _lines(arguments.queries)
    with (
        engine_of(arguments) as engine,
        engine.collection(arguments.collection) as sounds,
        ProgressLine(100, unit="%") as line,
    ):
        found = sounds.tune(
            arguments.target,
            arguments.budget_ms,
            k=arguments.k,
            queries=queries,
            progress=lambda share, what: line(int(100 * share), what),
            seed=arguments.seed,
            graph_s=arguments.graph_s,
            memory_bytes=None if arguments.memory is None else int(1e6 * arguments.memory),
            timeout_s=arguments.timeout_s,
        )
    if arguments.json:
        report.print_json({"collection": arguments.collection, **asdict(found)})
        return OK
    report.print_rows(TRIAL_HEADER, _trial_rows(found), right=(2, 3, 4, 5, 6))
    plan, counts = found.tuning, found.trials[0].plan.counts
    print(
        f"measured on {plan.queries} queries ({plan.kinds}) and {plan.rows} {counts} in "
        f"{found.elapsed_s:.1f} s; chosen: {plan.index}, recall {plan.recall:.3f} of the top "
        f"{plan.k}, {plan.latency_ms:.2f} ms",
        file=sys.stderr,
    )
    if not found.is_met:
        print("clap-engine: no plan meets the target within the budget", file=sys.stderr)
    return OK if found.is_met else SOME_FAILED


def _trial_rows(found: TuneReport) -> list[tuple[str, ...]]:
    tuning = found.tuning

    def number(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    def note(trial: Trial) -> str:
        is_chosen = (trial.recall, trial.latency_ms) == (tuning.recall, tuning.latency_ms)
        return "chosen" if is_chosen else trial.skipped

    return [
        (
            trial.plan.index,
            "-".join(map(str, trial.plan.dims)),
            str(trial.plan.shortlist),
            str(trial.plan.kept or ""),
            number(trial.recall, 4),
            number(trial.latency_ms, 2),
            number(trial.p99_ms, 2),
            note(trial),
        )
        for trial in found.trials
    ]


def _lines(path: str) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist; give a file of texts") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path} can't be read ({error}); give a UTF-8 text file") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _query(arguments: argparse.Namespace) -> Query:
    """What is asked for: the sum of all that was given."""
    from clap_engine.query import Clip, Near, Query, Text

    given = [
        kind(value)
        for kind, value in (
            (Text, arguments.query), (Clip, arguments.by_example), (Near, arguments.near),
        )
        if value is not None
    ]  # fmt: skip
    given += map(Text, arguments.plus)
    if not given:
        raise TextError("give a query in words, --by-example FILE or --near KEY")
    return Query(*given, *(Text(words, weight=-1.0) for words in arguments.minus))


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FilterError(f"{option} is no JSON ({error}); give an object in quotes") from error


def hit_rows(hits: Sequence[Hit]) -> list[tuple[str, ...]]:
    """Rows under HIT_HEADER."""
    return [
        (str(place), f"{hit.score:.3f}", report.span(hit.start_s, hit.end_s), hit.key)
        for place, hit in enumerate(hits, 1)
    ]


def result_record(result: SearchResult) -> dict[str, Any]:
    """A result as JSON values."""
    record = asdict(result)
    record["timings_ms"] = {name: round(ms, 3) for name, ms in result.timings_ms.items()}
    return record
