"""Large pages: what was loaded is found, and holds what it held."""

import mmap
import sys

import numpy as np
import pytest

from clap_engine import hugepages

SIZE = 8 * hugepages.LARGE_PAGE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives advice on pages")
def test_new_memory_is_found_and_keeps_its_contents() -> None:
    before = hugepages.mappings()
    # Straight from the system: malloc might reuse memory that was mapped before.
    fresh = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(fresh, np.int32)
    array[:] = np.arange(len(array))
    spans = hugepages.added(before)
    assert any(start <= array.ctypes.data < end for start, end in spans)
    assert hugepages.move(spans) <= sum(end - start for start, end in spans)
    np.testing.assert_array_equal(array, np.arange(len(array)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives advice on pages")
def test_memory_that_is_gone_is_refused_and_nothing_breaks() -> None:
    assert hugepages.move([(hugepages.LARGE_PAGE, SIZE)]) == 0


def test_nothing_new_means_nothing_to_do() -> None:
    assert hugepages.added(hugepages.mappings()) == []
    assert hugepages.move([]) == 0


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hugepages.mappings()
    array = np.ones(SIZE, np.uint8)
    spans = hugepages.added(before)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hugepages.mappings() == {}
    assert hugepages.added({}) == []
    assert hugepages.move(spans) == 0
    assert array.all()
