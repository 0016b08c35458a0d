"""What a break is called, and the break that holds everything. Pure."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime

from engine.book import Book
from engine.events import Draft, Kind

EVERYTHING = "everything"
"""Kind of the break that holds everything until an operator looks (R14, R16, R18)."""

WENT_BACK = "it went back in time"
"""What the reason of a hold says when the database lost rows (R18)."""


def break_id(kind: str, what: str, seq: int) -> str:
    """8 characters of A-Z2-7, derived from what differs and from the ledger's seq when it was found: a later one is another."""
    text = "\x1f".join(("break", kind, what, str(seq)))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:5]).decode()


def hold_everything(epoch: int, seq: int, why: str, at: datetime) -> Draft:
    """The break that holds everything until an operator looks, as the term `epoch` writes it at `seq`."""
    payload = {
        "id": f"hold-{epoch}-{seq}", "kind": EVERYTHING, "symbol": "", "account": "", "holds": True,
        "ours": {"event": str(seq), "epoch": str(epoch)}, "broker": {"why": why},
    }  # fmt: skip
    return Draft(Kind.BREAK_OPENED, payload, at)


def lost_rows(book: Book, restored_epoch: int) -> str | None:
    """R18, R19: why everything is held when an order of ours that had no row is restored: the database lost it.

    There may be others that the broker does not show any more. None for orders of epochs before that in which an operator looked
    at such a loss: a hold's epoch is above every epoch that was seen then.
    """
    looked = (
        int(b.ours.get("epoch") or 0) for b in book.breaks.values()
        if b.kind == EVERYTHING and b.resolved_at is not None and WENT_BACK in (b.broker.get("why") or "")
    )  # fmt: skip
    if not restored_epoch or restored_epoch < max(looked, default=0):
        return None
    return (
        f"the broker shows orders of this cluster that the database has not, one of epoch {restored_epoch}: {WENT_BACK}, and may "
        "lack others that the broker does not show any more"
    )
