"""What a collection holds of a clip beside its hits, in the generation and in the tail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_embedder import FakeEmbedder, fill, power_law, sound_of

from clap_engine.arrays import l2_normalize
from clap_engine.collection import Collection
from clap_engine.errors import ClosedError


@pytest.mark.parametrize("granularity", ["window", "clip", "both"])
@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_means_are_those_of_the_stored_windows(
    tmp_path: Path, granularity: str, is_rebuilt: bool
) -> None:
    """Of clips with 1 to 4 windows, asked for in any order, to fp16's precision."""
    vectors = power_law(60, seed=3)
    clips = [vectors[start : start + 1 + start % 4] for start in range(0, 56, 4)]
    with Collection.open(
        tmp_path / "x.clap", embedder=FakeEmbedder(), create=True,
        granularity=granularity,  # type: ignore[arg-type]
    ) as sounds:  # fmt: skip
        keys = [f"k{i:02d}" for i in range(len(clips))]
        sounds.add([sound_of(rows) for rows in clips], keys=keys)
        if is_rebuilt:
            sounds.rebuild()
        sounds.add([sound_of(vectors[57:59])], keys=["tail"])
        sounds.remove("k03")
        expected = dict(zip(keys, clips, strict=True)) | {"tail": vectors[57:59]}
        del expected["k03"]
        order = sorted(expected, reverse=True)
        found = sounds.clip_vectors([*order, "k03", order[0], "none"])
        assert found.keys == tuple(order)
        means = [l2_normalize(expected[key].mean(axis=0, keepdims=True))[0] for key in order]
        assert np.abs(found.vectors - means).max() < 2e-3
        assert sounds.clip_vectors([]).vectors.shape == (0, 512)


def test_a_sample_is_of_clips_each_once_and_the_same_again(tmp_path: Path) -> None:
    with Collection.open(tmp_path / "x.clap", embedder=FakeEmbedder(), create=True) as sounds:
        assert sounds.clip_vectors().keys == ()
        keys = fill(sounds, power_law(300, seed=5))
        assert list(sounds.clip_vectors(most=300).keys) == keys
        few = sounds.clip_vectors(most=40, seed=1)
        assert len(set(few.keys)) == len(few.keys) == 40
        assert few.keys == sounds.clip_vectors(most=40, seed=1).keys
        assert few.keys != sounds.clip_vectors(most=40, seed=2).keys
        assert np.array_equal(few.vectors, sounds.clip_vectors(few.keys).vectors)


def test_a_clip_says_what_was_stored(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound a")
    with Collection.open(tmp_path / "x.clap", embedder=FakeEmbedder(), create=True) as sounds:
        sounds.add([tmp_path / "a.wav"], metadata=[{"year": 1970}], root=tmp_path)
        sounds.add([b"sound b"], keys=["b"])
        clip = sounds.clip("a.wav")
        assert clip is not None
        assert clip.path == str(tmp_path / "a.wav")
        assert clip.metadata == {"year": 1970}
        assert clip.duration_s > 0
        other = sounds.clip("b")
        assert other is not None
        assert other.path is None
        assert sounds.clip("none") is None
    with pytest.raises(ClosedError):
        sounds.clip("b")
    with pytest.raises(ClosedError):
        sounds.clip_vectors()
