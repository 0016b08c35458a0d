"""The pace of messages to the broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pace import OVERTAKE, RESERVED, DoorPace, Pace

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


# ---- the door's pace


def written(pace: DoorPace, count: int, now: float) -> DoorPace:
    """`count` messages were written at `now`."""
    for _ in range(count):
        pace.wrote(now)
    return pace


def test_orders_leave_room_for_requests_and_cancels_overtake() -> None:
    pace = written(DoorPace(45.0), 45 - RESERVED, 1000.0)
    assert (pace.order_may(1000.9, 0), pace.full(1000.9), pace.cancel_may(1000.9, 0)) == (False, False, True)
    written(pace, RESERVED, 1000.5)
    assert (pace.full(1000.9), pace.cancel_may(1000.9, 0), pace.cancel_may(1000.9, OVERTAKE)) == (True, True, False)
    assert pace.order_may(1001.0, 0)


def test_what_is_licensed_and_not_yet_written_counts() -> None:
    pace = written(DoorPace(45.0), 20, 1000.0)
    assert pace.order_may(1000.1, 19)
    assert not pace.order_may(1000.1, 20)


@given(st.integers(6, 60).map(float), st.lists(st.integers(0, 300).map(lambda ms: ms / 1000), max_size=200))
def test_whoever_waits_as_told_never_writes_more_than_the_rate_in_any_second(rate: float, gaps: list[float]) -> None:
    pace, now, times = DoorPace(rate), 1000.0, list[float]()
    for gap in gaps:
        now += gap
        now += pace.wait(now)
        if not pace.full(now):
            pace.wrote(now)
            times.append(now)
    for start in times:
        assert len([t for t in times if start <= t < start + 1.0 - 1e-9]) <= rate
    assert len(times) >= 0.9 * len(gaps)  # the wait was long enough, but for what a float loses


def test_wait_after_cancels_that_overtook_is_until_enough_of_them_are_old() -> None:
    pace = written(written(DoorPace(45.0), 3, 1000.0), 45, 1000.4)
    assert pace.wait(1000.5) == pytest.approx(0.9)


def test_door_without_a_limit_is_never_full() -> None:
    pace = written(DoorPace(0.0), 500, 1000.0)
    assert (pace.used(1000.0), pace.full(1000.0), pace.wait(1000.0)) == (0, False, 0.0)
    assert pace.order_may(1000.0, 500)
    assert pace.cancel_may(1000.0, 500)


@given(st.integers(1, 12).map(float), st.lists(st.tuples(st.integers(1, 6), st.integers(0, 900)), max_size=40))
def test_what_belongs_together_goes_whole_or_not_at_all_and_keeps_to_the_rate(
    rate: float, wishes: list[tuple[int, int]]
) -> None:
    pace, now, times = Pace(rate), 1000.0, list[float]()
    for count, gap in wishes:
        now += gap / 1000
        if pace.take(now, count):
            times += [now] * count
        else:
            assert len([t for t in times if now - t < 1.0]) + count > rate, "there was room"
    for start in set(times):
        within = len([t for t in times if start <= t < start + 1.0 - 1e-9])
        assert within <= rate or within == times.count(start), (
            "more than the rate only as one family, in a second of its own"
        )


def test_family_is_licensed_where_the_door_has_room_for_all_of_it() -> None:
    pace = written(DoorPace(45.0), 36, 1000.0)
    assert pace.order_may(1000.1, 0, 4)
    assert not pace.order_may(1000.1, 0, 5)
    small = DoorPace(8.0)
    assert small.order_may(1000.0, 0, 8), "more than orders usually may, through an empty second"
    assert not small.order_may(1000.0, 1, 8)
    assert not small.order_may(1000.0, 0, 9), "it would be cut at the door"
