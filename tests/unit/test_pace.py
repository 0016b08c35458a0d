"""The pace of messages to the broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pace import Pace

rates = st.integers(1, 50).map(float)
steps = st.lists(st.integers(0, 200).map(lambda ms: ms / 1000), min_size=1, max_size=300)


def taken(pace: Pace, gaps: list[float], start: float = 1000.0) -> list[float]:
    """When a sender that asks after each of these gaps got the right to send."""
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
        assert len([t for t in times if start <= t < start + 1.0 - 1e-9]) <= rate


def test_a_sender_that_asks_all_the_time_gets_the_rate_and_not_one_more() -> None:
    assert len(taken(Pace(40.0), [0.001] * 1000)) == 40
    assert len(taken(Pace(40.0), [0.001] * 10_000)) in (400, 401)


@given(rates, steps)
def test_after_the_wait_it_may_send_and_the_wait_is_no_longer_than_a_second(rate: float, gaps: list[float]) -> None:
    pace = Pace(rate)
    taken(pace, gaps)
    now = 1000.0 + sum(gaps)
    wait = pace.wait(now)
    assert 0.0 <= wait <= 1.0 + 1e-9
    assert pace.take(now + wait + 1e-6)


def test_rate_zero_is_no_limit() -> None:
    pace = Pace(0.0)
    assert all(pace.take(1000.0) for _ in range(1000))
    assert pace.wait(1000.0) == 0.0


def test_rate_below_one_is_one_message_in_its_time() -> None:
    pace = Pace(0.5)
    assert [pace.take(1000.0 + second) for second in range(5)] == [True, False, True, False, True]
    assert pace.wait(1004.0) == pytest.approx(2.0)


@pytest.mark.parametrize("start", [-5.0, 0.0, 1000.0])
def test_pace_holds_wherever_the_clock_starts_and_while_it_stands_still(start: float) -> None:
    assert len(taken(Pace(4.0), [0.0] * 100, start)) == 4


def test_clock_that_goes_back_gives_nothing_away() -> None:
    pace = Pace(1.0)
    assert pace.take(1000.0)
    assert not pace.take(999.0)
