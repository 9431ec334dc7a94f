"""Sounds as words: the bundle's mapper, its decoder, and a search for the likeliest sentence.

In:  native embeddings of sounds float32 [N, D_native], unnormalised; an opened bundle.
Out: a `Caption` for each.
Knows nothing about files of sound, towers or how beams are searched (see beams.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clap_engine.arrays import Float32, check_array
from clap_engine.beams import Beam, BeamSettings, Decoder, search
from clap_engine.bundle import Bundle
from clap_engine.deadline import Deadline
from clap_engine.errors import GraphError, NotFoundError, TextError
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.manifest import CaptionSpec
from clap_engine.placement import ANYWHERE, Placement
from clap_engine.text import Detokenizer
from clap_engine.tower import Tower, best_precision

log = logging.getLogger("clap_engine")

MAX_BEAMS = 64
# Clips that share a call where the graph allows it: weights are read once for all of them. The
# cache of 8 clips with 5 beams of 67 tokens takes 220 MB.
CLIPS_A_CALL = 8


@dataclass(frozen=True)
class Claim:
    """One thing that is said of a sound, how sure it is from 0 to 1, and where it is heard best."""

    attribute: str
    value: str
    confidence: float
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Caption:
    """A sentence, its score, its ids, and the span it describes.

    A decoder's score is the mean log-probability of a token. A caption by retrieval has no tokens
    but `claims`; its score is the logarithm of the least confidence that it claims, or, where it
    claims nothing, of the highest that was not enough.
    """

    text: str
    score: float
    tokens: tuple[int, ...]
    start_s: float | None = None
    end_s: float | None = None
    claims: tuple[Claim, ...] = ()


class Captioner:
    """Embeddings -> captions. Safe in many threads; graphs are loaded when first needed."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        threads: int = 1,
        placement: Placement = ANYWHERE,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """A `precision` that the caption graphs lack is replaced by their best, with a warning in
        the log; the towers refuse it."""
        self._spec = caption_spec(bundle)
        self._bundle = bundle
        precision = _held(self._spec, precision, placement)
        self._mapper, self._decoder = (
            Tower(bundle, graphs, precision, threads, placement)
            for graphs in (self._spec.mapper, self._spec.decoder)
        )
        self.precision = self._decoder.precision

    def caption(
        self,
        native: Float32,
        *,
        beams: int | None = None,
        max_tokens: int | None = None,
        deadline: Deadline | None = None,
    ) -> list[Caption]:
        """[N, D_native] -> N captions; None takes what the bundle says."""
        spec = self._spec
        settings = BeamSettings(
            beams=_checked("beams", spec.beam if beams is None else beams, MAX_BEAMS),
            max_tokens=_checked(
                "max_tokens",
                spec.max_tokens if max_tokens is None else max_tokens,
                spec.max_positions - spec.prefix_length,
            ),
            stop_id=spec.stop_id,
        )
        native = check_array(native, shape=(None, spec.native_dim), name="native")
        dynamic = self._mapper.spec.dynamic_scale or self._decoder.spec.dynamic_scale
        at_once = 1 if dynamic else CLIPS_A_CALL
        return [
            self._worded(beams)
            for start in range(0, len(native), at_once)
            for beams in self.beams(native[start : start + at_once], settings, deadline)
        ]

    def beams(
        self, native: Float32, settings: BeamSettings, deadline: Deadline | None = None
    ) -> list[list[Beam]]:
        """[B, D_native] -> all beams of each clip, best first, in one batch."""
        spec = self._spec
        if deadline is not None:
            deadline.check()
        (prefix,) = self._mapper.session().run(["prefix"], {"native": native})
        shape = (len(native), spec.prefix_length, spec.hidden)
        if prefix.shape != shape or not np.isfinite(prefix).all():
            raise GraphError(
                f"{self._mapper.spec.file} gave {list(prefix.shape)}, perhaps with NaN; finite "
                f"{list(shape)} is promised; pack the bundle again"
            )
        decoder = Decoder(self._decoder.session(), spec.layers, spec.heads, spec.head_dim)
        return search(decoder, np.asarray(prefix, np.float32), settings, deadline)

    def _worded(self, beams: list[Beam]) -> Caption:
        """As msclap writes it: the first letter large, all others small."""
        best = beams[0]
        words = [token for token in best.tokens if token != self._spec.stop_id]
        text = self._detokenizer.text(words).strip().capitalize()
        return Caption(text, best.score, best.tokens)

    @cached_property
    def _detokenizer(self) -> Detokenizer:
        return Detokenizer(self._bundle.read(self._spec.tokenizer), self._spec.tokenizer)

    def warm(self) -> list[str]:
        """Load the graphs now; the providers that the decoder runs on."""
        self._mapper.session()
        return self._decoder.session().providers

    def close(self) -> None:
        """Free the graphs; a second close does nothing."""
        self._mapper.close()
        self._decoder.close()


def caption_spec(bundle: Bundle) -> CaptionSpec:
    """What the manifest says of captions; NotFoundError where the bundle makes none."""
    spec = bundle.manifest.caption
    if spec is None:
        raise NotFoundError(
            f"bundle {bundle.manifest.id} holds no caption graphs; load one that was converted "
            "with 'clap-export convert msclap --version clapcap'"
        )
    return spec


def _held(spec: CaptionSpec, precision: str | None, placement: Placement) -> str | None:
    """`precision`, or the best that there is: it was asked for the towers, and a decoder that falls
    short of its gate in int8 is packed in float32 beside towers that pass."""
    is_cast = placement.is_openvino and precision == "bf16" and "fp32" in spec.decoder
    if precision is None or precision in spec.decoder or is_cast:
        return precision
    chosen, _ = best_precision(spec.decoder, placement)
    log.warning(
        "the caption graphs are not in %s, the bundle holds %s: captions run in %s",
        precision,
        ", ".join(sorted(spec.decoder)),
        chosen,
    )
    return chosen


def _checked(name: str, value: int, most: int) -> int:
    if not 1 <= value <= most:
        raise TextError(f"{name} is {value}; 1 to {most} are allowed by this bundle")
    return value
