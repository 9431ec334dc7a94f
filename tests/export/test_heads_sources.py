"""Heads of real architectures: msclap in its true layout, a ClapModel of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pair_files
import pytest

from clap_engine import bundle
from clap_engine.arrays import l2_normalize
from clap_engine.encoders import AudioEncoder, TextEncoder
from clap_export import clap_model, cli, native_towers, rotation
from clap_export.convert import Plan, convert
from clap_export.head_choice import HeadPlan
from clap_export.msclap import layout, random_weights, source, stand_in
from clap_export.probes import Sizes

torch = pytest.importorskip("torch")
hf = pytest.importorskip("transformers")

pytestmark = pytest.mark.export

LADDER = (32, 64, 128, 256, 512)
QUICK = ["--steps", "6", "--batch", "8", "--examine-steps", "3", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 short clips with pairs.csv."""
    root = tmp_path_factory.mktemp("pairs")
    pair_files.write(root, 12)
    return root


@pytest.fixture(scope="module")
def msclap(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """2023 in its true layout with one layer a stack, random weights; a folder of its tokenizer."""
    state = random_weights.random_state("2023", seed=0, layers=1, outliers=True)
    kept = {k: v for k, v in state.items() if not layout.is_unused(k) and k not in layout.TIED}
    root = tmp_path_factory.mktemp("msclap")
    random_weights.save(kept, root / "weights.pth", "2023")
    (root / "tokenizer.json").write_bytes(stand_in.gpt2_tokenizer_json())
    return root / "weights.pth", root


def test_heads_of_msclap_are_what_its_bundle_computes(
    folder: Path, msclap: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on 1024 native dims, converted, and both towers answer with their own map: 1e-4."""
    from clap_export.msclap import checkpoint

    weights, tokenizer = msclap
    head_file = tmp_path / "head.npz"
    command = ["train", "heads", "--bundle-source", "msclap-2023", "--checkpoint", str(weights)]
    command += ["--tokenizer", str(tokenizer), "--layers", "1", "--out", str(head_file), *QUICK]
    command += ["--pairs", str(folder / "pairs.csv"), "--audio", str(folder)]
    command += ["--learning-rate", "0.01"]
    assert cli.main(command) == 0
    assert "1024 dims to 512" in capsys.readouterr().out
    head = rotation.load(head_file, layout.NATIVE)
    assert head.text is not None
    own = source.make(
        checkpoint.read(weights, "2023", layers=1), (tokenizer / "tokenizer.json").read_bytes()
    )
    out = tmp_path / "bundle"
    manifest = convert(
        own, out, Plan(("fp32",), HeadPlan(file=head_file), Sizes(6, 3, 2), threads=1)
    )
    assert (manifest.dim, manifest.ladder) == (512, LADDER)
    assert manifest.logit_scale == pytest.approx(head.logit_scale)
    facts = manifest.parity["head"]
    assert facts["kind"] == "trained"
    assert facts["provenance"]["pairs"]["sha256"] == head.provenance["pairs"]["sha256"]
    assert facts["provenance"]["source"]["sha256"] == own.digest

    made = bundle.open(out)
    towers = native_towers.of_source(own)
    texts = ["rain on a roof", "a low hum"]
    native, _ = towers.embed_texts(texts)
    found = TextEncoder(made, precision="fp32").encode(texts)
    np.testing.assert_allclose(found, l2_normalize(native @ head.text), atol=1e-4)
    wave = 0.1 * np.random.default_rng(0).standard_normal((2, towers.spec.window_samples))
    wave = np.asarray(wave, np.float32)
    rows = towers.embed_windows(towers.log_mel()(wave))
    found = AudioEncoder(made, precision="fp32").encode(wave)
    np.testing.assert_allclose(found, l2_normalize(rows @ head.matrix), atol=1e-4)

    # The bundle stands for its checkpoint: the same space, the same digest.
    again = native_towers.of_bundle(made)
    assert (again.output, again.dim, again.digest) == ("native", layout.NATIVE, own.digest)
    np.testing.assert_allclose(again.embed_texts(texts)[0], native, atol=1e-4)


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unfused ClapModel with one block a stage, as save_pretrained leaves it."""
    root = tmp_path_factory.mktemp("models") / "clap"
    text = {"num_hidden_layers": 1, "vocab_size": 50_265}
    torch.manual_seed(0)
    config = hf.ClapConfig(text_config=text, audio_config={"depths": [2, 1, 1, 1]})
    hf.ClapModel(config).save_pretrained(root)
    hf.ClapFeatureExtractor(
        truncation="rand_trunc", frequency_min=50, frequency_max=14_000
    ).save_pretrained(root)
    (root / "tokenizer.json").write_bytes(stand_in.roberta_tokenizer_json())
    return root


def test_a_clap_models_own_space_is_what_heads_are_fitted_in(
    folder: Path, clap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both commands on the folder; the features are what transformers' own projection gives."""
    own = ["--bundle-source", str(clap), "--pairs", str(folder / "pairs.csv")]
    own += ["--audio", str(folder), "--cache", str(tmp_path / "cache"), "--threads", "1"]
    out = tmp_path / "rotation.npz"
    assert cli.main(["fit", "rotation", *own, "--out", str(out), "--few"]) == 1
    assert "12 sounds to fit a head on" in capsys.readouterr().err
    trained = tmp_path / "trained.npz"
    command = ["train", "heads", *own, "--out", str(trained), *QUICK, "--ladder", "32,256"]
    assert cli.main(command) == 0
    head = rotation.load(trained, 512)
    made = clap_model.read(clap)
    assert (
        head.provenance["source"] | {"id": "clap", "sha256": made.digest}
        == (head.provenance["source"])
    )
    assert head.matrix.shape == (512, 256)
    text = "rain on a roof"
    (ids,) = native_towers.of_source(made).native.front_end.tokenize([text])
    model = hf.ClapModel.from_pretrained(clap).eval()
    with torch.no_grad():
        wanted = model.get_text_features(
            **{k: torch.from_numpy(v) for k, v in ids._asdict().items()}
        )
    found, _ = native_towers.of_source(made).embed_texts([text])
    np.testing.assert_allclose(found, l2_normalize(wanted.numpy()), atol=1e-4)
