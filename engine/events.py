"""The ledger's alphabet: one row of the event log, and the kinds that there are.

The log is the truth; everything else (book, tables, digest) is folded from it. A payload is JSON with every quantity and
price as a decimal string and every time as ISO 8601 in UTC.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

Payload = dict[str, Any]

LEDGER_LEVEL = 1
"""The highest level of event kinds that this version writes and reads (R22)."""


class Kind(StrEnum):
    """Every kind of event. A kind that is not here stops the fold: a replica that meets one does not campaign (R22)."""

    SESSION_OPENED = "session_opened"
    SESSION_CLOSED = "session_closed"
    ORDER_ACCEPTED = "order_accepted"
    ORDER_LICENSED = "order_licensed"
    ORDER_UNLICENSED = "order_unlicensed"
    ORDER_WORKING = "order_working"
    ORDER_CHANGED = "order_changed"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_REJECTED = "order_rejected"
    ORDER_EXPIRED = "order_expired"
    ORDER_IN_DOUBT = "order_in_doubt"
    ORDER_EXTERNAL = "order_external"
    ORDER_RESTORED = "order_restored"
    CANCEL_REQUESTED = "cancel_requested"
    CANCEL_LICENSED = "cancel_licensed"
    TWIN_CANCEL_LICENSED = "twin_cancel_licensed"
    MODIFY_LICENSED = "modify_licensed"
    MODIFY_REFUSED = "modify_refused"
    EXECUTION = "execution"
    COMMISSION = "commission"
    BREAK_OPENED = "break_opened"
    BREAK_RESOLVED = "break_resolved"


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that has no place in the log yet."""

    kind: Kind
    payload: Payload
    at: datetime
    order_id: str | None = None
    subject: str | None = None
    correlation_id: str | None = None
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))


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
