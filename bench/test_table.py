"""The table says what the JSON holds.

In:  a result in miniature.
Out: nothing is timed.
Knows nothing about real figures.
"""

from __future__ import annotations

import machine
import table
from race import Summary


def test_a_row_names_both_sides_and_the_machine() -> None:
    """Law: medians, ratio, n and memory stand in the rows; the machine is named below."""
    speed = {
        "what": "embed one text",
        "subject": "clap-mini 0123",
        "ratio": 4.21,
        "processor_ratio": 6.0,
        "ours": {"unit": "ms", "n": 300, "p50": 3.456, "p99": 4.5, "best": 3.0},
        "peer": {"unit": "ms", "n": 300, "p50": 14.55, "p99": 20.04, "best": 13.0},
        "peak_rss_mb": {"ours": 100.0, "peer": 420.0},
    }
    found = {
        "benchmarks": [{"extra_info": speed}, {"extra_info": {}}],
        "machine_info": {"bench": machine.facts()},
        "commit_info": {"id": "abcdef0123456789", "dirty": True},
    }
    lines = table.render(found).splitlines()
    assert (
        lines[2] == "| embed one text | **3.46 ms** (p99 4.50) | 14.6 ms (p99 20.0) | 4.2x | 300 |"
    )
    assert lines[3] == "| peak memory: embed one text | 100 MB | 420 MB | 4.2x | 1 |"
    assert lines[5].startswith("- **not quiet**: embed one text is 4.2x by the clock, 6.0x")
    assert machine.cpu_model() in lines[-1]
    assert lines[-1].endswith("clap-mini 0123; commit abcdef0123 with changes.")


def test_a_row_says_its_threads_where_they_are_not_one() -> None:
    """Law: the last line's number holds for every row that gives none."""
    row = {
        "what": "embed one text",
        "subject": "clap-mini 0123",
        "ratio": 4.0,
        "ours": {"unit": "ms", "n": 3, "p50": 1.0, "p99": 1.0, "best": 1.0},
        "peer": {"unit": "ms", "n": 3, "p50": 4.0, "p99": 4.0, "best": 4.0},
        "threads": 2,
    }
    found = {
        "benchmarks": [{"extra_info": row}],
        "machine_info": {"bench": machine.facts()},
    }
    alone = table.render(found).splitlines()
    assert alone[2].startswith("| embed one text, 2 threads | ")
    assert ", 2 threads used, Python" in alone[-1]
    found["benchmarks"].append({"extra_info": {**row, "threads": 1}})
    both = table.render(found).splitlines()
    assert both[2].startswith("| embed one text, 2 threads | ")
    assert both[3].startswith("| embed one text | ")
    assert ", 1 thread used where a row says no other number, Python" in both[-1]


def test_the_bad_percentile_is_the_bad_one() -> None:
    """Law: p99 is near the longest time, and near the lowest speed."""
    values = [float(value) for value in range(1, 102)]
    assert Summary.of(values, "ms").p99 == 100.0
    assert Summary.of(values, "x real time").p99 == 2.0
