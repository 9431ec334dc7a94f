"""The official OpenAI client embeds texts here as it does there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from served import Serving

import clap_engine

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def remote(server: Serving) -> Iterator[openai.OpenAI]:
    url = f"http://127.0.0.1:{server.client.port}/v1"
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("dimensions", [512, 32])
def test_its_embeddings_are_the_librarys(remote: openai.OpenAI, dimensions: int) -> None:
    """It asks for base64 by default."""
    texts = ["a dog barks", "rain"]
    answer = remote.embeddings.create(model="clap-mini", input=texts, dimensions=dimensions)
    with clap_engine.load(threads=1) as engine:
        expected = engine.embed_text(texts, dim=dimensions)
    assert np.array_equal(np.array([e.embedding for e in answer.data], np.float32), expected)
    assert answer.usage.total_tokens > 0
    assert answer.model == "clap-mini"


def test_floats_are_what_base64_is(remote: openai.OpenAI) -> None:
    packed = remote.embeddings.create(model="clap-mini", input="rain")
    plain = remote.embeddings.create(model="clap-mini", input="rain", encoding_format="float")
    (one,), (other,) = packed.data, plain.data
    assert np.array_equal(np.float32(one.embedding), np.float32(other.embedding))


def test_its_errors_are_told_as_its_own(remote: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="32, 64, 128, 256, 512") as refused:
        remote.embeddings.create(model="clap-mini", input="rain", dimensions=100)
    assert (refused.value.code, refused.value.param) == ("invalid_dimensions", "dimensions")
    with pytest.raises(openai.NotFoundError):
        remote.embeddings.create(model="text-embedding-3-small", input="rain")


def test_it_lists_the_model(remote: openai.OpenAI) -> None:
    assert [model.id for model in remote.models.list().data] == ["clap-mini"]
