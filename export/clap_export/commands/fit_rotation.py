"""`clap-export fit rotation`: the closed-form head, without training.

In:  the command line.
Out: a head file that `clap-export convert --heads FILE` takes.
Knows nothing about how a rotation is fitted: `clap_export.rotation` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from clap_engine import __version__
from clap_engine.arrays import Float32
from clap_engine.storage import make_dir, write_atomic
from clap_export import features, head_choice, rotation
from clap_export.commands import heads_args
from clap_export.errors import TrainingError
from clap_export.features import Features

Say = Callable[[str], None]

EPILOG = f"""\
An orthogonal rotation of the model's own space, from the second moments of captions and of sounds:
scores stay as they are to 1e-5 until dims are cut off, and the dims are in falling order of what
scores need. Captions and sounds need not belong together. A quarter of both measures what each rung
loses; at least {rotation.LEAST_ITEMS} of each have to be left to fit on (--few fits on what there
is, and says so in the file)."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export fit rotation`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    heads_args.add_maker(parser)
    parser.add_argument("--dim", type=int, help="dims kept (512, or the model's own if fewer)")
    parser.add_argument("--few", action="store_true", help="fit on fewer clips or captions, too")


def run(args: argparse.Namespace, say: Say) -> int:
    """Embed, fit, measure, write."""
    heads_args.check_out(args.out, args.force)
    towers = heads_args.source(args, say)
    dim = min(head_choice.DIM, towers.dim) if args.dim is None else args.dim
    if not 1 <= dim <= towers.dim:
        raise TrainingError(f"--dim {dim}; the model's own space has {towers.dim}: 1 to that")
    pairs, _ = heads_args.clips(args, towers, say)
    cache = args.cache or args.out.with_name(args.out.name + ".work") / "features"
    texts, sounds = rows(features.embed(pairs.clips, towers, cache, say))
    least = min(len(texts), len(sounds))
    if not args.few and least < head_choice.CLIPS:
        raise TrainingError(
            f"{len(sounds)} clips and {len(texts)} different captions; {head_choice.CLIPS} of each "
            f"are needed, so that {rotation.LEAST_ITEMS} are left to fit on when a quarter "
            "measures: second moments settle no sooner. Give more, or --few to try things out"
        )
    head, facts = head_choice.fitted(texts, sounds, dim, say)
    provenance = {
        "pairs": pairs.facts(),
        "source": {"id": towers.id, "sha256": towers.digest, "text": towers.text_digest,
                   "audio": towers.audio_digest},
        "fit": facts,
        "producer": {"clap_export": __version__},
    }  # fmt: skip
    make_dir(args.out.absolute().parent, parents=True)
    write_atomic(args.out, rotation.save(replace(head, provenance=provenance)))
    for rung, lost in facts["loss"].items():
        say(f"d = {rung}: top-10 kept {lost['top10']:.3f}, score error {lost['error']:.5f}")
    say(f"{args.out}: {towers.dim} dims to {dim}, fitted on {facts['texts']} captions and "
        f"{facts['sounds']} clips")  # fmt: skip
    return 0


def rows(embedded: Features) -> tuple[Float32, Float32]:
    """Different captions and one row a clip, in an order of chance: what is held out should be
    like what is fitted on."""
    random = np.random.default_rng(0)
    texts = np.unique(embedded.texts, axis=0)
    sounds = embedded.sounds()
    return texts[random.permutation(len(texts))], sounds[random.permutation(len(sounds))]
