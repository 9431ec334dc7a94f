"""Where a model's files are: given, or fetched from the hub.

In:  the paths of a command line, any of which may be missing.
Out: paths and tokenizer bytes; SourceError that says which file to put where.
Knows nothing about what is in a checkpoint. Asks the hub only for what was not given.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from clap_export.errors import SourceError
from clap_export.msclap import tokenizer
from clap_export.msclap.checkpoint import FILES

REPOSITORY = "microsoft/msclap"
MODEL_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors")


def checkpoint(version: str, given: Path | None, option: str = "--checkpoint") -> Path:
    """The file of a version's weights."""
    if given is not None:
        return given
    name = FILES[version]
    return _fetch(
        REPOSITORY,
        name,
        f"get {name} from https://huggingface.co/{REPOSITORY} and give {option} FILE",
    )


def tokenizer_json(model: str, given: Path | None) -> bytes:
    """The tokenizer of `model`, from a folder or from the hub."""
    if given is not None:
        return tokenizer.read(given, model)
    remedy = tokenizer.missing(model, None)
    owner = {"gpt2": "openai-community/gpt2"}.get(model, f"google-bert/{model}")
    return tokenizer.read(_fetch(owner, "tokenizer.json", remedy).parent, model)


def model(given: str) -> Path:
    """The folder of a model of transformers: given, or of that name on the hub."""
    folder = Path(given)
    if folder.is_dir():
        return folder
    remedy = f"give --model FOLDER with {', '.join(MODEL_FILES)}"
    if "/" not in given or given.startswith((".", "/")):
        raise SourceError(f"{given} is neither a folder nor a model's name on the hub; {remedy}")
    found = [_fetch(given, name, remedy) for name in MODEL_FILES]
    _fetch_if_there(given, "README.md")
    return found[0].parent


def _fetch_if_there(repository: str, name: str) -> None:
    """A file that a conversion can do without: the model card, for its licence."""
    try:
        _fetch(repository, name, "")
    except SourceError:
        return


def _fetch(repository: str, name: str, remedy: str) -> Path:
    """A file of the hub, by way of its client's cache."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise SourceError(f"{name} was not given and huggingface_hub is not installed; {remedy}")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # no network, no such host, no disk, a proxy's page
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise SourceError(
            f"{name} was not given and can't be fetched from the hub ({said}); {remedy}"
        ) from error
