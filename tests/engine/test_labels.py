"""Laws of packed labels: what they say is what was stored, and only while it is still true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_embedder import FakeEmbedder, power_law, sound_of

from clap_engine.catalogue import Catalogue
from clap_engine.collection import Collection
from clap_engine.errors import IntegrityError, RebuildWarning
from clap_engine.index.labels import Labels, packed
from clap_engine.records import Label

ROWS = power_law(40, seed=1)


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as opened:
        facts = [{"i": i, "name": "ü\0" * (i % 3)} for i in range(20)]
        keys = [f"{i} é" for i in range(20)]
        opened.add([sound_of(row) for row in ROWS[:20]], keys=keys, metadata=facts)
        opened.rebuild()
        yield opened


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clips whose labels were read from the truth."""
    real, found = Catalogue.labels, []

    def labels(self: Catalogue, clips: list[int]) -> dict[int, Label]:
        found.extend(clips)
        return real(self, clips)

    monkeypatch.setattr(Catalogue, "labels", labels)
    return found


@pytest.mark.parametrize("numbers", [[], [7], [3, 4, 5], [1, 5, 6, 2**40]])
def test_labels_read_back(numbers: list[int]) -> None:
    made = {n: Label(f"k{n} ü", '{"a": "' + "x\0" * (n % 5) + '"}') for n in numbers}
    found = Labels(memoryview(b"".join(packed(made.items()))))
    assert len(found) == len(numbers)
    assert found.of(numbers) == made
    assert found.of([0, 2, 8, 2**41]) == {}


def test_bytes_that_make_no_sense_are_refused() -> None:
    whole = b"".join(packed([(1, Label("a", "{}")), (2, Label("b", "{}"))]))
    for bad in (b"", whole[:30], np.int64(-1).tobytes() + whole[8:], np.int64(99).tobytes()):
        with pytest.raises(IntegrityError, match="labels"):
            Labels(memoryview(bad))


def test_hits_of_a_generation_need_no_record(sounds: Collection, read: list[int]) -> None:
    hits = sounds.search(ROWS[4], k=20).hits
    assert {hit.key: hit.metadata for hit in hits} == {
        f"{i} é": {"i": i, "name": "ü\0" * (i % 3)} for i in range(20)
    }
    assert read == []


def test_hits_of_the_tail_are_read_once(sounds: Collection, read: list[int]) -> None:
    sounds.add([sound_of(ROWS[30])], keys=["new"])
    for _ in range(3):
        assert sounds.search(ROWS[30], k=21).hits[0].key == "new"
    assert len(read) == 1
    sounds.remove("3 é")  # what is kept may be out of date
    assert len(sounds.search(ROWS[30], k=21).hits) == 20
    assert len(read) == 2


def test_an_amendment_shows_at_once_and_after_a_rebuild(sounds: Collection) -> None:
    for number in range(3):
        sounds.add([sound_of(ROWS[4])], keys=["4 é"], metadata=[{"number": number}])
        sounds._open_writer()
        assert sounds.search(ROWS[4], k=1).hits[0].metadata == {"number": number}
        with Collection.open(sounds.path, read_only=True) as other:
            assert other.search(ROWS[4], k=1).hits[0].metadata == {"number": number}
        if number == 1:
            sounds.rebuild()


def test_a_damaged_file_is_found_and_rebuilt(sounds: Collection) -> None:
    path = next(sounds.path.glob("generations/*/labels.bin"))
    sounds.close()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.warns(RebuildWarning, match="labels"):
        again = Collection.open(sounds.path, embedder=FakeEmbedder())
    with again:
        assert again.search(ROWS[4], k=1).hits[0].key == "4 é"
        assert again.verify() == []


def test_a_rotten_record_does_not_keep_a_rebuild(sounds: Collection) -> None:
    """Its own hits say so; all others are found."""
    sounds._open_writer()._db.execute("UPDATE clips SET metadata = '[]' WHERE key = '5 é'")
    sounds.rebuild()
    assert sounds.search(ROWS[4], k=1).hits[0].key == "4 é"
    with pytest.raises(IntegrityError, match="5 é"):
        sounds.search(ROWS[5], k=1)
