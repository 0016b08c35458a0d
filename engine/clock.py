"""The two clocks. Deadlines run on CLOCK_BOOTTIME, records carry aware UTC.

CLOCK_MONOTONIC stands still while a machine is suspended, so that trust measured with it would outlive the lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]

if hasattr(time, "CLOCK_BOOTTIME"):

    def boottime() -> float:
        """Seconds since boot, suspended time included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
else:  # a development machine that is not Linux
    boottime = time.monotonic


def utcnow() -> datetime:
    """The wall clock, aware, in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with microseconds, or None."""
    if moment is None:
        return None
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat("T", "microseconds")[:-6] + "Z"  # Z for +00:00; strftime costs three times as much


def from_iso(text: str | None) -> datetime | None:
    """The reverse of `iso`. Raises ValueError for a time without a zone."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return moment.astimezone(UTC)


_IB_UTC = "%Y%m%d-%H:%M:%S"  # IB reads the form with a hyphen as UTC, whatever zone the gateway is in


def ib_utc(moment: datetime) -> str:
    """A moment as IB takes it in an order."""
    return moment.astimezone(UTC).strftime(_IB_UTC)


def from_ib_utc(text: str | None) -> datetime | None:
    """The moment that `ib_utc` wrote; None from None and from any other form."""
    try:
        return None if text is None else datetime.strptime(text, _IB_UTC).replace(tzinfo=UTC)
    except ValueError:
        return None
