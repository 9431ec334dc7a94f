"""Texts -> sentence vectors of the frozen encoder, in torch: the reference, and training's input.

In:  texts.
Out: float32 [N, 384] unit rows (mean over tokens, as all-MiniLM-L6-v2 is defined).
Knows nothing about heads, anchors or graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from clap_engine.arrays import Float32
from clap_export.minilm import SentenceEncoder

BATCH = 256


def bert(encoder: SentenceEncoder) -> nn.Module:
    """transformers' BertModel with the encoder's weights, for evaluation."""
    from transformers import BertConfig, BertModel

    sizes = encoder.config
    config = BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.positions,
        layer_norm_eps=sizes.eps,
    )
    model = BertModel(config, add_pooling_layer=False)
    state = {name: torch.from_numpy(np.array(value)) for name, value in encoder.weights.items()}
    model.load_state_dict(state, strict=False)
    return model.eval()  # type: ignore[no-any-return]


def pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """[B, L, H], [B, L] -> unit rows [B, H]: the mean over the tokens that are there."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
    return functional.normalize(mean, dim=-1)


def embed(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    max_tokens: int = 64,
    bfloat16: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Float32:
    """Sentence vectors of all texts; equal texts are encoded once, batches hold equal lengths.

    `bfloat16` is several times faster on CPUs with matrix instructions, and good enough for
    training, which adds noise of its own.
    """
    tokenizer = Tokenizer.from_str(encoder.tokenizer_json.decode())
    tokenizer.no_padding()
    unique = sorted(set(texts))
    rows = {text: row for row, text in enumerate(unique)}
    ids = [code.ids[:max_tokens] for code in tokenizer.encode_batch(unique)]
    order = sorted(range(len(unique)), key=lambda row: len(ids[row]))
    model = bert(encoder)
    out = np.empty((len(unique), encoder.config.hidden), dtype=np.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            length = max(len(ids[row]) for row in part)
            batch = torch.zeros(len(part), length, dtype=torch.long)
            mask = torch.zeros(len(part), length, dtype=torch.long)
            for i, row in enumerate(part):
                batch[i, : len(ids[row])] = torch.tensor(ids[row])
                mask[i, : len(ids[row])] = 1
            hidden = model(input_ids=batch, attention_mask=mask).last_hidden_state
            out[part] = pool(hidden.float(), mask).numpy()
            if progress is not None:
                progress(min(start + BATCH, len(order)), len(order))
    return out[[rows[text] for text in texts]]
