"""What a restored order's row says of its bracket and its group, from what IB shows of it (R19). Pure.

Our group names carry it: `engine.ib_facts` gives a client's own group type 1, and the children of one parent a group of type 2 that
is named by the parent's id. So a child is told from its group even where IB does not show its parent any more. A child with a group
of its own is told by its parent's orderId, as long as IB or the ledger knows whose that is.
"""

from __future__ import annotations

import re

from engine.book import Book
from engine.broker import OpenOrder
from engine.family import PARENT
from engine.ib_facts import OCA_CANCELS, group_prefix
from engine.reference import Reference
from reconcile.snapshot import Identity, Snapshot

_ID = re.compile(r"[A-Z2-7]{16}")


def links(fact: OpenOrder, own: Reference, book: Book, snapshot: Snapshot, me: Identity) -> dict[str, str]:
    """The fields of the order's `extra` that name its parent and its client's group; empty where it has neither."""
    group = _own_group(fact)
    siblings = fact.oca_type != OCA_CANCELS and _ID.fullmatch(group) is not None
    parent = group if siblings else _placed_as(fact, book, snapshot, me)
    found = {PARENT: parent} if parent and parent != own.id else {}
    return found | ({"oca_group": group} if group and not siblings else {})


def _own_group(fact: OpenOrder) -> str:
    """The group's name as its client or the desk gave it; empty where it is none of ours."""
    prefix = group_prefix(fact.reference)
    return fact.oca_group.removeprefix(prefix) if fact.oca_group.startswith(prefix) else ""


def _placed_as(fact: OpenOrder, book: Book, snapshot: Snapshot, me: Identity) -> str:
    """The id of our order that has the parent's orderId, which says something among orders of our clientId only."""
    if not fact.parent_id or fact.client_id != me.client_id:
        return ""
    for other in snapshot.open_orders:
        if (other.client_id, other.broker_order_id) == (me.client_id, fact.parent_id):
            own = me.own(other.reference)
            return own.id if own is not None else ""
    return book.by_broker_id.get(fact.parent_id, "")
