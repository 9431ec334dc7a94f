"""ClapModel folders and laion_clap checkpoints: the same function, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hf = pytest.importorskip("transformers")

from clap_engine import bundle  # noqa: E402
from clap_engine.arrays import l2_normalize  # noqa: E402
from clap_engine.encoders import TextEncoder  # noqa: E402
from clap_engine.mel import LogMel  # noqa: E402
from clap_engine.text import TextFrontEnd  # noqa: E402
from clap_export import clap_model, laion_clap  # noqa: E402
from clap_export.convert import Plan, convert, exactness  # noqa: E402
from clap_export.embedder import Embedder  # noqa: E402
from clap_export.errors import CheckpointError, LicenceError, SourceError  # noqa: E402
from clap_export.graphs.projection import HeadGraph  # noqa: E402
from clap_export.head_choice import HeadPlan, Native  # noqa: E402
from clap_export.licences import check_redistributable  # noqa: E402
from clap_export.msclap import random_weights, stand_in  # noqa: E402
from clap_export.parity import Gate  # noqa: E402
from clap_export.probes import Probes, Sizes  # noqa: E402
from clap_export.source import Source  # noqa: E402

pytestmark = pytest.mark.export

TEXTS = ["a banjo", "rain on a tin roof, then thunder", "dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unfused ClapModel with one block a stage, as save_pretrained leaves it."""
    root = tmp_path_factory.mktemp("models") / "Small CLAP"
    text = {"num_hidden_layers": 1, "vocab_size": 50_265}
    audio = {"depths": [2, 1, 1, 1]}
    torch.manual_seed(0)
    model = hf.ClapModel(hf.ClapConfig(text_config=text, audio_config=audio))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "logit_scale" not in name:
                weight += 0.02 * torch.randn_like(weight)
    model.save_pretrained(root)
    hf.ClapFeatureExtractor(
        truncation="rand_trunc", frequency_min=50, frequency_max=14_000
    ).save_pretrained(root)
    (root / "tokenizer.json").write_bytes(stand_in.roberta_tokenizer_json())
    return root


def differences(source: Source) -> dict[str, float]:
    """Graphs against the source on three texts and noise, at two batch sizes."""
    spec = source.audio.spec
    wave = np.random.default_rng(0).normal(0, 0.1, (5, spec.window_samples)).astype(np.float32)
    native = Native(
        Embedder(source.text.build(HeadGraph()), "text"),
        TextFrontEnd(source.text.spec, source.text.tokenizer_json),
        Embedder(source.audio.build(HeadGraph()), "audio"),
        spec,
        source.audio.frontend,
    )
    mel = LogMel(spec, source.audio.frontend)(wave)
    return exactness(source, native, Probes(TEXTS, mel, 1, [], mel[:0]))


def test_clap_model_is_computed_exactly(folder: Path) -> None:
    errors = differences(clap_model.read(folder))
    assert max(errors.values()) < Gate().fp32_error, errors


def test_front_end_is_the_feature_extractors(folder: Path) -> None:
    """Short clips repeated whole, then zeros; 1e-3 dB on noise above the floor."""
    from clap_engine import audio

    source = clap_model.read(folder)
    spec = source.audio.spec
    assert (spec.rate_hz, spec.window_s, spec.n_frames) == (48_000, 10.0, 1001)
    wave = np.random.default_rng(1).normal(0, 0.1, 150_001).astype(np.float32)
    extractor = hf.ClapFeatureExtractor.from_pretrained(folder)
    wanted = extractor(wave, sampling_rate=48_000, return_tensors="np")["input_features"][0, 0]
    ((windows, _),) = audio.windows((wave, 48_000), spec)
    found = LogMel(spec, source.audio.frontend)(windows)[0]
    assert wanted.shape == found.shape
    heard = wanted > -60
    np.testing.assert_allclose(found[heard], wanted[heard], atol=2e-3)


def test_clap_model_becomes_a_bundle(folder: Path, tmp_path: Path) -> None:
    source = clap_model.read(folder)
    out = tmp_path / "out"
    manifest = convert(source, out, Plan(("fp32",), HeadPlan(fit=False), Sizes(6, 3, 2)))
    assert manifest.id == "small-clap"
    assert (manifest.dim, manifest.ladder) == (512, (512,))
    made = bundle.open(out)
    model = hf.ClapModel.from_pretrained(folder).eval()
    front_end = TextFrontEnd(manifest.text, made.read("tokenizer.json"))
    found = TextEncoder(made, precision="fp32").encode(TEXTS)
    for row, ids in zip(found, front_end.tokenize(TEXTS), strict=True):
        with torch.no_grad():
            wanted = model.get_text_features(
                **{k: torch.from_numpy(v) for k, v in ids._asdict().items()}
            )
        np.testing.assert_allclose(row, l2_normalize(wanted.numpy())[0], atol=1e-4)
    with pytest.raises(LicenceError, match="'unknown'"):
        check_redistributable(manifest.licences, manifest.files)


def test_the_model_card_says_the_licence(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    try:
        assert clap_model.read(folder).licences["weights"] == "apache-2.0"
    finally:
        (folder / "README.md").unlink()


def changed(folder: Path, target: Path, name: str, **settings: Any) -> Path:
    """A copy of the folder with other settings in one of its files."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).symlink_to(path)
    data = json.loads((folder / name).read_text())
    for key, value in settings.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) else value
    (target / name).unlink()
    (target / name).write_text(json.dumps(data))
    return target


def test_what_cannot_be_converted_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="lacks config.json"):
        clap_model.read(tmp_path)
    fused = changed(folder, tmp_path / "a", "preprocessor_config.json", truncation="fusion")
    with pytest.raises(CheckpointError, match="feature fusion"):
        clap_model.read(fused)
    fused = changed(folder, tmp_path / "b", "config.json", audio_config={"enable_fusion": True})
    with pytest.raises(CheckpointError, match="feature fusion"):
        clap_model.read(fused)
    other = changed(folder, tmp_path / "c", "config.json", model_type="clip")
    with pytest.raises(CheckpointError, match="'clip'"):
        clap_model.read(other)
    deeper = changed(folder, tmp_path / "d", "config.json", text_config={"num_hidden_layers": 2})
    with pytest.raises(CheckpointError, match=r"lacks .* text_model.encoder.layer.1"):
        clap_model.read(deeper)
    (tmp_path / "d" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        clap_model.read(tmp_path / "d")


@pytest.fixture(scope="module")
def laion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint as laion_clap's trainer leaves it, and a folder with the tokenizer."""
    root = tmp_path_factory.mktemp("laion")
    state = random_weights.fill(laion_clap.shapes(1), seed=0, rate_hz=48_000)
    state["text_transform.sequential.0.weight"] = np.zeros((2, 2), np.float32)
    tensors = {f"module.{key}": torch.from_numpy(value) for key, value in state.items()}
    torch.save({"epoch": 3, "state_dict": tensors}, root / "weights.pt")
    (root / "tokenizer.json").write_bytes(stand_in.roberta_tokenizer_json())
    return root / "weights.pt", root


def test_laion_clap_is_computed_exactly(laion: tuple[Path, Path]) -> None:
    source = laion_clap.read(*laion, layers=1)
    assert source.licences["weights"] == "unknown"
    errors = differences(source)
    assert max(errors.values()) < Gate().fp32_error, errors


def test_laion_clap_of_other_kinds_is_refused(laion: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="roberta-base"):
        laion_clap.read(laion[0], None, layers=1)
    path = tmp_path / "weights.pt"
    torch.save({"text_branch.encoder.block.0.layer.0.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="T5"):
        laion_clap.read(path, laion[1])
    torch.save({"audio_branch.patch_embed.mel_conv2d.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="feature fusion"):
        laion_clap.read(path, laion[1])
    with pytest.raises(CheckpointError, match="lacks"):
        laion_clap.read(laion[0], laion[1])
