"""The verb `serve`: settings from the arguments, then a server until it is told to end.

In:  parsed arguments.
Out: one line when requests are answered (with --json the address, on standard output); a code.
Knows nothing about HTTP: the extra `serve` is imported when the verb runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from clap_engine import report
from clap_engine.errors import CollectionError, DependencyError, NotFoundError
from clap_engine.invocation import OK

_MB = 1024**2


def add_arguments(command: Any) -> None:
    """What `clap-engine serve` takes beside the bundle."""
    command.add_argument("--collection", metavar="X.clap", required=True)
    command.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine")
    command.add_argument("--port", type=int, default=8000, metavar="N",
                         help="default: 8000; 0 takes a free one")  # fmt: skip
    command.add_argument("--api-key-file", metavar="FILE",
                         help="keys, one a line (default: CLAP_ENGINE_API_KEY)")  # fmt: skip
    command.add_argument("--sounds", metavar="ROOT", help="play clips from below this folder")
    command.add_argument("--workers", type=_count, default=1, metavar="N",
                         help="processes that serve; over a snapshot they share its memory "
                              "(default: 1)")  # fmt: skip
    command.add_argument("--workers-decode", type=_count, default=1, metavar="N",
                         help="processes that decode sounds (default: 1)")  # fmt: skip
    command.add_argument("--text-threads", type=_count, default=2, metavar="N",
                         help="words at a time, in each process (default: 2)")  # fmt: skip
    command.add_argument("--max-body-mb", type=_count, default=32, metavar="N",
                         help="largest request (default: 32)")  # fmt: skip
    command.add_argument("--max-duration-s", type=_count, default=300, metavar="S",
                         help="longest sound (default: 300)")  # fmt: skip


def serve(arguments: argparse.Namespace) -> int:
    """Answer requests over HTTP until SIGTERM or Ctrl-C."""
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"{error.name} is not installed; pip install 'clap-engine[serve]'"
        ) from error
    from clap_engine import loading
    from clap_engine.serve import server
    from clap_engine.serve.settings import TEXT_PATIENCE, Settings

    threads = arguments.text_threads
    settings = Settings(
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        api_keys=_keys(arguments.api_key_file),
        sounds_root=_folder(arguments.sounds),
        max_body_bytes=arguments.max_body_mb * _MB,
        max_duration_s=float(arguments.max_duration_s),
        text_threads=threads,
        text_patience=replace(TEXT_PATIENCE, crowded=4 * threads, most=120 * threads),
        audio_threads=arguments.workers_decode,
        decode_workers=arguments.workers_decode,
    )
    server.check_settings(settings)
    with (
        loading.load(
            arguments.bundle, models_dir=arguments.models_dir, precision=arguments.precision,
            threads=arguments.threads or 1,
        ) as engine,
        engine.collection(arguments.collection, read_only=True) as sounds,
    ):  # fmt: skip
        server.run(engine, sounds, settings, lambda address: _announce(arguments, address))
    return OK


def _announce(arguments: argparse.Namespace, address: str) -> None:
    if arguments.json:
        report.print_json({"address": address})
        sys.stdout.flush()  # whoever started the server waits for it
        return
    print(f"clap-engine: {address} answers", file=sys.stderr, flush=True)


def _keys(path: str | None) -> tuple[str, ...]:
    """The keys of the file, or those of the environment where none is given."""
    if path is None:
        return _lines(os.environ.get("CLAP_ENGINE_API_KEY", ""))
    try:
        keys = _lines(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist; give a file of keys, one a line") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CollectionError(f"{path} can't be read ({error}); give keys, one a line") from error
    if not keys:
        raise CollectionError(f"{path} holds no key; write one a line")
    return keys


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _folder(path: str | None) -> Path | None:
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise NotFoundError(f"{path} is no folder; give the one that holds the sounds")
    return folder


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} given, 1 or more is needed")
    return value
