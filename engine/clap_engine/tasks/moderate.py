"""A sound against a policy: which categories are met, where, and what to do.

In:  blocks of consecutive frames' cosines with the policy's texts; a policy.
Out: `Evidence` as soon as it is over; a `Verdict`.
Knows nothing about models or files. Memory is that of a block and of MAX_SPANS spans a category.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float64
from clap_engine.tasks.detect import Run, Tracker
from clap_engine.tasks.frames import Block
from clap_engine.tasks.policy import Category, Policy
from clap_engine.tasks.scores import Background
from clap_engine.tasks.settings import ACTIONS, PASS

Bools = npt.NDArray[np.bool_]

# Spans kept as evidence; all of them count for the verdict.
MAX_SPANS = 100


@dataclass(frozen=True)
class Evidence:
    """Where a category sounds; `score` is its highest probability there."""

    category: str
    start_s: float
    end_s: float
    score: float


@dataclass(frozen=True)
class Finding:
    """A category that is met: its action, highest score, share of the sound, and where.

    `spans` are the first 100 of `count`.
    """

    category: str
    action: str
    score: float
    share: float
    count: int
    spans: tuple[Evidence, ...]


@dataclass(frozen=True)
class Verdict:
    """`action` is the strictest that a finding calls for, or "pass"."""

    action: str
    policy: str
    duration_s: float
    findings: tuple[Finding, ...]


class Listener:
    """One sound against one policy: give it all blocks, then ask for the verdict."""

    def __init__(self, policy: Policy, background: Background | None, frame_s: float) -> None:
        """`background` may be None for a policy about level alone."""
        self._policy, self._background, self._frame_s = policy, background, frame_s
        some = policy.categories
        self._tracker = Tracker(
            len(some),
            np.array([category.threshold for category in some]),
            np.array([category.release for category in some]),
            np.array([round(category.merge_s / frame_s) for category in some]),
        )
        self._spans: list[list[Evidence]] = [[] for _ in some]
        self._counts, self._heard_s, self._best = (
            [0] * len(some),
            [0.0] * len(some),
            [0.0] * len(some),
        )
        self._end_s = 0.0

    def evidence(self, blocks: Iterable[Block]) -> Iterator[Evidence]:
        """Spans that count, each as soon as it is over."""
        end_s = math.inf
        for block in blocks:
            end_s = math.inf if block.end_s is None else block.end_s
            yield from self._told(self._tracker.add(block.first, self._scores(block)), end_s)
        self._end_s = end_s
        yield from self._told(self._tracker.rest(), end_s)

    def verdict(self) -> Verdict:
        """Once all evidence was read."""
        findings = tuple(
            Finding(category.name, category.action, self._best[place],
                    self._share(place), self._counts[place], tuple(self._spans[place]))
            for place, category in enumerate(self._policy.categories)
            if self._counts[place] and self._share(place) >= category.min_share
        )  # fmt: skip
        order = (PASS, *ACTIONS)
        action = max((finding.action for finding in findings), key=order.index, default=PASS)
        return Verdict(action, self._policy.name, self._end_s, findings)

    def _share(self, place: int) -> float:
        return min(1.0, self._heard_s[place] / self._end_s)

    def _scores(self, block: Block) -> Float64:
        """[n, C] probabilities; a frame that fits a text against a category better has 0."""
        columns, at = [], 0
        silent = block.is_silent
        for category in self._policy.categories:
            if category.below_dbfs is not None:
                columns.append((block.power < 10.0 ** (category.below_dbfs / 10.0)).astype(float))
                continue
            columns.append(self._of_texts(category, block, at, silent))
            at += 2 if category.unwanted else 1
        return np.stack(columns, axis=1)

    def _of_texts(self, category: Category, block: Block, at: int, silent: Bools) -> Float64:
        if self._background is None:
            raise RuntimeError("a policy with texts needs a background")
        cosines = block.cosines[:, at]
        scores = self._background.probabilities(cosines)
        scores[silent] = 0.0
        if category.unwanted:
            scores[block.cosines[:, at + 1] > cosines] = 0.0
        return scores

    def _told(self, runs: Iterable[Run], end_s: float) -> Iterator[Evidence]:
        for run in runs:
            category = self._policy.categories[run.label]
            start_s = run.first * self._frame_s
            until_s = min(run.end * self._frame_s, end_s)
            if until_s - start_s < category.min_duration_s:
                continue
            found = Evidence(category.name, start_s, until_s, run.peak)
            place = run.label
            self._counts[place] += 1
            self._heard_s[place] += until_s - start_s
            self._best[place] = max(self._best[place], run.peak)
            if len(self._spans[place]) < MAX_SPANS:
                self._spans[place].append(found)
            yield found
