"""A question in English -> a plan, by rules that always give the same: docs/answers.md lists them.

In:  the question; the fields that the collection declares; whether it holds a key.
Out: an `AnswerPlan`, in which every word of the question has its role.
Knows nothing about models, vectors or how the plan is carried out.

Each rule takes its words from the page, and what nothing took is the text to search for: a rule
that fails to see its words makes the query longer, never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from clap_engine.answers import conditions
from clap_engine.answers.page import QUOTED, TAKEN, Page
from clap_engine.answers.plan import DEFAULT_K, MAX_K, MAX_PARTS, AnswerPlan, Role, Word
from clap_engine.answers.words import (
    ARTICLES,
    COMMAND,
    COUNTED_NOUN,
    COUNTS,
    LOOSE,
    MAX_SOURCE_WORDS,
    MOODS,
    NOT,
    NOT_LED,
    NOT_NOT,
    NOT_TRAILED,
    SOURCES,
    TEMPOS,
    THING_FIRST,
    THING_LAST,
    VERB_FIRST,
)

_COUNT = rf"(\d{{1,6}}|{'|'.join(sorted(COUNTS, key=len, reverse=True))})"
_TOP = re.compile(
    rf"\b(?:the )?(?:top|best|first|closest) {_COUNT}\b(?:(?: best| closest)? {COUNTED_NOUN}\b)?",
    re.IGNORECASE,
)
_COUNTED = re.compile(rf"(?:the )?{_COUNT} (?=(?:[\w'-]+ ){{0,5}}{COUNTED_NOUN}\b)", re.IGNORECASE)
_LIKE = re.compile(
    rf'(?<!not )\b(?:(?:more|similar|sounding|sounds?|something|anything) )?'
    rf'(?:like|similar to|close to) ("{QUOTED}+"|[^\s"]+)',
    re.IGNORECASE,
)  # fmt: skip
_SCOPE_END = re.compile(rf"[;.?!](?!\w)|\b(?:but|with|while|plus|yet)\b|{TAKEN}", re.IGNORECASE)
_OR = re.compile(r"\b(?:or|nor)\b", re.IGNORECASE)
_LISTED = re.compile(r"\s*(?:,|\b(?:or|and|nor)\b|&)\s*", re.IGNORECASE)
_JOINED = re.compile(
    r"\s*(?:[,;&]|\b(?:and|with|plus|over|then|followed by|while|but)\b)\s*", re.IGNORECASE
)
_ARTICLE = re.compile(r"^(?:a|an|the|some|also) ", re.IGNORECASE)


def parse(
    question: str,
    *,
    declared: Sequence[str] = (),
    has_key: Callable[[str], bool] = lambda key: False,
) -> AnswerPlan:
    """The plan of a question; TaskError unless it is text of 1 to 1000 characters with a word."""
    page = Page(question)
    where, group, unmet = conditions.taken(page, declared)
    near = _like(page, has_key)
    k = _top(page)
    without = _without(page)
    k = _opening(page, k)
    _trim(page)
    text = _spoken(page.rest())
    if not (text or near or without or where):
        # Every word was a courtesy: then they are what is asked for.
        return AnswerPlan(question=page.text, text=page.text, words=(Word(page.text, "text"),))
    named = _annotate(page)
    parts = _parts(text, named["source"])
    return AnswerPlan(
        question=page.text,
        text=text,
        parts=tuple(parts[:MAX_PARTS]),
        without=tuple(without[:MAX_PARTS]),
        near=tuple(near[:MAX_PARTS]),
        where=None if not where else where[0] if len(where) == 1 else {"and": where},
        k=DEFAULT_K if k is None else min(k, MAX_K),
        is_k_asked=k is not None,
        group_by=group,
        moods=tuple(named["mood"][:MAX_PARTS]),
        tempos=tuple(named["tempo"][:MAX_PARTS]),
        unmet=tuple(unmet[:MAX_PARTS]),
        words=page.words(),
    )


def _like(page: Page, has_key: Callable[[str], bool]) -> list[str]:
    """Stored clips to be like; what is no key stays in the text."""
    found: list[str] = []
    for match in _LIKE.finditer(page.free):
        said = page.said(*match.span(1))
        for key in dict.fromkeys((said, said.rstrip(",;.?!"))):
            if key and has_key(key):
                end = match.end(1) - (len(said) - len(key))
                page.take(match.start(), end, "like", f"like the stored clip {key}")
                found.append(key)
                break
    return list(dict.fromkeys(found))


def _top(page: Page) -> int | None:
    """How many are asked for, as in "top 5"."""
    match = _TOP.search(page.free)
    return None if match is None else _counted(page, match.start(), match.end(), match[1])


def _counted(page: Page, start: int, end: int, word: str) -> int | None:
    count = COUNTS.get(word.lower()) or int(word)
    if count < 1:
        return None
    note = f"{count} clips" if count <= MAX_K else f"{MAX_K} clips, the most an answer names"
    page.take(start, end, "count", note)
    return count


def _without(page: Page) -> list[str]:
    """What must not be heard: from a negation to the end of its clause."""
    found: list[str] = []
    skipped = [match.span() for match in NOT_NOT.finditer(page.free)]
    for start, end in skipped:
        if page.free[start:end].lower() == "not only":
            page.take(start, end, "filler")
    at = 0
    while (match := NOT.search(page.free, at)) is not None:
        at = match.end()
        if any(start <= match.end() and match.start() < end for start, end in skipped):
            continue
        end = _scope(page.free, match.end())
        said = [_unwanted(one) for one in _LISTED.split(page.text[match.end() : end])]
        names = [one for one in said if one]
        if not names:
            continue
        found += names
        page.take(match.start(), end, "without", "not heard: " + ", ".join(names))
        at = end
    return list(dict.fromkeys(found))


def _scope(free: str, start: int) -> int:
    """Where the clause of a negation ends; a comma ends it unless a list with "or" goes on."""
    stop = _SCOPE_END.search(free, start)
    end = len(free) if stop is None else stop.start()
    again = NOT.search(free, start)
    if again is not None and again.start() < end:
        end = again.start()
    comma = free.find(",", start, end)
    if comma >= 0:
        *_, last = [comma, *(comma + m.end() for m in _OR.finditer(free[comma:end]))]
        after = free.find(",", last, end)
        end = end if after < 0 else after
    return end


def _unwanted(words: str) -> str:
    return NOT_TRAILED.sub("", NOT_LED.sub("", words.strip().strip('"') + " ").strip()).strip(" .,")


def _opening(page: Page, k: int | None) -> int | None:
    """Take "show me three clips of" from the front, and an answer's noun from the end."""
    is_asked = k is not None

    def first() -> int:
        return next((start for start, _ in page.loose()), len(page.text))

    if (match := COMMAND.match(page.free, first())) is not None:
        page.take(*match.span(), "command")
        is_asked = True
    if k is None and (match := _COUNTED.match(page.free, first())) is not None:
        k = _counted(page, match.start(), match.end() - 1, match[1])
        is_asked = True
    if (match := THING_FIRST.match(page.free, first())) is not None:
        page.take(*match.span(), "command")
    elif is_asked:
        *_, last = [0, *(end for _, end in page.loose())]
        tail = page.free[:last].rstrip(" ?!.,")
        if (match := THING_LAST.search(tail)) is not None:
            page.take(*match.span(), "command")
    if is_asked and (match := VERB_FIRST.match(page.free, first())) is not None:
        page.take(*match.span(), "command")
    return k


def _trim(page: Page) -> None:
    """Connectives that stand at either end, or alone between what was taken, say nothing."""
    for is_from_end in (False, True):
        while spans := list(page.loose()):
            start, end = spans[-1] if is_from_end else spans[0]
            word = page.free[start:end].lower()
            if is_from_end and word in ARTICLES:
                page.take(start, end, "filler")
                continue
            if word.strip(",;.?!:") not in LOOSE and word.strip(",;.?!:\"'"):
                if is_from_end and (bare := word.rstrip(",;.?!:")) != word:
                    page.take(start + len(bare), end, "filler")
                break
            page.take(start, end, "filler")


def _spoken(text: str) -> str:
    """The text without what taking parts of it has left doubled."""
    text = re.sub(r"\s+([,;.?!])", r"\1", text)
    text = re.sub(r"(?:[,;]\s*)+(?=[,;])", "", text)
    text = re.sub(r"\b(and|with|or)(?: (?:and|with|or))+\b", r"\1", text, flags=re.IGNORECASE)
    return text.strip(" ,;")


def _annotate(page: Page) -> dict[Role, list[str]]:
    """Things that sound, moods and tempi among the words of the text."""
    spans = list(page.loose())
    words = [page.text[start:end].lower().strip(",;.?!:\"'()") for start, end in spans]
    found: dict[Role, list[str]] = {"source": [], "mood": [], "tempo": []}
    at = 0
    while at < len(words):
        role, size = _known(words, at)
        start, end = spans[at][0], spans[at + size - 1][1]
        if role is not None and not page.is_taken(start):
            said = " ".join(words[at : at + size])
            if said not in found[role]:
                found[role].append(said)
            page.note(start, end, role, _NOTES[role])
        at += size
    return found


_NOTES: dict[Role, str] = {
    "source": "searched for; something that sounds",
    "mood": "searched for; nothing measures it",
    "tempo": "searched for; nothing measures it",
}


def _known(words: list[str], at: int) -> tuple[Role | None, int]:
    """What begins at this word, and how many words it has; the longest source comes first."""
    for size in range(min(MAX_SOURCE_WORDS, len(words) - at), 0, -1):
        said = " ".join(words[at : at + size])
        if any(said.endswith(end) and said[: len(said) - len(end)] in SOURCES for end in _PLURALS):
            return "source", size
    return ("tempo" if words[at] in TEMPOS else "mood" if words[at] in MOODS else None), 1


_PLURALS = ("", "s", "es")


def _parts(text: str, sources: list[str]) -> list[str]:
    """What of the text is checked by itself: its members, or what sounds in it."""
    members = [_ARTICLE.sub("", one).strip() for one in _JOINED.split(text)]
    members = [one for one in dict.fromkeys(members) if not _says_nothing(one)]
    if len(members) > 1:
        return members
    bare = _ARTICLE.sub("", members[0] if members else text).lower()
    return [source for source in sources if source != bare]


def _says_nothing(words: str) -> bool:
    """Whether nothing in it could be heard by itself."""
    return all(word in LOOSE or word in TEMPOS or word in MOODS for word in words.lower().split())
