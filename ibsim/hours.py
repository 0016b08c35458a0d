"""Trading hours, the moments that recur, and the times that orders carry. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_MOMENT = re.compile(r"(?:([A-Z]{3}) )?(\d\d):(\d\d)(?::(\d\d))?")
_ORDER_TIME = re.compile(r"(\d{8})(-| +)(\d\d:\d\d(?::\d\d)?)(?: +(\S+))?")


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of the day, or of one day of the week (0 = Monday)."""

    hour: int
    minute: int
    second: int = 0
    weekday: int | None = None

    def after(self, now: float, zone: ZoneInfo) -> float:
        """The next time, later than `now`, at which it comes; seconds since 1970."""
        local = datetime.fromtimestamp(now, zone)
        for days in range(9):
            day = local.date() + timedelta(days=days)
            at = datetime(day.year, day.month, day.day, self.hour, self.minute, self.second, tzinfo=zone)
            if self.weekday in (None, day.weekday()) and at.timestamp() > now:
                return at.timestamp()
        raise AssertionError("a week has seven days")


def moment_of(text: str) -> Moment:
    """The moment of `23:45`, `23:45:30` or `SUN 01:00`. Raises ValueError if it is none."""
    match = _MOMENT.fullmatch(text.upper())
    day = match and match[1]
    if match is None or (day and day not in DAYS):
        raise ValueError(f"{text!r} is not HH:MM or DAY HH:MM, the day one of {' '.join(DAYS)}")
    hour, minute, second = int(match[2]), int(match[3]), int(match[4] or 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} is no time of the day")
    return Moment(hour, minute, second, DAYS.index(day) if day else None)


@dataclass(frozen=True, slots=True)
class Hours:
    """From opening to close, Monday to Friday, in minutes of the day."""

    opens: int
    closes: int
    zone: ZoneInfo

    def is_open(self, now: float) -> bool:
        """Whether regular trading is on."""
        local = datetime.fromtimestamp(now, self.zone)
        return local.weekday() < 5 and self.opens <= local.hour * 60 + local.minute < self.closes

    def next_change(self, now: float) -> float:
        """When it opens or closes next."""
        return min(self.next_opening(now), self._next(self.closes, now))

    def next_opening(self, now: float) -> float:
        """When it opens next."""
        return self._next(self.opens, now)

    def _next(self, minutes: int, now: float) -> float:
        return min(Moment(minutes // 60, minutes % 60, 0, day).after(now, self.zone) for day in range(5))

    def day_text(self, day: datetime) -> str:
        """`20251124:0930-20251124:1600`, or `20251122:CLOSED`: that day as contract details show it."""
        date = f"{day:%Y%m%d}"
        if day.weekday() >= 5:
            return f"{date}:CLOSED"
        opens, closes = (f"{at // 60:02d}{at % 60:02d}" for at in (self.opens, self.closes))
        return f"{date}:{opens}-{date}:{closes}"


def hours_of(text: str, zone: ZoneInfo) -> Hours | None:
    """The hours of `09:30-16:00`; None for `always`. Raises ValueError if it is neither."""
    if text == "always":
        return None
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not HH:MM-HH:MM or always")
    opens, closes = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if not 0 <= opens < closes < 24 * 60 or int(match[2]) > 59 or int(match[4]) > 59:
        raise ValueError(f"{text!r} does not open before it closes, on one day")
    return Hours(opens, closes, zone)


def order_time(text: str, zone: ZoneInfo) -> float | None:
    """The time of `20251124 15:30:00 US/Eastern`, `20251124 15:30:00` (the gateway's zone) or `20251124-20:30:00` (UTC).

    None if it is none of these.
    """
    match = _ORDER_TIME.fullmatch(text)
    if match is None:
        return None
    day, between, clock, name = match.groups()
    try:
        at = datetime.strptime(f"{day} {clock if len(clock) == 8 else clock + ':00'}", "%Y%m%d %H:%M:%S")  # noqa: DTZ007
        used = UTC if between == "-" else ZoneInfo(name) if name else zone
        return at.replace(tzinfo=used).timestamp()
    except (ValueError, OverflowError, OSError, ZoneInfoNotFoundError):  # OSError: the name of a directory of zones
        return None
