"""What can be told of a sound, by retrieval: claims with their confidence, and a sentence of them.

In:  a phrase bank, the unit rows of its texts; the rows [W, D] of a sound's windows.
Out: `Claim`s, those of low confidence left out; one sentence.
Knows nothing about files, graphs or the command line.

The source is the softmax over all sources and a further one, "none of these", whose cosine lies
`NONE` standard deviations over what unrelated texts and sounds score; the share of a family or a
kind is the sum of its sources'. For an attribute only the difference counts that its form makes to
a carrier's text, "piano in a large hall" less "piano". Logistic regressions of the bank turn both
into confidences; what is below the least confidence is never said, and a family or kind is said in
place of a source that isn't clear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32, Float64, Int64, l2_normalize
from clap_engine.caption import Caption, Claim
from clap_engine.errors import TaskError
from clap_engine.tasks.bank import LEVELS, PhraseBank
from clap_engine.tasks.prompts import filled
from clap_engine.tasks.scores import Background, shares

# The least in steps of .05 at which every attribute that was told had a precision of .85 on
# validation clips: five points over the bar for held-out sounds, which are further from what a
# tower knows (bench/captions.py).
CONFIDENCE = 0.85
NONE = 2.0
# exp() of more says nothing that a confidence could show.
_FAR = 30.0


@dataclass(frozen=True)
class Heard:
    """What was measured of a sound: by level the best name with its features [3], by attribute the
    difference of each value [V]."""

    levels: dict[str, tuple[str, Float64]]
    values: dict[str, Float64]


class Composer:
    """A bank in a bundle's space; immutable, safe in many threads."""

    def __init__(
        self,
        bank: PhraseBank,
        embed: Callable[[tuple[str, ...]], Float32],
        scale: float,
        background: Background,
    ) -> None:
        """`embed` makes T texts unit rows [T, D]; `scale` is the bundle's logit scale."""
        self.bank, self._scale, self._background = bank, scale, background
        wanted = [text for source in bank.sources for text in source.texts]
        for attribute in bank.attributes:
            wanted += attribute.carriers
            wanted += [filled(f, c) for v in attribute.values for f in v.forms
                       for c in attribute.carriers]  # fmt: skip
        texts = tuple(dict.fromkeys(wanted))
        rows, place = embed(texts), {text: number for number, text in enumerate(texts)}

        def mean(some: Sequence[str]) -> Float32:
            return np.asarray(rows[[place[text] for text in some]].mean(axis=0), np.float32)

        self._sources = l2_normalize(np.stack([mean(source.texts) for source in bank.sources]))
        self._differences = {
            attribute.name: np.stack([
                mean([filled(f, c) for f in value.forms for c in attribute.carriers])
                - mean(attribute.carriers)
                for value in attribute.values
            ])
            for attribute in bank.attributes
        }  # fmt: skip
        self._levels = {level: _groups(bank, level) for level in LEVELS}
        self._says = {(level, name): say for level, name, say in bank.says}
        self._says |= {("source", source.name): source.say for source in bank.sources}
        self._kinds = _kinds(bank)

    def heard(self, row: Float32) -> Heard:
        """[D] -> what the bank's calibration is asked about."""
        cosines = self._sources @ row
        none = self._background.mean + NONE * self._background.std
        share = shares(np.append(cosines, none), self._scale)[:-1]
        deviation = self._background.deviations(cosines)
        levels, best = {}, {}
        for level, (names, group) in self._levels.items():
            if not names:
                continue
            of_group = np.bincount(group[group >= 0], share[group >= 0], minlength=len(names))
            number = int(of_group.argmax())
            best[level] = number, float(of_group[number])
            p = float(np.clip(of_group[number], 1e-6, 1 - 1e-6))
            most = float(deviation[group == number].max())
            levels[level] = names[number], np.array([1.0, math.log(p / (1 - p)), most])
        for level in self._contradicted(best):
            del levels[level]
        std = self._background.std
        differences = self._differences.items()
        return Heard(
            levels, {name: np.asarray(some @ row / std, np.float64) for name, some in differences}
        )

    def _contradicted(self, best: Mapping[str, tuple[int, float]]) -> set[str]:
        """The levels that can't be told beside a wider one: what is found is not of it. Of a level
        that names none of its sources' own, the one with the larger share stays."""
        gone: set[str] = set()
        for at, wide in enumerate(LEVELS):
            for level in LEVELS[at + 1 :]:
                if {wide, level} & gone or not {wide, level} <= best.keys():
                    continue
                members = self._levels[level][1] == best[level][0]
                own = set(self._levels[wide][1][members].tolist())
                if own == {-1}:
                    gone.add(wide if best[level][1] > best[wide][1] else level)
                elif best[wide][0] not in own:
                    gone.add(level)
        return gone

    def claims(self, rows: Float32, spans: Float64) -> list[Claim]:
        """[W, D], [W, 2] -> the best value of everything, in the bank's order, however unsure.

        Of the normalised mean of the windows; a claim's span is the window that it fits best.
        """
        mean = rows[0] if len(rows) == 1 else l2_normalize(rows.mean(axis=0, keepdims=True))[0]
        heard = self.heard(mean)
        found = []
        for level, weights in zip(LEVELS, self.bank.levels, strict=True):
            if level in heard.levels:
                name, features = heard.levels[level]
                names, group = self._levels[level]
                members = self._sources[group == names.index(name)]
                at = int((rows @ members.T).max(axis=1).argmax())
                found.append(_claim(level, name, _sigmoid(features @ np.array(weights)), spans[at]))
        for attribute in self.bank.attributes:
            if attribute.is_of_window and len(rows) > 1:
                continue
            x = heard.values[attribute.name]
            weights_of = np.array([value.weights for value in attribute.values])
            sure = weights_of[:, 0] + weights_of[:, 1] * x
            best = int(sure.argmax())
            at = int((rows @ self._differences[attribute.name][best]).argmax())
            name = attribute.values[best].name
            found.append(_claim(attribute.name, name, _sigmoid(float(sure[best])), spans[at]))
        return found

    def caption(self, rows: Float32, spans: Float64, min_confidence: float) -> Caption:
        """[W, D], [W, 2] -> the sentence of all claims that are sure enough."""
        every = self.claims(rows, spans)
        kept = self.kept(every, min_confidence)
        sure = [claim.confidence for claim in kept] or [max(c.confidence for c in every)]
        return Caption(
            self.sentence(kept), math.log(max(min(sure), 1e-300)), (), float(spans[0, 0]),
            float(spans[-1, 1]), tuple(kept),
        )  # fmt: skip

    def kept(self, claims: Sequence[Claim], min_confidence: float) -> list[Claim]:
        """Those at least so sure; attributes only where they can be true of what is told."""
        sure = [claim for claim in claims if claim.confidence >= min_confidence]
        told = [self._kinds[c.attribute, c.value] for c in sure if c.attribute in LEVELS]
        kinds = frozenset.intersection(*told) if told else None
        allowed = {
            attribute.name
            for attribute in self.bank.attributes
            if not attribute.kinds or (kinds is not None and kinds <= set(attribute.kinds))
        }
        return [c for c in sure if c.attribute in LEVELS or c.attribute in allowed]

    def sentence(self, claims: Sequence[Claim]) -> str:
        """What is claimed, in the bank's words; the most definite of kind, family and source."""
        if not claims:
            return self.bank.nothing
        of = {claim.attribute: claim.value for claim in claims}
        named = [(level, of[level]) for level in reversed(LEVELS) if level in of]
        text = self._says[named[0]] if named else self.bank.sound
        for attribute in self.bank.attributes:
            if attribute.name in of:
                said = next(v.say for v in attribute.values if v.name == of[attribute.name])
                text += f"{',' if attribute.is_apart else ''} {said}"
        return text[0].upper() + text[1:] + "."


def silent(bank: PhraseBank, spans: Float64) -> Caption:
    """What is said of a sound that is silent throughout: the one claim that needs no model."""
    claim = _claim("level", "silence", 1.0, np.array([spans[0, 0], spans[-1, 1]]))
    start_s, end_s = float(spans[0, 0]), float(spans[-1, 1])
    return Caption(bank.silence, 0.0, (), start_s, end_s, (claim,))


def check_confidence(value: object) -> float:
    """TaskError unless it lies from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise TaskError(f"min_confidence is {value!r}; give a number from 0 to 1")
    return float(value)


def _groups(bank: PhraseBank, level: str) -> tuple[list[str], Int64]:
    """The names of a level, and the number of each source's own [S]; -1 where it has none."""
    own = [s.name if level == "source" else getattr(s, level) for s in bank.sources]
    names = list(dict.fromkeys(name for name in own if name))
    place = {name: number for number, name in enumerate(names)}
    return names, np.array([place.get(name, -1) for name in own], np.int64)


def _kinds(bank: PhraseBank) -> dict[tuple[str, str], frozenset[str]]:
    """(level, name) -> the kinds of the sources that it is of."""
    found: dict[tuple[str, str], set[str]] = {}
    for source in bank.sources:
        for key in (("kind", source.kind), ("family", source.family), ("source", source.name)):
            found.setdefault(key, set()).add(source.kind)
    return {key: frozenset(some) for key, some in found.items()}


def _claim(attribute: str, value: str, confidence: float, span: Float64) -> Claim:
    return Claim(attribute, value, confidence, float(span[0]), float(span[1]))


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(float(x), -_FAR), _FAR)))
