"""What an engine hears in sounds of any length, as methods: detect and moderate.

In:  sounds, labels in words, policies.
Out: events and verdicts; memory is that of a window.
Knows nothing about graphs, collections or the command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from clap_engine.deadline import Deadline, Timeout
from clap_engine.tasks.labels import Labels
from clap_engine.tasks.prompts import Prompts

if TYPE_CHECKING:
    from clap_engine.arrays import Float32, Float64
    from clap_engine.bundle import Bundle
    from clap_engine.calls import Call
    from clap_engine.encoders import AudioEncoder, TextEncoder
    from clap_engine.limits import Limits
    from clap_engine.sources import Source
    from clap_engine.tasks.detect import Event
    from clap_engine.tasks.frames import Block, Grid
    from clap_engine.tasks.labels import GivenLabels
    from clap_engine.tasks.moderate import Evidence, Listener, Verdict
    from clap_engine.tasks.policy import Policy
    from clap_engine.tasks.scores import Background
    from clap_engine.tasks.settings import DetectSettings


class StreamFace:
    """The tasks over long sounds; what it needs of an engine is named at its head."""

    bundle: Bundle
    limits: Limits

    if TYPE_CHECKING:

        def embed_text(
            self, texts: str | Sequence[str], *, dim: int | None = None, timeout_s: Timeout = None
        ) -> Float32:
            """N texts -> [N, D] unit rows."""

        def embed_windows(
            self, source: Source, *, timeout_s: Timeout = None
        ) -> tuple[Float32, Float64, float]:
            """One clip -> (vectors [W, D], spans in seconds [W, 2], duration in seconds)."""

        def _call(self, verb: str, lane: str, timeout_s: Timeout) -> Call: ...

        def _audio_encoder(self) -> AudioEncoder: ...

        def _text_encoder(self) -> TextEncoder: ...

    def detect(
        self,
        source: Source,
        labels: GivenLabels,
        *,
        settings: DetectSettings | None = None,
        templates: Sequence[str] | str | None = None,
        timeout_s: Timeout = None,
    ) -> list[Event]:
        """When each label sounds: events with start, end and highest probability, in order.

        Sounds of any length; memory is that of a window and of the events. Raises TaskError for
        labels that are not allowed or a bundle without calibration, AudioError for a clip that
        can't be read.
        """
        found = self.detect_stream(
            source, labels, settings=settings, templates=templates, timeout_s=timeout_s
        )
        return sorted(found, key=lambda event: (event.start_s, event.end_s, event.label))

    def detect_stream(
        self,
        source: Source,
        labels: GivenLabels,
        *,
        settings: DetectSettings | None = None,
        templates: Sequence[str] | str | None = None,
        timeout_s: Timeout = None,
    ) -> Iterator[Event]:
        """As `detect`, each event as soon as it is over: memory is that of a window."""
        from clap_engine.tasks import detect
        from clap_engine.tasks.frames import Grid
        from clap_engine.tasks.settings import DetectSettings

        settings = settings or DetectSettings()
        found, background = self._prompts.labels(labels), self._background
        grid = Grid.of(self.bundle.manifest.audio, settings.hop_s)
        rows = self._prompts.rows(found.texts, "detect", templates)
        blocks = self._blocks("detect", source, grid, found, rows, Deadline.of(timeout_s))
        return detect.events(blocks, found.names, grid.frame_s, background, settings)

    def moderate(
        self,
        source: Source,
        policy: str | os.PathLike[str] | Policy,
        *,
        hop_s: float | None = None,
        timeout_s: Timeout = None,
    ) -> Verdict:
        """A sound of any length against a policy: its name, its file, or itself.

        The strictest action that is called for, or "pass", with the spans that call for it.
        Raises NotFoundError or TaskError for the policy, AudioError for the sound.
        """
        listener, blocks = self._listening(source, policy, hop_s, Deadline.of(timeout_s))
        for _ in listener.evidence(blocks):
            pass
        return listener.verdict()

    def moderate_stream(
        self,
        source: Source,
        policy: str | os.PathLike[str] | Policy,
        *,
        hop_s: float | None = None,
        timeout_s: Timeout = None,
    ) -> Iterator[Evidence]:
        """Each span of a category as soon as it is over; `min_share` is left to `moderate`."""
        listener, blocks = self._listening(source, policy, hop_s, Deadline.of(timeout_s))
        return listener.evidence(blocks)

    def _listening(
        self,
        source: Source,
        policy: str | os.PathLike[str] | Policy,
        hop_s: float | None,
        deadline: Deadline,
    ) -> tuple[Listener, Iterator[Block]]:
        from clap_engine.tasks import policy as policies
        from clap_engine.tasks.frames import Grid
        from clap_engine.tasks.moderate import Listener

        found = policies.load(policy)
        texts = found.texts
        # Level alone needs no text; the frames are computed all the same.
        background = self._background if len(texts) else None
        rows = self._prompts.rows(texts.texts or ("silence",), "moderate")
        labels = texts if len(texts) else Labels.of(["silence"])
        grid = Grid.of(self.bundle.manifest.audio, hop_s)
        blocks = self._blocks("moderate", source, grid, labels, rows, deadline)
        return Listener(found, background, grid.frame_s), blocks

    def _blocks(
        self, verb: str, source: Source, grid: Grid, labels: Labels, rows: Float32,
        deadline: Deadline,
    ) -> Iterator[Block]:  # fmt: skip
        """A sound's frames with their cosines; the lane of sounds is held for a batch at a time."""
        from clap_engine import audio
        from clap_engine.tasks import frames

        def parts() -> Iterator[tuple[Float32, Float64, Float64]]:
            spec = self.bundle.manifest.audio
            for waveforms, spans in audio.windows(
                source, spec, self.limits, grid.hop_s, deadline=deadline
            ):
                with self._call(verb, "audio", deadline):
                    found = frames.rows_of(self._audio_encoder(), waveforms, grid)
                yield found, frames.power_of(waveforms, grid), spans

        return frames.blocks(parts(), grid, labels, rows)

    def forget_prompts(self) -> None:
        """Embed all labels anew: after another text graph took over."""
        self.__dict__.pop("_prompts", None)

    @cached_property
    def _prompts(self) -> Prompts:
        return Prompts(self.embed_text, self.bundle.manifest.templates)

    @property
    def _background(self) -> Background:
        from clap_engine.tasks.scores import Background

        return Background.of(self.bundle.manifest.calibration)
