"""The verb that answers questions: answer.

In:  parsed arguments.
Out: sentences as they come, then the clips that they cite; JSON, or a line for each event.
Knows nothing about how questions are read or answered.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_engine import report
from clap_engine.errors import FilterError, NotFoundError, TaskError
from clap_engine.invocation import OK, engine_of

if TYPE_CHECKING:
    from clap_engine.answers.answer import Answer, AnswerEvent
    from clap_engine.answers.evidence import Citation
    from clap_engine.answers.language_model import LanguageModel
    from clap_engine.answers.plan import AnswerPlan

WORD_HEADER = ("words", "role", "became")
CITED_HEADER = ("#", "score", "span", "standing", "clip")
MAX_PLAN_BYTES = 1 << 20


def add_arguments(command: Any, positive: Callable[[str], int]) -> None:
    """What `answer` takes."""
    command.add_argument("collection", metavar="X.clap")
    command.add_argument("question", nargs="?", help='such as "church bells without speech"')
    command.add_argument("-k", type=positive, metavar="K", help="how many clips (default: 5)")
    command.add_argument("--where", metavar="JSON", help='a filter: \'{"year": {">=": 1970}}\'')
    command.add_argument("--group-by", metavar="FIELD", help="a metadata field to group clips by")
    command.add_argument("--min-score", type=float, metavar="X", help="what counts as found")
    command.add_argument("--min-calibrated", type=float, metavar="P",
                         help="the same, from 0 to 1 (default: 0.999)")  # fmt: skip
    command.add_argument("--plan", action="store_true", help="show what the question becomes")
    command.add_argument("--plan-file", metavar="FILE.json",
                         help="a plan, as --plan --json shows it, for the question")  # fmt: skip
    command.add_argument("--explain", action="store_true",
                         help="say what each word became, and which plan ran")  # fmt: skip
    command.add_argument("--jsonl", action="store_true", help="a line of JSON for each event")
    command.add_argument("--timeout-s", type=float, metavar="S", help="how long it may take")
    command.add_argument("--llm", metavar="MODEL", help="let a language model reword the answer")
    command.add_argument("--llm-url", metavar="URL", help="of its API (default: $OPENAI_BASE_URL)")
    command.add_argument("--llm-key-env", metavar="NAME", default="OPENAI_API_KEY",
                         help="the variable with its key (default: OPENAI_API_KEY)")  # fmt: skip
    command.add_argument("--llm-timeout-s", type=float, default=10.0, metavar="S",
                         help="how long to wait for it, in all (default: 10)")  # fmt: skip


def answer(arguments: argparse.Namespace) -> int:
    """A question, or a plan, answered."""
    asked = _asked(arguments)
    where = _where(arguments.where)
    model = _model(arguments)
    start = time.perf_counter()
    with (
        engine_of(arguments, warm=() if arguments.plan else ("text",)) as engine,
        engine.collection(arguments.collection) as sounds,
    ):
        if arguments.plan:
            return _show_plan(arguments, sounds.answer_plan(asked) if _is_text(asked) else asked)
        engine.warm("text")
        load_ms = (time.perf_counter() - start) * 1e3
        events = sounds.answer_stream(
            asked, k=arguments.k, where=where, group_by=arguments.group_by,
            min_score=arguments.min_score, min_calibrated=arguments.min_calibrated,
            explain=arguments.explain, model=model, timeout_s=arguments.timeout_s,
        )  # fmt: skip
        if arguments.jsonl:
            for event in events:
                print(json.dumps(record_of(event), allow_nan=False), flush=True)
            return OK
        found = _told(events, is_shown=not arguments.json)
    if arguments.json:
        report.print_json({**found.to_json(), "load_ms": round(load_ms, 3)})
        return OK
    if found.citations:
        print()
        report.print_rows(CITED_HEADER, [_row(one) for one in found.citations], right=(0, 1))
    if arguments.explain:
        print(_word_table(found.plan), file=sys.stderr)
        if found.explain is not None:
            print(f"search: {found.explain.source}, {found.explain.reason}", file=sys.stderr)
        if found.model is not None:
            for line in (*found.model.dropped, *filter(None, [found.model.error])):
                print(report.printable(f"language model: {line}"), file=sys.stderr)
    print(report.milliseconds({"load": load_ms, **found.timings_ms}), file=sys.stderr)
    return OK


def record_of(event: AnswerEvent) -> dict[str, Any]:
    """An event as JSON values; "event" says which."""
    from clap_engine.answers.answer import Answered, Planned

    name = type(event).__name__.lower()
    if isinstance(event, Answered):
        return {"event": name, **event.answer.to_json()}
    if isinstance(event, Planned):
        return {"event": name, "by": event.by, "plan": event.plan.to_json()}
    return {"event": name, **asdict(event)}


def _told(events: Iterator[AnswerEvent], *, is_shown: bool) -> Answer:
    """The answer; its sentences are printed as they come where `is_shown`."""
    from clap_engine.answers.answer import Answered, Reworded, Said

    between = ""
    for event in events:
        if isinstance(event, Answered):
            if is_shown:
                print()
            return event.answer
        if not is_shown:
            continue
        if isinstance(event, Said):
            print(between + report.printable(event.sentence.text), end="", flush=True)
            between = " "
        elif isinstance(event, Reworded):
            text = " ".join(one.text for one in event.sentences)
            print(f"\n\nIn other words: {report.printable(text)}", end="", flush=True)
    raise AssertionError("a stream of events ends with the answer")


def _row(one: Citation) -> tuple[str, ...]:
    span = report.span(one.start_s, one.end_s)
    return (str(one.number), f"{one.score:.3f}", span, one.standing, one.key)


def _show_plan(arguments: argparse.Namespace, plan: AnswerPlan) -> int:
    if arguments.json or arguments.jsonl:
        report.print_json(plan.to_json())
        return OK
    record = plan.to_json()
    del record["words"], record["question"]
    report.print_fields({name: value for name, value in record.items() if value not in (None, [])})
    print(_word_table(plan))
    return OK


def _word_table(plan: AnswerPlan) -> str:
    return report.table(WORD_HEADER, [(one.words, one.role, one.became) for one in plan.words])


def _is_text(asked: str | AnswerPlan) -> bool:
    return isinstance(asked, str)


def _asked(arguments: argparse.Namespace) -> Any:
    """The question, or the plan of --plan-file."""
    from clap_engine.answers.plan import AnswerPlan

    if (arguments.question is None) == (arguments.plan_file is None):
        raise TaskError("give a question in words, or --plan-file FILE.json")
    if arguments.plan_file is None:
        return arguments.question
    path = Path(arguments.plan_file)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_PLAN_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist; --plan --json shows a plan") from error
    except OSError as error:
        raise TaskError(f"{path} can't be read ({error})") from error
    if len(data) > MAX_PLAN_BYTES:
        raise TaskError(f"{path} has more than {MAX_PLAN_BYTES} bytes; no plan is so long")
    try:
        return AnswerPlan.from_json(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path} holds no plan ({error})") from error


def _where(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FilterError(f"--where is no JSON ({error}); give an object in quotes") from error


def _model(arguments: argparse.Namespace) -> LanguageModel | None:
    """The language model that --llm names, or none."""
    if arguments.llm is None:
        return None
    import os

    from clap_engine.answers.language_model import LanguageModel

    url = arguments.llm_url or os.environ.get("OPENAI_BASE_URL")
    if not url:
        raise TaskError("--llm needs --llm-url URL or the variable OPENAI_BASE_URL")
    return LanguageModel(
        url, arguments.llm, key_env=arguments.llm_key_env, timeout_s=arguments.llm_timeout_s
    )
