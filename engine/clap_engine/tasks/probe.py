"""A classifier from a few examples a class: fit, predict, save, load.

In:  examples, label -> sounds; or unit rows with their labels.
Out: `Probe`, whose answers have the shape of classify's; an .npz without pickles.
Knows nothing about graphs or the command line.

The file holds: labels, weights [C, D], bias [C], the space that they belong to. It opens with
any bundle of that space and with no other.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, Float64, check_array
from clap_engine.errors import IntegrityError, NotFoundError, SpaceMismatchError, TaskError
from clap_engine.storage import write_atomic
from clap_engine.tasks import classify, learners
from clap_engine.tasks.classify import LabelScore
from clap_engine.tasks.labels import Labels
from clap_engine.tasks.scores import shares

FORMAT = 1
MAX_EXAMPLES = 5_000
# What a margin of the rule is worth in logits: the likelihood of held-out clips is best near it.
SHARPNESS = 4.0

Embed = Callable[[Any], Float32]


class Probe:
    """What tells a few classes apart, learned from examples; immutable once it is fitted."""

    def __init__(
        self, labels: Sequence[str], weights: Float64, bias: Float64, space_id: str, embed: Embed
    ) -> None:
        """`weights` [C, D] and `bias` [C]; `embed` makes a clip one unit row [D]."""
        self.labels = Labels.of(list(labels))
        self.weights, self.bias, self.space_id = weights, bias, space_id
        self._embed = embed

    @classmethod
    def fit(
        cls,
        rows: Any,
        labels: Sequence[str],
        *,
        space_id: str,
        embed: Embed,
        words: Callable[[tuple[str, ...]], Float32] | None = None,
    ) -> Probe:
        """Rows [N, D] with the label of each; TaskError for fewer than two classes.

        With `words`, which embeds texts, the labels themselves count as two examples more.
        """
        x = check_array(rows, shape=(None, None), name="examples")
        if len(x) != len(labels) or not 2 <= len(x) <= MAX_EXAMPLES:
            raise TaskError(
                f"{len(x)} examples with {len(labels)} labels are given; give one label each for "
                f"2 to {MAX_EXAMPLES} examples"
            )
        names = Labels.of(list(dict.fromkeys(labels)))
        if len(names) < 2:
            raise TaskError(
                f"all examples are of {names.names[0]!r:.60}; give examples of a second class, "
                "such as sounds that are none of it"
            )
        place = {name: number for number, name in enumerate(dict.fromkeys(labels))}
        classes = np.array([place[label] for label in labels], np.int64)
        text = None if words is None else words(names.names)
        weights, bias = learners.ridge(x, classes, len(names), text)
        return cls(names.names, weights, bias, space_id, embed)

    def predict(
        self, sources: Any, *, top_k: int | None = None
    ) -> list[LabelScore] | list[list[LabelScore]]:
        """A clip -> its labels, best first; a list of clips -> a list of these.

        Scores sum to 1 over the labels, so that some label always wins.
        """
        classify.check_top_k(top_k)
        if isinstance(sources, list):
            return [self._one(self._embed(source), top_k) for source in sources]
        return self._one(self._embed(sources), top_k)

    def predict_rows(self, rows: Any, *, top_k: int | None = None) -> list[list[LabelScore]]:
        """Rows [N, D] of embeddings that were made before -> a list for each."""
        classify.check_top_k(top_k)
        x = check_array(rows, shape=(None, self.weights.shape[1]), name="rows")
        return [self._one(row, top_k) for row in x]

    def _one(self, row: Float32, top_k: int | None) -> list[LabelScore]:
        margins = row @ self.weights.T + self.bias
        return classify.ranked(self.labels, shares(margins, SHARPNESS), top_k)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the probe; a file that is there is replaced as a whole."""
        data = io.BytesIO()
        np.savez(
            data,
            format=np.int64(FORMAT),
            space_id=np.array(self.space_id),
            labels=np.array(self.labels.names),
            weights=self.weights.astype(np.float32),
            bias=self.bias.astype(np.float32),
        )
        write_atomic(Path(path), data.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, space_id: str, embed: Embed) -> Probe:
        """A saved probe; SpaceMismatchError if it was fitted in another space."""
        try:
            data = io.BytesIO(Path(path).read_bytes())
            with np.load(data, allow_pickle=False) as archive:
                held = {name: archive[name] for name in archive.files}
        except FileNotFoundError as error:
            raise NotFoundError(f"{path} does not exist; give a saved probe") from error
        except (ValueError, KeyError, OSError, EOFError, RuntimeError, MemoryError,
                AttributeError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
            raise IntegrityError(f"{path} is no probe ({error}); save it again") from error
        return _checked(cls, held, path, space_id, embed)

    def __repr__(self) -> str:
        return f"<Probe of {len(self.labels)} classes in space {self.space_id[:12]}>"


def gather(examples: Mapping[str, Sequence[Any]], embed: Embed) -> tuple[Float32, list[str]]:
    """label -> clips -> (rows [N, D], the label of each)."""
    if not isinstance(examples, Mapping):
        raise TaskError(f"examples is a {type(examples).__name__}; give {{label: [clip, ...]}}")
    for label, sources in examples.items():
        if not isinstance(sources, (list, tuple)) or not sources:
            raise TaskError(f"examples of {label!r:.60} must be a list of at least one clip")
    rows = [embed(source) for sources in examples.values() for source in sources]
    labels = [label for label, sources in examples.items() for _ in sources]
    if not rows:
        raise TaskError("no examples are given; give {label: [clip, ...]} of two classes or more")
    return np.stack(rows), labels


def _checked(
    cls: type[Probe], held: Mapping[str, Any], path: Any, space_id: str, embed: Embed
) -> Probe:
    """A probe of what a file held; everything in it is looked at first."""
    shapes = {"format": (), "space_id": (), "labels": (None,), "weights": (None, None),
              "bias": (None,)}  # fmt: skip
    if held.keys() != shapes.keys() or any(
        held[name].ndim != len(shape) for name, shape in shapes.items()
    ):
        raise IntegrityError(f"{path} holds {sorted(held)}, which is no probe; save it again")
    if held["format"].dtype.kind != "i" or int(held["format"]) != FORMAT:
        raise IntegrityError(f"{path} has another format than {FORMAT}; upgrade clap-engine")
    if any(held[name].dtype.kind != "U" for name in ("space_id", "labels")):
        raise IntegrityError(f"{path} holds labels that are no texts; save it again")
    if str(held["space_id"]) != space_id:
        raise SpaceMismatchError(
            f"{path} was fitted in space {str(held['space_id'])[:12]}, the bundle's is "
            f"{space_id[:12]}; fit it again"
        )
    count = len(held["labels"])
    weights = check_array(held["weights"], shape=(count, None), name=f"{path} weights")
    bias = check_array(held["bias"], shape=(count,), name=f"{path} bias")
    labels = [str(label) for label in held["labels"]]
    return cls(labels, weights.astype(np.float64), bias.astype(np.float64), space_id, embed)
