"""The command `clap-engine`: arguments in, a report and an exit code out.

In:  argv.
Out: a table, tab-separated lines or JSON on standard output; progress and errors on standard error.
Knows nothing about what the verbs do: see verbs.py.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from clap_engine import (
    __version__,
    answer_verbs,
    compare_verbs,
    evaluate_verbs,
    invocation,
    model_verbs,
    replica_verbs,
    report,
    search_verbs,
    serve_verbs,
    task_arguments,
    upkeep_verbs,
    verbs,
)
from clap_engine.errors import (
    ClapError,
    DependencyError,
    DownloadError,
    IntegrityError,
    LockedError,
    ManifestError,
    NotFoundError,
    PrecisionWarning,
    RebuildWarning,
    SpaceMismatchError,
    TruncationWarning,
)
from clap_engine.placement import PROVIDERS

USAGE, NOT_FOUND, DAMAGED, LOCKED, OTHER_SPACE, DEPENDENCY, DISK, NETWORK = range(2, 10)

EPILOG = """\
exit codes:
  0    done
  1    done in part: some files could not be read, or a check found a problem
  2    wrong usage, or an input that is refused
  3    a bundle, collection or file was not found
  4    a bundle or collection is damaged
  5    another process writes to the collection
  6    the collection was made in another embedding space
  7    an optional library is missing
  8    the disk refused: full, read-only or failing
  9    a file could not be fetched
  130  interrupted by Ctrl-C; what was reported as added is safe
"""

# The first that fits decides; the rest of ClapError means that an input was refused.
CODES: tuple[tuple[type[Exception], int], ...] = (
    (NotFoundError, NOT_FOUND),
    (ManifestError, DAMAGED),
    (IntegrityError, DAMAGED),
    (LockedError, LOCKED),
    (SpaceMismatchError, OTHER_SPACE),
    (DependencyError, DEPENDENCY),
    (DownloadError, NETWORK),
    (OSError, DISK),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned, nothing but usage errors raises SystemExit."""
    arguments = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not UTF-8 must not end the command while it is printed.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _on_stderr(arguments.log_level):
            code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except ClapError as error:
        code = next((code for kind, code in CODES if isinstance(error, kind)), USAGE)
        _fail(arguments, error, code)
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return invocation.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has enough; python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return invocation.OK


class _Lines(logging.Handler):
    """One line per record: names of files come from anywhere and may hold escape sequences."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(record.getMessage())


def _complain(text: str) -> None:
    # On a terminal a progress line may stand where this one begins.
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{clear}clap-engine: {report.printable(text)}", file=sys.stderr)


@contextmanager
def _on_stderr(level: int) -> Iterator[None]:
    """What the library logs and warns of becomes lines on standard error, while a verb runs."""
    log, handler = logging.getLogger("clap_engine"), _Lines(level)
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        with warnings.catch_warnings():
            for kind in (TruncationWarning, PrecisionWarning, RebuildWarning):
                warnings.simplefilter("always", kind)
            warnings.showwarning = _show_warning
            yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate


def _fail(arguments: argparse.Namespace, error: ClapError, code: int) -> None:
    _complain(str(error))
    if arguments.json:
        record = {"type": type(error).__name__, "message": str(error), "exit_code": code}
        report.print_json({"error": record})


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _complain(str(message))


def parser() -> argparse.ArgumentParser:
    """The whole command line; a verb appears here when it works."""
    top = argparse.ArgumentParser(
        prog="clap-engine",
        description="Search sounds by words, without PyTorch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"clap-engine {__version__}")
    commands = top.add_subparsers(metavar="command", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text)
        # Nobody searches to be told again what `index` said about the bundle.
        level = logging.ERROR if name in ("search", "answer") else logging.WARNING
        command.set_defaults(run=run, log_level=level)
        command.add_argument("--json", action="store_true", help="print one JSON document")
        command.add_argument("--models-dir", metavar="DIR", help="where more bundles lie")
        return command

    def runs_model(command: Any, *, is_named: bool = False) -> Any:
        command.add_argument(
            *(["--model"] if is_named else []), "--bundle", dest="bundle", metavar="NAME|DIR",
            required=is_named,
            help="the bundle" if is_named else "the bundle (default: the one that ships)",
        )  # fmt: skip
        command.add_argument("--precision", choices=("fp32", "int8", "fp16"))
        command.add_argument("--threads", type=_positive, metavar="N")
        return command

    demo = runs_model(verb("demo", verbs.demo, "search the sample clips that come along"))
    demo.add_argument("--into", metavar="X.clap", help="keep the collection here")

    index = runs_model(verb("index", verbs.index, "embed every sound in a folder; resumable"))
    index.add_argument("folder", metavar="FOLDER")
    index.add_argument("--into", metavar="X.clap", required=True, help="made if it isn't there")
    index.add_argument("--granularity", choices=("window", "clip", "both"),
                       help="what a new one finds clips by: their windows (the default), one mean "
                       "of these each, or the means first and then the windows")  # fmt: skip
    index.add_argument("--prune", action="store_true", help="remove clips whose file is gone")
    index.add_argument("--ray", action="store_true", help="by many processes; X may be a URL")
    index.add_argument("--ray-workers", type=_positive, default=2, metavar="N", help="default: 2")
    index.add_argument("--shards", metavar="DIR", help="where --ray keeps what is not merged yet")

    search = runs_model(
        verb("search", search_verbs.search, "the clips that fit a description best")
    )
    search.add_argument("collection", metavar="X.clap")
    search.add_argument("query", nargs="?", help='such as "a slow banjo melody"')
    search.add_argument("--by-example", metavar="FILE", help="a sound to search by, too or instead")
    search.add_argument("--near", metavar="KEY", help="a stored clip to search by, too or instead")
    search.add_argument("--plus", metavar="WORDS", action="append", default=[],
                        help="more words to look for; may be given again")  # fmt: skip
    search.add_argument("--minus", metavar="WORDS", action="append", default=[],
                        help="words to keep away from; may be given again")  # fmt: skip
    search.add_argument("-k", type=_positive, default=10, help="how many clips (default: 10)")
    search.add_argument("--where", metavar="JSON", help='a filter: \'{"year": {">=": 1970}}\'')
    search.add_argument("--min-score", type=float, metavar="X", help="leave weaker hits out")
    search.add_argument("--min-calibrated", type=float, metavar="P", help="the same, from 0 to 1")
    search.add_argument("--collapse", type=float, metavar="COSINE",
                        help="fold clips that are more alike than this, such as 0.98")  # fmt: skip
    search.add_argument("--diversity", type=float, default=0.0, metavar="X",
                        help="0 to 1: prefer hits that differ from each other")  # fmt: skip

    search.add_argument("--explain", action="store_true",
                        help="say which plan ran and what each stage did")  # fmt: skip

    answer = runs_model(
        verb("answer", answer_verbs.answer, "a question, answered in sentences that cite clips")
    )
    answer_verbs.add_arguments(answer, _positive)

    tune = runs_model(
        verb("tune", search_verbs.tune, "measure which plan finds enough, and keep it")
    )
    tune.add_argument("collection", metavar="X.clap")
    tune.add_argument("--target", type=float, default=0.99, metavar="RECALL",
                      help="share of the true best clips to find (default: 0.99)")  # fmt: skip
    tune.add_argument("--budget-ms", type=float, metavar="MS",
                      help="what a search may take, without embedding its query")  # fmt: skip
    tune.add_argument("-k", type=_positive, default=10, help="how many clips (default: 10)")
    tune.add_argument("--queries", metavar="FILE", help="texts that will be asked, one a line")
    tune.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample (default: 0)")
    tune.add_argument("--graph-s", type=float, default=300.0, metavar="S",
                      help="what building graphs to try may take (default: 300)")  # fmt: skip
    tune.add_argument("--memory", type=float, metavar="MB",
                      help="what the index may keep in memory (default: 1600)")  # fmt: skip
    tune.add_argument("--timeout-s", type=float, metavar="S",
                      help="give up after so long; the plan before stays then")  # fmt: skip

    compact = verb("compact", upkeep_verbs.compact, "give the space of removed clips back")
    compact.add_argument("collection", metavar="X.clap")
    backup = verb("backup", upkeep_verbs.backup, "a checked copy of a collection that is in use")
    backup.add_argument("collection", metavar="X.clap")
    backup.add_argument("folder", metavar="COPY.clap", help="where to; new, or an empty folder")
    snapshot = verb("snapshot", replica_verbs.snapshot, "a copy that never changes, for readers")
    snapshot.add_argument("collection", metavar="X.clap")
    snapshot.add_argument("folder", metavar="DIR", help="where to; new, or an empty folder")
    snapshot.add_argument("--link", metavar="LINK", help="a symbolic link to switch to it")

    migrate = runs_model(
        verb("migrate", upkeep_verbs.migrate, "embed a collection's clips anew; resumable"),
        is_named=True,
    )
    migrate.add_argument("collection", metavar="X.clap", help="it serves until all is done")
    migrate.add_argument("--into", metavar="NEW.clap", help="make this one, and leave X as it is")
    migrate.add_argument("--drop-missing", action="store_true",
                         help="leave clips out whose sound can't be read any more")  # fmt: skip

    serve = runs_model(verb("serve", serve_verbs.serve, "answer requests over HTTP"))
    serve_verbs.add_arguments(serve)

    caption = runs_model(verb("caption", verbs.caption, "a sentence about each sound"))
    caption.add_argument("files", metavar="FILE", nargs="+")
    caption.add_argument("--beam", type=_positive, metavar="N", help="sentences kept in the search")
    caption.add_argument("--max-tokens", type=_positive, metavar="N", help="longest caption")
    caption.add_argument("--bank", metavar="NAME|FILE.json",
                         help="say it in the words of a phrase bank")  # fmt: skip
    caption.add_argument("--min-confidence", type=float, metavar="P",
                         help="of each claim from a phrase bank (default: 0.85)")  # fmt: skip

    task_arguments.add(verb, runs_model, _positive)

    evaluate = runs_model(
        verb("evaluate", evaluate_verbs.evaluate, "how good a bundle is on a set")
    )
    evaluate_verbs.add_arguments(evaluate, _positive)
    compare = verb("compare", compare_verbs.compare, "two models side by side on a set")
    compare_verbs.add_arguments(compare, _positive)

    info = verb("info", verbs.info, "what a bundle or collection holds")
    info.add_argument("path", metavar="PATH")
    verify = verb("verify", verbs.verify, "check every digest of a bundle or collection")
    verify.add_argument("path", metavar="PATH")
    doctor = runs_model(verb("doctor", verbs.doctor, "what runs where, and whether it runs right"))
    doctor.add_argument("path", metavar="BUNDLE", nargs="?")
    doctor.add_argument("--provider", choices=tuple(PROVIDERS), help="where its graphs shall run")
    verb("models", verbs.models, "the bundles that can be loaded by name")

    pull = verb("pull", model_verbs.pull, "install a bundle's archive, to be loaded by its name")
    pull.add_argument("url", metavar="URL", help="http, https or file URL, or a path")
    pull.add_argument("--sha256", metavar="D", required=True, help="the digest of the archive")
    pull.add_argument("--name", help="what it is loaded by (default: the bundle's id)")
    pull.add_argument("--replace", action="store_true", help="an archive of that name")
    pull.add_argument("--max-mb", type=_positive, default=8_000, metavar="MB",
                      help="the most to fetch (default: 8000)")  # fmt: skip
    pull.add_argument("--timeout-s", type=float, default=30.0, metavar="S",
                      help="how long to wait for the next byte (default: 30)")  # fmt: skip
    pack = verb("pack", model_verbs.pack, "a bundle as one file, the same bytes each time")
    pack.add_argument("bundle", metavar="NAME|DIR")
    pack.add_argument("file", metavar="FILE.tar", help="where to")
    return top


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} given, 1 or more is needed")
    return value
