"""Figures, times and durations as people read them. Pure.

Every function takes what the API gives (decimal strings, ISO times, milliseconds, or None) and returns one line of text;
what it cannot read it shows as it came, escaped, rather than hide it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from ha.redact import one_line

NOTHING = "-"


def quantity(value: Any) -> str:
    """A quantity without needless zeros, thousands apart: `12,500` or `0.5`."""
    number = decimal(value)
    if number is None:
        return text(value)
    whole = number.to_integral_value()
    return f"{whole:,f}" if number == whole else f"{number.normalize():,f}"


def price(value: Any) -> str:
    """A price with at least two places: `190.50`, `1.08125`."""
    number = decimal(value)
    if number is None:
        return text(value)
    places = max(2, -int(number.normalize().as_tuple().exponent))
    return f"{number:,.{places}f}"


def decimal(value: Any) -> Decimal | None:
    """The finite number in `value`, or None."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def moment(value: Any, now: datetime) -> str:
    """A time in UTC: to the second if it is on the day of `now`, else the date and the minute."""
    at = _time(value)
    if at is None:
        return text(value)
    return f"{at:%H:%M:%S}" if at.date() == now.astimezone(UTC).date() else f"{at:%Y-%m-%d %H:%M}"


def _time(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else None


def duration(ms: Any) -> str:
    """Milliseconds as `3 ms`, `1.48 s`, `12m 03s`, `1h 02m` or `3d 04h`."""
    if not isinstance(ms, (int, float)) or isinstance(ms, bool):
        return text(ms)
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.2f} s"
    minutes, seconds = divmod(int(ms // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {seconds:02}s"


def milliseconds(ms: Any) -> str:
    """A bare number of milliseconds, for a column that says so; `-` where a phase did not happen."""
    return f"{ms:.0f}" if isinstance(ms, (int, float)) and not isinstance(ms, bool) else text(ms)


def text(value: Any) -> str:
    """Anything on one line; `-` for None and for nothing."""
    if value is None or value in ("", [], {}):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = ", ".join(f"{key} {text(part)}" for key, part in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(text, value))
    return one_line(str(value), 200)
