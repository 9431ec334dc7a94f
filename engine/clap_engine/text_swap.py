"""Another text graph for the same space takes over while requests go on.

In:  the towers and the embedding of an engine; a bundle of the same space.
Out: texts that are embedded by the newer graph from then on, or an error and no change.
Knows nothing about sounds, collections or where bundles are found.
"""

from __future__ import annotations

import numpy as np

from clap_engine.bundle import Bundle
from clap_engine.embedding import Embedding
from clap_engine.encoders import TextEncoder
from clap_engine.errors import GraphError, SpaceMismatchError
from clap_engine.towers import Towers


def swap(towers: Towers, embedding: Embedding, other: Bundle) -> None:
    """Load the text tower of `other`, prove it by its goldens, let it serve.

    Texts that are being embedded are finished by the graph before. SpaceMismatchError where the
    vectors of sounds that are stored would not fit, GraphError where the graph does not give here
    what it gave where it was made: then all stays as it was.
    """
    towers.check_open()
    _check_space(towers.bundle, other)
    encoder = towers.made_text(other)
    try:
        _check_goldens(encoder, other)
    except BaseException:
        encoder.close()
        raise
    # In this order: whoever finds the new cache finds the new tower as well.
    towers.take_text(other, encoder)
    embedding.forget_texts()


def _check_space(before: Bundle, other: Bundle) -> None:
    was, due = other.manifest, before.manifest
    if (was.space_id, was.dim) != (due.space_id, due.dim):
        raise SpaceMismatchError(
            f"{was.id} embeds into space {was.space_id[:12]}, this engine into "
            f"{due.space_id[:12]} ({due.id}); load it as an engine of its own, and bring "
            "collections there by `clap-engine migrate`"
        )
    if not set(due.ladder) <= set(was.ladder):
        missing = sorted(set(due.ladder) - set(was.ladder))
        raise SpaceMismatchError(
            f"the text graph of {was.id} was not trained for the dims {missing}, which "
            f"{due.id} has; take one that was"
        )


def _check_goldens(encoder: TextEncoder, other: Bundle) -> None:
    """Also loads the graph, before anybody has to wait for it."""
    spec = other.manifest.goldens
    due, _ = other.goldens()
    found = encoder.encode(list(spec.texts))
    cosines = np.einsum("nd,nd->n", found, due)
    least = spec.tolerance.get(encoder.precision, min(spec.tolerance.values()))
    if not (cosines >= least).all():
        raise GraphError(
            f"{other.manifest.id} gives golden texts back with a cosine of {cosines.min():.4f} "
            f"here, {least} is promised; see `clap-engine doctor {other.path}`"
        )
