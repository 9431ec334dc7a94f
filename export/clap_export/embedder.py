"""A graph at work while it is converted: token ids or log-mels -> rows.

In:  an ONNX model in memory.
Out: float32 [N, D] of its output `embedding` or `native`.
Knows nothing about bundles or sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from clap_engine.arrays import Float32
from clap_engine.session import GraphSession
from clap_engine.text import TokenIds
from clap_export import parts

BATCH = 8


class Embedder:
    """One session; a graph whose scales depend on batch mates runs one item a call."""

    def __init__(self, model: onnx.ModelProto | bytes, name: str, threads: int = 1) -> None:
        self.name = name
        self.graph = model if isinstance(model, bytes) else model.SerializeToString()
        self.is_dynamic = parts.is_dynamic(self.graph)
        self._session = GraphSession(self.graph, name=name, threads=threads)

    def texts(self, tokens: Sequence[TokenIds], output: str = "embedding") -> Float32:
        """N texts, trimmed as the runtime trims them, one a call."""
        return _rows([self.run(output, **ids._asdict()) for ids in tokens])

    def windows(self, log_mel: Float32, output: str = "embedding", batch: int = BATCH) -> Float32:
        """[N, F, M] -> [N, D]."""
        batch = 1 if self.is_dynamic else batch
        starts = range(0, len(log_mel), batch)
        return _rows([self.run(output, log_mel=log_mel[i : i + batch]) for i in starts])

    def run(self, output: str, **inputs: Any) -> Float32:
        """One call of the session."""
        (result,) = self._session.run([output], inputs)
        return np.asarray(result, np.float32)


def pad(tokens: Sequence[TokenIds], pad_id: int) -> TokenIds:
    """Texts of any lengths -> one batch int64 [B, L]."""
    length = max(ids.input_ids.shape[1] for ids in tokens)
    ids = np.full((len(tokens), length), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, given in enumerate(tokens):
        count = given.input_ids.shape[1]
        ids[row, :count], mask[row, :count] = given.input_ids[0], given.attention_mask[0]
    return TokenIds(ids, mask)


def _rows(results: Sequence[Float32]) -> Float32:
    return np.asarray(np.concatenate(results), np.float32)
