"""What an engine does with texts and sounds: through its lanes, its towers and its cache.

In:  texts, sounds, the call that they belong to.
Out: embeddings float32, spans in seconds; what took how long goes into the call.
Knows nothing about collections, captions' words or the face that users see.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clap_engine.arrays import Float32, Float64
from clap_engine.calls import Call
from clap_engine.cores import usable_cores
from clap_engine.deadline import Deadline
from clap_engine.errors import AudioError, TextError
from clap_engine.events import Observer
from clap_engine.gathering import MAX_GATHERED
from clap_engine.lanes import Lane
from clap_engine.limits import Limits
from clap_engine.manifest import Manifest
from clap_engine.towers import Towers
from clap_engine.vector_cache import VectorCache

if TYPE_CHECKING:
    from clap_engine.sources import Source

# More texts in one call are a catalogue, not queries: they go past the cache.
CACHED_AT_ONCE = 64
# Texts between two chances for others to go first.
TEXTS_A_TURN = 64
SILENT = Observer()


class Embedding:
    """Embeds in the towers' space. Safe in many threads."""

    def __init__(self, towers: Towers, limits: Limits, slots: Mapping[str, int]) -> None:
        """So many calls of a kind run at once where the limits name no number."""
        self.towers = towers
        self.limits = limits
        self._slots = {name: limits.max_in_flight or count for name, count in slots.items()}
        self._renew()
        self._dim = towers.bundle.manifest.dim

    def check_open(self) -> None:
        """As `Towers.check_open`; in a child of fork() nobody is in the lanes any more."""
        self.towers.check_open()
        if os.getpid() != self._pid:
            self._renew()

    def _renew(self) -> None:
        self.cache = VectorCache()
        self.lanes = {
            name: Lane(name, count, self.limits.max_waiting) for name, count in self._slots.items()
        }
        self._pid = os.getpid()

    @property
    def words(self) -> Lane:
        """The lane of texts and of the searches for them, also where the towers are of no use."""
        if os.getpid() != self._pid:
            self._renew()
        return self.lanes["text"]

    def forget_texts(self) -> None:
        """Compute every text anew from now on."""
        self.cache = VectorCache()

    def texts(self, texts: Sequence[str], call: Call) -> Float32:
        """N texts -> [N, D], the caller's own; what was asked lately is not computed again."""
        rows = np.empty((len(texts), self._dim), np.float32)
        cache = self.cache  # before the tower: what an older one gives must not stay, see text_swap
        is_cached = len(texts) <= CACHED_AT_ONCE and all(isinstance(text, str) for text in texts)
        missing = list(range(len(texts)))
        if is_cached:
            known = [cache.get(text) for text in texts]
            missing = [i for i, row in enumerate(known) if row is None]
            for i, row in enumerate(known):
                if row is not None:
                    rows[i] = row
        stages = {"tokenize": 0.0, "text": 0.0}
        for start in range(0, len(missing), TEXTS_A_TURN):
            if start:
                call.give_way()
            some = missing[start : start + TEXTS_A_TURN]
            encoder = self.towers.text
            try:
                found, timings = encoder.encode_timed([texts[i] for i in some], call.deadline)
            except TextError:
                if len(some) < len(texts):
                    encoder.encode(texts)  # the same error, with the text's place in the call
                raise
            rows[some] = found
            stages["tokenize"] += timings.tokenize_ms
            stages["text"] += timings.text_ms
            if is_cached:
                # A text that was cut off is embedded, and warned of, each time.
                for i, row, is_whole in zip(some, found, timings.is_whole, strict=True):
                    if is_whole:
                        cache.put(texts[i], row)
        call.stages_ms = stages
        call.sizes = {"texts": len(texts), "cached": len(texts) - len(missing)}
        return rows

    def windows(self, source: Source, call: Call) -> tuple[Float32, Float64, float]:
        """One clip -> (vectors [W, D], spans in seconds [W, 2], duration in seconds)."""
        rows, spans = self._encoded(source, call, is_native=False)
        return rows, spans, float(spans[-1, 1])

    def native(self, source: Source, call: Call) -> tuple[Float32, Float64]:
        """One clip -> what captions are made of [W, D_native], spans in seconds [W, 2]."""
        return self._encoded(source, call, is_native=True)

    def _encoded(self, source: Source, call: Call, *, is_native: bool) -> tuple[Float32, Float64]:
        rows: list[Float32] = []
        spans: list[Float64] = []
        stages = {"decode": 0.0, "audio": 0.0, **call.stages_ms}
        last_s = time.perf_counter()
        for waveforms, span in self._cut(source, call.deadline):
            if rows or call.sizes:  # not the first: others may go before it
                call.give_way()
            cut_s = time.perf_counter()
            encoder = self.towers.audio  # asked for each time: a long clip keeps it from idling
            encode = encoder.encode_native if is_native else encoder.encode
            rows.append(encode(waveforms, call.deadline))
            spans.append(span)
            now_s = time.perf_counter()
            stages["decode"] += (cut_s - last_s) * 1e3
            stages["audio"] += (now_s - cut_s) * 1e3
            last_s = time.perf_counter()
        if not rows:
            raise AudioError("the clip holds no sample; give a sound that lasts")
        call.stages_ms = stages
        sizes = call.sizes
        call.sizes = {
            "clips": sizes.get("clips", 0) + 1,
            "windows": sizes.get("windows", 0) + sum(map(len, rows)),
        }
        return np.concatenate(rows), np.concatenate(spans).astype(np.float64)

    def _cut(self, source: Source, deadline: Deadline) -> Iterator[tuple[Float32, Float64]]:
        from clap_engine import audio

        spec = self.towers.bundle.manifest.audio
        return audio.windows(source, spec, self.limits, deadline=deadline)


def lane_slots(
    manifest: Manifest, precision: str | None, threads: int, *, is_gathering: bool
) -> dict[str, int]:
    """How many calls of each kind run at once: as many as find cores for their graph's threads.

    Two at least, so that one can be tokenized or decoded while another is computed. Calls that
    share runs all have to be there: as many as fit in one.
    """
    usual = max(2, usable_cores() // threads)
    slots = dict.fromkeys(("text", "audio", "caption"), usual)
    if is_gathering:
        for name, graphs in (("text", manifest.text.graphs), ("audio", manifest.audio.graphs)):
            some = [graphs[precision]] if precision in graphs else graphs.values()
            if not any(graph.dynamic_scale for graph in some):
                slots[name] = max(usual, MAX_GATHERED)
    return slots


class Within:
    """The embedder for the length of one call: all that it does ends by the same deadline.

    With `is_patient` it waits for its turn however many wait: whoever works through a list of
    sounds is slowed down by overload, not ended. With `has_turn` texts need no turn of their own.
    """

    def __init__(
        self, embedding: Embedding, deadline: Deadline, is_patient: bool, has_turn: bool = False
    ) -> None:
        manifest = embedding.towers.bundle.manifest
        self.bundle_id = manifest.id
        self.revision = manifest.revision
        self.space_id = manifest.space_id
        self.dim = manifest.dim
        self.ladder = manifest.ladder
        self._embedding = embedding
        self._deadline = deadline
        self._is_patient = is_patient
        self._has_turn = has_turn

    def embed_text(self, texts: list[str]) -> Float32:
        """N texts -> [N, D] unit rows."""
        return self.embed_text_timed(texts)[0]

    def embed_text_timed(self, texts: list[str]) -> tuple[Float32, dict[str, float]]:
        """As `embed_text`, and the milliseconds of its stages: wait (if any), tokenize, text."""
        with self._call("embed_text", "text") as call:
            rows = self._embedding.texts(texts, call)
        waited = {"wait": call.wait_ms} if call.wait_ms else {}
        return rows, {**waited, **call.stages_ms}

    def embed_windows(self, source: Source) -> tuple[Float32, Float64, float]:
        """One clip -> (vectors [W, D], spans in seconds [W, 2], duration in seconds)."""
        with self._call("embed_windows", "audio") as call:
            return self._embedding.windows(source, call)

    def _call(self, verb: str, lane: str) -> Call:
        self._embedding.check_open()
        return Call(
            verb, self._embedding.lanes[lane], self._deadline, SILENT,
            is_patient=self._is_patient, at_once=not (self._has_turn and lane == "text"),
        )  # fmt: skip
