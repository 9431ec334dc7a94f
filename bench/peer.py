"""The peer: the same two towers in torch eager, and exact search in numpy.

In:  a folder that `write` made of trained weights; texts, waveforms, vectors.
Out: unit embeddings float32 [N, 512]; the rows that score best.
Knows nothing about clap_engine's runtime, and imports nothing that torch's user wouldn't.

Each choice favours the peer: padding is trimmed, texts are cut by the Rust tokenizer, weights come
from safetensors, the front end runs in float32 where the exporter's reference takes float64.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from clap_export.frontend import CLAP_MINI_FRONT_END, hann_window, mel_filters
from clap_export.tower import AudioTower, TowerShape

if TYPE_CHECKING:
    from clap_export.minilm import SentenceEncoder
    from clap_export.weights import Weights

Float32 = npt.NDArray[np.float32]
PARTS, TOWER, SETTINGS = "text.safetensors", "audio.safetensors", "peer.json"


def write(folder: Path, weights: Weights, encoder: SentenceEncoder) -> Path:
    """The weights as torch's user would hold them: BertModel's own folder, heads and tower."""
    from clap_export import sentences

    folder.mkdir(parents=True, exist_ok=True)
    sentences.bert(encoder).save_pretrained(folder)  # type: ignore[operator]
    parts = {"head.weight": weights.head.weight}
    if weights.head.bias is not None:
        parts["head.bias"] = weights.head.bias
    if weights.anchors is not None:
        parts["anchors.keys"] = weights.anchors.keys
        if weights.anchors.values is not None:
            parts["anchors.values"] = weights.anchors.values
    save_file({name: torch.from_numpy(part.copy()) for name, part in parts.items()}, folder / PARTS)
    tower = weights.tower()
    save_file(tower.state_dict(), folder / TOWER)
    settings: dict[str, Any] = {"tower": asdict(tower.shape)}
    if weights.anchors is not None:
        settings |= {"blend": weights.anchors.blend, "tau": weights.anchors.tau}
    (folder / SETTINGS).write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_bytes(encoder.tokenizer_json)
    return folder


class TextPeer:
    """transformers' BertModel, mean pooling, phrase anchors, head."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer
        from transformers import BertModel

        settings = json.loads((folder / SETTINGS).read_text())
        parts = load_file(folder / PARTS)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._bert = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
        self._head, self._bias = parts["head.weight"], parts.get("head.bias")
        self._keys = parts.get("anchors.keys")
        self._values = parts.get("anchors.values", self._keys)
        self._blend, self._tau = settings.get("blend", 0.0), settings.get("tau", 1.0)

    @torch.inference_mode()
    def embed(self, text: str) -> Float32:
        """[1, D]."""
        ids = torch.tensor([self._tokenizer.encode(text).ids])
        mask = torch.ones_like(ids)
        hidden = self._bert(input_ids=ids, attention_mask=mask).last_hidden_state
        return self._project(functional.normalize(hidden.mean(dim=1), dim=-1)).numpy()

    def _project(self, x: Tensor) -> Tensor:
        """Anchors and head, as clap_export.graphs.text_graph.Anchors defines them."""
        read = None
        if self._keys is not None and self._values is not None:
            shares = torch.softmax(x @ self._keys.T / self._tau, -1)
            by_value = shares.reshape(len(x), len(self._values), -1).sum(2)
            read = self._blend * (by_value @ self._values)
        if read is not None and read.shape[1] == x.shape[1]:
            x, read = (1 - self._blend) * x + read, None
        y = x @ self._head
        if self._bias is not None:
            y = y + self._bias
        if read is not None:
            y = (1 - self._blend) * functional.normalize(y, dim=-1) + read
        return functional.normalize(y, dim=-1)


class AudioPeer:
    """Log-mel in float32 by torch.stft, then the tower it was trained as."""

    def __init__(self, folder: Path) -> None:
        settings = json.loads((folder / SETTINGS).read_text())
        shape: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings["tower"].items()
        }
        self._tower = AudioTower(TowerShape(**shape))
        self._tower.load_state_dict(load_file(folder / TOWER))
        self._tower.eval()
        self._window = torch.from_numpy(hann_window(CLAP_MINI_FRONT_END.n_fft))
        self._mel = torch.from_numpy(mel_filters())

    @torch.inference_mode()
    def embed(self, windows: Float32) -> Float32:
        """[W, T] -> [W, D]."""
        embedding, _ = self._tower(self.log_mel(torch.from_numpy(windows)))
        return np.asarray(embedding.numpy(), np.float32)

    @torch.inference_mode()
    def log_mel(self, windows: Tensor) -> Tensor:
        """[W, T] -> [W, F, M]."""
        spec = CLAP_MINI_FRONT_END
        padded = functional.pad(windows, (spec.pad, spec.pad))
        spectrum = torch.stft(
            padded, spec.n_fft, spec.hop, window=self._window, center=False, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2) @ self._mel
        peak = power.amax(dim=(1, 2), keepdim=True)
        relative = power / peak.clamp_min(1e-10)
        log_mel = 10 * relative.clamp_min(10 ** (-spec.floor_db / 10)).log10()
        return torch.where(peak > 1e-10, log_mel, -spec.floor_db)


def exact_top(matrix: Float32, vector: Float32, k: int) -> npt.NDArray[np.int64]:
    """[N, D], [D] -> the k rows of the highest inner product, best first."""
    scores = matrix @ vector
    top = np.argpartition(-scores, k - 1)[:k]
    return np.asarray(top[np.argsort(-scores[top], kind="stable")], np.int64)
