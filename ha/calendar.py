"""The gateway's own calendar: it restarts once a day and asks for a login once a week, at times that it was told. Pure.

Orders written in the last milliseconds before a restart can vanish, and a fail-over would not help: the gateway is gone for both
replicas. So the gate shuts to new orders shortly before, and no leadership is spent on the silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
LATE = 30.0
"""Seconds by which the gateway's restart may come late and still find the gate shut."""

BACK_AFTER = 300.0
"""Seconds after which a gateway that restarted should be back; until then its absence is no reason to hand over."""


DAY_MARGIN = timedelta(minutes=10)
"""Of the gateway's midnight nobody knows the second, nor for certain the zone's rule (R23)."""


def day_began(zone: str, now: datetime) -> datetime:
    """Since when the gateway surely shows executions and completed orders: its last midnight and a margin (R23). UTC.

    Around midnight it is the one that may have come already, and the answer lies ahead of `now`: nothing older is shown for sure.
    """
    today = (now + DAY_MARGIN).astimezone(ZoneInfo(zone)).date()
    return datetime.combine(today, time(), ZoneInfo(zone)).astimezone(UTC) + DAY_MARGIN


@dataclass(frozen=True, slots=True)
class GatewayCalendar:
    """When the gateway restarts (`daily`, local time in `zone`) and wants a login (`weekly`: weekday 0 = Monday, local time).

    The gate is shut from `before` seconds ahead of each until `after` seconds past it. A time that a day has twice (summer
    time ends) counts twice; one that a day lacks counts as much later as the clock is put forward.
    """

    zone: str = "UTC"
    daily: time | None = None
    weekly: tuple[int, time] | None = None
    before: float = 30.0
    after: float = LATE

    def next(self, now: datetime) -> datetime | None:
        """The next restart or login after `now`, in UTC; None where neither is set."""
        return min((moment for moment in self._around(now) if moment > now), default=None)

    def near(self, now: datetime) -> str | None:
        """A sentence while the gate must be shut, else None."""
        return self._sentence(now, self.after)

    def away(self, now: datetime) -> str | None:
        """A sentence while the calendar explains that the gateway is away or about to be, else None."""
        return self._sentence(now, max(self.after, BACK_AFTER))

    def _sentence(self, now: datetime, after: float) -> str | None:
        for moment in self._around(now):
            if moment - timedelta(seconds=self.before) <= now < moment + timedelta(seconds=after):
                return f"The gateway restarts by its own calendar at {moment.strftime('%Y-%m-%dT%H:%M:%SZ')}."
        return None

    def _around(self, now: datetime) -> Iterator[datetime]:
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        for offset in range(-1, 9):
            day = today + timedelta(days=offset)
            if self.daily is not None:
                yield from _moments(day, self.daily, zone)
            if self.weekly is not None and day.weekday() == self.weekly[0]:
                yield from _moments(day, self.weekly[1], zone)


def _moments(day: date, at: time, zone: ZoneInfo) -> Iterator[datetime]:
    """The moments, in UTC, at which clocks in `zone` show `at` on `day`; for a time that is skipped, the one it becomes."""
    first = datetime.combine(day, at, zone)
    again = first.replace(fold=1)
    yield first.astimezone(UTC)
    if again.astimezone(UTC) > first.astimezone(UTC):  # in the skipped hour it is the other way round
        yield again.astimezone(UTC)


def parse_daily(text: str) -> time:
    """`23:45`. Raises ValueError with what is allowed."""
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
    if match is None:
        raise ValueError("a time of day such as 23:45")
    return time(int(match[1]), int(match[2]))


def parse_weekly(text: str) -> tuple[int, time]:
    """`SUN 14:00`, the day in full or its first three letters, in any case. Raises ValueError with what is allowed."""
    day, _, moment = text.strip().upper().partition(" ")
    found = [number for number, name in enumerate(WEEKDAYS) if day in (name, name[:3])]
    if not found or not moment:
        raise ValueError("a weekday and a time such as SUN 14:00")
    return found[0], parse_daily(moment)


def check_zone(name: str) -> str:
    """`name`, if it is a zone that this machine knows. Raises ValueError with a sentence."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: the name of a directory of zones, such as America
        raise ValueError(f"no zone {name!r} is known here") from None
    return name
