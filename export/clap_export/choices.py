"""Questions with few answers, as both sides learn them beside captions.

In:  broad words, names of classes, the attributes of training clips; embeddings of clips and of one
     phrase an answer.
Out: `Choices`; the loss of choosing among the answers.
Knows nothing about towers, anchors or steps.

Contrast within a batch tells a clip's caption from other clips' captions; hardly any of them says
"speech" or "slow", and every other clip of that kind counts as wrong. Here all clips of an answer
are right, and only the other answers are wrong: what a user does who asks with a list of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import Tensor
from torch.nn import functional

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_export import minilm, sentences
from clap_export.corpus import broad, captions, lexicon
from clap_export.corpus.classes import CLASSES
from clap_export.heads import LADDER, MAX_LOGIT_SCALE

SEED = 1
COMMON = 0.7  # share of what the answers of a question have in common that `centres` takes away


@dataclass(frozen=True)
class Choices:
    """One question: sentence vectors of the phrases of each answer, and what is true."""

    name: str
    vectors: Float32  # [P, H], answer after answer
    starts: Int64  # [A + 1]: where each answer's phrases begin, and the end
    truths: Int64  # [N]: the answer that is true of each clip, -1 for none

    def __len__(self) -> int:
        """Answers."""
        return len(self.starts) - 1

    def drawn(self, rng: np.random.Generator) -> Float32:
        """[A, H]: one phrase of each answer."""
        counts = self.starts[1:] - self.starts[:-1]
        picked = self.starts[:-1] + (rng.random(len(self)) * counts).astype(np.int64)
        return np.asarray(self.vectors[picked], np.float32)

    @property
    def owners(self) -> Int64:
        """[P]: the answer of each phrase."""
        return np.repeat(np.arange(len(self)), self.starts[1:] - self.starts[:-1])


def of_clips(
    encoder: minilm.SentenceEncoder, clips: Sequence[broad.Attributes]
) -> tuple[Choices, ...]:
    """Every question of `broad`; each phrase stands alone and in one carrier."""
    rng = np.random.default_rng(SEED)
    found = []
    for question, table in broad.phrases().items():
        texts: list[str] = []
        starts = [0]
        for phrases in table.values():
            for phrase in phrases:
                carrier = captions.pick(rng, captions.QUESTION_CARRIERS)
                texts += [phrase, carrier.format(p=phrase)]
            starts.append(len(texts))
        place = {answer: number for number, answer in enumerate(table)}
        truths = [broad.truth(question, clip) for clip in clips]
        found.append(
            Choices(
                question,
                sentences.embed(encoder, texts),
                np.array(starts, np.int64),
                np.array([-1 if t is None else place[t] for t in truths], np.int64),
            )
        )
    return tuple(found)


def of_classes(clips: Sequence[broad.Attributes]) -> tuple[Choices, ...]:
    """One question for each kind: which of its classes it is, by the phrases of training."""
    found = []
    for kind, names in CLASSES.items():
        place = {name: number for number, name in enumerate(names)}
        truths = [-1 if broad.is_scene(clip) else place.get(clip["class"], -1) for clip in clips]
        found.append(Choices(f"which {kind}", *_said_of(kind), np.array(truths, np.int64)))
    return tuple(found)


@cache
def _said_of(kind: str) -> tuple[Float32, Int64]:
    """Sentence vectors of what the classes of a kind are called, class after class; the starts."""
    phrases = [lexicon.load().known[name] for name in CLASSES[kind]]
    said = [phrase for some in phrases for phrase in some]
    vectors = sentences.embed(minilm.load(), said, bfloat16=True)
    return vectors, np.cumsum([0, *map(len, phrases)])


def numbered(asked: Sequence[Choices]) -> tuple[Float32, Int64]:
    """The phrases of all questions [P, H], and the answer of each [P], counted through."""
    firsts = np.cumsum([0, *map(len, asked)])
    owners = [each.owners + first for each, first in zip(asked, firsts, strict=False)]
    return np.concatenate([each.vectors for each in asked]), np.concatenate(owners)


def centres(choices: Sequence[Choices], audio: Float32) -> Float32:
    """[A of all, D]: for each answer a direction in which its clips differ from the others'.

    The mean of its clips, less most of the mean over all answers of the question.
    """
    rows = []
    for each in choices:
        means = np.stack(
            [
                audio[each.truths == answer].mean(axis=0)
                if (each.truths == answer).any()
                else audio.mean(axis=0)
                for answer in range(len(each))
            ]
        )
        rows.append(means - COMMON * means.mean(axis=0))
    return l2_normalize(np.asarray(np.concatenate(rows), np.float32))


def loss(audio: Tensor, text: Tensor, truths: Tensor, logit_scale: Tensor) -> Tensor:
    """Clips [B, D], one text an answer [A, D], truths [B] with -1 for none -> cross-entropy, the
    mean over the ladder; 0 where no clip has an answer."""
    known = truths >= 0
    total = audio.new_zeros(())
    if not known.any():
        return total
    scale = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    for dim in LADDER:
        a = functional.normalize(audio[known, :dim], dim=-1)
        t = functional.normalize(text[:, :dim], dim=-1)
        total = total + functional.cross_entropy(scale * a @ t.T, truths[known])
    return total / len(LADDER)
