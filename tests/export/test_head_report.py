"""The report of heads: figures as anybody would count them; rotations keep what they must."""

from __future__ import annotations

import numpy as np
import pytest

from clap_engine.arrays import Float32, l2_normalize
from clap_export import head_report, rotation
from clap_export.errors import TrainingError
from clap_export.features import Features
from clap_export.head_plan import random_rotation
from clap_export.head_report import TOP, compare, table
from clap_export.rotation import Head

pytestmark = pytest.mark.export

S, LADDER, SHORTLISTS = 32, (4, 8, 16), (10, 20, 60)


def drawn(clips: int, seed: int) -> Features:
    """One window and one caption a clip; energy falls along dims of chance."""
    fixed = np.random.default_rng(3)
    turn = np.linalg.qr(fixed.standard_normal((S, S)))[0] * np.arange(1, S + 1)[:, None] ** -0.8
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((clips, S))
    rows = [
        l2_normalize(
            np.asarray((shared + 0.3 * rng.standard_normal((clips, S))) @ turn, np.float32)
        )
        for _ in range(2)
    ]
    ends = np.arange(clips + 1)
    return Features(tuple(map(str, range(clips))), rows[0], ends, rows[1], ends)


def test_figures_are_what_a_plain_count_gives() -> None:
    features = drawn(120, 0)
    rows = {row.dim: row for row in compare(features, {"own": None}, LADDER, SHORTLISTS)}
    assert list(rows) == [4, 8, 16, S]
    texts, sounds = features.texts, features.windows
    for dim, row in rows.items():
        full, coarse = (
            np.argsort(-(l2_normalize(texts[:, :d]) @ l2_normalize(sounds[:, :d]).T), axis=1)
            for d in (S, dim)
        )
        for k in SHORTLISTS:
            held = [
                len(np.intersect1d(a[:TOP], b[:k])) / TOP for a, b in zip(full, coarse, strict=True)
            ]
            assert row.kept[k] == pytest.approx(np.mean(held))
        found = [i in own[:TOP] for i, own in enumerate(coarse)]
        assert row.hit10 == pytest.approx(np.mean(found))


def test_more_dims_and_longer_lists_find_more() -> None:
    features = drawn(300, 0)
    head = Head(rotation.fit(features.texts, features.windows), "fitted")
    rows = compare(features, {"fitted": head}, LADDER, SHORTLISTS)
    table_of = np.array([[row.kept[k] for k in SHORTLISTS] for row in rows])
    assert (np.diff(table_of, axis=0) >= -0.01).all()
    assert (np.diff(table_of, axis=1) >= 0).all()
    assert (table_of[-1] == 1).all()


def test_rotations_keep_all_of_the_whole_space_and_only_good_ones_its_prefixes() -> None:
    """At full width every rotation finds what the space itself does; a fitted one finds as much
    from a space that was turned at random as from the space itself, to a hundredth."""
    learn, test = drawn(2_000, 1), drawn(300, 0)
    turned = random_rotation(S, 5)
    again = rotation.fit(learn.texts @ turned, learn.windows @ turned)
    heads: dict[str, Head | None] = {
        "own": None,
        "turned": Head(turned, "random"),
        "fitted": Head(rotation.fit(learn.texts, learn.windows), "fitted"),
        "fitted to turned": Head(np.asarray(turned @ again, np.float32), "fitted"),
    }
    rows = {(row.space, row.dim): row for row in compare(test, heads, LADDER, SHORTLISTS)}
    for name in heads:
        assert rows[name, S].hit10 == pytest.approx(rows["own", S].hit10, abs=0.004)
    for dim in LADDER:
        fitted, other = rows["fitted", dim], rows["fitted to turned", dim]
        assert fitted.kept[20] == pytest.approx(other.kept[20], abs=0.01)
        assert fitted.kept[20] > rows["turned", dim].kept[20] + 0.03


def test_a_head_of_its_own_for_texts_is_used_for_texts() -> None:
    features = drawn(50, 0)
    sides = [random_rotation(S, seed) for seed in (1, 2)]
    undone: Float32 = np.asarray(features.texts @ sides[1].T @ sides[0], np.float32)
    own = Features(features.names, features.windows, features.starts, undone, features.said)
    # Texts that were turned the other way round come to lie as before.
    two = Head(sides[0], "trained", text=np.asarray(sides[0].T @ sides[1] @ sides[0], np.float32))
    one = Head(sides[0], "random")
    (a,) = compare(own, {"two": two}, (), (10,))
    (b,) = compare(features, {"two": one}, (), (10,))
    assert a.hit10 == pytest.approx(b.hit10)


def test_relevance_asks_the_first_caption_of_each_clip() -> None:
    features = drawn(40, 0)
    nothing = np.zeros((40, 40), bool)
    assert all(r.hit10 == 0 for r in compare(features, {"own": None}, LADDER, (10,), nothing))
    assert all(r.hit10 == 1 for r in compare(features, {"own": None}, LADDER, (10,), ~nothing))


@pytest.mark.parametrize("shortlists", [(), (5,), (10, 120)])
def test_shortlists_that_say_nothing_are_refused(shortlists: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match="give lengths of 10 to 119"):
        compare(drawn(120, 0), {"own": None}, LADDER, shortlists)


def test_the_table_is_markdown() -> None:
    rows = compare(drawn(120, 0), {"own": None}, LADDER, (10, 20))
    lines = table(rows, (10, 20)).splitlines()
    assert lines[0] == "| space | d | K = 10 | K = 20 | R@10 |"
    assert len(lines) == 2 + 4
    assert lines[2].startswith("| own | 4 | .")
    assert lines[-1].startswith("|  | 32 | 1 | 1 |")
    assert head_report._share(0.0) == ".000"
