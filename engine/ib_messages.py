"""The messages of one session's new orders, made before they may be written. It knows ib_async's objects by their names only.

Encoding is most of what a write costs, and what is done behind a commit is time in which a leader's death leaves its order in
doubt. So it is done while PostgreSQL commits; a message made for anything but the very same order is not used.
"""

from __future__ import annotations

import copy
from typing import Any

from engine import ib_facts, ib_fields
from engine.broker import Outgoing

KEPT = 256
"""Messages that were made and never written (a commit was refused, a gate shut), before they are forgotten."""


class NewOrders:
    """Of the session of `client`; `contract` and `order` are blank ones of the objects that it encodes."""

    def __init__(self, client: Any, contract: Any, order: Any) -> None:
        self._client, self._contract, self._order = client, contract, order
        self._made: dict[int, tuple[Outgoing, str]] = {}

    def prepare(self, order: Outgoing) -> None:
        """Make its message now. Raises ConnectionError without a session."""
        if len(self._made) >= KEPT:
            self._made.clear()
        self._made[order.broker_order_id] = order, self._encoded(order)

    def message(self, order: Outgoing) -> str:
        """Its message, for `client.sendMsg`. Raises ConnectionError without a session."""
        known, text = self._made.pop(order.broker_order_id, (None, ""))
        return text if known == order else self._encoded(order)

    def _encoded(self, order: Outgoing) -> str:
        said: list[str] = []
        aside = copy.copy(self._client)
        aside.sendMsg = said.append
        ib_fields.hasten_writing(aside, type(self._contract))  # the copied way to write is the session's own
        contract = ib_fields.like(self._contract, ib_facts.contract(order.contract))
        aside.placeOrder(order.broker_order_id, contract, ib_fields.like(self._order, ib_facts.order(order)))
        return said[0]
