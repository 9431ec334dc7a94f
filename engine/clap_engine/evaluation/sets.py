"""A set of clips with captions or labels, whatever layout it came in.

In:  a folder, the name of a layout or "auto", a split.
Out: `EvaluationSet`.
Knows nothing about models or figures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clap_engine.errors import NotFoundError, TaskError

# What a run keeps in memory: 512 dims of so many clips are 400 MB, of so many captions 1 GB.
MAX_CLIPS = 200_000
MAX_CAPTIONS = 500_000


@dataclass(frozen=True)
class Clip:
    """One sound: `path` is None where it is not there; `labels` by task.

    A sound longer than `longest_s` is not the clip that was asked for: the whole recording, say.
    """

    name: str
    path: Path | None
    captions: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] | None = None
    longest_s: float | None = None


@dataclass(frozen=True)
class EvaluationSet:
    """Clips in the order of the metadata; `classes` by task, of all rows, found or not.

    `blank` counts captions without a word, which are left out.
    """

    folder: Path
    layout: str
    split: str
    clips: tuple[Clip, ...]
    classes: Mapping[str, tuple[str, ...]]
    blank: int = 0

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of clips whose sound is not there."""
        return tuple(clip.name for clip in self.clips if clip.path is None)

    def limited(self, limit: int, seed: int) -> EvaluationSet:
        """The same with `limit` clips, drawn by the seed, in the set's order."""
        if limit < 1:
            raise TaskError(f"limit is {limit}; give 1 clip or more")
        chosen = np.random.default_rng(seed).permutation(len(self.clips))[:limit]
        return replace(self, clips=tuple(self.clips[i] for i in sorted(chosen.tolist())))


def read(
    folder: str | os.PathLike[str], layout: str = "auto", split: str | None = None
) -> EvaluationSet:
    """The set in a folder; TaskError for a layout that doesn't fit, NotFoundError for no folder.

    A split that is not named is the one that its authors test on.
    """
    from clap_engine.evaluation import layouts

    root = Path(folder)
    if not root.exists():
        raise NotFoundError(f"{root} does not exist; give the folder of a set")
    name = layouts.recognised(root) if layout == "auto" else layout
    if name not in layouts.LAYOUTS:
        raise TaskError(f"layout {layout!r} is unknown; take auto, {', '.join(layouts.LAYOUTS)}")
    chosen = layouts.LAYOUTS[name]
    taken = split or chosen.splits[0]
    if taken not in chosen.splits:
        raise TaskError(f"{name} has no split {taken!r}; take one of {', '.join(chosen.splits)}")
    found = chosen.read(root, taken)
    if not found.clips:
        raise TaskError(f"{root}, read as {name}, split {taken}, lists no clip; nothing to measure")
    if not any(clip.captions or clip.labels for clip in found.clips):
        raise TaskError(f"{root}, read as {name}, has neither captions nor labels; add a column")
    captions = sum(len(clip.captions) for clip in found.clips)
    if len(found.clips) > MAX_CLIPS or captions > MAX_CAPTIONS:
        raise TaskError(
            f"{root} lists {len(found.clips)} clips with {captions} captions; {MAX_CLIPS} and "
            f"{MAX_CAPTIONS} are allowed; cut it into parts"
        )
    return found


def sample(
    folder: str | os.PathLike[str], layout: str, split: str | None, limit: int | None, seed: int
) -> EvaluationSet:
    """As `read`, of which at most `limit` clips; TaskError where no sound of these is there."""
    found = read(folder, layout, split)
    if limit is not None:
        found = found.limited(limit, seed)
    missing = found.missing
    if len(missing) == len(found.clips):
        raise TaskError(
            f"none of the {len(missing)} clips that {found.folder} lists is there; the first is "
            f"{missing[0]!r}: put the sounds where the layout has them"
        )
    return found
