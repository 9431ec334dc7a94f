"""Checkpoints: what is sound is read whole, what is not is refused by name, and no code runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from clap_export.errors import CheckpointError  # noqa: E402
from clap_export.msclap import checkpoint, layout, random_weights  # noqa: E402

pytestmark = pytest.mark.export

TEXT = "caption_encoder.projection.layer_norm.weight"


def hollow(version: str = "2023", layers: int | None = None) -> dict[str, Any]:
    """The full layout in a few kilobytes: each weight is one stored number, seen many times."""
    zero = torch.zeros(1)
    shapes = layout.shapes(version, layers)
    return {key: zero.expand(shape) if shape else zero[0] for key, shape in shapes.items()}


def write(path: Path, state: Any) -> Path:
    torch.save({"model": state}, path)
    return path


def refused(path: Path, version: str = "2023", layers: int | None = 1) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path, version, layers=layers)
    return str(caught.value)


@pytest.mark.parametrize("version", layout.VERSIONS)
def test_layout_is_that_of_the_package(version: str) -> None:
    """Every key, shape and the order: counted here, compared with msclap's own modules by
    test_msclap_oracle."""
    shapes = layout.shapes(version)
    counts = {"2022": (292, 196_320_413), "2023": (357, 159_865_177), "clapcap": (452, 265_942_104)}
    numbers = sum(int(np.prod(shape)) for shape in shapes.values())
    assert (len(shapes), numbers) == counts[version]


@pytest.mark.parametrize("version", layout.VERSIONS)
def test_what_was_saved_is_read_again(version: str, tmp_path: Path) -> None:
    state = random_weights.random_state(version, seed=3, layers=1)
    path = tmp_path / "weights.pth"
    random_weights.save(state, path, version)
    found = checkpoint.read(path, version, layers=1)
    needed = {key for key in state if not layout.is_unused(key) and key not in layout.TIED}
    assert found.state.keys() == needed
    for key in needed:
        np.testing.assert_array_equal(found.state[key], state[key])
        assert found.state[key].dtype == np.float32
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.version == version


def test_weights_depend_on_name_and_seed_alone() -> None:
    one, two = (random_weights.random_state("2022", seed=1, layers=n) for n in (1, 2))
    other = random_weights.random_state("2022", seed=2, layers=1)
    key = "caption_encoder.base.encoder.layer.0.output.dense.weight"
    np.testing.assert_array_equal(one[key], two[key])
    assert not np.array_equal(one[key], other[key])


def test_outliers_are_there_only_when_asked() -> None:
    key = "caption_encoder.base.encoder.layer.0.output.dense.bias"
    plain, rough = (
        random_weights.random_state("2022", seed=1, layers=1, outliers=o) for o in (False, True)
    )
    assert np.abs(plain[key]).max() < 0.2
    assert np.sum(np.abs(rough[key]) > 2) == random_weights.MASSIVE_CHANNELS


def test_the_prefix_of_data_parallel_training_goes(tmp_path: Path) -> None:
    state = {"module." + key: value for key, value in hollow(layers=1).items()}
    found = checkpoint.read(write(tmp_path / "a.pth", state), "2023", layers=1)
    assert TEXT in found.state


def test_half_precision_is_widened_and_old_files_are_read(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in hollow(layers=1).items()}
    path = tmp_path / "old.pth"
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)
    assert checkpoint.read(path, "2023", layers=1).state[TEXT].dtype == np.float32


def test_what_nothing_needs_may_be_there_or_not(tmp_path: Path) -> None:
    state = hollow(layers=1)
    for key in [key for key in state if layout.is_unused(key)]:
        del state[key]
    state["caption_encoder.base.h.0.attn.bias"] = torch.ones(1, dtype=torch.uint8)
    checkpoint.read(write(tmp_path / "a.pth", state), "2023", layers=1)


def test_missing_and_unknown_weights_are_named(tmp_path: Path) -> None:
    state = hollow(layers=1)
    del state[TEXT]
    assert TEXT in refused(write(tmp_path / "a.pth", state))
    state = hollow(layers=1)
    state["audio_encoder.base.htsat.adapter.weight"] = torch.zeros(3)
    assert "htsat.adapter.weight" in refused(write(tmp_path / "b.pth", state))
    state = hollow(layers=1)
    state[TEXT] = torch.zeros(1023)
    assert "(1023,); (1024,) is needed" in refused(write(tmp_path / "c.pth", state))
    # A whole layer that lacks is no shallower tower.
    assert "lacks" in refused(write(tmp_path / "d.pth", hollow(layers=11)), layers=None)


@pytest.mark.parametrize("version", layout.VERSIONS)
def test_another_version_is_named(version: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", hollow(version, layers=1))
    for asked in set(layout.VERSIONS) - {version}:
        assert f"weights of version {version}" in refused(path, asked)


def test_foreign_files_are_named(tmp_path: Path) -> None:
    theirs = {"text_model.embeddings.word_embeddings.weight": torch.zeros(2, 2)}
    assert "convert transformers" in refused(write(tmp_path / "a.pth", theirs))
    torch.save([1, 2], tmp_path / "b.pth")
    assert "'model', a state dict" in refused(tmp_path / "b.pth")
    torch.save({"state_dict": {}}, tmp_path / "c.pth")
    assert "state_dict" in refused(tmp_path / "c.pth")
    assert "no plain tensor" in refused(write(tmp_path / "d.pth", {"x": 3}))
    assert "no plain tensor" in refused(write(tmp_path / "e.pth", {TEXT: torch.eye(3).to_sparse()}))
    assert "no file" in refused(tmp_path / "nowhere.pth")
    assert "no file" in refused(tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(bad: float, tmp_path: Path) -> None:
    state = hollow(layers=1)
    state[TEXT] = torch.ones(1024)
    state[TEXT][7] = bad
    message = refused(write(tmp_path / "a.pth", state))
    assert TEXT in message
    assert "1 values that are not finite" in message


def test_integers_are_no_weights(tmp_path: Path) -> None:
    state = hollow(layers=1)
    state[TEXT] = torch.ones(1024, dtype=torch.int32)
    assert "torch.int32" in refused(write(tmp_path / "a.pth", state))


def test_a_tie_that_was_cut_is_refused(tmp_path: Path) -> None:
    state = hollow("clapcap", layers=1)
    state["gpt.lm_head.weight"] = torch.ones(1).expand(50_257, 768)
    assert "msclap ties the two" in refused(write(tmp_path / "a.pth", state), "clapcap")


@pytest.mark.parametrize("new", [True, False])
def test_truncated_and_damaged_files(new: bool, tmp_path: Path) -> None:
    """Cut at 20 seeded places, and with a zeroed page at 20: refused, never half read."""
    whole = tmp_path / "whole.pth"
    torch.save({"model": hollow(layers=1)}, whole, _use_new_zipfile_serialization=new)
    data = whole.read_bytes()
    rng = np.random.default_rng(5)
    path = tmp_path / "cut.pth"
    for place in rng.integers(0, len(data) - 1, 20):
        path.write_bytes(data[:place])
        assert refused(path)
    for place in rng.integers(0, len(data) - 512, 20):
        path.write_bytes(data[:place] + bytes(512) + data[place + 512 :])
        try:  # zeros over zeros change nothing
            checkpoint.read(path, "2023", layers=1)
        except CheckpointError:
            continue
    path.write_bytes(b"")
    assert refused(path)
    path.write_bytes(rng.bytes(10_000))
    assert refused(path)


class _Gadget:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = call, arguments

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("place", ["top", "model", "weight"])
def test_code_in_a_checkpoint_never_runs(new: bool, place: str, tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    gadget = _Gadget(os.system, f"touch {marker}")
    state = hollow(layers=1)
    held: dict[str, Any] = {
        "top": gadget,
        "model": {"model": gadget},
        "weight": {"model": {**state, TEXT: gadget}},
    }
    path = tmp_path / "evil.pth"
    torch.save(held[place], path, _use_new_zipfile_serialization=new)
    assert "nothing in it was run" in refused(path)
    assert not marker.exists()
    # The control: the file is live, read the unsafe way.
    torch.load(path, weights_only=False)
    assert marker.exists()
