"""The gateway's own calendar: it restarts once a day and asks for a login once a week, at times that it was told. Pure.

Orders written in the last milliseconds before a restart can vanish, and a fail-over would not help: the gateway is gone for both
replicas. So the gate shuts to new orders shortly before, and no leadership is spent on the silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


@dataclass(frozen=True, slots=True)
class GatewayCalendar:
    """When the gateway restarts (`daily`, local time in `zone`) and wants a login (`weekly`: weekday 0 = Monday, local time).

    The gate is shut from `before` seconds ahead of each until `after` seconds past it.
    """

    zone: str = "UTC"
    daily: time | None = None
    weekly: tuple[int, time] | None = None
    before: float = 30.0
    after: float = 0.0

    def next(self, now: datetime) -> datetime | None:
        """The next restart or login after `now`, in UTC; None where neither is set."""
        found = [moment for moment in self._around(now) if moment > now]
        return min(found) if found else None

    def near(self, now: datetime) -> str | None:
        """A sentence while the gate must be shut, else None."""
        for moment in self._around(now):
            if moment - timedelta(seconds=self.before) <= now < moment + timedelta(seconds=self.after):
                return f"The gateway restarts by its own calendar at {moment.strftime('%Y-%m-%dT%H:%M:%SZ')}."
        return None

    def _around(self, now: datetime) -> list[datetime]:
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        found = []
        for offset in range(-1, 9):
            day = today + timedelta(days=offset)
            if self.daily is not None:
                found.append(datetime.combine(day, self.daily, zone).astimezone(UTC))
            if self.weekly is not None and day.weekday() == self.weekly[0]:
                found.append(datetime.combine(day, self.weekly[1], zone).astimezone(UTC))
        return found


def parse_daily(text: str) -> time:
    """`23:45`. Raises ValueError with a sentence."""
    try:
        return time.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("a time of day such as 23:45") from None


def parse_weekly(text: str) -> tuple[int, time]:
    """`SUN 14:00`. Raises ValueError with a sentence."""
    day, _, moment = text.strip().upper().partition(" ")
    if day[:3] not in WEEKDAYS or not moment:
        raise ValueError("a weekday and a time such as SUN 14:00")
    return WEEKDAYS.index(day[:3]), parse_daily(moment)
