"""A plan carried out: which clips answer it, what stands out in them, which were left out.

In:  a plan; a collection that is searched.
Out: citations: clips with spans and scores, each with its standing; what each part of it scores.
Knows nothing about how a question was read or how findings are put into words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from clap_engine.answers.plan import AnswerPlan
from clap_engine.deadline import Deadline
from clap_engine.query import AnyQuery
from clap_engine.search import Hit, SearchResult

# The share of unrelated pairs that a score must beat before it is told as found. On the 80 sample
# clips and their 77 classes .999 finds .66 of the true pairs at precision .62, .9999 .49 at .87,
# .99 .85 at .37 (docs/decisions.md).
STANDS_OUT = 0.999
# A sum is held against the collection itself, whose own best clips are part of that.
STANDS_OUT_OF_SUM = 0.98
# What is told as less certain: beaten by at most so many times the share that "found" allows.
DOUBT = 10.0
MAX_WEAK = 3
MAX_LEFT_OUT = 3
# Where it fits better than what is wanted, something unwanted is heard from here on.
FITS_BETTER = 0.99
# Clips that are checked for what must not be heard, for each that is asked for; and at most.
_CHECKED_PER_CLIP, _CHECKED_MIN, CHECKED_MAX = 4, 20, 1000

Standing = Literal["found", "weak", "left out"]


class Searched(Protocol):
    """What answers need of a collection."""

    def search(self, query: AnyQuery, k: int = 10, **options: Any) -> SearchResult:
        """The k best clips."""
        ...

    def search_batch(self, queries: Sequence[AnyQuery], k: int = 10, **options: Any) -> Any:
        """The k best clips of each."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Citation:
    """A clip that sentences name by `[number]`, with the span that fits best.

    `standing` is "found" where the score stands out of what unrelated sounds get, "weak" where it
    doesn't, "left out" where something unwanted, `because`, stands out. Score and span of a clip
    that was left out are those of what is unwanted.
    """

    number: int
    key: str
    start_s: float
    end_s: float
    score: float
    calibrated: float | None
    standing: Standing
    metadata: Mapping[str, Any]
    because: str | None = None


@dataclass(frozen=True)
class Part:
    """A part of the question by itself: its best spans in the cited clips, by their numbers."""

    text: str
    heard: tuple[Citation, ...]  # in which it stands out
    unheard: tuple[Citation, ...]


@dataclass(frozen=True)
class Findings:
    """What a search for the plan gave; `found` is the search itself.

    `bar` is the share of the background that "found" must beat, None where no background is known
    or nothing was asked of the sound. `is_sum` says that the background is the collection itself.
    """

    plan: AnswerPlan
    citations: tuple[Citation, ...]
    left_out: int  # clips, of which only some are cited
    bar: float | None
    is_sum: bool
    found: SearchResult

    @property
    def answering(self) -> tuple[Citation, ...]:
        """Those that were not left out, best first."""
        return tuple(one for one in self.citations if one.standing != "left out")

    @property
    def strong(self) -> tuple[Citation, ...]:
        """Those that stand out, or all where nothing says which do."""
        return tuple(one for one in self.citations if one.standing == "found")


def find(
    sounds: Searched,
    plan: AnswerPlan,
    *,
    bar: float | None,
    min_score: float | None,
    explain: bool,
    deadline: Deadline,
) -> Findings:
    """The clips for a plan; those in which something unwanted stands out are left out."""
    query = plan.query
    is_sum = len(query.terms) > 1 or query.terms[0].weight <= 0
    if bar is None:
        bar = STANDS_OUT_OF_SUM if is_sum else STANDS_OUT
    asked = plan.k
    if plan.without:
        asked = max(_CHECKED_PER_CLIP * plan.k, _CHECKED_MIN)
    while True:
        found = sounds.search(
            query, k=asked, where=plan.filter, explain=explain, timeout_s=deadline
        )
        unwanted = _unwanted(sounds, plan, found.hits, deadline)
        kept = [hit for hit in found.hits if hit.key not in unwanted]
        if len(kept) >= plan.k or len(found.hits) < asked or asked >= CHECKED_MAX:
            break
        asked = min(5 * asked, CHECKED_MAX)
    is_known = any(hit.calibrated is not None for hit in found.hits)

    def stands(hit: Hit) -> bool:
        if min_score is not None and hit.score < min_score:
            return False
        return not plan.is_sound_asked or hit.calibrated is None or hit.calibrated >= bar

    strong = [hit for hit in kept[: plan.k] if stands(hit)]
    weak = [hit for hit in kept[: plan.k] if not stands(hit)]
    floor = 1.0 - DOUBT * (1.0 - bar)
    likely = [hit for hit in weak if hit.calibrated is None or hit.calibrated >= floor]
    weak = likely or ([] if strong else weak[:1])
    citations = [_cited(hit, "found") for hit in strong]
    citations += [_cited(hit, "weak") for hit in weak[:MAX_WEAK]]
    last = kept[: plan.k][-1].score if kept else -math.inf
    left = [hit for hit in found.hits if hit.key in unwanted and hit.score >= last]
    for hit in left[:MAX_LEFT_OUT]:
        text, heard = unwanted[hit.key]
        citations.append(_cited(heard, "left out", hit.metadata, text))
    return Findings(
        plan,
        tuple(_numbered(citations)),
        len(left),
        bar if plan.is_sound_asked and is_known else None,
        is_sum,
        found,
    )


def parts(sounds: Searched, findings: Findings, *, deadline: Deadline) -> tuple[Part, ...]:
    """Each part of the plan by itself, in the clips that answer it; none where nothing tells."""
    plan, clips = findings.plan, {one.key: one for one in findings.answering}
    if not plan.parts or not clips or findings.bar is None:
        return ()
    found = []
    for text, best in zip(
        plan.parts, _within(sounds, plan.parts, list(clips), deadline), strict=True
    ):
        heard: list[Citation] = []
        unheard: list[Citation] = []
        for key, cited in clips.items():
            hit = best[key]
            number, stands = cited.number, _is_heard(hit, STANDS_OUT)
            one = _cited(hit, "found" if stands else "weak", cited.metadata, number=number)
            (heard if stands else unheard).append(one)
        found.append(Part(text, tuple(heard), tuple(unheard)))
    return tuple(found)


def _unwanted(
    sounds: Searched, plan: AnswerPlan, hits: Sequence[Hit], deadline: Deadline
) -> dict[str, tuple[str, Hit]]:
    """Keys of clips in which something unwanted stands out, what it is, and where."""
    if not plan.without or not hits:
        return {}
    wanted = {hit.key: hit.score for hit in hits}
    found: dict[str, tuple[str, Hit]] = {}
    for text, best in zip(
        plan.without, _within(sounds, plan.without, list(wanted), deadline), strict=True
    ):
        for key, hit in best.items():
            fits_better = bool(plan.text) and hit.score > wanted[key]
            is_heard = (
                fits_better
                if hit.calibrated is None
                else _is_heard(hit, FITS_BETTER if fits_better else STANDS_OUT)
            )
            if is_heard and key not in found:
                found[key] = (text, hit)
    return found


def _is_heard(hit: Hit, bar: float) -> bool:
    return hit.calibrated is not None and hit.calibrated >= bar


def _within(
    sounds: Searched, texts: Sequence[str], keys: list[str], deadline: Deadline
) -> list[dict[str, Hit]]:
    """The best span of each of these clips for each text, by key."""
    results = sounds.search_batch(
        list(texts), k=len(keys), where={"key": {"in": keys}}, shortlist="all", timeout_s=deadline
    )
    return [{hit.key: hit for hit in result.hits} for result in results]


def _cited(
    hit: Hit,
    standing: Standing,
    metadata: Mapping[str, Any] | None = None,
    because: str | None = None,
    *,
    number: int = 0,
) -> Citation:
    return Citation(
        number, hit.key, hit.start_s, hit.end_s, hit.score, hit.calibrated, standing,
        hit.metadata if metadata is None else metadata, because,
    )  # fmt: skip


def _numbered(citations: Sequence[Citation]) -> list[Citation]:
    return [
        Citation(**{**one.__dict__, "number": number}) for number, one in enumerate(citations, 1)
    ]
