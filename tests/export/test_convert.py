"""Conversion end to end on cut towers: the bundle computes what the source does, or there is none.

The towers have the true layout with one layer a stack, seeded weights with outliers, and msclap's
own modules as the oracle. The graphs' own tests have deeper ones, test_convert_full the full ones.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from clap_engine import (  # noqa: E402
    audio,
    bundle,
    doctor,
    storage,
    tower,
)
from clap_engine.arrays import l2_normalize  # noqa: E402
from clap_engine.encoders import AudioEncoder, TextEncoder  # noqa: E402
from clap_engine.errors import ClapError, NotFoundError  # noqa: E402
from clap_engine.storage import StorageError  # noqa: E402
from clap_engine.text import TextFrontEnd  # noqa: E402
from clap_export import cli, converted, lowered, rotation, tower_set  # noqa: E402
from clap_export import convert as converting  # noqa: E402
from clap_export.commands import convert as command  # noqa: E402
from clap_export.commands.pack import packed  # noqa: E402
from clap_export.convert import Plan, convert  # noqa: E402
from clap_export.errors import CheckpointError, LicenceError, OutputError  # noqa: E402
from clap_export.head_choice import HeadPlan  # noqa: E402
from clap_export.msclap import layout, random_weights, reference, source, stand_in  # noqa: E402
from clap_export.msclap.checkpoint import Checkpoint  # noqa: E402
from clap_export.pack import write_bundle  # noqa: E402
from clap_export.parity import Gate, GateError  # noqa: E402
from clap_export.probes import Sizes  # noqa: E402
from clap_export.source import Source  # noqa: E402

pytestmark = pytest.mark.export

SIZES = Sizes(texts=12, sounds=6, calibration=4)
TEXTS = ["a banjo", "wow! rain on a tin roof", "A dog barks!! twice", "slow sad violin melody"]
NONE = HeadPlan(fit=False)


def checkpoint(version: str, seed: int = 0) -> Checkpoint:
    """As `checkpoint.read` gives it."""
    state = random_weights.random_state(version, seed=seed, layers=1, outliers=True)
    kept = {
        key: value
        for key, value in state.items()
        if not layout.is_unused(key) and key not in layout.TIED
    }
    return Checkpoint(kept, "0" * 64, version)


@pytest.fixture(scope="module")
def checkpoint_2023() -> Checkpoint:
    return checkpoint("2023")


@pytest.fixture(scope="module")
def source_2023(checkpoint_2023: Checkpoint) -> Source:
    return source.make(checkpoint_2023, stand_in.gpt2_tokenizer_json())


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty sounds of different colours, and as many captions."""
    root = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(4)
    for i in range(20):
        t = np.arange(44_100) / 44_100
        tone = np.sin(2 * np.pi * rng.uniform(80, 4000) * t * (1 + rng.uniform(0, 1) * t))
        wave = tone * rng.uniform(0, 0.6) + rng.standard_normal(len(t)) * rng.uniform(0.001, 0.2)
        soundfile.write(root / f"{i}.wav", wave * np.exp(-t * rng.uniform(0, 9)), 44_100)
    (root / "captions.txt").write_text("\n".join(f"sound {chr(97 + i)} of rain" for i in range(20)))
    return root


@pytest.fixture(scope="module")
def fitted(
    source_2023: Source, sounds: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """2023 with a fitted head in float32 and int8, and what was said on the way."""
    out = tmp_path_factory.mktemp("bundles") / "msclap-2023"
    said: list[str] = []
    convert(source_2023, out, Plan(head=HeadPlan(folder=sounds), sizes=SIZES), said.append)
    return out, said


def test_text_is_msclaps(fitted: tuple[Path, list[str]], checkpoint_2023: Checkpoint) -> None:
    """1e-4 on unit rows, padded as msclap pads; real `!` shift the pooled place there and here."""
    import msclap_oracle

    made = bundle.open(fitted[0])
    head = rotation.load(fitted[0] / "head.npz", layout.NATIVE)
    oracle = msclap_oracle.caption_encoder(checkpoint_2023.state)
    encoder = TextEncoder(made, precision="fp32")
    found = encoder.encode(TEXTS)
    front_end = TextFrontEnd(made.manifest.text, made.read("tokenizer.json"))
    tokens = [ids.input_ids[0] for ids in front_end.tokenize(TEXTS)]
    ids, mask = (np.zeros((len(TEXTS), 77), np.int64) for _ in range(2))
    for row, own in enumerate(tokens):
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    with torch.no_grad():
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        native = oracle(inputs).numpy()
    np.testing.assert_allclose(found, l2_normalize(native @ head.matrix), atol=1e-4)


def test_sound_is_msclaps_from_the_file_on(
    fitted: tuple[Path, list[str]], checkpoint_2023: Checkpoint, tmp_path: Path
) -> None:
    """A fixed crop of a mono file at the model's rate: the same embedding to 1e-3 (noise: the log
    of what is nearly nothing amplifies float32)."""
    import msclap_oracle

    made = bundle.open(fitted[0])
    spec = made.manifest.audio
    path = tmp_path / "noise.wav"
    rng = np.random.default_rng(8)
    soundfile.write(path, 0.1 * rng.standard_normal(9 * 44_100), 44_100, subtype="PCM_16")
    window = audio.legacy(path, spec, start=1234)
    found = AudioEncoder(made, precision="fp32").encode(window)
    oracle = msclap_oracle.audio_encoder(checkpoint_2023.state)
    with torch.no_grad():
        native = oracle(torch.from_numpy(window))[0].numpy()
    head = rotation.load(fitted[0] / "head.npz", layout.NATIVE)
    np.testing.assert_allclose(found, l2_normalize(native @ head.matrix), atol=1e-3)


def test_manifest_tells_what_was_measured(fitted: tuple[Path, list[str]]) -> None:
    out, said = fitted
    manifest = bundle.open(out).manifest
    parity = manifest.parity
    assert parity["measured_on"] == {"texts": 12, "sounds": 6}
    assert max(parity["fp32"]["max_error"].values()) < Gate().fp32_error
    assert parity["fp32"]["batches"] == [1, 5]
    assert parity["int8"]["both"]["top10"] >= Gate().top10
    assert set(parity["int8"]["text"]["score_error"]) == {"32", "64", "128", "256", "512"}
    assert parity["head"]["kind"] == "fitted"
    assert not parity["head"]["is_enough"]
    assert set(parity["head"]["loss"]) == {"32", "64", "128", "256", "512"}
    assert (manifest.dim, manifest.ladder) == (512, (32, 64, 128, 256, 512))
    assert any(line.startswith("int8: ") for line in said)
    assert any("are wanted for real use" in line for line in said)


def test_bundle_says_whose_it_is(fitted: tuple[Path, list[str]]) -> None:
    manifest = bundle.open(fitted[0]).manifest
    assert manifest.licences["code"] == "MIT"
    assert manifest.licences["weights"] == "MS-PL"
    assert "MS-PL" in (fitted[0] / "NOTICE").read_text()
    assert "Microsoft Public License" in (fitted[0] / "LICENSE.weights").read_text()
    assert "0" * 64 in manifest.producer["checkpoint"]
    assert "int8" in (fitted[0] / "README.md").read_text()


def test_goldens_hold_where_they_were_made(fitted: tuple[Path, list[str]]) -> None:
    made = bundle.open(fitted[0])
    front_end = TextFrontEnd(made.manifest.text, made.read("tokenizer.json"))
    tokens = front_end.tokenize(made.manifest.goldens.texts)
    assert made.golden_ids() == [ids.input_ids[0].tolist() for ids in tokens]
    with np.load(fitted[0] / "goldens.npz") as goldens:
        for precision, least in made.manifest.goldens.tolerance.items():
            found = TextEncoder(made, precision=precision).encode(made.manifest.goldens.texts)
            assert np.sum(found * goldens["text"], axis=1).min() >= least


def test_pack_leaves_graphs_out_and_looks_at_the_table(
    fitted: tuple[Path, list[str]], tmp_path: Path
) -> None:
    made = bundle.open(fitted[0])
    manifest = packed(made, tmp_path / "small", ("int8",), redistributable=True)
    assert set(manifest.audio.graphs) == set(manifest.text.graphs) == {"int8"}
    assert not (tmp_path / "small" / "text.fp32.onnx").exists()
    assert bundle.open(tmp_path / "small").manifest.space_id == made.manifest.space_id
    with pytest.raises(GateError, match="falls short"):
        packed(made, tmp_path / "strict", ("int8",), gate=Gate(top10=1.01))
    with pytest.raises(ClapError, match="not \\['fp16'\\]"):
        packed(made, tmp_path / "other", ("fp16",))
    assert sorted(os.listdir(tmp_path)) == ["small"]


def test_int8_can_be_added_and_compared_later(
    fitted: tuple[Path, list[str]], tmp_path: Path
) -> None:
    made = bundle.open(fitted[0])
    packed(made, tmp_path / "fp32", ("fp32",))
    bare = bundle.open(tmp_path / "fp32")
    assert set(bare.manifest.text.graphs) == {"fp32"}
    samples = converted.samples(bare, SIZES)
    with pytest.raises(OutputError):
        converted.with_int8(bare, samples, tmp_path / "fp32", Gate(), print)
    converted.with_int8(bare, samples, tmp_path / "both", Gate(), print)
    both = bundle.open(tmp_path / "both")
    assert both.manifest.space_id == made.manifest.space_id
    rows = converted.compare(both, samples, Gate(), print)
    assert rows["int8"].top10 >= Gate().top10
    with pytest.raises(GateError):
        converted.compare(both, samples, Gate(centred_mean=1.01), print)


def test_another_licence_of_the_weights(source_2023: Source) -> None:
    from clap_export.licences import check_redistributable

    with pytest.raises(LicenceError):
        check_redistributable(source_2023.under("CC-BY-NC-4.0").licences, ["NOTICE"])


def test_2022_in_its_own_space(tmp_path: Path) -> None:
    """BERT and CNN14, no head: 1024 dims, searched exactly."""
    own = checkpoint("2022")
    made_of = source.make(own, stand_in.bert_tokenizer_json())
    out = tmp_path / "msclap-2022"
    manifest = convert(made_of, out, Plan(("fp32",), NONE, SIZES))
    assert (manifest.dim, manifest.ladder) == (1024, (1024,))
    assert manifest.calibration["shortlist_per_sqrt_row"] > 1e5
    made = bundle.open(out)
    encoder = TextEncoder(made, precision="fp32")
    front_end = TextFrontEnd(made.manifest.text, made.read("tokenizer.json"))
    for text, row in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        (ids,) = front_end.tokenize([text])
        native = reference.embed_text(own.state, "2022", *ids)
        np.testing.assert_allclose(row, l2_normalize(native)[0], atol=1e-4)


def noisy_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    from clap_export import probes

    def noise(spec: Any, frontend: bytes, sizes: Sizes) -> probes.Probes:
        rng = np.random.default_rng(0)
        mel = rng.normal(-40, 15, (2, spec.n_frames, spec.n_mels)).astype(np.float32)
        return probes.Probes(TEXTS[:2], mel, 2, TEXTS[2:], mel)

    monkeypatch.setattr(probes, "make", noise)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan whose probes are noise: for what goes wrong later on."""
    noisy_probes(monkeypatch)
    return Plan(("fp32",), NONE, SIZES)


def test_an_existing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="--force"):
        convert(None, tmp_path, Plan())  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        convert(None, tmp_path / "file", Plan())  # type: ignore[arg-type]


def test_force_replaces_it(source_2023: Source, quick: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    convert(source_2023, out, replace(quick, force=True))
    assert not (out / "old").exists()
    assert bundle.open(out).manifest.id == "msclap-2023"


Written = tuple[Any, dict[str, bytes]]


@pytest.fixture(scope="module")
def written(source_2023: Source, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """What a conversion hands to `write_bundle`, the one place where it touches the disk."""
    taken: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        noisy_probes(patch)
        patch.setattr(converting, "write_bundle", lambda out, *rest: taken.extend(rest) or rest[0])
        out = tmp_path_factory.mktemp("nothing") / "out"
        convert(source_2023, out, Plan(("fp32",), NONE, SIZES))
    assert os.listdir(out.parent) == []
    return taken[0], taken[1]


def failing(monkeypatch: pytest.MonkeyPatch, call: str, n: int, error: BaseException) -> list[int]:
    """The n-th `call` of storage (from 1) raises; how often it was called."""
    real, calls = getattr(storage, call), [0]

    def counted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == n:
            raise error
        return real(*arguments)

    monkeypatch.setattr(storage, call, counted)
    return calls


def caught(out: Path, written: Written) -> BaseException | None:
    """How writing the bundle ended."""
    try:
        write_bundle(out, *written)
    except (StorageError, KeyboardInterrupt) as error:
        return error
    return None


@pytest.mark.parametrize("call", ["_write", "_fsync", "_mkdir", "_replace"])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_full_disk_or_ctrl_c_leaves_no_half_bundle(
    written: Written, tmp_path: Path, call: str, kind: type[BaseException], replaces: bool
) -> None:
    """At each n-th system call: what was there stays, or the whole bundle is there; no draft."""
    # Beginnings of the files do: a hundred times 300 MB would be written otherwise.
    files = {name: data[:1000] for name, data in written[1].items()}
    out, n = tmp_path / "out", 0
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    while True:
        n += 1
        if out.exists():
            shutil.rmtree(out)
        if replaces:
            out.mkdir()
            (out / "old").touch()
        with pytest.MonkeyPatch.context() as patch:
            calls = failing(patch, call, n, full if kind is OSError else KeyboardInterrupt())
            error = caught(out, (written[0], files))
        if error is None:
            break
        assert kind is not OSError or "No space left" in str(error)
        held = os.listdir(tmp_path)
        assert held in ([], ["out"])
        if held and os.listdir(out) != ["old"]:
            bundle.open(out).verify()  # only its name was not yet durable
            assert call == "_fsync"
        else:
            assert bool(held) == replaces
    assert calls[0] < n
    bundle.open(out).verify()
    assert os.listdir(tmp_path) == ["out"]
    assert n > {"_write": len(files), "_fsync": len(files), "_mkdir": 1, "_replace": 1}[call]


def test_a_full_disk_is_one_line_of_the_conversion(
    source_2023: Source, quick: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "_write", 3, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(StorageError, match="cannot write .*No space left"):
        convert(source_2023, tmp_path / "out", quick)
    assert os.listdir(tmp_path) == []


def test_ctrl_c_while_converting_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "source_of", lambda *_: None)
    monkeypatch.setattr(command, "convert", interrupted)
    words = ["convert", "msclap", "--heads", "none", "--out", str(tmp_path / "a" / "out")]
    assert cli.main(words) == 130
    assert "interrupted" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_force_replaces_a_file_too(written: Written, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    write_bundle(tmp_path / "out", *written)
    assert os.listdir(tmp_path) == ["out"]
    bundle.open(tmp_path / "out").verify()


def test_what_a_bundle_needs_is_in_its_manifest(written: Written, tmp_path: Path) -> None:
    """Front ends of msclap have fields that the first release refuses as unknown."""
    assert write_bundle(tmp_path / "out", *written).min_runtime == "0.2.0"


def test_doctor_recognises_a_converted_bundles_wrong_tokenizer(
    written: Written, tmp_path: Path
) -> None:
    """Two tokens change places, the digest is refreshed: only the golden ids can tell."""
    manifest, files = written
    made = bundle.open(write_and_return(tmp_path / "good", manifest, files))
    ids = made.golden_ids()
    assert ids is not None
    check = next(check for check in doctor.goldens(made) if check.name == "tokenizer")
    assert check.state == doctor.GOOD
    assert "own token ids" in check.found
    tree = json.loads(files["tokenizer.json"])
    words = tree["model"]["vocab"]
    named = {place: word for word, place in words.items()}
    first, second = named[ids[0][1]], named[ids[1][1]]
    assert first != second
    words[first], words[second] = words[second], words[first]
    swapped = {**files, "tokenizer.json": json.dumps(tree).encode()}
    broken = bundle.open(write_and_return(tmp_path / "bad", manifest, swapped))
    check = next(check for check in doctor.goldens(broken) if check.name == "tokenizer")
    assert check.state == doctor.BAD
    assert "the model was trained with" in check.found


def write_and_return(out: Path, manifest: Any, files: dict[str, bytes]) -> Path:
    write_bundle(out, manifest, files)
    return out


def test_a_graph_that_computes_something_else_makes_no_bundle(
    source_2023: Source, quick: Plan, tmp_path: Path
) -> None:
    wrong = checkpoint("2023", seed=1)
    text = source.make(wrong, source_2023.text.tokenizer_json).text
    mixed = replace(source_2023, text=replace(source_2023.text, build=text.build))
    with pytest.raises(GateError, match="the float32 graph \\(text\\) differs by"):
        convert(mixed, tmp_path / "out", quick)
    assert os.listdir(tmp_path) == []


def test_int8_that_falls_short_is_left_out_and_said(
    source_2023: Source, quick: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowered, "candidates", lambda model, *_: {"int8": model})
    said: list[str] = []
    strict = replace(quick, precisions=("fp32", "int8"), gate=Gate(centred_mean=1.01))
    manifest = convert(source_2023, tmp_path / "out", strict, said.append)
    assert set(manifest.text.graphs) == {"fp32"}
    assert any("no form of the text and audio tower passes; float32 serves" in s for s in said)
    assert not any(row.get("passed") for row in manifest.parity["int8 candidates"]["text"].values())


@pytest.mark.parametrize("is_made_for_int8", [True, False])
def test_int8_that_took_longer_is_marked_where_that_says_something(
    source_2023: Source,
    quick: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_made_for_int8: bool,
) -> None:
    """Only a CPU with fast int8 can tell; then the engine takes float32 on its like."""
    monkeypatch.setattr(lowered, "candidates", lambda model, *_: {"int8": model})
    took = {"text int8": 1.0, "audio int8": 3.0}
    monkeypatch.setattr(lowered, "_least_ms", lambda embedder, _: took.get(embedder.name, 2.0))
    monkeypatch.setattr(tower_set, "has_fast_int8", lambda: is_made_for_int8)
    monkeypatch.setattr(tower, "has_fast_int8", lambda: is_made_for_int8)
    convert(source_2023, tmp_path / "out", replace(quick, precisions=("fp32", "int8")))
    made = bundle.open(tmp_path / "out")
    assert made.manifest.audio.graphs["int8"].is_slow == is_made_for_int8
    assert not made.manifest.text.graphs["int8"].is_slow
    assert AudioEncoder(made).precision == "fp32"
    assert TextEncoder(made).precision == ("int8" if is_made_for_int8 else "fp32")


def test_clapcap_takes_its_texts_from_2023(
    checkpoint_2023: Checkpoint, source_2023: Source, quick: Plan, tmp_path: Path
) -> None:
    """The same frozen audio tower on both sides; moved statistics are measured, others refused."""
    captions = checkpoint("clapcap")
    tokens = source_2023.text.tokenizer_json
    manifest = convert(source.make(checkpoint_2023, tokens, captions), tmp_path / "out", quick)
    assert manifest.id == "msclap-clapcap"
    assert manifest.parity["caption"]["audio_cosine"] == 1
    assert manifest.caption is not None
    assert (manifest.caption.stop_id, manifest.caption.prefix_length) == (220, 40)
    assert set(manifest.caption.decoder) == {"fp32"}
    captions.state["clap.base.htsat.bn0.running_mean"] += np.float32(2)
    moved = source.make(checkpoint_2023, tokens, captions)
    manifest = convert(moved, tmp_path / "moved", quick)
    assert 0.99 < manifest.parity["caption"]["audio_cosine"] < 1
    for key, value in checkpoint("clapcap", seed=1).state.items():
        if key.startswith("clap."):
            captions.state[key] = value
    with pytest.raises(GateError, match="--text-checkpoint"):
        convert(source.make(checkpoint_2023, tokens, captions), tmp_path / "other", quick)
    with pytest.raises(CheckpointError, match="CLAP_weights_2023.pth"):
        source.make(captions, tokens)


def test_trained_stft_kernels_are_refused() -> None:
    own = checkpoint("2022")
    key = "audio_encoder.base.spectrogram_extractor.stft.conv_imag.weight"
    own.state[key] = own.state[key] + np.float32(1e-3)
    with pytest.raises(CheckpointError, match="they were trained"):
        source.make(own, b"")


def test_command_line(
    checkpoint_2023: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files in, a bundle out; each refusal is one line on stderr and leaves nothing."""
    weights = tmp_path / "weights.pth"
    random_weights.save(checkpoint_2023.state, weights, "2023")
    folder = tmp_path / "gpt2"
    folder.mkdir()
    out = tmp_path / "bundles" / "msclap"
    words = ["convert", "msclap", "--layers", "1", "--checkpoint", str(weights)]
    words += ["--tokenizer", str(folder), "--heads", "none", "--precisions", "fp32", "--quick"]
    words += ["--threads", "1", "--out", str(out)]
    assert cli.main(words) == 1
    assert "vocab.json and merges.txt" in capsys.readouterr().err
    (folder / "tokenizer.json").write_bytes(stand_in.gpt2_tokenizer_json())
    assert cli.main([*words, "--version", "2022"]) == 1
    assert "is not bert-base-uncased's" in capsys.readouterr().err
    assert cli.main([*words, "--layers", "2"]) == 1
    assert "lacks" in capsys.readouterr().err
    assert not out.parent.exists()
    assert cli.main(words) == 0
    assert "fp32 against torch" in capsys.readouterr().out
    assert cli.main(words) == 1
    assert "--force" in capsys.readouterr().err
    assert cli.main(["pack", str(out), "--out", str(tmp_path / "p"), "--redistributable"]) == 0
    with pytest.raises(NotFoundError):
        bundle.pick_graph(bundle.open(out).manifest.text.graphs, "int8")
