"""A collection as a LlamaIndex retriever: the module that talks to llama_index.core.

In:  an open collection, how many clips, a filter, a least score.
Out: `SoundRetriever`, whose nodes name a clip, its span and its score.
Knows nothing about indexes, engines or how clips are found.

    retriever = SoundRetriever(sounds, k=5, where={"year": {">=": 1970}})
    retriever.retrieve("a slow banjo melody")

The class is made when it is first asked for: importing this module loads nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from clap_engine.adapters.hits import metadata, search
from clap_engine.errors import DependencyError

__all__ = ["SoundRetriever"]  # noqa: F822 - see __getattr__


def __getattr__(name: str) -> Any:
    """`SoundRetriever`; DependencyError where llama_index.core is not installed."""
    if name == "SoundRetriever":
        return _made()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _made() -> Any:
    try:
        from llama_index.core.retrievers import BaseRetriever
        from llama_index.core.schema import NodeWithScore, TextNode
    except ImportError as error:
        raise DependencyError(
            f"llama_index.core can't be imported ({error}); "
            "run: pip install 'clap-engine[llamaindex]'"
        ) from error

    def nodes(found: Iterable[Any]) -> list[Any]:
        return [
            NodeWithScore(
                node=TextNode(id_=hit.key, text=hit.key, metadata=metadata(hit)), score=hit.score
            )
            for hit in found
        ]

    class SoundRetriever(BaseRetriever):  # type: ignore[misc, unused-ignore]
        """The clips that fit a text best.

        `collection` is an open Collection, or an AsyncCollection, which only `aretrieve` takes.
        A node's text is the clip's key, its metadata that of the clip, with `key`, `start_s`,
        `end_s`, `score` and `calibrated` above what is stored under these names.
        """

        def __init__(
            self,
            collection: Any,
            k: int = 10,
            where: Mapping[str, Any] | None = None,
            min_score: float | None = None,
            min_calibrated: float | None = None,
            **options: Any,
        ) -> None:
            """`options` are those of the base class, such as callback_manager."""
            super().__init__(**options)
            self._collection = collection
            self._wanted = {
                "k": k, "where": where, "min_score": min_score, "min_calibrated": min_calibrated,
            }  # fmt: skip

        def _retrieve(self, query_bundle: Any) -> list[Any]:
            found = self._collection.search(query_bundle.query_str, **self._wanted)
            return nodes(found.hits)

        async def _aretrieve(self, query_bundle: Any) -> list[Any]:
            found = await search(self._collection, query_bundle.query_str, self._wanted)
            return nodes(found.hits)

    SoundRetriever.__qualname__ = "SoundRetriever"
    SoundRetriever.__module__ = __name__
    return SoundRetriever
