"""Each route: what it finds is what the library finds, and says so in the promised shape."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import Client, data_uri, sound

import clap_engine
from clap_engine.engine import Engine


@pytest.fixture(scope="module")
def engine() -> Engine:
    """What the answers are compared with."""
    return clap_engine.load(threads=1)


def _rows(answer: Any) -> np.ndarray[Any, Any]:
    return np.array([entry["embedding"] for entry in answer["data"]], np.float32)


def test_texts_are_embedded_as_the_library_does(client: Client, engine: Engine) -> None:
    texts = ["a dog barks", "rain on a tin roof"]
    answer = client.post("/v1/embeddings", {"input": texts, "model": "clap-mini"}).json
    assert answer["object"] == "list"
    assert answer["model"] == "clap-mini"
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] > len(texts)
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert np.array_equal(_rows(answer), engine.embed_text(texts))


@pytest.mark.parametrize("dim", [32, 64, 128, 256, 512])
def test_every_rung_is_a_dimension(client: Client, engine: Engine, dim: int) -> None:
    answer = client.post("/v1/embeddings", {"input": "a dog", "dimensions": dim}).json
    assert np.array_equal(_rows(answer), engine.embed_text("a dog", dim=dim))


@pytest.mark.parametrize("dim", [1, 33, 511])
def test_a_dimension_off_the_ladder_is_refused_with_the_ladder(client: Client, dim: int) -> None:
    refused = client.post("/v1/embeddings", {"input": "a dog", "dimensions": dim})
    assert refused.status == 400
    assert refused.error["code"] == "invalid_dimensions"
    assert refused.error["param"] == "dimensions"
    assert "32, 64, 128, 256, 512" in refused.error["message"]


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_base64_equals_float(client: Client, modality: str) -> None:
    given = "a dog" if modality == "text" else data_uri(sound())
    body = {"input": given, "modality": modality}
    numbers = client.post("/v1/embeddings", body).json
    packed = client.post("/v1/embeddings", {**body, "encoding_format": "base64"}).json
    (entry,) = packed["data"]
    found = np.frombuffer(base64.b64decode(entry["embedding"]), "<f4")
    assert np.array_equal(found, _rows(numbers)[0])


def test_sounds_by_uri_by_form_and_in_the_library_are_one(client: Client, engine: Engine) -> None:
    """Decoding in another process changes no bit."""
    data = sound("noise", 7.3)
    by_uri = client.post("/v1/embeddings", {"input": [data_uri(data)], "modality": "audio"}).json
    by_form = client.form("/v1/audio/embeddings", [("windows", "true")], [data]).json
    (clip,) = engine.embed_audio([data], windows=True)
    assert np.array_equal(_rows(by_uri)[0], clip.embedding)
    assert np.array_equal(_rows(by_form)[0], clip.embedding)
    windows = by_form["data"][0]["windows"]
    assert np.array_equal([window["embedding"] for window in windows], clip.vectors)
    assert [[w["start_s"], w["end_s"]] for w in windows] == clip.spans.tolist()
    assert by_form["data"][0]["duration_s"] == clip.duration_s


def test_a_form_takes_options(client: Client) -> None:
    fields = [("dimensions", "32"), ("encoding_format", "base64"), ("model", "clap-mini")]
    answer = client.form("/v1/audio/embeddings", fields, [sound(), sound("noise")])
    assert [len(base64.b64decode(e["embedding"])) for e in answer.json["data"]] == [128, 128]


def test_a_search_finds_what_the_library_finds(
    client: Client, engine: Engine, collection_path: Path
) -> None:
    asked = {"text": "a steady tone", "k": 4, "negatives": ["white noise"]}
    answer = client.post("/v1/search", asked).json
    with engine.collection(collection_path, read_only=True) as sounds:
        query = clap_engine.Query("a steady tone") - "white noise"
        result = sounds.search(query, k=4)
    assert [hit["key"] for hit in answer["hits"]] == [hit.key for hit in result.hits]
    assert [hit["score"] for hit in answer["hits"]] == [hit.score for hit in result.hits]
    assert answer["space_id"] == result.space_id
    assert answer["timings_ms"]["total"] > 0
    assert answer["explain"] is None


def test_a_search_by_sound_finds_it_and_its_span(client: Client, sounds_root: Path) -> None:
    data = (sounds_root / "long.wav").read_bytes()
    (hit,) = client.post("/v1/search", {"audio": data_uri(data), "k": 1}).json["hits"]
    assert hit["key"] == "long.wav"
    assert hit["end_s"] - hit["start_s"] == pytest.approx(5.0)
    assert hit["metadata"]["kind"] == "long"


def test_a_search_near_a_stored_clip_finds_that_clip_first(client: Client) -> None:
    hits = client.post("/v1/search", {"near": "noise-2.wav", "k": 3}).json["hits"]
    assert hits[0]["key"] == "noise-2.wav"


def test_filters_decide_what_may_be_found(client: Client) -> None:
    asked = {"text": "a tone", "filters": {"kind": "nois", "year": {">=": 1966}}, "k": 10}
    hits = client.post("/v1/search", asked).json["hits"]
    assert {hit["key"] for hit in hits} == {"noise-2.wav", "noise-3.wav"}


def test_a_search_places_its_hits_on_the_map(client: Client) -> None:
    """A clip of the sample lies where the map shows it."""
    shown = {p["key"]: (p["x"], p["y"]) for p in client.get("/v1/map").json["points"]}
    hits = client.post("/v1/search", {"text": "a tone", "map": True}).json["hits"]
    assert len(shown) == len(hits) == 9
    for hit in hits:
        assert hit["map"] == pytest.approx(shown[hit["key"]], abs=1e-3)


def test_explain_says_which_plan_ran(client: Client) -> None:
    answer = client.post("/v1/search", {"text": "a tone", "explain": True}).json
    assert answer["explain"]["stages"]
    assert answer["plan"]["rows"] > 0


def test_a_sound_is_classified(client: Client, engine: Engine) -> None:
    labels = ["a pure tone", "white noise", "a dog"]
    data = sound("noise", 5.0)
    body = {"audio": data_uri(data), "labels": labels, "top_k": 2}
    found = client.post("/v1/classify", body).json["labels"]
    assert found == engine.classify(data, labels=labels, top_k=2)


def test_the_model_is_named(client: Client, engine: Engine) -> None:
    (model,) = client.get("/v1/models").json["data"]
    assert (model["id"], model["object"]) == ("clap-mini", "model")
    assert model["ladder"] == list(engine.ladder)


def test_the_collection_is_described(client: Client) -> None:
    about = client.get("/v1/collection").json
    assert about["clips"] == 9
    assert about["can_play"] is True
    assert "path" not in json.dumps(about)


def test_health_and_readiness(client: Client) -> None:
    assert client.get("/health").json == {"status": "ok"}
    assert client.get("/ready").json == {"status": "ready"}


def test_metrics_count_what_was_asked(client: Client) -> None:
    def count() -> int:
        lines = client.get("/metrics").body.decode().splitlines()
        name = 'clap_requests_total{route="health",status="200"} '
        return sum(int(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = count()
    for _ in range(3):
        client.get("/health")
    assert count() == before + 3


def test_what_is_added_meanwhile_is_found_at_once(client: Client, collection_path: Path) -> None:
    """The server follows the collection without being told."""
    data = sound("tone", 2.0, 1760)
    with clap_engine.load(threads=1) as engine, engine.collection(collection_path) as sounds:
        sounds.add([data], keys=["added"])
        try:
            asked = {"audio": data_uri(data), "k": 1}
            (hit,) = client.post("/v1/search", asked).json["hits"]
            assert hit["key"] == "added"
        finally:
            sounds.remove("added")
    keys = [hit["key"] for hit in client.post("/v1/search", asked).json["hits"]]
    assert "added" not in keys
