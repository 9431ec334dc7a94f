"""What is measured: one set of weights, as a bundle, in float32, and as the torch peer holds it.

In:  the trained weights if they are there, else seeded random ones; a folder for what is built.
Out: `Subject`, whose bundle is the one that ships whenever it was made of these weights.
Knows nothing about time or search.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from clap_engine import bundle as bundles
from clap_engine.arrays import Float32
from clap_engine.bundle import Bundle
from clap_engine.errors import ClapError
from clap_export import minilm, pack, parts
from clap_export.frontend import make_frontend_npz
from clap_export.minilm import SentenceEncoder
from clap_export.weights import Weights, load_weights, random_weights

ROOT = Path(__file__).resolve().parents[1]
TRAINED = ROOT / "export" / "weights" / "clap-mini.safetensors"
SHIPPED = ROOT / "models" / "clap-mini"


@dataclass(frozen=True)
class Subject:
    """The weights and everything made of them; what is built goes into `folder`."""

    weights: Weights = field(repr=False)
    encoder: SentenceEncoder = field(repr=False)
    is_trained: bool
    folder: Path

    @cached_property
    def bundle(self) -> Bundle:
        """int8: the bundle that ships, or one packed now if that was made of other weights."""
        try:
            shipped = bundles.open(SHIPPED)
            if "int8" in shipped.manifest.audio.graphs and shipped.manifest.space_id == self._space:
                return shipped
        except ClapError:
            pass  # not packed yet
        pack.pack(self.weights, self.folder / "int8", encoder=self.encoder)
        return bundles.open(self.folder / "int8")

    @cached_property
    def reference(self) -> Bundle:
        """float32, rebuilt from the weights."""
        out = self.folder / "fp32"
        pack.pack(self.weights, out, precisions=("fp32",), encoder=self.encoder)
        return bundles.open(out)

    @cached_property
    def peer_folder(self) -> Path:
        """The torch peer's weights on disk."""
        import peer

        return peer.write(self.folder / "peer", self.weights, self.encoder)

    @property
    def _space(self) -> str:
        """What pack() would call this space."""
        digest = self.weights.audio_digest.encode() + make_frontend_npz()
        return hashlib.sha256(digest).hexdigest()

    @property
    def name(self) -> str:
        """For the record: which weights, which bundle."""
        kind = "trained" if self.is_trained else "random, seed 0"
        return f"{self.bundle.manifest.id} {self.bundle.manifest.revision[:12]} ({kind} weights)"

    @property
    def tolerance(self) -> float:
        """The least cosine between int8 and float32 that the bundle itself promises."""
        return self.bundle.manifest.goldens.tolerance["int8"]


def resolve(folder: Path) -> Subject:
    """The trained weights where they are, else random ones: then only speed means anything."""
    is_trained = TRAINED.is_file()
    weights = load_weights(TRAINED) if is_trained else random_weights(0)
    return Subject(weights, minilm.load(), is_trained, folder)


def embed_log_mels(bundle: Bundle, precision: str, log_mels: Float32) -> Float32:
    """[N, F, M] -> [N, D] by the bundle's own graph."""
    graph = bundle.read(bundle.manifest.audio.graphs[precision].file)
    return parts.embed_windows(graph, log_mels)


def cosines(a: Float32, b: Float32) -> Float32:
    """[N, D] twice -> [N], of unit rows."""
    return np.asarray(np.einsum("nd,nd->n", a, b), np.float32)
