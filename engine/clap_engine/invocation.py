"""What all verbs share: exit codes, and the engine that the arguments ask for.

In:  parsed arguments.
Out: an engine, loaded from the bundle they name.
Knows nothing about what a verb does with it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_engine.engine import Engine, Part

# The codes that a finished command gives; what an error gives is in cli.py.
OK, SOME_FAILED, DAMAGED, INTERRUPTED = 0, 1, 4, 130


def engine_of(arguments: argparse.Namespace, warm: Sequence[Part] = ()) -> Engine:
    """The engine over --bundle, with --precision and --threads; see `load` for `warm`."""
    from clap_engine import loading

    return loading.load(
        arguments.bundle,
        models_dir=arguments.models_dir,
        precision=arguments.precision,
        threads=arguments.threads,
        warm=warm,
    )
