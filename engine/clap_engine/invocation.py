"""What all verbs share: exit codes, and the engine that the arguments ask for.

In:  parsed arguments.
Out: an engine, loaded from the bundle they name.
Knows nothing about what a verb does with it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clap_engine.engine import Engine

# The codes that a finished command gives; what an error gives is in cli.py.
OK, SOME_FAILED, DAMAGED, INTERRUPTED = 0, 1, 4, 130


def engine_of(arguments: argparse.Namespace) -> Engine:
    """The engine over --bundle, with --precision and --threads."""
    from clap_engine import engine

    return engine.load(
        arguments.bundle,
        models_dir=arguments.models_dir,
        precision=arguments.precision,
        threads=arguments.threads,
    )
