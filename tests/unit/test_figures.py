"""The arithmetic of the benchmarks: a figure that is printed is what was measured."""

from __future__ import annotations

import pytest

from bench.figures import compared, per_second, percentile, ratio, rows, spread


def test_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values[::-1], 0.99) == 100.0
    assert percentile(values, 0.5) == 51.0
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_spread_of_nothing_is_empty_and_of_something_names_its_count() -> None:
    assert spread([]) == {}
    assert spread([3.0, 1.0, 2.0]) == {"n": 3.0, "p50": 2.0, "p99": 3.0, "max": 3.0}


def test_ratio_is_over_the_sum_of_the_parts_and_unknown_over_nothing() -> None:
    assert ratio(6.0, 1.0, 2.0) == 2.0
    assert ratio(6.0, 0.0) is None


def test_comparison_takes_each_percentile_by_itself() -> None:
    order, commit, http = [4.0, 4.0, 40.0], [1.0, 1.0, 15.0], [1.0, 1.0, 5.0]
    assert compared(order, commit, http) == {"p50": 2.0, "p99": 2.0}
    assert compared(order, commit, []) == {"p50": None, "p99": None}


def test_rate_is_between_the_first_and_the_last() -> None:
    assert per_second([10.0, 10.5, 11.0]) == 2.0
    assert per_second([10.0]) == 0.0


def test_table_shows_every_figure_under_its_path() -> None:
    figures = {"orders": 20, "order_ms": {"p50": 2.5}, "ratio": {"p50": None}}
    assert rows(figures) == [("orders", "20"), ("order_ms.p50", "2.5"), ("ratio.p50", "-")]
