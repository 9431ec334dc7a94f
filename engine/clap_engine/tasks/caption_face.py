"""Captions by retrieval, as an engine's method: what `Engine.caption` does without a decoder.

In:  sounds, a phrase bank.
Out: `Caption`s with their claims; memory is that of the windows' rows.
Knows nothing about graphs, decoders or the command line.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from clap_engine.deadline import Deadline
from clap_engine.errors import TaskError
from clap_engine.tasks.prompts import BARE
from clap_engine.tasks.stream_face import StreamFace

if TYPE_CHECKING:
    from clap_engine.arrays import Float32, Float64
    from clap_engine.caption import Caption
    from clap_engine.sources import Source
    from clap_engine.tasks.bank import PhraseBank
    from clap_engine.tasks.compose import Composer

GivenBank: TypeAlias = "str | os.PathLike[str] | PhraseBank"
Bool = npt.NDArray[np.bool_]

# Composers kept: 600 KB each of the bank that ships.
_KEPT = 4
# Texts embedded between two looks at the deadline.
_CHUNK = 64


class CaptionFace(StreamFace):
    """What an engine says of sounds from a phrase bank."""

    def _is_retrieved(
        self,
        beams: int | None,
        max_tokens: int | None,
        bank: GivenBank | None,
        min_confidence: float | None,
    ) -> bool:
        """Is a caption with these settings one by retrieval? TaskError for some of each way."""
        is_decoded = beams is not None or max_tokens is not None
        is_asked = bank is not None or min_confidence is not None
        if is_decoded and is_asked:
            raise TaskError(
                "beams and max_tokens are the decoder's, bank and min_confidence of captions by "
                "retrieval; give those of one way"
            )
        return is_asked or (not is_decoded and self.bundle.manifest.caption is None)

    def _retrieved(
        self,
        source: Source,
        bank: GivenBank | None,
        min_confidence: float | None,
        deadline: Deadline,
        *,
        is_each: bool = False,
    ) -> list[Caption]:
        """One caption of the whole sound, or with `is_each` one of each window, in order.

        Raises TaskError for a bank or confidence that is not allowed and for a bundle without
        calibration, AudioError for a clip that can't be read.
        """
        from clap_engine.tasks import bank as banks
        from clap_engine.tasks import compose

        least = compose.CONFIDENCE
        if min_confidence is not None:
            least = compose.check_confidence(min_confidence)
        composer = self._composer(banks.load(bank), deadline)
        rows, spans, is_silent = self._levelled(source, deadline)
        if not is_each:
            if is_silent.all():
                return [compose.silent(composer.bank, spans)]
            heard = composer.caption(rows[~is_silent], spans[~is_silent], least)
            return [replace(heard, start_s=float(spans[0, 0]), end_s=float(spans[-1, 1]))]
        return [
            compose.silent(composer.bank, spans[i : i + 1]) if is_silent[i]
            else composer.caption(rows[i : i + 1], spans[i : i + 1], least)
            for i in range(len(rows))
        ]  # fmt: skip

    def _levelled(self, source: Source, deadline: Deadline) -> tuple[Float32, Float64, Bool]:
        """Windows' rows [W, D] and spans [W, 2], and which are silent throughout [W]."""
        from clap_engine import audio
        from clap_engine.tasks.frames import SILENT_DBFS

        rows, spans, silent = [], [], []
        floor = 10.0 ** (SILENT_DBFS / 20.0)
        for waveforms, span in audio.windows(
            source, self.bundle.manifest.audio, self.limits, deadline=deadline
        ):
            with self._call("caption", "audio", deadline):
                rows.append(self._audio_encoder().encode(waveforms, deadline))
            spans.append(span)
            silent.append(np.abs(waveforms).max(axis=1) < floor)
        return np.concatenate(rows), np.concatenate(spans), np.concatenate(silent)

    def _composer(self, bank: PhraseBank, deadline: Deadline) -> Composer:
        from clap_engine.tasks.compose import Composer

        known, prompts = self._composers, self._prompts

        def embed(texts: tuple[str, ...]) -> Float32:
            parts = []
            for start in range(0, len(texts), _CHUNK):
                deadline.check()  # what is embedded by then is there for the next call
                parts.append(prompts.rows(texts[start : start + _CHUNK], "caption", BARE))
            return np.concatenate(parts)

        found = known.get(bank)
        if found is None:
            found = Composer(bank, embed, self.bundle.manifest.logit_scale, self._background)
            while len(known) >= _KEPT:
                known.pop(next(iter(known)), None)
            known[bank] = found
        return found

    @cached_property
    def _composers(self) -> dict[PhraseBank, Composer]:
        return {}

    def forget_prompts(self) -> None:
        """Embed all texts anew: after another text graph took over."""
        super().forget_prompts()
        self.__dict__.pop("_composers", None)
