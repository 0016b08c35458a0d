"""How long nothing happened around a kill, at the broker and for the clients. Pure (G7).

Both figures contain the distance between two arrivals: at 20 orders a second up to 50 ms of each is the traffic's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ha.demo.broker_record import Taken
from ha.demo.history import Answer


@dataclass(frozen=True, slots=True)
class Kill:
    """When which replica was killed; `url` is the address under which clients knew it."""

    name: str
    url: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Silence:
    """The gaps around one kill in milliseconds; None where one of their two ends does not exist."""

    kill: Kill
    broker_ms: float | None
    accepted_ms: float | None


def measure(kill: Kill, taken: Sequence[Taken], accepted: Sequence[Answer]) -> Silence:
    """`taken` in the journal's order, `accepted` (answers 201) in order of arrival."""
    return Silence(kill, _at_broker(kill, taken), _accepted(kill, accepted))


def _at_broker(kill: Kill, taken: Sequence[Taken]) -> float | None:
    """From the last order before the kill to the first after it.

    What the killed leader had already written may be taken a moment after the kill. It came over the same session, and
    ends the time before, not the silence.
    """
    before = [order for order in taken if order.at <= kill.at]
    after = [order for order in taken if order.at > kill.at]
    if not before:
        return None
    last = before[-1]
    while after and last.session is not None and after[0].session == last.session:
        last = after.pop(0)
    return _ms(last.at, after[0].at) if after else None


def _accepted(kill: Kill, accepted: Sequence[Answer]) -> float | None:
    """From the last 201 before the kill to the first after it.

    Answers of the killed replica that were still on their way count as before. 200 does not count: also a standby gives
    it, for a key that it knows.
    """
    before = [answer for answer in accepted if answer.at <= kill.at]
    after = [answer for answer in accepted if answer.at > kill.at]
    if not before:
        return None
    last = before[-1]
    while after and after[0].url == kill.url:
        last = after.pop(0)
    return _ms(last.at, after[0].at) if after else None


def _ms(earlier: datetime, later: datetime) -> float:
    return round((later - earlier).total_seconds() * 1000, 1)
