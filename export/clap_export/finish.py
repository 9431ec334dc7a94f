"""From a trained learner to the weights of the bundle: anchors chosen, everything measured.

In:  the corpus, the run folder, the learner with averaged weights.
Out: one safetensors file (`clap_export.weights`), whose scalars hold the figures of the model card.
Knows nothing about training or graphs.

Hyper-parameters (how far a query is drawn towards known phrases) are chosen on the validation
clips with the "development" phrases; the held-out gallery and the "report" phrases only measure.
Among candidates that find equally much, how long shortlists must be decides (`easiest`).
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_export import anchors, choices, minilm, mode, retrieval, rungs, sentences
from clap_export.card_mini import DESCRIPTION, TRAINING_DATA
from clap_export.corpus import broad, captions, render
from clap_export.corpus import lexicon as words
from clap_export.corpus.classes import KIND_OF
from clap_export.graphs.text_graph import Anchors, TextHead
from clap_export.heads import LADDER, MAX_LOGIT_SCALE
from clap_export.refine import Refinement, refine
from clap_export.tower import turned
from clap_export.train import Learner, Plan, embed_clips, prepare
from clap_export.weights import Weights, save_weights

# (blend, tau); the first is no anchors at all.
CANDIDATES = ((0.0, 1.0), *product((0.2, 0.3, 0.4, 0.5), (1.0, 0.8, 0.65, 0.5)))
CALIBRATION_WINDOWS = 64
# What a bundle tells the planner of its space: c in K = c sqrt(N). Queries in unseen words need
# three times longer shortlists than training's wording (.945 against .997 at c = 2), so each has to
# reach the recall by itself; known wording is then above .999.
FACTORS = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 15.0, 20.0)
FACTOR_RECALL = 0.985
FACTOR_ROWS = (5_000, 10_000)
# Of a thousand validation captions a change of .01 in hit@10 says nothing: among candidates as near
# as that to the best, the one is chosen whose top tens short lists find most of.
NEAR_BEST = 0.02  # of the sum of two hit@10
EASY_SHORTLIST = 800
# Attributes that name a second class in the same clip.
OTHERS = frozenset({"then", "with"})
# An answer has some ten phrases, a class some eighty and hundreds of captions.
ANSWERS_AS_MANY = 8
SETS = ("known", "development", "report", "dictionary", "names")


def embed_texts(vectors: Float32, head: Float32, drawn: Anchors | None) -> Float32:
    """Sentence vectors [N, H] -> embeddings [N, D], as the text graph computes them."""
    y = l2_normalize(vectors @ head)
    if drawn is None or drawn.blend == 0.0:
        return y
    scores = vectors @ drawn.keys.T / np.float32(drawn.tau)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    if drawn.values is None:
        mixed = (1 - drawn.blend) * vectors + drawn.blend * (weights @ drawn.keys)
        return l2_normalize(np.asarray(mixed @ head, dtype=np.float32))
    shares = weights.reshape(len(vectors), len(drawn.values), -1).sum(axis=2)
    return l2_normalize((1 - drawn.blend) * y + drawn.blend * (shares @ drawn.values))


def finish(
    corpus: Path,
    run: Path,
    learner: Learner,
    plan: Plan,
    out: Path,
    say: Callable[[str], None],
    refinement: Refinement | None = None,
) -> dict[str, Any]:
    """Adds what hears the mode, refines the text side, chooses the anchors, turns the space for its
    first dims, measures on the held-out gallery, writes `out`; returns the figures."""
    lexicon, encoder = words.load(), minilm.load()
    head = np.ascontiguousarray(learner.text.linear.weight.detach().cpu().numpy().T)
    data = prepare(corpus, plan, run)
    say("learning to tell major from minor")
    learner = mode.heard(learner, data, plan.seed)
    rendered = {
        "train": (data.log_mel, data.attributes),
        **{split: render.load(corpus / split) for split in ("validation", "held_out")},
    }
    splits = {}
    for split, (log_mel, clips) in rendered.items():
        splits[split] = (embed_clips(learner.audio, log_mel), clips)
        say(f"embedded {len(clips)} {split} clips")
    calibration = data.log_mel[:: max(1, len(data.log_mel) // CALIBRATION_WINDOWS)]
    asked = [each for each in data.asked if each.name in broad.phrases()]
    centroids = np.concatenate(
        [class_centroids(lexicon, *splits["train"]), choices.centres(asked, splits["train"][0])]
    )
    keys = class_keys(encoder, lexicon, splits["train"][1], asked)
    scale = float(learner.text.logit_scale.detach().clamp(max=MAX_LOGIT_SCALE).exp())
    start = Anchors(keys, centroids, blend=0.3, tau=0.65)
    say("refining the text side against the finished tower")
    head, refined = refine(
        splits["train"][0], data.sentences, head, start, scale, refinement, asked
    )
    keys, centroids = refined.keys, np.asarray(refined.values)

    questions = {
        (split, wording): question(encoder, lexicon, splits[split][1], wording)
        for split, wording in product(("validation", "held_out"), SETS)
    }

    def measure(split: str, wording: str, drawn: Anchors | None) -> dict[str, float]:
        vectors, relevant = questions[split, wording]
        text = embed_texts(vectors, head, drawn)
        return retrieval.hits(text, splits[split][0], relevant, LADDER)

    tried = []
    for blend, tau in CANDIDATES:
        drawn = Anchors(keys, centroids, blend=blend, tau=tau)
        found = {s: measure("validation", s, drawn)["hit@10"] for s in ("known", "development")}
        tried.append({"blend": blend, "tau": tau, **found})
        say(json.dumps(tried[-1]))
    strange = questions["validation", "development"][0]
    best = easiest(
        tried,
        lambda row: shortlist_recall(
            embed_texts(strange, head, Anchors(keys, centroids, row["blend"], row["tau"])),
            splits["train"][0][: FACTOR_ROWS[-1]],
            shortlist=EASY_SHORTLIST,
        ),
    )
    drawn = Anchors(keys, centroids, blend=best["blend"], tau=best["tau"])

    say("turning the space so that its first dims rank as all of them do")
    captions_heard = embed_texts(np.asarray(data.sentences[:, 0], np.float32), head, drawn)
    rotation = rungs.distilled(captions_heard, splits["train"][0], scale)
    tower = turned(learner.audio, rotation)
    head, drawn = head @ rotation, replace(drawn, values=centroids @ rotation)
    splits = {split: (audio @ rotation, clips) for split, (audio, clips) in splits.items()}

    figures: dict[str, Any] = {
        "gallery": len(splits["held_out"][1]),
        "chance_hit@1": retrieval.chance(questions["held_out", "known"][1]),
        "chance_hit@10": retrieval.chance(questions["held_out", "known"][1], 10),
        "chosen": best,
        "known": measure("held_out", "known", drawn),
        "unseen": measure("held_out", "report", drawn),
        "unseen_queries": len(questions["held_out", "report"][0]),
        "dictionary": measure("held_out", "dictionary", drawn),
        "dictionary_queries": len(questions["held_out", "dictionary"][0]),
        "names": measure("held_out", "names", drawn),
        "known_without_anchors": measure("held_out", "known", None),
        "unseen_without_anchors": measure("held_out", "report", None),
        "validation_known": measure("validation", "known", drawn),
    }
    plain = sentences.embed(encoder, [phrases[0] for phrases in lexicon.known.values()])
    names = dict(zip(lexicon.known, embed_texts(plain, head, drawn), strict=True))
    audio, clips = splits["held_out"]
    figures["zero_shot"] = retrieval.zero_shot(names, audio, clips)
    figures["shortlist_100_of_32_holds_top_10"] = shortlist_recall(audio, splits["train"][0])
    figures = rounded(figures)
    known = embed_texts(questions["validation", "known"][0], head, drawn)
    background = background_scores(known, splits["validation"][0])
    background["shortlist_per_sqrt_row"] = max(
        shortlist_factor(texts, splits["train"][0])
        for texts in (known, embed_texts(strange, head, drawn))
    )
    say(json.dumps(background))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    facts = {
        "samples": log[-1]["samples"],
        "minutes": log[-1]["minutes"],
        "clips": len(splits["train"][1]),
        "vocabulary": len(words.vocabulary(lexicon)),
        "phrases": sum(len(p) for t in (lexicon.known, lexicon.wide) for p in t.values()),
        "classes": len(lexicon.known),
        "machine": f"{platform.machine()}, {plan.threads} threads of a {plan.device.upper()}",
        "goes_on": bool(plan.started_from),
        "kept": plan.kept,
    }
    scalars = {
        "tower": asdict(tower.shape),
        "logit_scale": scale,
        "description": DESCRIPTION,
        "training_data": TRAINING_DATA,
        "templates": {"classify": ["{}", "the sound of {}", "a recording of {}"]},
        "calibration": background,
        "figures": figures,
        "facts": facts,
    }
    weights = Weights(
        audio={name: value.cpu().numpy() for name, value in tower.state_dict().items()},
        head=TextHead(head),
        anchors=drawn,
        calibration=calibration[:CALIBRATION_WINDOWS],
        scalars=scalars,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(out, weights)
    (out.with_suffix(".png")).write_bytes((run / "curves.png").read_bytes())
    say(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return {**facts, **figures}


def easiest(
    tried: Sequence[dict[str, float]], recall: Callable[[dict[str, float]], float]
) -> dict[str, float]:
    """Of the candidates that find about as much as the best, the one with the highest recall."""

    def found(row: dict[str, float]) -> float:
        return row["known"] + row["development"]

    best = max(map(found, tried))
    near = [row for row in tried if found(row) >= best - NEAR_BEST]
    return max(near, key=recall)


def class_keys(
    encoder: minilm.SentenceEncoder,
    lexicon: words.Lexicon,
    clips: Sequence[dict[str, str]],
    asked: Sequence[choices.Choices],
) -> Float32:
    """[(C + A) * anchors.PER_CLASS, H]: keys of the classes and of the answers to all that is
    `asked`; `anchors.fit_keys` on every phrase of training, bare and in captions, and one caption
    of every training clip, near the bare phrases of each."""
    rng = np.random.default_rng(9)
    place = {name: i for i, name in enumerate(lexicon.known)}
    texts, classes = [], []
    for name, phrases in lexicon.known.items():
        bare = {"class": name, "kind": KIND_OF[name]}
        for phrase in (*phrases, *lexicon.wide[name]):
            texts += [phrase, captions.compose(rng, phrase, bare).text]
            classes += [place[name]] * 2
    for clip in clips:
        texts.append(captions.training(rng, lexicon, clip).text)
        classes.append(place[clip["class"]])
    vectors = sentences.embed(encoder, texts, bfloat16=True)
    bare_ones = slice(0, len(texts) - len(clips), 2)
    more, answers = choices.numbered(asked)
    owners = (answers + len(place)).tolist()
    keys = anchors.fit_keys(
        np.concatenate([vectors, *[more] * ANSWERS_AS_MANY]),
        [*classes, *owners * ANSWERS_AS_MANY], len(place) + len(set(owners)),
    )  # fmt: skip
    return anchors.near_phrases(
        np.concatenate([vectors[bare_ones], more]), [*classes[bare_ones], *owners], keys
    )


def class_centroids(
    lexicon: words.Lexicon, audio: Float32, clips: Sequence[dict[str, str]]
) -> Float32:
    """[C, D]: the normalised mean embedding of each class's training clips without another."""
    names = list(lexicon.known)
    place = {name: i for i, name in enumerate(names)}
    alone = [i for i, clip in enumerate(clips) if OTHERS.isdisjoint(clip)]
    total = np.zeros((len(names), audio.shape[1]), dtype=np.float32)
    np.add.at(total, [place[clips[i]["class"]] for i in alone], audio[alone])
    return l2_normalize(total)


def question(
    encoder: minilm.SentenceEncoder,
    lexicon: words.Lexicon,
    clips: Sequence[dict[str, str]],
    wording: str,
) -> tuple[Float32, np.ndarray]:
    """Sentence vectors of one caption a clip, and which clips satisfy each."""
    asked = retrieval.queries(lexicon, clips, wording)
    vectors = sentences.embed(encoder, [caption.text for caption in asked])
    return vectors, retrieval.relevance(asked, clips)


def shortlist_recall(
    queries: Float32, gallery: Float32, k: int = 10, shortlist: int = 100
) -> float:
    """Share of the true top k (all dims) inside the best `shortlist` by the first 32 dims."""
    shortlist = min(shortlist, len(gallery) - 1)
    exact = np.argsort(-(queries @ gallery.T), axis=1)[:, :k]
    scores = retrieval.unit_prefix(queries, 32) @ retrieval.unit_prefix(gallery, 32).T
    short = np.argpartition(-scores, shortlist, axis=1)[:, :shortlist]
    both = [len(np.intersect1d(a, b)) / k for a, b in zip(exact, short, strict=True)]
    return float(np.mean(both))


def shortlist_factor(texts: Float32, gallery: Float32) -> float:
    """The least c of FACTORS for which shortlists of c sqrt(N) hold FACTOR_RECALL of the true top
    ten, for captions among N of this space's clips, at every N of FACTOR_ROWS that there are."""
    rng = np.random.default_rng(17)
    rows = [n for n in FACTOR_ROWS if n < len(gallery)] + [len(gallery)]
    parts = [gallery[np.sort(rng.choice(len(gallery), n, replace=False))] for n in rows]
    for factor in FACTORS:
        found = (
            shortlist_recall(texts, part, shortlist=round(factor * len(part) ** 0.5))
            for part in parts
        )
        if all(recall >= FACTOR_RECALL for recall in found):
            return factor
    return FACTORS[-1]


def background_scores(text: Float32, audio: Float32) -> dict[str, float]:
    """Mean and spread of scores between unrelated texts and clips, and between clips."""
    across = text @ np.roll(audio, len(audio) // 2, axis=0).T
    among = audio @ audio.T
    among = among[~np.eye(len(audio), dtype=bool)]
    return {
        "text_mean": float(across.mean()),
        "text_std": float(across.std()),
        "audio_mean": float(among.mean()),
        "audio_std": float(among.std()),
    }


def rounded(value: Any) -> Any:
    """Floats to four places, through lists and dicts."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(float(value), 4) if isinstance(value, (float, np.floating)) else value
