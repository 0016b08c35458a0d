"""The pace of messages to the broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pace import Pace

rates = st.one_of(st.integers(1, 50).map(float), st.sampled_from([0.5, 2.5, 40.5]))
steps = st.lists(st.integers(1, 200).map(lambda ms: ms / 1000), min_size=1, max_size=300)


def taken(pace: Pace, gaps: list[float], start: float = 1000.0) -> list[float]:
    """When a sender that asks after each of these gaps may send."""
    now, times = start, []
    for gap in gaps:
        now += gap
        if pace.take(now):
            times.append(now)
    return times


@given(rates, steps)
def test_never_more_than_the_rate_in_any_second(rate: float, gaps: list[float]) -> None:
    times = taken(Pace(rate), gaps)
    for start in times:
        assert len([t for t in times if start <= t < start + 1.0 - 1e-9]) <= max(1.0, rate)


def test_the_whole_rate_is_reached() -> None:
    assert len(taken(Pace(40.0), [0.001] * 10_000)) in (400, 401)


def test_a_burst_goes_at_once_and_the_next_one_waits_for_the_window() -> None:
    pace = Pace(40.0)
    assert [pace.take(1000.0) for _ in range(41)] == [True] * 40 + [False]
    assert pace.wait(1000.25) == pytest.approx(0.75)
    assert not pace.take(1000.999)
    assert pace.take(1001.0)


@given(rates, steps)
def test_after_the_wait_the_next_one_may_go(rate: float, gaps: list[float]) -> None:
    pace = Pace(rate)
    now = [*taken(pace, gaps), 1000.0][-1]
    assert pace.take(now + pace.wait(now) + 1e-9)


def test_rate_zero_is_no_limit() -> None:
    pace = Pace(0.0)
    assert all(pace.take(1000.0) for _ in range(1000))
    assert pace.wait(1000.0) == 0.0


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    pace = Pace(1.0)
    assert pace.take(1000.0)
    assert not pace.take(1000.0)
    assert not pace.take(999.0)


def test_the_pace_holds_on_a_clock_that_starts_at_zero() -> None:
    pace = Pace(1.0)
    assert pace.take(0.0)
    assert not pace.take(0.001)
