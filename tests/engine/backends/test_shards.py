"""Shards hold what was embedded, or say that they don't; merging them loses and doubles nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from backend_places import SPACE, Place
from fake_embedder import power_law

from clap_engine import shards
from clap_engine.backends import Space, open_backend
from clap_engine.backends.local import LocalBackend
from clap_engine.errors import IntegrityError, NotFoundError, SpaceMismatchError
from clap_engine.index.vectors import pack
from clap_engine.matryoshka import truncate
from clap_engine.records import NewClip
from clap_engine.shards import Shard, SoundFile


def clips(count: int, first: int = 0) -> list[NewClip]:
    """Clips of one to three windows."""
    found = []
    for i in range(first, first + count):
        windows = 1 + i % 3
        spans = np.stack([5.0 * np.arange(windows), 5.0 * np.arange(windows) + 5], axis=1)
        found.append(
            NewClip(
                f"k{i}",
                f"/s/k{i}.wav",
                100 + i,
                10**18 + i,
                "d" * 64,
                float(spans[-1, 1]),
                "{}",
                pack(power_law(windows, i)),
                spans,
            )
        )
    return found


def files(some: list[NewClip]) -> list[SoundFile]:
    return [SoundFile(c.key, str(c.path), int(c.size or 0), int(c.mtime_ns or 0)) for c in some]


def written(folder: Path, some: list[NewClip]) -> str:
    name = shards.name_of(SPACE, files(some))
    shards.write(folder, name, SPACE, Shard(tuple(some), (("bad", "no sound"),)))
    return name


def same(one: NewClip, other: NewClip) -> bool:
    arrays = ("vectors", "spans")
    facts = [{k: v for k, v in vars(clip).items() if k not in arrays} for clip in (one, other)]
    return facts[0] == facts[1] and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def test_a_shard_comes_back_as_it_was(tmp_path: Path) -> None:
    some = clips(7)
    found = shards.read(tmp_path, written(tmp_path, some), SPACE)
    assert found.failed == (("bad", "no sound"),)
    assert all(same(one, other) for one, other in zip(found.clips, some, strict=True))
    empty = shards.read(tmp_path, written(tmp_path, []), SPACE)
    assert empty.clips == ()


def test_other_files_or_another_space_give_another_name() -> None:
    some = files(clips(3))
    names = {
        shards.name_of(SPACE, some), shards.name_of(SPACE, some[:2]),
        shards.name_of(Space("6" * 64, 512), some),
        shards.name_of(SPACE, [*some[:2], SoundFile("k2", "/s/k2.wav", 102, 5)]),
    }  # fmt: skip
    assert len(names) == 4


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_every_damage_is_found_and_made_again(tmp_path: Path, suffix: str) -> None:
    """100 bit flips and 10 truncations a file."""
    some = clips(4)
    name = written(tmp_path, some)
    path = tmp_path / f"{name}.{suffix}"
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for i in range(110):
        damaged = bytearray(whole)
        if i < 100:
            damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        else:
            damaged = damaged[: random.integers(len(whole))]
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            shards.read(tmp_path, name, SPACE)
        assert not shards.embedded(tmp_path, SPACE)
    path.unlink()
    with pytest.raises(NotFoundError):
        shards.read(tmp_path, name, SPACE)
    path.write_bytes(whole)
    assert set(shards.embedded(tmp_path, SPACE)) == set(files(some))


def test_a_shard_of_another_space_is_refused(tmp_path: Path) -> None:
    name = written(tmp_path, clips(2))
    with pytest.raises(SpaceMismatchError, match="6666"):
        shards.read(tmp_path, name, Space("6" * 64, 512))


def test_shards_merge_into_any_backend(place: Place, tmp_path: Path) -> None:
    """Twice is as once; what is no longer wanted stays out."""
    first, second = clips(30), clips(25, first=30)
    folder = tmp_path / "shards"
    names = [written(folder, some) for some in (first, second)]
    wanted = files(first + second)[:-5]
    backend = open_backend(place(), space=SPACE, create=True)
    try:
        for _ in range(2):
            assert shards.merge(folder, names, wanted, backend) == 50
            assert backend.count() == 50
        query = power_law(1, 40)[0]
        hit = backend.search(truncate(query, 32), query, 1, shortlist="all")[0]
        assert (hit.key, hit.start_s) == ("k40", 0.0)
        if isinstance(backend, LocalBackend):
            assert not backend.collection.verify()
    finally:
        backend.close()


def test_what_a_shard_says_is_plain_json(tmp_path: Path) -> None:
    name = written(tmp_path, clips(2))
    body = json.loads(json.loads((tmp_path / f"{name}.json").read_text())["body"])
    assert (body["space_id"], len(body["clips"])) == (SPACE.space_id, 2)
    with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as arrays:
        assert {array: arrays[array].dtype.str for array in arrays} == {
            "vectors": "<f2", "spans": "<f8", "windows": "<i8",
        }  # fmt: skip
