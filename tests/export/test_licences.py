"""What may be passed on: a licence that is unknown, or that excludes another, is refused."""

from __future__ import annotations

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
