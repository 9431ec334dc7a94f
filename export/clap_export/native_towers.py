"""Both towers of a model in the space that heads are made for, ready to embed.

In:  a `Source` of a conversion, or an opened bundle.
Out: `NativeTowers`: sounds and captions -> rows of the source's own space.
Knows nothing about heads or files of pairs.

The space is that of the graphs' output `native`; clap-mini has none, so it is its embedding, and
a head on top of it stands for other weights of the linear layers that its towers end with.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.bundle import Bundle, pick_graph
from clap_engine.errors import NotFoundError, TruncationWarning
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel
from clap_engine.text import TextFrontEnd
from clap_export.embedder import Embedder
from clap_export.graphs.projection import HeadGraph
from clap_export.head_choice import Native
from clap_export.source import Source

# A head is trained on what the source computes; int8 only where a bundle has nothing better.
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class NativeTowers:
    """Unit rows [N, S] from both sides; `digest` names the weights, the others the arithmetic."""

    id: str
    digest: str
    dim: int
    ladder: tuple[int, ...]  # of the bundle; only the width itself where nobody ordered the space
    logit_scale: float
    native: Native
    output: str  # "native" or "embedding"
    audio_digest: str
    text_digest: str

    @property
    def spec(self) -> AudioSpec:
        return self.native.spec

    def log_mel(self) -> LogMel:
        """The audio front end."""
        return LogMel(self.native.spec, self.native.frontend)

    def embed_windows(self, log_mel: Float32) -> Float32:
        """[W, F, M] -> [W, S], unit rows."""
        return l2_normalize(self.native.audio.windows(log_mel, self.output))

    def embed_texts(self, texts: Sequence[str]) -> tuple[Float32, int]:
        """N texts -> [N, S], unit rows; and 1 if any was longer than the model reads, else 0."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TruncationWarning)
            tokens = self.native.front_end.tokenize(texts)
        cut = sum(issubclass(w.category, TruncationWarning) for w in caught)
        return l2_normalize(self.native.text.texts(tokens, self.output)), cut


def of_source(source: Source, threads: int = 1) -> NativeTowers:
    """Float32 graphs of a checkpoint, without a head."""
    text, audio = source.text.build(HeadGraph()), source.audio.build(HeadGraph())
    native = Native(
        Embedder(text, "text in its own space", threads),
        TextFrontEnd(source.text.spec, source.text.tokenizer_json),
        Embedder(audio, "audio in its own space", threads),
        source.audio.spec,
        source.audio.frontend,
        source.digest,
    )
    return NativeTowers(
        id=source.id,
        digest=source.digest,
        dim=source.native_dim,
        ladder=(source.native_dim,),
        logit_scale=source.logit_scale,
        native=native,
        output="native",
        **_digests(native, source.text.tokenizer_json),
    )


def of_bundle(bundle: Bundle, threads: int = 1) -> NativeTowers:
    """The best precision that both towers of a bundle have."""
    manifest = bundle.manifest
    shared = manifest.text.graphs.keys() & manifest.audio.graphs.keys()
    precision = next((p for p in PRECISIONS if p in shared), None)
    if precision is None:
        raise NotFoundError(
            f"{bundle.path}: no precision that both towers have; texts: "
            f"{', '.join(manifest.text.graphs)}; sounds: {', '.join(manifest.audio.graphs)}"
        )
    tokenizer = bundle.read(manifest.text.tokenizer)
    text, audio = (
        Embedder(bundle.read(pick_graph(graphs, precision).file), f"{name} {precision}", threads)
        for name, graphs in (("text", manifest.text.graphs), ("audio", manifest.audio.graphs))
    )
    dims = {manifest.text.native_dim, manifest.audio.native_dim}
    (native_dim,) = dims if len(dims) == 1 else (None,)
    found = re.search(r"sha256 ([0-9a-f]{64})", manifest.producer.get("checkpoint", ""))
    digest = found[1] if found and native_dim is not None else manifest.space_id
    native = Native(
        text,
        TextFrontEnd(manifest.text, tokenizer),
        audio,
        manifest.audio,
        bundle.read(manifest.audio.frontend),
        digest,
    )
    return NativeTowers(
        id=manifest.id,
        digest=digest,
        dim=native_dim or manifest.dim,
        ladder=manifest.ladder if native_dim is None else (native_dim,),
        logit_scale=manifest.logit_scale,
        native=native,
        output="embedding" if native_dim is None else "native",
        **_digests(native, tokenizer),
    )


def _digests(native: Native, tokenizer: bytes) -> dict[str, str]:
    """Of all that decides a row of each side."""

    def digest(*parts: bytes | object) -> str:
        state = hashlib.sha256()
        for part in parts:
            data = part if isinstance(part, bytes) else repr(part).encode()
            state.update(len(data).to_bytes(8, "little") + data)
        return state.hexdigest()

    return {
        "audio_digest": digest(native.audio.graph, native.frontend, native.spec),
        "text_digest": digest(native.text.graph, tokenizer),
    }
