"""One search awaited, of a collection that is or isn't asynchronous.

In:  a Collection or an AsyncCollection; a query and options.
Out: the search's result; the event loop is never blocked.
Knows nothing about who asks.
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
