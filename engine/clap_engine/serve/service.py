"""What the routes do, without HTTP: one engine, one collection, the processes that decode.

In:  values that fit their schemas; bytes of sound files.
Out: JSON values.
Knows nothing about requests, headers or the event loop: each function runs in a thread of a lane,
and ends when `until` is called off.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import numpy as np

from clap_engine.arrays import Float32
from clap_engine.collection import Clip, Collection, Near, Query, SearchResult, Text
from clap_engine.deadline import Deadline
from clap_engine.engine import Engine
from clap_engine.errors import DimError
from clap_engine.matryoshka import truncate
from clap_engine.serve.bodies import data_of
from clap_engine.serve.decoders import Decoders
from clap_engine.serve.projection import ClipMap
from clap_engine.serve.replies import RequestError
from clap_engine.serve.settings import Settings
from clap_engine.stored import StoredClip
from clap_engine.text import TextFrontEnd

# A waveform at the bundle's rate, as the engine takes it.
Sound = tuple[Float32, int]


class Service:
    """Answers requests; safe in many threads. Closing it leaves engine and collection open."""

    def __init__(self, engine: Engine, sounds: Collection, settings: Settings) -> None:
        manifest = engine.bundle.manifest
        self._engine = engine
        self._sounds = sounds
        self._settings = settings
        self._timeout_s = settings.request_timeout_s
        self._rate_hz = manifest.audio.rate_hz
        self._front = TextFrontEnd(
            manifest.text, engine.bundle.read(manifest.text.tokenizer), engine.limits
        )
        self._map = ClipMap(sounds, settings.map_clips)
        self._created_s = int(time.time())
        self.decoders = Decoders(settings, self._rate_hz)

    def warm(self) -> None:
        """Start decoders, load graphs, draw the map: all before the first request comes."""
        self.decoders.start()
        self._engine.warm()
        self._sounds.search(Query("a sound") - "noise", k=1)  # the first run of a graph is slow
        self._map.plane()

    def close(self) -> None:
        """End the decoding processes."""
        self.decoders.close()

    def count_clips(self) -> int:
        """Clips in the collection."""
        return len(self._sounds)

    def models(self) -> list[dict[str, Any]]:
        """The one model that is served, in OpenAI's shape and some facts more."""
        manifest = self._engine.bundle.manifest
        return [
            {
                "id": manifest.id, "object": "model", "created": self._created_s,
                "owned_by": "clap-engine", "revision": manifest.revision,
                "space_id": manifest.space_id, "dimensions": manifest.dim,
                "ladder": list(manifest.ladder), "modalities": ["text", "audio"],
                "window_s": manifest.audio.window_s, "demonstration": manifest.demonstration,
            }
        ]  # fmt: skip

    def about(self) -> dict[str, Any]:
        """What the page shows of the collection: counts, fields, whether clips can be played."""
        info = self._sounds.info()
        names = ("clips", "windows", "duration_s", "granularity", "index", "generation", "filters")
        return {
            **{name: info[name] for name in names},
            "model": self._engine.bundle_id,
            "can_play": self._settings.sounds_root is not None,
        }

    def embed_texts(self, body: Mapping[str, Any], until: Deadline) -> dict[str, Any]:
        """OpenAI's answer for texts."""
        self._check_model(body.get("model"))
        dim = self._dim(body.get("dimensions"))
        given = body["input"]
        texts = [given] if isinstance(given, str) else list(given)
        tokens = sum(ids.input_ids.shape[1] for ids in self._front.tokenize(texts))
        rows = self._engine.embed_text(texts, dim=dim, timeout_s=until.part(self._timeout_s))
        return self._embeddings(rows, body.get("encoding_format", "float"), tokens)

    def embed_uris(self, body: Mapping[str, Any], until: Deadline) -> dict[str, Any]:
        """OpenAI's answer for sounds that came as data URIs."""
        self._check_model(body.get("model"))
        dim = self._dim(body.get("dimensions"))
        given = body["input"]
        uris = [given] if isinstance(given, str) else list(given)
        if len(uris) > self._settings.max_files:
            raise RequestError(
                f"input has {len(uris)} sounds; {self._settings.max_files} are allowed (max_files)",
                param="input",
            )
        sounds = [self._sound(data_of(uri, f"input[{i}]"), until) for i, uri in enumerate(uris)]
        rows = self._engine.embed_audio(sounds, dim=dim, timeout_s=until.part(self._timeout_s))
        return self._embeddings(rows, body.get("encoding_format", "float"), 0)

    def embed_files(
        self, files: Sequence[bytes], options: Mapping[str, Any], until: Deadline
    ) -> dict[str, Any]:
        """The same for the files of a form, with the spans of their windows where wanted."""
        self._check_model(options.get("model"))
        dim = self._dim(options.get("dimensions"))
        encoding = options.get("encoding_format", "float")
        sounds = [self._sound(data, until) for data in files]
        if not options.get("windows"):
            rows = self._engine.embed_audio(sounds, dim=dim, timeout_s=until.part(self._timeout_s))
            return self._embeddings(rows, encoding, 0)
        found = self._engine.embed_audio(
            sounds, windows=True, timeout_s=until.part(self._timeout_s)
        )
        rows = np.stack([self._cut(clip.embedding, dim) for clip in found])
        answer = self._embeddings(rows, encoding, 0)
        for entry, clip in zip(answer["data"], found, strict=True):
            entry["duration_s"] = clip.duration_s
            entry["windows"] = [
                {"start_s": start, "end_s": end, "embedding": _encoded(row, encoding)}
                for row, (start, end) in zip(
                    self._cut(clip.vectors, dim), clip.spans.tolist(), strict=True
                )
            ]
        return answer

    def search(self, body: Mapping[str, Any], until: Deadline) -> dict[str, Any]:
        """The hits for the sum of all that is asked for."""
        start = time.perf_counter()
        terms: list[Text | Clip | Near] = []
        if "text" in body:
            terms.append(Text(body["text"]))
        if "audio" in body:
            terms.append(Clip(self._sound(data_of(body["audio"], "audio"), until)))
        if "near" in body:
            terms.append(Near(body["near"]))
        if not terms:
            raise RequestError("nothing is asked for; give text, audio or near", param="text")
        decode_ms = (time.perf_counter() - start) * 1e3 if "audio" in body else None
        terms += [Text(words, weight=-1.0) for words in body.get("negatives", ())]
        result = self._sounds.search(
            Query(*terms),
            k=body.get("k", 10),
            where=body.get("filters"),
            min_score=body.get("min_score"),
            min_calibrated=body.get("min_calibrated"),
            collapse=body.get("collapse"),
            diversity=body.get("diversity", 0.0),
            explain=body.get("explain", False),
            timeout_s=until.part(self._timeout_s),
        )
        return self._answer(result, decode_ms, with_map=body.get("map", False))

    def classify(self, body: Mapping[str, Any], until: Deadline) -> dict[str, Any]:
        """Labels with their scores, best first."""
        sound = self._sound(data_of(body["audio"], "audio"), until)
        found = self._engine.classify(
            sound, labels=list(body["labels"]), multi_label=body.get("multi_label", False),
            top_k=body.get("top_k"), timeout_s=until.part(self._timeout_s),
        )  # fmt: skip
        return {"model": self._engine.bundle_id, "labels": found}

    def map(self) -> dict[str, Any]:
        """A sample of the clips on a plane."""
        plane = self._map.plane()
        points = np.round(plane.points.astype(np.float64), 4).tolist()
        return {
            "clips": plane.clips,
            "share": round(plane.share, 4),
            "points": [
                {"key": key, "x": x, "y": y} for key, (x, y) in zip(plane.keys, points, strict=True)
            ],
        }

    def clip(self, key: str) -> StoredClip:
        """The stored clip of this key."""
        found = self._sounds.clip(key)
        if found is None:
            raise RequestError(
                f"there is no clip of the key {key!r:.80}", status=404, code="no_clip"
            )
        return found

    def _answer(
        self, result: SearchResult, decode_ms: float | None, *, with_map: bool
    ) -> dict[str, Any]:
        hits = []
        places = self._map.places([hit.key for hit in result.hits]) if with_map else {}
        for hit in result.hits:
            can_play = self._settings.sounds_root is not None
            hits.append(
                {
                    "key": hit.key, "score": hit.score, "calibrated": hit.calibrated,
                    "start_s": hit.start_s, "end_s": hit.end_s, "metadata": hit.metadata,
                    "duplicates": list(hit.duplicates),
                    "audio": f"/v1/clips/{quote(hit.key, safe='')}/audio" if can_play else None,
                    **({"map": places.get(hit.key)} if with_map else {}),
                }
            )  # fmt: skip
        timings = {"decode": decode_ms} if decode_ms is not None else {}
        total = (decode_ms or 0.0) + result.timings_ms.get("total", 0.0)
        timings |= {**result.timings_ms, "total": total}
        return {
            "hits": hits,
            "timings_ms": {name: round(ms, 3) for name, ms in timings.items()},
            "plan": dict(vars(result.plan)),
            "generation": result.generation,
            "space_id": result.space_id,
            "explain": None if result.explain is None else asdict(result.explain),
        }

    def _embeddings(self, rows: Float32, encoding: str, tokens: int) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": _encoded(row, encoding)}
                for i, row in enumerate(rows)
            ],
            "model": self._engine.bundle_id,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _sound(self, data: bytes, until: Deadline) -> Sound:
        until.check()
        return self.decoders.decode(data), self._rate_hz

    def _check_model(self, name: Any) -> None:
        if name is not None and name != self._engine.bundle_id:
            raise RequestError(
                f"the model {name!r:.80} is not served here; {self._engine.bundle_id} is",
                status=404, code="model_not_found", param="model",
            )  # fmt: skip

    def _cut(self, rows: Float32, dim: int | None) -> Float32:
        """[..., D] -> [..., dim], as the engine cuts: a clip's rung is a prefix of its mean."""
        return rows if dim is None else truncate(rows, dim, self._engine.ladder)

    def _dim(self, dim: int | None) -> int | None:
        if dim is not None and dim not in self._engine.ladder:
            rungs = ", ".join(map(str, self._engine.ladder))
            raise DimError(f"dimensions is {dim}; {rungs} are on the ladder of this model")
        return dim


def _encoded(row: Float32, encoding: str) -> Any:
    """A vector [D] as numbers, or as base64 of float32, little-endian."""
    if encoding == "base64":
        return base64.b64encode(np.ascontiguousarray(row, "<f4").tobytes()).decode("ascii")
    return row.tolist()
