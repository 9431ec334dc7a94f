"""A checkpoint file -> checked weights; the only module that reads one.

In:  the path of a `{"model": state dict}` file, the version that it should be.
Out: `Checkpoint`: float32 arrays by key, those that no graph needs left out; the file's sha256.
Knows nothing about graphs or bundles.

Nothing is passed over in silence: a key that is missing or that nobody knows is named, and so is
a weight that is not finite. Code in a pickle never runs (weights_only).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32
from clap_export.errors import CheckpointError
from clap_export.msclap import layout
from clap_export.msclap.layout import shapes

__all__ = ["FILES", "Checkpoint", "read", "shapes"]

FILES = {
    "2022": "CLAP_weights_2022.pth",
    "2023": "CLAP_weights_2023.pth",
    "clapcap": "clapcap_weights_2023.pth",
}
# A key that only this version's checkpoints have.
_SIGNATURES = {
    "2022": "audio_encoder.base.conv_block1.conv1.weight",
    "2023": "caption_encoder.base.wte.weight",
    "clapcap": "clap_project.prefix_const",
}
_NAMED = 8  # keys that one message lists
_BLOCK = 2**22


@dataclass(frozen=True)
class Checkpoint:
    """Weights by msclap's own keys, with no `module.` before them. The arrays may be maps of the
    file: don't write to them."""

    state: dict[str, Float32]
    digest: str  # sha256 of the file
    version: str


def read(path: Path, version: str, *, layers: int | None = None) -> Checkpoint:
    """The weights in `path`; CheckpointError for anything but a sound file of that version.

    `layers` expects towers cut to that depth (`layout.shapes`), as tests use them.
    """
    if version not in FILES:
        raise CheckpointError(f"version {version!r} is unknown; {', '.join(FILES)} can be read")
    model = _model(_load(path), path)
    state = {key.removeprefix("module."): value for key, value in model.items()}
    if len(state) != len(model):
        raise CheckpointError(f"{path} holds weights both with and without 'module.' before them")
    _check_version(state, version, path)
    _check_keys(state, shapes(version, layers), path)
    arrays = {key: _array(state[key], key, path) for key in state if not layout.is_unused(key)}
    for key, twin in layout.TIED.items():
        if key in arrays and not np.array_equal(arrays.pop(key), arrays[twin]):
            raise CheckpointError(f"{path}: {key} differs from {twin}; msclap ties the two")
    return Checkpoint(arrays, digest(path), version)


def weights(path: Path, under: str | None = None) -> dict[str, Float32]:
    """The floating-point weights of a file of another model: a state dict, or one `under` a key
    if there is such a key; safetensors by the name's ending. The caller checks the names."""
    held = _load_safetensors(path) if path.suffix == ".safetensors" else _load(path)
    if under is not None and isinstance(held, Mapping) and under in held:
        held = held[under]
    model = _model({"model": held}, path)
    return {
        key.removeprefix("module."): _array(value, key, path)
        for key, value in model.items()
        if value.dtype.is_floating_point
    }


def check_names(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """CheckpointError that names what is missing, unknown or of another shape."""
    if missing := [key for key in wanted if key not in found]:
        raise CheckpointError(
            f"{path} lacks {len(missing)} of {len(wanted)} weights: {_list(missing)}; it does not "
            "fit its configuration, or it was cut"
        )
    if unknown := [key for key in found if key not in wanted]:
        raise CheckpointError(
            f"{path} holds {len(unknown)} weights that no tower has: {_list(unknown)}; "
            "another architecture would be converted wrongly"
        )
    for key, shape in wanted.items():
        if tuple(found[key]) != tuple(shape):
            raise CheckpointError(f"{path}: {key} is {tuple(found[key])}; {shape} is needed")


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            sha.update(block)
    return sha.hexdigest()


def _load(path: Path) -> Any:
    """What the file holds, its tensors mapped where the format allows."""
    import torch

    if not path.is_file():
        raise CheckpointError(f"{path} is no file; give the path of a checkpoint")
    with path.open("rb") as file:
        mapped = file.read(4) == b"PK\x03\x04"  # files of torch < 1.6 are no zip archives
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged or hostile file makes torch's reader say
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"{path} can't be read as a checkpoint ({type(error).__name__}: {first}); nothing in "
            "it was run. It is cut short, damaged, or holds more than weights: fetch it again "
            "from a source that you trust"
        ) from error


def _load_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # safetensors raises what its Rust side says
        raise CheckpointError(f"{path} can't be read ({error}); fetch it again") from error


def _model(held: Any, path: Path) -> Mapping[str, Any]:
    import torch

    model = held.get("model") if isinstance(held, Mapping) else None
    if not isinstance(model, Mapping) or not model:
        found = f"the keys {_list(map(str, held))}" if isinstance(held, Mapping) else type(held)
        raise CheckpointError(
            f"{path} holds {found}; a checkpoint of msclap holds 'model', a state dict"
        )
    for key, value in model.items():
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if not isinstance(key, str) or not plain or value.device.type != "cpu":
            raise CheckpointError(
                f"{path}: model[{key!r}] is {type(value).__name__}, no plain tensor"
            )
    return model


def _check_version(state: Mapping[str, Any], version: str, path: Path) -> None:
    found = [name for name, key in _SIGNATURES.items() if key in state]
    if version not in found and found:
        raise CheckpointError(
            f"{path} holds the weights of version {found[0]}, {version} was asked for; "
            f"convert with --version {found[0]}"
        )
    if any(re.match(r"(audio_model|text_model)\.", key) for key in state):
        raise CheckpointError(
            f"{path} holds a model of transformers or LAION, not of msclap; "
            "use `clap-export convert transformers` or `convert ucs-clap`"
        )


def _check_keys(state: Mapping[str, Any], wanted: layout.Shapes, path: Path) -> None:
    def is_needed(key: str) -> bool:
        return not layout.is_unused(key) and key not in layout.TIED

    check_names(
        {key: tuple(value.shape) for key, value in state.items() if is_needed(key)},
        {key: shape for key, shape in wanted.items() if is_needed(key)},
        path,
    )


def _array(value: Any, key: str, path: Path) -> Float32:
    """A tensor as float32; half precision is widened, whole numbers are no weights."""
    if not value.dtype.is_floating_point:
        raise CheckpointError(f"{path}: {key} is {value.dtype}; a floating-point type is needed")
    array = np.asarray(value.detach().float().contiguous().numpy(), np.float32)
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise CheckpointError(
            f"{path}: {key} holds {bad} values that are not finite of {array.size}; "
            "the training run broke or the file is damaged: fetch it again"
        )
    return array


def _list(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more
