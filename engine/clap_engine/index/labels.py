"""Labels: what hits say of their clips (key, metadata), packed so that ten of them are ten slices.

In:  the numbers of clips, ascending, with their keys and metadata; a file of them, once checked.
Out: the file's bytes; `Label` of clips by their numbers.
Knows nothing about vectors, SQLite or whether a label is still true.

Reading ten records from SQLite takes 180 us where a search has emptied the caches, and slicing them
30. A file holds, in int64: how many clips; their numbers; where each key and each metadata begins,
and the end; then the texts in UTF-8.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from clap_engine.arrays import Int64
from clap_engine.errors import IntegrityError
from clap_engine.records import Label


def packed(found: Iterable[tuple[int, Label]]) -> Iterator[bytes]:
    """The bytes of a file, of clips in ascending order."""
    numbers, places, texts = array("q"), array("q", [0]), bytearray()
    for number, label in found:
        numbers.append(number)
        for text in label:
            texts += text.encode("utf-8")
            places.append(len(texts))
    yield from (array("q", [len(numbers)]).tobytes(), numbers.tobytes(), places.tobytes())
    yield bytes(texts)


class Labels:
    """Those of one file; safe in many threads at once."""

    def __init__(self, data: memoryview) -> None:
        """IntegrityError where `data` is not what `packed` made."""
        count = int(np.frombuffer(data, np.int64, 1)[0]) if len(data) >= 8 else -1
        begin = 8 * (3 * count + 2)
        if count < 0 or begin > len(data):
            raise IntegrityError("the labels of a generation make no sense; rebuild it")
        self._numbers: Int64 = np.frombuffer(data, np.int64, count, 8)
        # As Python's integers: to read three of an array's takes ten times as long.
        self._number_at = data[8 : 8 * (count + 1)].cast("q")
        self._place_at = data[8 * (count + 1) : begin].cast("q")
        self._texts = data[begin:]
        # Where no clip is missing in between, its number says where it is.
        self._first = int(self._numbers[0]) if count else 0
        self._is_dense = bool(count) and int(self._numbers[-1]) - self._first == count - 1

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, clips: Sequence[int]) -> dict[int, Label]:
        """Those of these clips that are here."""
        numbers, places, texts = self._number_at, self._place_at, self._texts
        found = {}
        for clip in clips:
            at = clip - self._first if self._is_dense else int(self._numbers.searchsorted(clip))
            if 0 <= at < len(numbers) and numbers[at] == clip:
                start, middle, end = places[2 * at], places[2 * at + 1], places[2 * at + 2]
                key, metadata = str(texts[start:middle], "utf-8"), str(texts[middle:end], "utf-8")
                found[clip] = Label(key, metadata)
        return found
