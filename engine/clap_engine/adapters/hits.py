"""What retrievers of all frameworks share: one search awaited, and what is told of a hit.

In:  a Collection or an AsyncCollection; a query and options; a hit.
Out: the search's result, the event loop never blocked; the hit's metadata.
Knows nothing about documents, nodes or who asks.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any


async def search(collection: Any, query: str, options: Mapping[str, Any]) -> Any:
    """The result; a plain collection searches in a thread of the event loop's own."""
    if inspect.iscoroutinefunction(collection.search):
        return await collection.search(query, **options)
    return await asyncio.to_thread(collection.search, query, **options)


def metadata(hit: Any) -> dict[str, Any]:
    """The clip's own, under `key`, `start_s`, `end_s`, `score` and `calibrated` of the hit."""
    return {
        **hit.metadata, "key": hit.key, "start_s": hit.start_s, "end_s": hit.end_s,
        "score": hit.score, "calibrated": hit.calibrated,
    }  # fmt: skip
