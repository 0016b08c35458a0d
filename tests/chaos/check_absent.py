"""Checks on what the ledger says is gone, beside the broker's journal: absent, vanished, ended, in doubt. Pure; each yields a
sentence for every case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from ha.demo.history import time_of
from tests.chaos.check_broker import Sent, our_orders
from tests.chaos.facts import Facts, Row

_A_COLLECTION = timedelta(seconds=1)
"""What the broker takes while a snapshot is collected may be missing in it."""


def absent_yet_there(facts: Facts) -> Iterator[str]:
    """R23: what a complete snapshot did not show was not at the broker, unless the gateway restarted and forgot it."""
    sent = _sent(facts)
    for row in facts.log:
        if (
            row.kind == "order_in_doubt"
            and "(complete snapshot)" in str(row.payload.get("reason"))
            and row.order_id in sent
        ):
            since = sent[row.order_id].taken.at
            if not _forgotten(facts, since, row):
                yield f"order {row.order_id} was called absent by a complete snapshot, and the broker had it since {since:%H:%M:%S}"


def ended_yet_alive(facts: Facts) -> Iterator[str]:
    """R25: an order that the broker took is called cancelled or rejected only when the broker has ended it."""
    taken: dict[str, set[int]] = {}
    for one in our_orders(facts.journal, facts.client_id):
        assert one.taken.reference is not None
        taken.setdefault(one.taken.reference.id, set()).add(one.taken.perm_id)
    ended: dict[int, datetime] = {}
    for entry in facts.journal:
        if entry["kind"] in ("cancelled", "rejected") and entry.get("perm_id") is not None:
            ended.setdefault(int(entry["perm_id"]), time_of(entry))
    for row in facts.log:
        if row.kind not in ("order_cancelled", "order_rejected") or row.order_id not in taken:
            continue
        if not any(perm_id in ended and ended[perm_id] <= row.at for perm_id in taken[row.order_id]):
            yield f"event {row.seq} ends order {row.order_id}, which the broker had not ended then"


def doubted_yet_taken(facts: Facts) -> Iterator[str]:
    """R1: what the broker shows is adopted, so that only what it never took stays in doubt."""
    for doubt in facts.in_doubt:
        if doubt.at_broker != "never taken":
            yield f"order {doubt.order_id} is in doubt, and {doubt.at_broker} at the broker"


def vanished_yet_there(facts: Facts) -> Iterator[str]:
    """R23: an order that the broker had shown is called vanished only when it is not alive there. Not after a restart of the
    gateway, which may forget."""
    sent, over = _sent(facts), _ended_at(facts)
    for row in facts.log:
        if row.kind != "break_opened" or row.payload.get("kind") != "vanished" or row.order_id not in sent:
            continue
        one = sent[row.order_id]
        if _forgotten(facts, one.taken.at, row) or over.get(one.taken.perm_id, row.at) < row.at:
            continue
        yield f"break {row.payload.get('id')} calls order {row.order_id} vanished, which was alive at the broker then"


def _sent(facts: Facts) -> dict[str, Sent]:
    """What the broker took of ours, by order id; of several the last."""
    return {one.taken.reference.id: one for one in our_orders(facts.journal, facts.client_id) if one.taken.reference}


def _forgotten(facts: Facts, since: datetime, row: Row) -> bool:
    """Whether what the broker took then may be missing in what this row was decided on: too young, or the gateway restarted."""
    restarts = (time_of(entry) for entry in facts.journal if entry["kind"] == "restart")
    return since > row.at - _A_COLLECTION or any(since < at < row.at for at in restarts)


def _ended_at(facts: Facts) -> dict[int, datetime]:
    """When the broker ended an order, or filled it, by permId."""
    left = {one.taken.perm_id: one.taken.quantity for one in our_orders(facts.journal, facts.client_id)}
    ended: dict[int, datetime] = {}
    traded: dict[int, Decimal] = defaultdict(Decimal)
    for entry in facts.journal:
        if (perm_id := entry.get("perm_id")) is None:
            continue
        if entry["kind"] == "execution":
            traded[perm_id] += Decimal(str(entry.get("quantity", 0)))
        over = entry["kind"] == "execution" and traded[perm_id] >= left.get(perm_id, Decimal("Infinity"))
        if over or entry["kind"] in ("cancelled", "rejected"):
            ended.setdefault(int(perm_id), time_of(entry))
    return ended
