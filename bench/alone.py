"""One contender in a process of its own: time from the first import to an answer, peak memory.

In:  `alone.py CONTENDER TASK --folder DIR INPUT...`: "engine" or "torch"; "text", "audio" or
     "search"; the bundle or the peer's folder; texts, an .npy of windows, and for "search" the
     collection or the .npy of vectors before the texts.
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

import machine  # noqa: E402

Answers = Iterator[list[Any]]


def engine_text(folder: Path, inputs: list[str]) -> Answers:
    import clap_engine

    engine = clap_engine.load(folder, threads=1)
    for text in inputs:
        yield engine.embed_text([text])[0].tolist()


def engine_audio(folder: Path, inputs: list[str]) -> Answers:
    import numpy as np

    import clap_engine

    engine = clap_engine.load(folder, threads=1)
    for window in np.load(inputs[0]):
        yield engine.embed_audio([(window, 32_000)])[0].tolist()


def engine_search(folder: Path, inputs: list[str]) -> Answers:
    import clap_engine

    engine = clap_engine.load(folder, threads=1)
    with engine.collection(inputs[0], read_only=True) as collection:
        for text in inputs[1:]:
            yield [hit.key for hit in collection.search(text, k=10).hits]


def torch_text(folder: Path, inputs: list[str]) -> Answers:
    peer = _torch().TextPeer(folder)
    for text in inputs:
        yield peer.embed(text)[0].tolist()


def torch_audio(folder: Path, inputs: list[str]) -> Answers:
    import numpy as np

    peer = _torch().AudioPeer(folder)
    for window in np.load(inputs[0]):
        yield peer.embed(window[None])[0].tolist()


def torch_search(folder: Path, inputs: list[str]) -> Answers:
    import numpy as np

    module = _torch()
    peer, matrix = module.TextPeer(folder), np.load(inputs[0])
    for text in inputs[1:]:
        yield module.exact_top(matrix, peer.embed(text)[0], 10).tolist()


def _torch() -> Any:
    import torch

    import peer

    torch.set_num_threads(1)
    return peer


TASKS: dict[str, Callable[[Path, list[str]], Answers]] = {
    "engine text": engine_text,
    "engine audio": engine_audio,
    "engine search": engine_search,
    "torch text": torch_text,
    "torch audio": torch_audio,
    "torch search": torch_search,
}


def main() -> None:
    """Run one task and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=("engine", "torch"))
    parser.add_argument("task", choices=("text", "audio", "search"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("inputs", nargs="+")
    args = parser.parse_args()
    answers = []
    first_s = None
    for answer in TASKS[f"{args.contender} {args.task}"](args.folder, args.inputs):
        first_s = time.perf_counter() - START if first_s is None else first_s
        answers.append(answer)
    print(json.dumps({"first_s": first_s, "peak": machine.peak_memory(), "answers": answers}))


if __name__ == "__main__":
    main()
