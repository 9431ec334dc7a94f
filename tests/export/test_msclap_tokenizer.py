"""Tokenizers: msclap's ids from any of the forms in which the files come; others are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from clap_engine.manifest import TextSpec
from clap_engine.text import TextFrontEnd
from clap_export.errors import SourceError
from clap_export.msclap import files, stand_in, tokenizer

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def gpt2() -> bytes:
    return stand_in.gpt2_tokenizer_json()


def test_stand_in_has_gpt2s_ids(gpt2: bytes) -> None:
    found = Tokenizer.from_str(gpt2.decode())
    assert found.get_vocab_size() == 50_257
    assert found.token_to_id("!") == 0
    assert found.token_to_id("Ġ") == 220
    assert found.token_to_id("<|endoftext|>") == 50_256
    ids = found.encode("a banjo violin <|endoftext|>").ids
    assert ids[-2:] == [220, 50_256]
    assert len(ids) == 5  # words of the corpus are one token each
    assert found.decode(found.encode("naïve 音 ~ banjo").ids) == "naïve 音 ~ banjo"


def test_each_exclamation_mark_is_padding(gpt2: bytes) -> None:
    """msclap makes `!` GPT-2's padding token, so `!!` is id 0 twice, not one merged token."""
    spec = TextSpec("tokenizer.json", 77, 0, "", " <|endoftext|>", {}, keep_last=2)
    (ids,) = TextFrontEnd(spec, gpt2).tokenize(["wow!! rain"])
    assert (ids.input_ids[0] == 0).sum() == 2
    assert ids.attention_mask.all()


def test_a_long_text_keeps_its_last_two_ids(gpt2: bytes) -> None:
    spec = TextSpec("tokenizer.json", 77, 0, "", " <|endoftext|>", {}, keep_last=2)
    with pytest.warns(match="the model reads 77"):
        (ids,) = TextFrontEnd(spec, gpt2).tokenize(["banjo " * 200])
    assert ids.input_ids.shape == (1, 77)
    assert ids.input_ids[0, -2:].tolist() == [220, 50_256]


def test_vocab_and_merges_give_what_tokenizer_json_gives(gpt2: bytes, tmp_path: Path) -> None:
    model = json.loads(gpt2)["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *model["merges"], ""]))
    built = tokenizer.read(tmp_path, "gpt2")
    text = "A dog! barks, slowly <|endoftext|>"
    one, two = (Tokenizer.from_str(data.decode()).encode(text).ids for data in (gpt2, built))
    assert one == two
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(tokenizer.TokenizerError, match="damaged"):
        tokenizer.read(tmp_path, "gpt2")
    (tmp_path / "tokenizer.json").write_bytes(gpt2)  # goes before the parts
    assert tokenizer.read(tmp_path, "gpt2") == gpt2


def test_berts_vocabulary_gives_what_its_tokenizer_json_gives(tmp_path: Path) -> None:
    whole = stand_in.bert_tokenizer_json()
    vocabulary = json.loads(whole)["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    built = tokenizer.read(tmp_path, "bert-base-uncased")
    for text in ("A Banjo", "naïve 音!", "unbelievable hammering"):
        one, two = (Tokenizer.from_str(d.decode()).encode(text).ids for d in (whole, built))
        assert one == two


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"put tokenizer.json, or vocab.json and merges.txt"):
        tokenizer.read(tmp_path, "gpt2")
    with pytest.raises(SourceError, match=r"put tokenizer.json, or vocab.txt"):
        tokenizer.read(tmp_path, "bert-base-uncased")


def test_another_models_tokenizer_is_refused(gpt2: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(gpt2)
    with pytest.raises(tokenizer.TokenizerError, match="is not bert-base-uncased's"):
        tokenizer.read(tmp_path, "bert-base-uncased")
    (tmp_path / "tokenizer.json").write_bytes(stand_in.bert_tokenizer_json())
    with pytest.raises(tokenizer.TokenizerError, match="is not gpt2's"):
        tokenizer.read(tmp_path, "gpt2")
    for bad in (b"{", b"[]", b'{"model": 3}', b"\xff\xfe"):
        (tmp_path / "tokenizer.json").write_bytes(bad)
        with pytest.raises(tokenizer.TokenizerError):
            tokenizer.read(tmp_path, "gpt2")


def test_offline_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "hf_hub_download", offline)
    with pytest.raises(SourceError, match=r"CLAP_weights_2023.pth .* --checkpoint FILE"):
        files.checkpoint("2023", None)
    with pytest.raises(SourceError, match=r"--text-checkpoint FILE"):
        files.checkpoint("2023", None, "--text-checkpoint")
    with pytest.raises(SourceError, match=r"vocab.json and merges.txt.* --tokenizer FOLDER"):
        files.tokenizer_json("gpt2", None)
    assert files.checkpoint("2023", Path("x.pth")) == Path("x.pth")
