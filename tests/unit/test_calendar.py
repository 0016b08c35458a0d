"""The gateway's own calendar: its moments over days, weeks and changes of the clock, and what is said around them."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha.calendar import BACK_AFTER, LATE, GatewayCalendar, check_zone, day_began, parse_daily, parse_weekly

NEW_YORK = "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def daily(text: str, zone: str = NEW_YORK) -> GatewayCalendar:
    return GatewayCalendar(zone, parse_daily(text))


def moments(calendar: GatewayCalendar, begin: datetime, count: int) -> list[str]:
    """The next so many moments, each a minute after the one before was over."""
    found = []
    for _ in range(count):
        moment = calendar.next(begin)
        assert moment is not None
        found.append(moment.strftime("%m-%dT%H:%M"))
        begin = moment
    return found


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-01-15T12:00", "2026-01-16T04:45"),  # 23:45 in New York's winter, UTC-5
        ("2026-07-15T12:00", "2026-07-16T03:45"),  # in its summer, UTC-4
        ("2026-01-16T04:44:59", "2026-01-16T04:45"),
        ("2026-01-16T04:45", "2026-01-17T04:45"),  # the moment itself is over
        ("2026-12-31T23:00", "2027-01-01T04:45"),
    ],
)
def test_the_next_restart_is_that_times_next_moment(now: str, expected: str) -> None:
    assert daily("23:45").next(utc(now)) == utc(expected)


def test_over_the_begin_of_summer_time_a_restart_keeps_its_local_time() -> None:
    """2026-03-08 02:00 becomes 03:00 in New York."""
    assert moments(daily("23:45"), utc("2026-03-07T12:00"), 3) == ["03-08T04:45", "03-09T03:45", "03-10T03:45"]


def test_a_time_that_the_day_lacks_counts_as_much_later_as_the_clock_is_put_forward() -> None:
    assert moments(daily("02:30"), utc("2026-03-07T12:00"), 3) == ["03-08T07:30", "03-09T06:30", "03-10T06:30"]


def test_a_time_that_the_day_has_twice_counts_twice() -> None:
    """2026-11-01 02:00 becomes 01:00 in New York: nobody knows at which 01:30 the gateway restarts."""
    assert moments(daily("01:30"), utc("2026-10-31T12:00"), 4) == [
        "11-01T05:30", "11-01T06:30", "11-02T06:30", "11-03T06:30",
    ]  # fmt: skip
    assert daily("01:30").near(utc("2026-11-01T05:29:45")) is not None
    assert daily("01:30").near(utc("2026-11-01T06:29:45")) is not None


def test_the_weekly_login_is_once_a_week_and_the_earlier_of_both_comes_next() -> None:
    calendar = GatewayCalendar(NEW_YORK, parse_daily("23:45"), parse_weekly("SUN 14:00"))
    assert moments(calendar, utc("2026-01-17T12:00"), 4) == [  # a Saturday
        "01-18T04:45", "01-18T19:00", "01-19T04:45", "01-20T04:45",
    ]  # fmt: skip
    weekly = GatewayCalendar(NEW_YORK, None, parse_weekly("sunday 14:00"))
    assert moments(weekly, utc("2026-03-07T12:00"), 3) == ["03-08T18:00", "03-15T18:00", "03-22T18:00"]


def test_in_zones_far_from_utc_the_local_day_counts() -> None:
    """Sunday 23:30 in Auckland is Sunday 10:30 UTC; Sunday 00:30 there is Saturday."""
    assert GatewayCalendar("Pacific/Auckland", None, (6, time(0, 30))).next(utc("2026-01-14T00:00")) == utc(
        "2026-01-17T11:30"
    )
    assert GatewayCalendar("Pacific/Honolulu", None, (6, time(23, 30))).next(utc("2026-01-14T00:00")) == utc(
        "2026-01-19T09:30"
    )


def test_without_a_time_there_is_no_next_one_and_never_a_sentence() -> None:
    assert GatewayCalendar().next(utc("2026-01-15T12:00")) is None
    assert GatewayCalendar().near(utc("2026-01-15T12:00")) is None


@pytest.mark.parametrize(
    ("seconds", "shut"), [(-31, False), (-30, True), (-1, True), (0, True), (LATE - 1, True), (LATE, False)]
)
def test_the_gate_is_shut_from_before_until_after(seconds: float, shut: bool) -> None:
    now = utc("2026-01-16T04:45") + timedelta(seconds=seconds)
    sentence = "The gateway restarts by its own calendar at 2026-01-16T04:45:00Z."
    assert daily("23:45").near(now) == (sentence if shut else None)


def test_its_absence_is_explained_for_longer_than_the_gate_is_shut() -> None:
    restart = utc("2026-01-16T04:45")
    calendar = daily("23:45")
    assert calendar.away(restart + timedelta(seconds=BACK_AFTER - 1)) is not None
    assert calendar.near(restart + timedelta(seconds=BACK_AFTER - 1)) is None
    assert calendar.away(restart + timedelta(seconds=BACK_AFTER)) is None
    assert calendar.away(restart - timedelta(seconds=30)) is not None


@given(
    seconds=st.integers(1_600_000_000, 2_200_000_000),  # from 2020 to 2039
    at=st.times(),
    zone=st.sampled_from([NEW_YORK, "Europe/London", "Australia/Lord_Howe", "Asia/Tokyo", "UTC"]),
)
def test_there_is_always_a_restart_within_a_day_and_what_the_clock_moved(seconds: int, at: time, zone: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    following = GatewayCalendar(zone, at.replace(second=0, microsecond=0)).next(moment)
    assert following is not None
    assert timedelta() < following - moment <= timedelta(hours=25)


@pytest.mark.parametrize(("text", "expected"), [("23:45", time(23, 45)), (" 0:05 ", time(0, 5)), ("00:00", time())])
def test_a_time_of_day_is_read(text: str, expected: time) -> None:
    assert parse_daily(text) == expected


@pytest.mark.parametrize("text", ["", "24:00", "12:60", "12", "1200", "12:00:00", "12:00+01:00", "noon", "-1:00"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a time of day such as 23:45"):
        parse_daily(text)


@pytest.mark.parametrize(("text", "day"), [("SUN 14:00", 6), ("monday 14:00", 0), ("Wed  14:00", 2)])
def test_a_weekday_is_read_in_full_or_by_three_letters(text: str, day: int) -> None:
    assert parse_weekly(text) == (day, time(14))


@pytest.mark.parametrize("text", ["14:00", "SUNK 14:00", "SU 14:00", "SUN", "SUN 24:00", ""])
def test_what_is_no_weekday_and_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        parse_weekly(text)


@pytest.mark.parametrize("name", ["Mars/X", "America", "../x", "/etc/passwd", "", "a\x00b"])
def test_a_zone_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is known here"):
        check_zone(name)
    assert check_zone(NEW_YORK) == NEW_YORK


@pytest.mark.rule(23)
@pytest.mark.parametrize(
    ("now", "began"),
    [
        ("2026-01-15T18:00:00Z", "2026-01-15T05:10:00Z"),
        ("2026-01-15T05:05:00Z", "2026-01-15T05:10:00Z"),  # just after midnight in New York: nothing is shown for sure
        ("2026-01-15T04:55:00Z", "2026-01-15T05:10:00Z"),  # it may be midnight there already
        ("2026-01-15T04:45:00Z", "2026-01-14T05:10:00Z"),
        ("2026-07-15T18:00:00Z", "2026-07-15T04:10:00Z"),
    ],
)
def test_gateways_day_begins_at_its_midnight_with_a_margin_on_both_sides(now: str, began: str) -> None:
    assert day_began("America/New_York", datetime.fromisoformat(now)) == datetime.fromisoformat(began)
