"""The tasks as methods: what `Engine` inherits, each a few calls of the module of its name.

In:  sounds, labels in words, examples.
Out: the records of the task's module.
Knows nothing about graphs, collections or the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from clap_engine.arrays import l2_normalize
from clap_engine.clips import clip_embedding
from clap_engine.deadline import Deadline, Timeout
from clap_engine.errors import GraphError, TaskError
from clap_engine.tasks.caption_face import CaptionFace

if TYPE_CHECKING:
    from clap_engine.arrays import Float32
    from clap_engine.sources import Source
    from clap_engine.tasks.classify import LabelScore
    from clap_engine.tasks.condition import Conditioning
    from clap_engine.tasks.labels import GivenLabels
    from clap_engine.tasks.probe import Probe
    from clap_engine.tasks.rank import Take
    from clap_engine.tasks.separation import Separation


class TaskFace(CaptionFace):
    """The tasks of an engine; safe in many threads, as the engine is."""

    @overload
    def classify(
        self, sources: list[Source], labels: GivenLabels, *, multi_label: bool = ...,
        top_k: int | None = ..., templates: Sequence[str] | str | None = ...,
        timeout_s: Timeout = ...,
    ) -> list[list[LabelScore]]: ...  # fmt: skip
    @overload
    def classify(
        self, sources: Source, labels: GivenLabels, *, multi_label: bool = ...,
        top_k: int | None = ..., templates: Sequence[str] | str | None = ...,
        timeout_s: Timeout = ...,
    ) -> list[LabelScore]: ...  # fmt: skip
    def classify(
        self,
        sources: Any,
        labels: GivenLabels,
        *,
        multi_label: bool = False,
        top_k: int | None = None,
        templates: Sequence[str] | str | None = None,
        timeout_s: Timeout = None,
    ) -> list[LabelScore] | list[list[LabelScore]]:
        """Which labels fit a clip: `[{"label", "score"}]`, best first; a list of clips, a list.

        Scores sum to 1 over the labels: some label always wins, fitting or not. With
        `multi_label` each is the probability of that label alone, from the bundle's calibration,
        and .5 is the border to "not heard"; a long clip counts by the window that fits best.
        A label may have several wordings, {"siren": ["police siren", "fire engine"]}; the one
        that fits best counts. `templates` such as "the sound of {}" replace those of the bundle.
        The rows of labels are kept, so that the same labels again cost no text.

        Raises TaskError for labels, templates or top_k that are not allowed and for `multi_label`
        with a bundle without calibration, AudioError for a clip that can't be read.
        """
        from clap_engine.tasks import classify

        classify.check_top_k(top_k)
        found = self._prompts.labels(labels)
        background = self._background if multi_label else None
        rows = self._prompts.rows(found.texts, "classify", templates)
        manifest, deadline = self.bundle.manifest, Deadline.of(timeout_s)

        def one(source: Source) -> list[LabelScore]:
            vectors, _, _ = self.embed_windows(source, timeout_s=deadline)
            if background is not None:
                scores = classify.by_probability(vectors, found, rows, background)
            else:
                scores = classify.by_share(
                    vectors, found, rows, manifest.logit_scale, manifest.logit_bias
                )
            return classify.ranked(found, scores, top_k)

        return [one(source) for source in sources] if isinstance(sources, list) else one(sources)

    def probe(
        self,
        examples: Mapping[str, Sequence[Source]],
        *,
        words: bool = False,
        timeout_s: Timeout = None,
    ) -> Probe:
        """A classifier of your own classes from a few examples each: {label: [clip, ...]}.

        With `words` a label itself counts as two more examples: it helps where labels say what is
        heard and there are less than eight examples each.

        Raises TaskError for fewer than two classes or more than 5,000 examples.
        """
        from clap_engine.tasks import probe

        embed = self._clip_row(Deadline.of(timeout_s))
        rows, labels = probe.gather(examples, embed)
        read = (lambda names: self._prompts.rows(names, "classify")) if words else None
        return probe.Probe.fit(
            rows, labels, space_id=self.bundle.manifest.space_id, embed=self._clip_row(), words=read
        )

    def load_probe(self, path: str | os.PathLike[str]) -> Probe:
        """A probe that was saved; SpaceMismatchError unless it was fitted in this space."""
        from clap_engine.tasks.probe import Probe

        return Probe.load(path, space_id=self.bundle.manifest.space_id, embed=self._clip_row())

    def _clip_row(self, timeout_s: Timeout = None) -> Callable[[Source], Float32]:
        """What makes a clip one unit row [D]."""

        def embed(source: Source) -> Float32:
            vectors, _, _ = self.embed_windows(source, timeout_s=timeout_s)
            return clip_embedding(vectors)

        return embed

    def separate(
        self, clips: Mapping[str, Sequence[Source]], *, timeout_s: Timeout = None
    ) -> Separation:
        """How well the model tells classes apart: {label: [clip, ...]}; see `Separation`."""
        from clap_engine.tasks import probe, separation

        rows, labels = probe.gather(clips, self._clip_row(Deadline.of(timeout_s)))
        return separation.separate(rows, labels)

    def rank(
        self,
        takes: Sequence[Source],
        prompt: str,
        *,
        against: Sequence[str] = (),
        timeout_s: Timeout = None,
    ) -> list[Take]:
        """Which of some takes fits a prompt best: `Take(index, score)`, best first.

        `against` are texts of what is not wanted. Raises TaskError if there is no take.
        """
        from clap_engine.tasks import rank

        if not isinstance(takes, list) or not takes:
            raise TaskError("takes must be a list of at least one clip")
        if isinstance(against, str):
            raise TaskError("against is one text; give a list")
        deadline = Deadline.of(timeout_s)
        texts = self.embed_text([prompt, *against], timeout_s=deadline)
        embed = self._clip_row(deadline)
        return rank.ranked(np.stack([embed(take) for take in takes]), texts[0], texts[1:])

    def rank_rows(
        self, takes: Sequence[Float32], prompt: str, *, against: Sequence[str] = ()
    ) -> list[Take]:
        """As `rank`, of the windows' rows [W, D] of each take, embedded before."""
        from clap_engine.tasks import rank

        texts = self.embed_text([prompt, *against])
        rows = np.stack([clip_embedding(take) for take in takes])
        return rank.ranked(rows, texts[0], texts[1:])

    def condition(
        self,
        texts: str | Sequence[str] = (),
        sounds: Sequence[Source] = (),
        *,
        unit: bool = True,
        timeout_s: Timeout = None,
    ) -> Conditioning:
        """Texts and sounds as text-to-audio systems take them: rows [N, D], texts first.

        The source model's own projection where the bundle's graphs give it (`space` "native"),
        else the embedding. With `unit` false the rows keep the length that the source gave them,
        which an embedding has lost: GraphError for such a bundle. A long clip is the mean of its
        windows.
        """
        from clap_engine.tasks import condition

        words, sounds = [texts] if isinstance(texts, str) else list(texts), list(sounds)
        if not words and not sounds:
            raise TaskError("nothing to condition on; give texts or sounds")
        deadline, manifest = Deadline.of(timeout_s), self.bundle.manifest
        is_native = manifest.text.native_dim is not None and manifest.audio.native_dim is not None
        if not is_native and not unit:
            raise GraphError(
                f"the graphs of {manifest.id} give unit rows only; convert a bundle with the "
                "output native, or take unit=True"
            )
        rows = [self._text_rows(words, is_native, deadline)] if words else []
        for sound in sounds:
            windows = self._sound_rows(sound, is_native, deadline)
            rows.append(condition.mean_of_windows(windows, is_unit=unit)[None])
        found = np.concatenate(rows)
        return condition.Conditioning(
            rows=l2_normalize(found) if unit else found,
            space="native" if is_native else "embedding",
            is_unit=unit,
            names=(*words, *(_name(sound) for sound in sounds)),
            space_id=manifest.space_id,
        )

    def _text_rows(self, texts: list[str], is_native: bool, deadline: Deadline) -> Float32:
        if not is_native:
            return self.embed_text(texts, timeout_s=deadline)
        with self._call("condition", "text", deadline):
            return self._text_encoder().encode_native(texts, deadline)

    def _sound_rows(self, sound: Source, is_native: bool, deadline: Deadline) -> Float32:
        from clap_engine import audio

        if not is_native:
            return self.embed_windows(sound, timeout_s=deadline)[0]
        rows = []
        for waveforms, _ in audio.windows(
            sound, self.bundle.manifest.audio, self.limits, deadline=deadline
        ):
            with self._call("condition", "audio", deadline):
                rows.append(self._audio_encoder().encode_native(waveforms, deadline))
        return np.concatenate(rows)


def _name(sound: Source) -> str:
    """A path as it is; what has no name, by its kind."""
    return os.fspath(sound) if isinstance(sound, (str, os.PathLike)) else type(sound).__name__
