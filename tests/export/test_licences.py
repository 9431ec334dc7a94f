"""What may be passed on: a licence that is unknown, or that excludes another, is refused."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from clap_export.errors import LicenceError
from clap_export.licences import check_redistributable

pytestmark = pytest.mark.export

FILES = ("NOTICE", "text.fp32.onnx")


@pytest.mark.parametrize(
    "weights",
    ["MIT", "MS-PL", "Apache-2.0", "mit", "MIT; sentence encoder Apache-2.0", "MIT and CC0-1.0"],
)
def test_known_free_licences_pass(weights: str) -> None:
    check_redistributable({"weights": weights}, FILES)


@pytest.mark.parametrize(
    "weights",
    ["", "unknown", "CC-BY-NC-4.0", "proprietary", "MIT; text tower CC-BY-NC-4.0", "research only"],
)
def test_others_are_refused_by_name(weights: str) -> None:
    with pytest.raises(LicenceError, match="--weights-licence"):
        check_redistributable({"weights": weights}, FILES)


def test_two_licences_that_exclude_each_other() -> None:
    with pytest.raises(LicenceError, match="GPL-3.0 and MS-PL"):
        check_redistributable({"weights": "MS-PL; text tower GPL-3.0"}, FILES)


def test_without_its_notice_nothing_is_passed_on() -> None:
    with pytest.raises(LicenceError, match="NOTICE"):
        check_redistributable({"weights": "MIT"}, ("text.fp32.onnx",))
    with pytest.raises(LicenceError):
        check_redistributable({}, FILES)


def test_the_weights_licence_is_whole_and_alone() -> None:
    """Ms-PL has sections 1 to 3; 3 ends with (E), whose (F) is Ms-RL's."""
    text = files("clap_export.msclap").joinpath("MS-PL.txt").read_text()
    assert text.startswith("Microsoft Public License (Ms-PL)\n")
    assert re.findall(r"^\d\. .*", text, re.M) == [
        "1. Definitions",
        "2. Grant of Rights",
        "3. Conditions and Limitations",
    ]
    assert re.findall(r"^\(([A-Z])\)", text, re.M) == list("ABABCDE")
    words = " ".join(text.split())
    for phrase in (
        "do not accept the license, do not use the software.",
        "patent claims that read directly on its contribution.",
        "or any derivative works that you create.",
        "in the software or derivative works of the contribution in the software.",
        "to use any contributors' name, logo, or trademarks.",
        "to the software ends automatically.",
        "notices that are present in the software.",
        "under a license that complies with this license.",
    ):
        assert phrase in words
    assert words.endswith("merchantability, fitness for a particular purpose and non-infringement.")
    assert not re.search(r"^(Format|Files|Copyright|License|Upstream-Name):", text, re.M)
