"""A question under reading: which of its characters were taken already, and as what.

In:  a question; spans that rules take.
Out: what is left, and every word with what became of it, in order.
Knows nothing about the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clap_engine.answers.plan import MAX_CHARS, Role, Word
from clap_engine.errors import TaskError

TAKEN, QUOTED = "\ue000", "\ue001"
_SAME = str.maketrans({"“": '"', "”": '"', "„": '"', "’": "'", "‘": "'"})
_QUOTE = re.compile(r'"([^"]+)"')
_TOKEN = re.compile(r"\S+")


class Page:
    """`text` is the question with single spaces; `free` is as long, with private characters
    instead of what was taken or stands in quotes, so that no rule matches there."""

    def __init__(self, question: str) -> None:
        """TaskError unless it is text of 1 to 1000 characters that says something."""
        if not isinstance(question, str):
            raise TaskError(f"a question is text or an AnswerPlan, not {type(question).__name__}")
        if len(question) > MAX_CHARS:
            raise TaskError(f"the question has {len(question)} characters; {MAX_CHARS} are allowed")
        if "\0" in question or any(0xD800 <= ord(char) <= 0xDFFF for char in question):
            raise TaskError("the question holds NUL or a lone surrogate; give Unicode text")
        self.text = " ".join(question.translate(_SAME).split())
        if not any(char.isalnum() for char in self.text):
            raise TaskError(f"the question {question!r:.60} has no word; ask for a sound")
        self.free = self.text.replace(TAKEN, " ").replace(QUOTED, " ")
        for match in _QUOTE.finditer(self.text):
            start, end = match.span(1)
            self.free = self.free[:start] + QUOTED * (end - start) + self.free[end:]
        self._taken: dict[int, tuple[int, Role, str]] = {}

    def take(self, start: int, end: int, role: Role, became: str = "") -> None:
        """These characters are settled; spaces at either end are left out."""
        while start < end and self.text[start] == " ":
            start += 1
        while start < end and self.text[end - 1] == " ":
            end -= 1
        if start < end:
            self._taken[start] = (end, role, became)
            self.free = self.free[:start] + TAKEN * (end - start) + self.free[end:]

    def keep(self, start: int, end: int, role: Role, became: str = "") -> None:
        """These words are understood and stay in the text: no other rule reads them."""
        self._taken[start] = (end, role, became)
        self.free = self.free[:start] + QUOTED * (end - start) + self.free[end:]

    def said(self, start: int, end: int) -> str:
        """What stands there, without quotes around it."""
        return self.text[start:end].strip().strip('"')

    def rest(self) -> str:
        """The words that nothing took, quotes aside."""
        kept = (
            self.text[i] if self.free[i] not in (TAKEN, '"') else " " for i in range(len(self.text))
        )
        return " ".join("".join(kept).split())

    def loose(self) -> Iterator[tuple[int, int]]:
        """Spans of the words that nothing took, in order."""
        for match in _TOKEN.finditer(self.free.replace(TAKEN, " ")):
            yield match.span()

    def words(self) -> tuple[Word, ...]:
        """Every word with its role, in the order of the question."""
        at, found = 0, []
        starts = sorted(self._taken)
        for start in [*starts, len(self.text)]:
            if start < at:
                continue
            left = self.text[at:start].strip()
            if left:
                found.append(Word(left, "text"))
            if start in self._taken:
                end, role, became = self._taken[start]
                found.append(Word(self.text[start:end], role, became))
                at = end
        return tuple(found)

    def is_taken(self, start: int) -> bool:
        """Whether words begin there whose role is known."""
        return start in self._taken

    def note(self, start: int, end: int, role: Role, became: str = "") -> None:
        """Say what these characters are, once nothing is read from `free` any more."""
        self._taken[start] = (end, role, became)
