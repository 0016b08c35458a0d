"""The ledger's alphabet: one row of the event log, and the kinds that there are.

The log is the truth; everything else (book, tables, digest) is folded from it. A payload is JSON with every quantity and
price as a decimal string and every time as ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from engine.reference import random_id

Payload = dict[str, Any]

LEDGER_LEVEL = 2
"""The highest level of event kinds that this version writes and reads (R22). A fresh database starts there."""


class Kind(StrEnum):
    """Every kind of event. A kind that is not here stops the fold: a replica that meets one does not campaign (R22)."""

    SESSION_OPENED = "session_opened"
    SESSION_CLOSED = "session_closed"
    ORDER_ACCEPTED = "order_accepted"
    ORDER_LICENSED = "order_licensed"
    ORDER_UNLICENSED = "order_unlicensed"
    ORDER_REPEATED = "order_repeated"
    ORDER_WORKING = "order_working"
    ORDER_CHANGED = "order_changed"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_REJECTED = "order_rejected"
    ORDER_EXPIRED = "order_expired"
    ORDER_IN_DOUBT = "order_in_doubt"
    ORDER_EXTERNAL = "order_external"
    ORDER_RESTORED = "order_restored"
    ORDER_ADOPTED = "order_adopted"
    ORDER_MERGED = "order_merged"
    ORDER_RECALLED = "order_recalled"
    CANCEL_REQUESTED = "cancel_requested"
    CANCEL_LICENSED = "cancel_licensed"
    TWIN_CANCEL_LICENSED = "twin_cancel_licensed"
    MODIFY_LICENSED = "modify_licensed"
    MODIFY_REFUSED = "modify_refused"
    EXECUTION = "execution"
    COMMISSION = "commission"
    BREAK_OPENED = "break_opened"
    BREAK_RESOLVED = "break_resolved"
    POSITION_ADJUSTED = "position_adjusted"
    OPERATOR_COMMAND = "operator_command"
    MEMORY_BOUND = "memory_bound"


_LEVEL_1 = frozenset({
    Kind.SESSION_OPENED, Kind.SESSION_CLOSED, Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED, Kind.ORDER_UNLICENSED,
    Kind.ORDER_WORKING, Kind.ORDER_CHANGED, Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED, Kind.ORDER_EXPIRED, Kind.ORDER_IN_DOUBT,
    Kind.ORDER_EXTERNAL, Kind.ORDER_RESTORED, Kind.CANCEL_REQUESTED, Kind.CANCEL_LICENSED, Kind.TWIN_CANCEL_LICENSED,
    Kind.MODIFY_LICENSED, Kind.MODIFY_REFUSED, Kind.EXECUTION, Kind.COMMISSION, Kind.BREAK_OPENED, Kind.BREAK_RESOLVED,
})  # fmt: skip
LEVELS: dict[Kind, int] = {kind: 1 if kind in _LEVEL_1 else 2 for kind in Kind}
"""The ledger level from which on each kind may be written. A kind that is added gets the newest level by itself; when a version
has been released, its new kinds are listed with their level and LEDGER_LEVEL is raised for the next ones."""


FAMILY_LEVEL = 2
"""The ledger level from which on an order may hang on another one: an older version would send it as an order of its own (R22)."""


def above(level: int, kinds: Sequence[Kind]) -> str | None:
    """R22: why events of these kinds are not written while the database is at `level`, or None when they may be."""
    early = sorted({kind.value for kind in kinds if LEVELS[kind] > level})
    if not early:
        return None
    needed = max(LEVELS[Kind(kind)] for kind in early)
    return (
        f"the ledger is at level {level}, and {', '.join(early)} needs level {needed}: when both replicas are of this version, "
        "run `adapter migrate --raise-level`"
    )


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that has no place in the log yet."""

    kind: Kind
    payload: Payload
    at: datetime
    order_id: str | None = None
    subject: str | None = None
    correlation_id: str | None = None
    event_id: str = field(default_factory=random_id)


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the log. `seq` is dense and in commit order (R21); `epoch` is the writer's."""

    seq: int
    epoch: int
    kind: str
    payload: Payload
    at: datetime
    order_id: str | None
    subject: str | None
    correlation_id: str | None
    event_id: str


def place(draft: Draft, seq: int, epoch: int) -> Event:
    """`draft` at its place in the log."""
    return Event(
        seq,
        epoch,
        draft.kind,
        draft.payload,
        draft.at,
        draft.order_id,
        draft.subject,
        draft.correlation_id,
        draft.event_id,
    )


def event_of(row: Mapping[str, Any]) -> Event:
    """A row of the log as an event."""
    return Event(
        seq=row["seq"],
        epoch=row["epoch"],
        kind=row["event_type"],
        payload=row["payload"],
        at=row["timestamp"].astimezone(UTC),
        order_id=row["order_id"],
        subject=row["user_id"],
        correlation_id=row["correlation_id"],
        event_id=str(row["event_id"]),
    )
