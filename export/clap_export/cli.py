"""`clap-export`: the build-time commands.

In:  the command line.
Out: an exit code (0 done, 1 refused with one line on stderr, 2 wrong usage).
Knows nothing about what a verb does: its module has `configure(parser)` and
`run(args, say)`, which returns the exit code; `say` prints a line.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from clap_engine import __version__
from clap_engine.errors import ClapError


@dataclass(frozen=True)
class Verb:
    """One command of one or two words; its module is imported only when it is called."""

    words: str
    module: str
    help: str


# A verb stands here once it works.
VERBS = (
    Verb(
        "corpus samples",
        "clap_export.commands.samples",
        "render the clips that come with the package",
    ),
    Verb("corpus", "clap_export.commands.corpus", "render the training corpus"),
    Verb("exam", "clap_export.commands.exam", "measure clap-mini on the rendered corpus"),
    Verb(
        "freeze",
        "clap_export.commands.freeze",
        "write the committed held-out clips and a bundle's figures on them",
    ),
    Verb("train mini", "clap_export.commands.train_mini", "train clap-mini from a corpus"),
    Verb(
        "train heads",
        "clap_export.commands.train_heads",
        "train Matryoshka heads of any model on sounds and captions",
    ),
    Verb(
        "fit rotation",
        "clap_export.commands.fit_rotation",
        "fit a head in closed form: no score changes, energy comes first",
    ),
    Verb(
        "report heads",
        "clap_export.commands.report_heads",
        "compare plain truncation, rotations and trained heads, rung by rung",
    ),
    Verb("convert", "clap_export.commands.convert", "turn real CLAP weights into a bundle"),
    Verb("quantize", "clap_export.commands.quantize", "add int8 graphs to a bundle"),
    Verb("parity", "clap_export.commands.parity", "compare the precisions of a bundle"),
    Verb(
        "pack mini", "clap_export.commands.pack_mini", "build the bundle clap-mini from its weights"
    ),
    Verb("pack", "clap_export.commands.pack", "check a bundle's gates and licences; drop graphs"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((v for v in VERBS if arguments[: len(v.words.split())] == v.words.split()), None)
    if verb is None:
        return _usage(arguments)
    module = importlib.import_module(verb.module)
    parser = argparse.ArgumentParser(f"clap-export {verb.words}", description=verb.help)
    module.configure(parser)
    args = parser.parse_args(arguments[len(verb.words.split()) :])
    try:
        code = module.run(args, print)
    except ClapError as error:
        print(f"clap-export {verb.words}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"clap-export {verb.words}: interrupted", file=sys.stderr)
        return 130
    return int(code)


def _usage(arguments: Sequence[str]) -> int:
    """The list of verbs, on stdout when asked for."""
    width = max(len(verb.words) for verb in VERBS)
    lines = ["usage: clap-export VERB ... (VERB --help says more)", ""]
    lines += [f"  {verb.words:<{width}}  {verb.help}" for verb in VERBS]
    if arguments in (["--help"], ["-h"], ["help"]):
        print("\n".join(lines))
        return 0
    if arguments == ["--version"]:
        print(f"clap-export {__version__}")
        return 0
    found = " ".join(arguments[:2]) or "no verb"
    print(f"clap-export: {found!r} is unknown\n" + "\n".join(lines), file=sys.stderr)
    return 2
