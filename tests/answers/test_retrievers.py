"""Collections as retrievers of LangChain and LlamaIndex: their own tests, and the same hits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import child_environment
from worded import CLIPS, METADATA, make

from clap_engine.async_collection import AsyncCollection
from clap_engine.collection import Collection
from clap_engine.errors import CollectionError, FilterError
from clap_engine.workers import Workers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # their own imports'
    pytest.importorskip("langchain_core")
    pytest.importorskip("llama_index.core")
    from langchain_core.documents import Document
    from langchain_tests.integration_tests import RetrieversIntegrationTests
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.retrievers import BaseRetriever as LlamaRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle

    from clap_engine.adapters import langchain, llamaindex

WHERE = {"genre": "folk"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
class TestLangChain(RetrieversIntegrationTests):  # type: ignore[misc, unused-ignore]
    """langchain-tests' suite for retrievers."""

    sounds: Collection

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def opened(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with make(tmp_path_factory.mktemp("chain") / "s.clap", CLIPS, METADATA) as sounds:
            cls.sounds = sounds
            yield

    @property
    def retriever_constructor(self) -> Any:
        return langchain.SoundRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"collection": self.sounds}

    @property
    def retriever_query_example(self) -> str:
        return "a banjo"


def facts(found: Any, metadata: dict[str, Any]) -> dict[str, Any]:
    """What a hit becomes."""
    return {
        **metadata, "key": found.key, "start_s": found.start_s, "end_s": found.end_s,
        "score": found.score, "calibrated": found.calibrated,
    }  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"k": 2}, {"where": WHERE}, {"min_score": 0.6}])
def test_what_they_give_is_what_search_gives(sounds: Collection, options: dict[str, Any]) -> None:
    """Law: the same hits in the same order, with key, span, score and stored metadata."""
    hits = sounds.search("a banjo", **options).hits
    documents = langchain.SoundRetriever(collection=sounds, **options).invoke("a banjo")
    nodes = llamaindex.SoundRetriever(sounds, **options).retrieve("a banjo")
    assert all(isinstance(one, Document) for one in documents)
    assert all(isinstance(one, NodeWithScore) for one in nodes)
    wanted = [facts(hit, hit.metadata) for hit in hits]
    assert [one.metadata for one in documents] == wanted
    assert [one.node.metadata for one in nodes] == wanted
    assert [one.score for one in nodes] == [hit.score for hit in hits]
    keys = [hit.key for hit in hits]
    assert [one.id for one in documents] == [one.page_content for one in documents] == keys
    assert [one.node.node_id for one in nodes] == [one.node.get_content() for one in nodes] == keys


def test_awaited_they_give_the_same(sounds: Collection) -> None:
    async def scenario() -> None:
        workers = Workers({"search": 1, "text": 1}, 4)
        for collection in (sounds, AsyncCollection(sounds, workers)):
            chain = langchain.SoundRetriever(collection=collection, k=3)
            llama = llamaindex.SoundRetriever(collection, k=3)
            documents, nodes = await asyncio.gather(chain.ainvoke("rain"), llama.aretrieve("rain"))
            assert [one.id for one in documents] == [one.node.node_id for one in nodes]
            assert documents == langchain.SoundRetriever(collection=sounds, k=3).invoke("rain")
        await workers.close()

    asyncio.run(scenario())


def test_llamaindex_takes_its_own_kinds(sounds: Collection) -> None:
    """Its base class' ways in: a bundle, a callback manager; batches of LangChain."""
    retriever = llamaindex.SoundRetriever(sounds, k=1, callback_manager=CallbackManager([]))
    assert isinstance(retriever, LlamaRetriever)
    assert retriever.retrieve(QueryBundle("rain"))[0].node.node_id == "rain.wav"
    chain = langchain.SoundRetriever(collection=sounds, k=1)
    assert [[one.id for one in some] for some in chain.batch(["rain", "a banjo"])] == [
        ["rain.wav"], ["banjo.wav"],
    ]  # fmt: skip


def test_what_search_refuses_they_refuse(sounds: Collection) -> None:
    for wrong, error in (({"k": 0}, CollectionError), ({"where": {"a": {"~": 1}}}, FilterError)):
        with pytest.raises(error):
            langchain.SoundRetriever(collection=sounds, **wrong).invoke("rain")
        with pytest.raises(error):
            llamaindex.SoundRetriever(sounds, **wrong).retrieve("rain")
    for module in (langchain, llamaindex):
        with pytest.raises(AttributeError):
            module.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("langchain", "langchain_core.retrievers", "langchain"),
        ("llamaindex", "llama_index.core.retrievers", "llamaindex"),
    ],
)
def test_without_the_library_it_says_what_to_install(
    module: str, library: str, extra: str, tmp_path: Path
) -> None:
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"from clap_engine.adapters import {module}\n"
        f"from clap_engine.errors import DependencyError\n"
        f"try:\n    {module}.SoundRetriever\n"
        f"except DependencyError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120,
        env=child_environment(), cwd=tmp_path,
    )  # fmt: skip
    assert f"pip install 'clap-engine[{extra}]'" in done.stdout
