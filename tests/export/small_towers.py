"""Text towers of two narrow layers in the checkpoints' names, so that graphs build in milliseconds.

In:  seeds.
Out: state dicts of seeded weights, plain or with the outliers of trained transformers; token ids.
Knows nothing about graphs.
"""

from __future__ import annotations

import numpy as np

State = dict[str, np.ndarray]
Inputs = dict[str, np.ndarray]

WIDTH, WORDS, POSITIONS, NATIVE = 128, 500, 100, 96
TOWER, PROJECTION = "caption_encoder.base.", "caption_encoder.projection."


def gpt2(seed: int = 0, *, layers: int = 2, outliers: bool = False) -> State:
    """GPT-2 and msclap's projection; outliers: spread gains, four loud channels in the residual."""
    draw = _Draw(seed)
    state = {
        "wte.weight": draw(WORDS, WIDTH, size=0.2),
        "wpe.weight": draw(POSITIONS, WIDTH, size=0.1),
        **draw.norm("ln_f"),
    }
    for i in range(layers):
        for name, width, out in (
            ("attn.c_attn", WIDTH, 3 * WIDTH),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, 4 * WIDTH),
            ("mlp.c_proj", 4 * WIDTH, WIDTH),
        ):
            state[f"h.{i}.{name}.weight"] = draw(width, out, size=width**-0.5)
            state[f"h.{i}.{name}.bias"] = draw(out, size=0.05)
        state |= {**draw.norm(f"h.{i}.ln_1"), **draw.norm(f"h.{i}.ln_2")}
    if outliers:
        for name in state:
            if ".ln_" in name and name.endswith("weight"):
                state[name] *= np.exp(draw(WIDTH, size=0.5))
        state["h.0.mlp.c_proj.bias"][:4] += np.array([30, -30, 50, -40], np.float32)
        for i in range(layers):
            state[f"h.{i}.mlp.c_fc.weight"][:, :8] *= 6
    return {TOWER + name: value for name, value in state.items()} | projection(draw)


def bert(seed: int = 0, *, layers: int = 2) -> State:
    """BERT with its pooler, and msclap's projection."""
    draw = _Draw(seed)
    state = {
        "embeddings.word_embeddings.weight": draw(WORDS, WIDTH, size=0.2),
        "embeddings.position_embeddings.weight": draw(POSITIONS, WIDTH, size=0.1),
        "embeddings.token_type_embeddings.weight": draw(2, WIDTH, size=0.1),
        **draw.norm("embeddings.LayerNorm"),
        **draw.linear("pooler.dense", WIDTH, WIDTH),
    }
    for i in range(layers):
        layer = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            state |= draw.linear(f"{layer}attention.self.{part}", WIDTH, WIDTH)
        state |= draw.linear(f"{layer}attention.output.dense", WIDTH, WIDTH)
        state |= draw.norm(f"{layer}attention.output.LayerNorm")
        state |= draw.linear(f"{layer}intermediate.dense", WIDTH, 4 * WIDTH)
        state |= draw.linear(f"{layer}output.dense", 4 * WIDTH, WIDTH)
        state |= draw.norm(f"{layer}output.LayerNorm")
    return {TOWER + name: value for name, value in state.items()} | projection(draw)


def projection(draw: _Draw) -> State:
    """msclap's, under the text tower's prefix."""
    state = {
        "linear1.weight": draw(NATIVE, WIDTH, size=WIDTH**-0.5),
        "linear2.weight": draw(NATIVE, NATIVE, size=NATIVE**-0.5),
        "layer_norm.weight": 1 + draw(NATIVE, size=0.1),
        "layer_norm.bias": draw(NATIVE, size=0.1),
    }
    return {PROJECTION + name: value for name, value in state.items()}


def texts(n: int, seed: int) -> list[Inputs]:
    """n texts of 3 to 19 tokens, one a call, none of which is padding."""
    random = np.random.default_rng(seed)
    ids = [random.integers(1, WORDS, (1, int(random.integers(3, 20)))) for _ in range(n)]
    return [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids]


class _Draw:
    """Seeded weights by their roles."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, *shape: int, size: float) -> np.ndarray:
        return self._random.normal(0, size, shape).astype(np.float32)

    def norm(self, name: str) -> State:
        gain = 1 + self(WIDTH, size=0.3)
        return {f"{name}.weight": gain, f"{name}.bias": self(WIDTH, size=0.1)}

    def linear(self, name: str, width: int, out: int) -> State:
        weight = self(out, width, size=width**-0.5)
        return {f"{name}.weight": weight, f"{name}.bias": self(out, size=0.05)}
