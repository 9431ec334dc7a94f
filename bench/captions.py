"""How often captions by retrieval are right, attribute by attribute, and how much they say.

In:  a folder for rendered clips (made where it is missing), or a set of sounds in files; a bundle,
     perhaps a phrase bank.
Out: one JSON line an attribute: precision and coverage at the default confidence, and the curve;
     with --fit, the bank with its calibration fitted anew, on validation clips.
Knows nothing about training: figures are the held-out gallery's. A claim is right if the clip's own
attribute has that value; one that the corpus left unsaid (a tempo in between, a room that is none)
makes every claim about it wrong. Coverage is the share of clips that a claim could be made of.

Confidences are fitted on all validation clips, and as many again whose bank lacks a random quarter
of its sources, so that about one sound in nine is of no source that the bank knows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import clap_engine
from clap_engine.arrays import Float32, Float64
from clap_engine.clips import clip_embedding
from clap_engine.evaluation import sets
from clap_engine.tasks import bank as banks
from clap_engine.tasks.bank import LEVELS, PhraseBank
from clap_engine.tasks.compose import CONFIDENCE, Composer
from clap_engine.tasks.prompts import BARE
from label_sets import embed, rendered

KINDS = {"genre": "ensemble"}
CONFIDENCES = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
SPAN = np.array([[0.0, 5.0]])
# Keeps weights finite where a value can be told without error.
PENALTY = 1.0

Clips = Sequence[dict[str, str]]


def truth(bank: PhraseBank, clip: dict[str, str]) -> dict[str, frozenset[str]]:
    """A clip's attributes in the bank's names; of a clip with two sounds the sources of both."""
    classes = [clip[part] for part in ("class", "then", "with") if part in clip]
    names = {name.replace("_", " ") for name in classes}
    own = [source for source in bank.sources if source.name in names]
    kind = KINDS.get(clip["kind"], clip["kind"])
    return {
        **{name: frozenset({value}) for name, value in clip.items()},
        "source": frozenset(names),
        "family": frozenset(source.family for source in own),
        "kind": frozenset({kind, *(source.kind for source in own)}),
    }


def composer_of(engine: clap_engine.Engine, bank: PhraseBank) -> Callable[[PhraseBank], Composer]:
    """Makes composers of this bank and of parts of it; texts are embedded once."""
    known: dict[str, Float32] = {}

    def rows(texts: tuple[str, ...]) -> Float32:
        missing = tuple(text for text in texts if text not in known)
        if missing:
            known.update(zip(missing, engine._prompts.rows(missing, "caption", BARE), strict=True))
        return np.stack([known[text] for text in texts])

    manifest = engine.bundle.manifest
    return lambda part: Composer(part, rows, manifest.logit_scale, engine._background)


def fitted(x: Float64, y: Float64) -> list[float]:
    """[N, F], [N] of 0 and 1 -> the weights of a logistic regression, all but the first held in."""
    weights = np.zeros(x.shape[1])
    held = np.full(x.shape[1], PENALTY)
    held[0] = 1e-6
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (y - p) - held * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x + np.diag(held)
        weights += np.linalg.solve(curve, slope)
    if x.shape[1] == 2 and weights[1] <= 0:  # what fits worse must not be surer: never told
        share = min(max(float(y.mean()), 1e-3), 1 - 1e-3)
        weights = np.array([np.log(share / (1 - share)), 0.0])
    return [round(float(w), 3) for w in weights]


def calibration(
    make: Callable[[PhraseBank], Composer], bank: PhraseBank, rows: Float32, clips: Clips
) -> dict[str, Any]:
    """The bank's `calibration`, of these clips."""
    true = [truth(bank, clip) for clip in clips]
    rng = np.random.default_rng(0)
    parts = [bank]
    for quarter in np.array_split(rng.permutation(len(bank.sources)), 4):
        left = tuple(s for i, s in enumerate(bank.sources) if i not in set(quarter.tolist()))
        parts.append(replace(bank, sources=left))
    heard = [[make(bank).heard(row) for row in rows]]
    for i, part in enumerate(parts[1:]):
        heard[1:] = [[*(heard[1] if i else []), *(make(part).heard(row) for row in rows[i::4])]]
    order = [*range(len(rows)), *(j for i in range(4) for j in range(i, len(rows), 4))]
    both = heard[0] + heard[1]
    found: dict[str, Any] = {}
    for level in LEVELS:
        told = [(one.levels[level], true[j][level])
                for one, j in zip(both, order, strict=True) if level in one.levels]  # fmt: skip
        y = np.array([name in own for (name, _), own in told], float)
        found[level] = fitted(np.stack([features for (_, features), _ in told]), y)
    for attribute in bank.attributes:
        of = [i for i, one in enumerate(true)
              if not attribute.kinds or one["kind"] & set(attribute.kinds)]  # fmt: skip
        x = np.stack([heard[0][i].values[attribute.name] for i in of])
        found[attribute.name] = {
            value.name: fitted(
                np.stack([np.ones(len(of)), x[:, v]], axis=1),
                np.array([value.name in true[i].get(attribute.name, ()) for i in of], float),
            )
            for v, value in enumerate(attribute.values)
        }
    return found


def with_calibration(bank: PhraseBank, found: dict[str, Any]) -> PhraseBank:
    """The bank with these weights."""
    attributes = tuple(
        replace(a, values=tuple(replace(v, weights=tuple(found[a.name][v.name])) for v in a.values))
        for a in bank.attributes
    )
    one, two, three = (tuple(found[level]) for level in LEVELS)
    return replace(bank, attributes=attributes, levels=(one, two, three))


def measure(composer: Composer, rows: Float32, clips: Clips) -> list[dict[str, Any]]:
    """Figures of each attribute, and of all."""
    bank = composer.bank
    true = [truth(bank, clip) for clip in clips]
    every = [composer.claims(row[None], SPAN) for row in rows]
    kinds_of = {attribute.name: attribute.kinds for attribute in bank.attributes}
    names = [*LEVELS, *kinds_of, "all"]
    could = {
        name: sum(not kinds_of.get(name) or bool(one["kind"] & set(kinds_of[name])) for one in true)
        for name in names
    }

    def counted(confidence: float) -> dict[str, tuple[int, int]]:
        counts = dict.fromkeys(names, (0, 0))
        for claims, one in zip(every, true, strict=True):
            for claim in composer.kept(claims, confidence):
                right = claim.value in one.get(claim.attribute, ())
                for name in (claim.attribute, "all"):
                    told, hits = counts[name]
                    counts[name] = told + 1, hits + right
        return counts

    at = {confidence: counted(confidence) for confidence in {*CONFIDENCES, CONFIDENCE}}

    def figures(name: str, confidence: float) -> dict[str, Any]:
        told, hits = at[confidence][name]
        precision = round(hits / told, 3) if told else None
        share = told / max(1, could[name] if name != "all" else len(true))
        return {"precision": precision, "claims": told, "coverage": round(share, 3)}

    return [
        {"attribute": name, "clips": could[name], **figures(name, CONFIDENCE),
         "curve": {c: figures(name, c) for c in CONFIDENCES}}
        for name in names
    ]  # fmt: skip


def recorded(engine: clap_engine.Engine, composer: Composer, folder: Path) -> list[dict[str, Any]]:
    """Kind, family and source of sounds in files, whose labels are classes of the corpus; nothing
    else is known of them. Sounds of classes that the bank lacks are left out."""
    kinds = {source.name: source.kind for source in composer.bank.sources}
    rows, clips = [], []
    for clip in sets.read(folder).clips:
        name = (clip.labels or {}).get("classify", ("",))[0]
        if clip.path is not None and (kind := kinds.get(name.replace("_", " "))):
            rows.append(clip_embedding(engine.embed_windows(clip.path)[0]))
            clips.append({"class": name, "kind": kind})
    lines = measure(composer, np.stack(rows), clips)
    return [{"recorded": True, **line} for line in lines if line["attribute"] in LEVELS]


def strangers(make: Callable[[PhraseBank], Composer], bank: PhraseBank, rows: Float32,
              clips: Clips) -> dict[str, Any]:  # fmt: skip
    """What is claimed of sounds whose source is not in the bank: a random quarter taken out."""
    gone = set(np.random.default_rng(1).permutation(len(bank.sources))[::4].tolist())
    left = tuple(s for i, s in enumerate(bank.sources) if i not in gone)
    missing = {s.name for i, s in enumerate(bank.sources) if i in gone}
    composer = make(replace(bank, sources=left))
    some = [i for i, clip in enumerate(clips) if truth(bank, clip)["source"] <= missing]
    told = {level: [0, 0] for level in LEVELS}
    for i in some:
        true = truth(bank, clips[i])
        for claim in composer.kept(composer.claims(rows[i : i + 1], SPAN), CONFIDENCE):
            if claim.attribute in told:
                told[claim.attribute][0] += 1
                told[claim.attribute][1] += claim.value in true[claim.attribute]
    return {
        "clips_without_their_source": len(some),
        **{level: {"claims": n, "right": hits} for level, (n, hits) in told.items()},
    }


def written(tree: Any, depth: int = 0) -> str:
    """JSON with a line for each source and value."""
    if isinstance(tree, dict) and (depth < 2 or any(isinstance(v, dict) for v in tree.values())):
        lines = (f"{json.dumps(k)}: {written(v, depth + 1)}" for k, v in tree.items())
        pad = "  " * depth
        return "{\n" + ",\n".join(f"{pad}  {line}" for line in lines) + f"\n{pad}}}"
    return json.dumps(tree, ensure_ascii=False)


def main() -> None:
    """Fit or measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--corpus", type=Path, help="clips are rendered into it")
    options.add_argument(
        "--set", type=Path, help="sounds in files, labelled by the corpus' classes"
    )
    options.add_argument("--clips", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0, help="of the clips")
    options.add_argument("--bundle", help="default: the one that ships")
    options.add_argument("--bank", help="default: the one that ships")
    options.add_argument(
        "--fit",
        type=Path,
        metavar="BANK.json",
        help="write the calibration of this bank anew, from validation clips",
    )
    arguments = options.parse_args()
    if arguments.set:
        with clap_engine.load(arguments.bundle, threads=1) as engine:
            composer = composer_of(engine, banks.load(arguments.bank))(banks.load(arguments.bank))
            for line in recorded(engine, composer, arguments.set):
                print(json.dumps(line))
        return
    if arguments.corpus is None:
        options.error("give --corpus or --set")
    split = "validation" if arguments.fit else "held_out"
    folder = rendered(arguments.corpus, split, arguments.clips, arguments.seed)
    bank = banks.load(arguments.fit or arguments.bank)
    with clap_engine.load(arguments.bundle, threads=1) as engine:
        rows, clips = embed(engine, folder)
        make = composer_of(engine, bank)
        if arguments.fit:
            tree = json.loads(arguments.fit.read_bytes())
            tree["calibration"] = calibration(make, bank, rows, clips)
            arguments.fit.write_text(written(tree) + "\n", "utf-8")
            return
        for line in measure(make(bank), rows, clips):
            print(json.dumps(line))
        print(json.dumps(strangers(make, bank, rows, clips)))


if __name__ == "__main__":
    main()
