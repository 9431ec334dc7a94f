"""Laws of the planner: shortlists grow with the collection, the default finds >= 99 %."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_embedder import power_law

from clap_engine import planner
from clap_engine.arrays import l2_normalize
from clap_engine.errors import CollectionError
from clap_engine.index import flat, vectors
from clap_engine.records import Tuning

LADDER = (32, 512)


def test_small_collections_are_scored_exactly() -> None:
    for rows in (0, 1, 999, 1000):
        plan = planner.plan(rows, 10, None, has_coarse=True, ladder=LADDER)
        assert (plan.index, plan.shortlist, plan.dims) == ("exact", rows, (512,))


def test_the_shortlist_grows_with_rows_and_hits() -> None:
    counts = [planner.shortlist_for(rows, 10) for rows in (10**4, 10**5, 10**6, 10**7)]
    assert counts == sorted(set(counts))
    assert planner.shortlist_for(10**4, 500) == 10_000


def test_what_the_caller_insists_on_is_done() -> None:
    for wanted, length in ((5, 10), (10, 10), (77, 77), ("all", 10**5), (10**9, 10**5)):
        plan = planner.plan(10**5, 10, wanted, has_coarse=False, ladder=LADDER)
        assert plan.shortlist == length
    for wrong in (0, -1, True, 1.5, "many"):
        with pytest.raises(CollectionError, match="shortlist"):
            planner.plan(10, 1, wrong, has_coarse=False, ladder=LADDER)


def test_the_graph_serves_where_it_is_faster_and_present() -> None:
    def index(rows: int, shortlist: int | None, has_coarse: bool) -> str:
        return planner.plan(rows, 10, shortlist, has_coarse=has_coarse, ladder=LADDER).index

    assert index(10**6, None, True) == "hnsw"
    assert index(10**6, None, False) == "flat"
    assert index(10**5, None, True) == "flat"
    assert index(2 * 10**5, 1000, True) == "hnsw"
    assert planner.is_coarse_due(10**6)
    assert not planner.is_coarse_due(5 * 10**5)


@pytest.mark.parametrize("has_coarse", [False, True])
def test_widening_ends_at_all_rows(has_coarse: bool) -> None:
    plan = planner.plan(10**6, 1, 1, has_coarse=has_coarse, ladder=LADDER)
    lengths = [plan.shortlist]
    while plan.index != "exact":
        plan = planner.widen(plan)
        lengths.append(plan.shortlist)
    assert lengths == sorted(set(lengths))
    assert (lengths[-1], plan.dims, plan.widened) == (10**6, (512,), len(lengths) - 1)


def test_a_generation_is_due_at_a_tail_of_five_percent() -> None:
    assert not planner.is_generation_due(0, 1000)
    assert planner.is_generation_due(0, 1001)
    assert not planner.is_generation_due(100_000, 5000)
    assert planner.is_generation_due(100_000, 5001)


@pytest.mark.parametrize("rows", [10_000, 20_000])
def test_the_default_shortlist_holds_the_true_top_ten(rows: int) -> None:
    """recall@10 >= .99 on hard synthetic data; measured .998 at 10k, .995 at 20k (seed 23)."""
    packed = vectors.pack(power_law(rows, seed=23))
    prefixes = vectors.prefixes(packed, 32)
    everything, found = np.arange(rows), 0
    queries = power_law(50, seed=24)
    for query in queries:
        truth = np.argsort(-vectors.exact_scores(packed, everything, query), kind="stable")[:10]
        prefix = l2_normalize(query[None, :32])[0]
        shortlist = flat.best(flat.scan(prefixes, prefix), planner.shortlist_for(rows, 10))
        found += int(np.isin(truth, shortlist).sum())
    assert found / (10 * len(queries)) >= 0.99


def test_the_recall_test_can_fail() -> None:
    """Its control: a tenth of the shortlist is not enough on the same data."""
    packed = vectors.pack(power_law(10_000, seed=23))
    prefixes, found = vectors.prefixes(packed, 32), 0
    for query in power_law(50, seed=24):
        scores = vectors.exact_scores(packed, np.arange(10_000), query)
        truth = np.argsort(-scores, kind="stable")[:10]
        prefix = l2_normalize(query[None, :32])[0]
        found += int(np.isin(truth, flat.best(flat.scan(prefixes, prefix), 100)).sum())
    assert found / 500 < 0.95


def test_a_measured_space_says_how_long_its_shortlists_are() -> None:
    factor = planner.measured({"text_mean": 0.1, "shortlist_per_sqrt_row": 3.0})
    assert factor == 3.0
    assert planner.shortlist_for(10_000, 10, factor) == 300
    assert planner.shortlist_for(100, 10, factor) == 200  # 20 windows for each hit at least
    plan = planner.plan(10_000, 10, None, has_coarse=False, ladder=LADDER, per_sqrt_row=factor)
    assert plan.shortlist == 300
    assert planner.is_coarse_due(100_000, factor)
    assert not planner.is_coarse_due(100_000)


@pytest.mark.parametrize("calibration", [{}, {"shortlist_per_sqrt_row": 0.0}])
def test_a_space_that_nobody_measured_has_the_cautious_default(
    calibration: dict[str, float],
) -> None:
    assert planner.measured(calibration) is None
    assert planner.shortlist_for(10_000, 10, planner.measured(calibration)) == 1000


TUNED = Tuning("flat", 64, 400, 0, 0, 10_000, 10, 0.99, 0.992, 0.5, 200, "given", 0, 1.0)


def tuned(rows: int, k: int = 10, tuning: Tuning = TUNED, has_coarse: bool = False) -> planner.Plan:
    return planner.plan(
        rows, k, None, has_coarse=has_coarse, ladder=(64, 512), per_sqrt_row=3.0, tuning=tuning
    )


def test_a_tuned_plan_grows_with_the_square_root_of_the_rows() -> None:
    for rows, length in ((10_000, 400), (40_000, 800), (1_000_000, 4000), (2_500, 400)):
        plan = tuned(rows)
        assert (plan.shortlist, plan.dims, plan.source) == (length, (64, 512), "tuned")
    assert tuned(10, tuning=TUNED).index == "exact"


def test_no_recall_is_promised_beyond_what_was_measured() -> None:
    assert tuned(10_000).expected_recall == tuned(20_000, k=5).expected_recall == 0.992
    assert tuned(20_001).expected_recall is None
    assert tuned(10_000, k=11).expected_recall is None
    assert "tune again" in planner.reason(tuned(20_001), TUNED, 64)


def test_more_clips_than_tuned_for_get_a_longer_shortlist() -> None:
    assert tuned(10_000, k=10).shortlist == 400
    assert tuned(10_000, k=100).shortlist == 2000


def test_a_plan_for_other_dims_waits_for_its_index() -> None:
    plan = planner.plan(10_000, 10, None, has_coarse=False, ladder=LADDER, tuning=TUNED)
    assert (plan.source, plan.shortlist, plan.dims) == ("default", 1000, LADDER)
    assert "next rebuild" in planner.reason(plan, TUNED, 32)
    assert planner.plan(
        10_000, 10, 77, has_coarse=False, ladder=(64, 512), tuning=TUNED
    ) == planner.Plan("flat", 10_000, 77, (64, 512), source="caller")


def test_a_middle_rung_grows_and_widens_with_the_shortlist() -> None:
    tuning = replace(TUNED, coarse_dim=64, middle_dim=128, kept=100)
    plan = tuned(40_000, tuning=tuning)
    assert (plan.shortlist, plan.kept, plan.dims) == (800, 200, (64, 128, 512))
    wider = planner.widen(plan)
    assert (wider.shortlist, wider.kept, wider.dims) == (3200, 800, (64, 128, 512))
    while wider.index != "exact":
        wider = planner.widen(wider)
    assert (wider.kept, wider.dims, wider.expected_recall) == (0, (512,), 1.0)


def test_a_tuned_graph_serves_where_it_is_and_is_built_where_it_is_due() -> None:
    graph = replace(TUNED, index="hnsw")
    assert tuned(10_000, tuning=graph, has_coarse=True).index == "hnsw"
    assert tuned(10_000, tuning=graph).index == "flat"
    assert tuned(10_000, has_coarse=True).index == "flat"
    assert planner.is_coarse_due(10_000, None, graph)
    assert not planner.is_coarse_due(10_000, None, TUNED)
    # Outgrown, the rule of thumb takes over.
    assert planner.is_coarse_due(10**7, None, TUNED)
