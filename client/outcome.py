"""What one attempt's answer means, and how long to wait before the next: pure, no clock, no network.

The three-way split is the point of this module. An attempt was *carried out*, or is *known* to have written nothing
(503, 429, a connection that was never made), or is *unknown* (504, a connection that died after sending, a server's
bug). Unknown never becomes a no.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

FIRST_WAIT = 0.02
LONGEST_WAIT = 0.5
HELD = "urn:adapter:held"


class Kind(StrEnum):
    """What an attempt came to. INVOKE is its start, the others its end."""

    INVOKE = "invoke"
    OK = "ok"
    REDIRECT = "redirect"
    UNAVAILABLE = "unavailable"
    LIMITED = "limited"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One step of one call, as an observer sees it: its start (`kind` INVOKE) or its end."""

    op: str
    key: str
    number: int
    url: str
    kind: Kind
    status: int | None = None
    body: Mapping[str, Any] | None = None
    error: str | None = None
    retry_after: float | None = None
    location: str | None = None

    @property
    def wherever_asked(self) -> bool:
        """The other replica would say the same: the caller's own rate limit, or a contract that an open break holds."""
        held = self.kind is Kind.UNAVAILABLE and self.body is not None and self.body.get("type") == HELD
        return held or self.kind is Kind.LIMITED


def classify(status: int) -> Kind:
    """What a complete answer with this status means for the request that it answers."""
    if status in {200, 201, 202}:
        return Kind.OK
    if status in {307, 308}:
        return Kind.REDIRECT
    if status == 503:
        return Kind.UNAVAILABLE
    if status == 429:
        return Kind.LIMITED
    if 400 <= status < 500:
        return Kind.REFUSED
    return Kind.UNKNOWN


def read_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date), or None when it says nothing usable."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        named = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = named if named.tzinfo is not None else named.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


class Backoff:
    """Waits that double from 20 ms to 500 ms, each between half and the whole of its step.

    The Retry-After of a replica that is not ready is only a ceiling here: the other one may lead long before this one
    thinks so. Where the other one would say the same, it is an order.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._step = FIRST_WAIT

    def after(self, attempt: Attempt) -> float:
        """Seconds to wait after this attempt."""
        wait = self._step * self._rng.uniform(0.5, 1.0)
        self._step = min(LONGEST_WAIT, self._step * 2)
        if attempt.retry_after is None:
            return wait
        return max(wait, attempt.retry_after) if attempt.wherever_asked else min(wait, attempt.retry_after)
