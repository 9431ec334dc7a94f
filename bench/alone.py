"""One contender in a process of its own: time from the first import to an answer, peak memory.

In:  `alone.py CONTENDER TASK --folder DIR [--threads N] [--rate-hz HZ] INPUT...`: "engine",
     "torch", "msclap" or "transformers"; "text", "audio" or "search"; the bundle or the peer's
     folder; texts, an .npy of windows, and for "search" the collection or the .npy of vectors
     before the texts.
Out: one line of JSON: seconds to the first answer, peak memory in bytes, the answers.
Knows nothing about the other contender: neither's libraries are imported beside the other's.
"""

from __future__ import annotations

import time

START = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

Answers = Iterator[list[Any]]
Args = argparse.Namespace


def engine_text(args: Args) -> Answers:
    import clap_engine

    engine = clap_engine.load(args.folder, threads=args.threads, warm="text")
    for text in args.inputs:
        yield engine.embed_text([text])[0].tolist()


def engine_audio(args: Args) -> Answers:
    import numpy as np

    import clap_engine

    engine = clap_engine.load(args.folder, threads=args.threads, warm="audio")
    for window in np.load(args.inputs[0]):
        yield engine.embed_audio([(window, args.rate_hz)])[0].tolist()


def engine_search(args: Args) -> Answers:
    import clap_engine

    engine = clap_engine.load(args.folder, threads=args.threads, warm="text")
    with engine.collection(args.inputs[0], read_only=True) as collection:
        for text in args.inputs[1:]:
            yield [hit.key for hit in collection.search(text, k=10).hits]


def torch_text(args: Args) -> Answers:
    peer = _torch(args).TextPeer(args.folder)
    for text in args.inputs:
        yield peer.embed(text)[0].tolist()


def torch_audio(args: Args) -> Answers:
    import numpy as np

    peer = _torch(args).AudioPeer(args.folder)
    for window in np.load(args.inputs[0]):
        yield peer.embed(window[None])[0].tolist()


def torch_search(args: Args) -> Answers:
    import numpy as np

    module = _torch(args)
    peer, matrix = module.TextPeer(args.folder), np.load(args.inputs[0])
    for text in args.inputs[1:]:
        yield module.exact_top(matrix, peer.embed(text)[0], 10).tolist()


def msclap_text(args: Args) -> Answers:
    package = _msclap(args)
    for text in args.inputs:
        yield package.get_text_embeddings([text])[0].tolist()


def msclap_audio(args: Args) -> Answers:
    import numpy as np
    import torch

    package = _msclap(args)
    for window in np.load(args.inputs[0]):
        yield package._get_audio_embeddings(torch.from_numpy(window)[None, None])[0].tolist()


def transformers_text(args: Args) -> Answers:
    import clap_folder

    _set_threads(args)
    embed = clap_folder.text_function(args.folder)
    for text in args.inputs:
        yield embed(text)[0].tolist()


def transformers_audio(args: Args) -> Answers:
    import numpy as np

    import clap_folder

    _set_threads(args)
    embed = clap_folder.audio_function(args.folder)
    for window in np.load(args.inputs[0]):
        yield embed(window[None])[0].tolist()


def _torch(args: Args) -> Any:
    import peer

    _set_threads(args)
    return peer


def _msclap(args: Args) -> Any:
    import msclap_files

    _set_threads(args)
    return msclap_files.load(args.folder)


def _set_threads(args: Args) -> None:
    import torch

    torch.set_num_threads(args.threads)


TASKS: dict[str, Callable[[Args], Answers]] = {
    "engine text": engine_text,
    "engine audio": engine_audio,
    "engine search": engine_search,
    "torch text": torch_text,
    "torch audio": torch_audio,
    "torch search": torch_search,
    "msclap text": msclap_text,
    "msclap audio": msclap_audio,
    "transformers text": transformers_text,
    "transformers audio": transformers_audio,
}


def main() -> None:
    """Run one task and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=("engine", "torch", "msclap", "transformers"))
    parser.add_argument("task", choices=("text", "audio", "search"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate-hz", type=int, default=32_000)
    parser.add_argument("inputs", nargs="+")
    args = parser.parse_args()
    answers = []
    first_s = None
    for answer in TASKS[f"{args.contender} {args.task}"](args):
        first_s = time.perf_counter() - START if first_s is None else first_s
        answers.append(answer)
    import machine  # it takes a while, of neither contender's time

    print(json.dumps({"first_s": first_s, "peak": machine.peak_memory(), "answers": answers}))


if __name__ == "__main__":
    main()
