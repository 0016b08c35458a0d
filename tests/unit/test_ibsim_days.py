"""The gateway's day: what it shows until its midnight, in its own zone, and not after it."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from ibsim.contracts import KNOWN, Universe
from ibsim.days import Days
from ibsim.hours import Hours, moment_of
from ibsim.journal import encoded

NEW_YORK = ZoneInfo("America/New_York")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()


@pytest.mark.parametrize("day", ["2026-06-01", "2026-03-08", "2026-11-01", "2026-12-31"])
def test_executions_and_completed_orders_are_shown_until_midnight_in_the_gateways_zone(day: str):
    days = Days(NEW_YORK, at(f"{day} 12:00:00"), Universe(KNOWN))
    try:
        days.execution(encoded({"exec_id": "1"}), at(f"{day} 12:00:00"))
        days.done({"perm_id": 1})
        last = at(f"{day} 23:59:59")
        assert [one["exec_id"] for one in days.executions(last)] == ["1"]
        assert [one["perm_id"] for one in days.done_orders(last)] == [1]
        assert list(days.executions(last + 1)) == []
        assert list(days.done_orders(last + 1)) == []
        assert [one["perm_id"] for one in days.all_done_orders()] == [1]
    finally:
        days.close()


def test_an_execution_of_the_new_day_is_shown_alone():
    days = Days(NEW_YORK, at("2026-06-01 12:00:00"), Universe(KNOWN))
    try:
        days.execution(encoded({"exec_id": "old"}), at("2026-06-01 12:00:00"))
        days.execution(encoded({"exec_id": "new"}), at("2026-06-02 09:30:00"))
        assert [one["exec_id"] for one in days.executions(at("2026-06-02 09:31:00"))] == ["new"]
    finally:
        days.close()


@pytest.mark.parametrize(
    ("text", "now", "due"),
    [
        ("23:45", "2026-06-01 12:00:00", "2026-06-01 23:45:00"),
        ("23:45", "2026-06-01 23:45:00", "2026-06-02 23:45:00"),
        ("SUN 01:00", "2026-06-01 12:00:00", "2026-06-07 01:00:00"),
        ("23:45", "2026-03-07 23:50:00", "2026-03-08 23:45:00"),
    ],
)
def test_a_moment_comes_again_in_local_time(text: str, now: str, due: str):
    assert moment_of(text).after(at(now), NEW_YORK) == at(due)


def test_the_exchange_is_open_on_weekdays_between_its_hours():
    hours = Hours(9 * 60 + 30, 16 * 60, NEW_YORK)
    assert not hours.is_open(at("2026-06-01 09:29:59"))
    assert hours.is_open(at("2026-06-01 09:30:00"))
    assert not hours.is_open(at("2026-06-01 16:00:00"))
    assert not hours.is_open(at("2026-06-06 12:00:00"))
    assert hours.next_opening(at("2026-06-05 16:00:00")) == at("2026-06-08 09:30:00")
    assert hours.next_change(at("2026-06-01 12:00:00")) == at("2026-06-01 16:00:00")
