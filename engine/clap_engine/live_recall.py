"""Live recall: a share of searches is repeated exactly, to tell what they had found of the truth.

In:  keys that a search found; a way to search again, exactly, in the same state.
Out: a `RecallEvent` for each, from a thread in the background, one at a time.
Knows nothing about how anything is searched.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from clap_engine.errors import ClapError
from clap_engine.events import Observer, RecallEvent

log = logging.getLogger("clap_engine")


class LiveRecall:
    """Draws which searches to repeat. While one is repeated, the next ones are passed over."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._share = observer.live_recall
        self._random = random.Random()
        self._is_free = threading.Lock()

    def is_drawn(self) -> bool:
        """Whether this search shall be repeated; if so, `repeat` must be called."""
        if not self._share or self._random.random() >= self._share:
            return False
        return self._is_free.acquire(blocking=False)

    def repeat(
        self, found: Sequence[str], exact: Callable[[], Sequence[str] | None], **facts: int | str
    ) -> None:
        """Compare `found` with what `exact` gives in the background; None: the state has changed.

        `facts` are the fields of the event that describe the plan.
        """
        thread = threading.Thread(
            target=self._compare, args=(found, exact, facts), name="clap-engine-recall"
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self._is_free.release()

    def drop(self) -> None:
        """Instead of `repeat`, where the search failed."""
        self._is_free.release()

    def _compare(
        self,
        found: Sequence[str],
        exact: Callable[[], Sequence[str] | None],
        facts: dict[str, int | str],
    ) -> None:
        try:
            began_s = time.perf_counter()
            truth = exact()
            ms = (time.perf_counter() - began_s) * 1e3
            if truth:
                recall = len(set(truth) & set(found)) / len(truth)
                self._observer.tell(RecallEvent(recall, ms=ms, **facts))  # type: ignore[arg-type]
        except ClapError as error:  # closed meanwhile: nobody asks any more
            log.debug("a search was not repeated: %s", error)
        finally:
            self._is_free.release()
