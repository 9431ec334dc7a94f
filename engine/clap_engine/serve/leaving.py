"""Clients that leave before they are answered: their work is called off.

In:  the scope of a request; the connection's end.
Out: a deadline that is cancelled when the connection ends.
Knows nothing about what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from clap_engine.deadline import Deadline
from clap_engine.serve.replies import RequestError

# Where a connection keeps what shall be called when it ends; see protocol.
KEY = "clap_engine.leaving"
STATUS = 499  # nobody reads it; counted so, as nginx does

Ends = set[Callable[[], None]]


@contextmanager
def watched(scope: MutableMapping[str, Any]) -> Iterator[Deadline]:
    """Over as soon as the client has left; what was called off then is told as such."""
    ends: Ends = scope.get(KEY, set())
    until = Deadline()
    ends.add(until.cancel)
    try:
        yield until
    except Exception as error:
        if until.is_over:
            raise RequestError(
                "the client left before it was answered", status=STATUS, code="client_left"
            ) from error
        raise
    finally:
        ends.discard(until.cancel)
