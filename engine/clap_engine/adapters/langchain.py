"""A collection as a LangChain retriever: the module that talks to langchain_core.

In:  an open collection, how many clips, a filter, a least score.
Out: `SoundRetriever`, whose documents name a clip, its span and its score.
Knows nothing about chains, models or how clips are found.

    retriever = SoundRetriever(collection=sounds, k=5, where={"year": {">=": 1970}})
    retriever.invoke("a slow banjo melody")

The class is made when it is first asked for: importing this module loads nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from clap_engine.adapters.hits import metadata, search
from clap_engine.errors import DependencyError

__all__ = ["SoundRetriever"]  # noqa: F822 - see __getattr__


def __getattr__(name: str) -> Any:
    """`SoundRetriever`; DependencyError where langchain_core is not installed."""
    if name == "SoundRetriever":
        return _made()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _made() -> Any:
    try:
        from langchain_core.documents import Document
        from langchain_core.retrievers import BaseRetriever
    except ImportError as error:
        raise DependencyError(
            f"langchain_core can't be imported ({error}); run: pip install 'clap-engine[langchain]'"
        ) from error

    def documents(found: Iterable[Any]) -> list[Any]:
        return [Document(id=hit.key, page_content=hit.key, metadata=metadata(hit)) for hit in found]

    class SoundRetriever(BaseRetriever):  # type: ignore[misc, unused-ignore]
        """The clips that fit a text best. `invoke` takes `k`, `where` and the others, too.

        `collection` is an open Collection, or an AsyncCollection, which only `ainvoke` takes.
        A document's text is the clip's key, its metadata that of the clip, with `key`, `start_s`,
        `end_s`, `score` and `calibrated` above what is stored under these names.
        """

        collection: Any
        k: int = 10
        where: dict[str, Any] | None = None
        min_score: float | None = None
        min_calibrated: float | None = None

        def _options(self, given: dict[str, Any]) -> dict[str, Any]:
            own = {
                "k": self.k, "where": self.where, "min_score": self.min_score,
                "min_calibrated": self.min_calibrated,
            }  # fmt: skip
            return {**own, **given}

        def _get_relevant_documents(
            self, query: str, *, run_manager: Any, **given: Any
        ) -> list[Any]:
            return documents(self.collection.search(query, **self._options(given)).hits)

        async def _aget_relevant_documents(
            self, query: str, *, run_manager: Any, **given: Any
        ) -> list[Any]:
            return documents((await search(self.collection, query, self._options(given))).hits)

    SoundRetriever.__qualname__ = "SoundRetriever"
    SoundRetriever.__module__ = __name__
    return SoundRetriever
