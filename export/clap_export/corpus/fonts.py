"""The SoundFonts: where each comes from, under which licence, and what it may be used for.

In:  a folder for those that no system package puts in place.
Out: `Font`s with the paths of their files; `install` fetches what is missing and checks digests.
Knows nothing about notes, classes or captions.

Kinship was measured: every preset's notes at several keys were correlated between fonts; notes
made of one sample reach .9 and more, strangers stay under .6 (docs/corpus.md). TimGM6mb shares
three fifths of sf_GMbank's samples, so both are only ever used to measure. A few of GeneralUser's
programs are sf_GMbank's: `without` keeps them silent. Fonts under a copyleft licence without an
exception for what is rendered with them (A320U: GPL-2, OPL-3: CC-BY-SA) are left out of training.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clap_export.corpus import packages, patches

SYSTEM = Path("/usr/share/sounds")
DRUM_BANK = 128


@dataclass(frozen=True)
class Font:
    """One SoundFont. `package` is Debian's, or npm's where it starts with "npm:"."""

    name: str
    package: str
    member: str  # path of the file inside the package
    sha256: str
    licence: str
    weight: int  # how often training draws it, against the others
    without: frozenset[int] = frozenset()  # programs that a held-out font has too
    is_patches: bool = False  # the member is a folder of Gravis patches, made one file here

    def path(self, folder: Path) -> Path:
        """Where the system's package has put it, or its place in `folder`."""
        installed = Path("/") / self.member
        if self.is_patches:
            return folder / f"{self.name}.sf2"
        return installed if installed.is_file() else folder / Path(self.member).name


FLUID = Font(
    "FluidR3_GM",
    "fluid-soundfont-gm",
    "usr/share/sounds/sf2/FluidR3_GM.sf2",
    "74594e8f4250680adf590507a306655a299935343583256f3b722c48a1bc1cb0",
    "MIT",
    2,
    without=frozenset({4}),
)
MUSESCORE = Font(
    "MuseScore_General",
    "musescore-general-soundfont",
    "usr/share/sounds/sf3/MuseScore_General_Full.sf3",
    "f9a37b36655f23e167c66ec91bef6097c8e99be29286219a54062919eb41aeae",
    "MIT and CC0-1.0",
    2,
    without=frozenset({4}),
)
GENERAL_USER = Font(
    "GeneralUser_GS",
    "minuet-data",
    "usr/share/minuet/soundfonts/GeneralUser-v1.47.sf2",
    "226bdc28613368ce9b740ecf0748618c575657f19b9c88eada1a50b060ef7eba",
    "GeneralUser GS License v2.0 (any use of the sounds in music, private or commercial)",
    3,
    without=frozenset({31, 53, 57, 72, 108, 111, 112, 115}),
)
SONIVOX = Font(
    "Sonivox_EAS",
    "npm:@coderline/alphatab@1.8.4",
    "package/dist/soundfont/sonivox.sf2",
    "4978cf37e7164206f2d22dc4fdf4020ffe040787210bf781e31bdc79961f59ef",
    "Apache-2.0",
    3,
)
FREEPATS = Font(
    "FreePats",
    "freepats",
    "usr/share/midi/freepats",
    "ce89cb829f1ce6f6a6b41a73d05b18a73d052c65ec5dcdcf041b430186abf98f",
    "GPL-2+ with an exception: compositions that use the patches are not covered by it",
    3,
    without=frozenset(  # it lacks them, but for 75 and 79
        {3, 10, 11, 12, 17, 18, 20, 22, 31, 39, 41, 43, 49, 50, 51, 52, 54, 55, 62, 63, 75, 77,
         78, 79, 81, 82, 83, 85, 86, 87, 89, 90, 91, 92, 93, 96, 97, 99, 100, 103, 105, 106, 107,
         108, 109, 110, 111, 112, 113, 116, 117, 118, 119}
    ),
    is_patches=True,
)  # fmt: skip
# The first two are what the tools render with that want only some sounds, not the corpus.
TRAINING = (FLUID, MUSESCORE, GENERAL_USER, SONIVOX, FREEPATS)
PLAIN = TRAINING[:2]
HELD_OUT = Font(
    "sf_GMbank",
    "csound-soundfont",
    "usr/share/sounds/sf2/sf_GMbank.sf2",
    "9f39fc53bd3a1a69f13cb486838944eded358b3b6e8afbd6c1c2c33675b2034b",
    "public domain",
    0,
)
ANOTHER = Font(
    "TimGM6mb",
    "timgm6mb-soundfont",
    "usr/share/sounds/sf2/TimGM6mb.sf2",
    "c5378b62028c920cb11e4803327983fee2f2cdff5dc89c708e39da417e51c854",
    "GPL-2 (rendered to measure only; none of it is contained)",
    0,
)
ALL = (*TRAINING, HELD_OUT, ANOTHER)


def folder() -> Path:
    """Where `clap-export corpus --fonts` puts what no system package has put in place."""
    return Path.home() / ".cache" / "clap-export" / "soundfonts"


def missing(fonts: tuple[Font, ...], where: Path) -> list[Font]:
    return [font for font in fonts if not font.path(where).is_file()]


def check(fonts: tuple[Font, ...], where: Path) -> None:
    """FileNotFoundError that names what is missing and the command that installs it."""
    lacking = missing(fonts, where)
    if lacking:
        names = ", ".join(f"{font.name} ({font.path(where)})" for font in lacking)
        raise FileNotFoundError(f"not installed: {names}; run clap-export corpus --fonts")


def install(where: Path, say: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Fetches every font that is missing, through apt-get or npm; the paths of all.

    Raises ValueError for a file with another digest (a newer version of its package may sound
    otherwise), RuntimeError where the package's tool fails.
    """
    where.mkdir(parents=True, exist_ok=True)
    for font in missing(ALL, where):
        say(f"{font.name}: from {font.package}, {font.licence}")
        with tempfile.TemporaryDirectory(dir=where) as temporary:
            at = Path(temporary)
            found = _from_npm(font, at) if font.package.startswith("npm:") else _from_apt(font, at)
            if font.is_patches:
                found = _from_patches(found, font, at)
            digest = hashlib.sha256(found.read_bytes()).hexdigest()
            if digest != font.sha256:
                raise ValueError(
                    f"{font.member} of {font.package} has the digest {digest}, not {font.sha256}; "
                    "put the file with that digest into " + str(where)
                )
            shutil.move(found, font.path(where))
    return [font.path(where) for font in ALL]


def _from_apt(font: Font, at: Path) -> Path:
    packages.run(["apt-get", "download", font.package], at)
    (archive,) = at.glob("*.deb")
    packages.unpack_deb(archive)
    return at / font.member


def _from_npm(font: Font, at: Path) -> Path:
    packages.run(["npm", "pack", font.package.removeprefix("npm:")], at)
    (archive,) = at.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extract(font.member, at, filter="data")
    return at / font.member


def _from_patches(folder: Path, font: Font, at: Path) -> Path:
    made = at / f"{font.name}.sf2"
    tones, drums = (list(folder.glob(f"{bank}_000/*.pat")) for bank in ("Tone", "Drum"))
    made.write_bytes(patches.soundfont(tones, drums, font.name))
    return made
