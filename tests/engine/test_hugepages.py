"""Large pages: what was loaded is found, and holds what it held."""

import mmap
import sys

import numpy as np
import pytest

from clap_engine import hugepages

SIZE = 8 * hugepages.LARGE_PAGE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives advice on pages")
def test_new_memory_is_found_and_keeps_its_contents() -> None:
    before = hugepages.resident()
    fresh = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(fresh, np.int32)
    array[:] = np.arange(len(array))
    spans = hugepages.added(before, hugepages.resident())
    middle = array.ctypes.data + array.nbytes // 2
    assert any(start <= middle < end for start, end in spans)
    assert hugepages.move(spans) <= sum(end - start for start, end in spans)
    np.testing.assert_array_equal(array, np.arange(len(array)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives advice on pages")
def test_memory_of_an_older_mapping_is_found() -> None:
    # As malloc does it: the mapping was there, its pages were given back, a load takes them again.
    old = mmap.mmap(-1, 2 * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(old, np.uint8)
    array[:SIZE] = 1
    before = hugepages.resident()
    assert hugepages.added(before, hugepages.resident()) == []
    array[SIZE:] = 1
    spans = hugepages.added(before, hugepages.resident())
    assert any(start <= array.ctypes.data + 3 * SIZE // 2 < end for start, end in spans)
    assert not any(start <= array.ctypes.data + SIZE // 2 < end for start, end in spans)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives advice on pages")
def test_memory_that_is_gone_is_refused_and_nothing_breaks() -> None:
    assert hugepages.move([(hugepages.LARGE_PAGE, SIZE)]) == 0


def test_nothing_new_means_nothing_to_do() -> None:
    hugepages.give_back_freed()
    assert hugepages.added(*[hugepages.resident()] * 2) == []
    assert hugepages.move([]) == 0


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hugepages.resident()
    array = np.ones(SIZE, np.uint8)
    spans = hugepages.added(before, hugepages.resident())
    monkeypatch.setattr(sys, "platform", "darwin")
    hugepages.give_back_freed()
    assert not len(hugepages.resident())
    assert hugepages.added(before, hugepages.resident()) == []
    assert hugepages.move(spans) == 0
    assert array.all()
