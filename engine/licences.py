"""Who gets the next licence, and under which broker order id (R2, R4). Nothing here is awaited.

A licence is handed out where the gate is open, nothing older waits, and the pace, the door and the broker's answers leave room.
Ids start at the session's floor and only rise; whoever takes one writes it in the order in which it was taken (R9).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from engine.book import Book
from engine.broker import Broker
from engine.clock import utcnow
from engine.desk_settings import DeskSettings
from engine.events import Draft, Kind
from engine.family import is_needed_exit, waits
from engine.family_kept import left_behind
from engine.intent import follow_up
from engine.order import Order, State
from engine.pace import OrderPace
from engine.permit import Permit

PACE_IS_FULL = "So many messages were sent to the gateway that this one would have to wait."


class Licences:
    """What is licensed and not yet written, what is written and not yet answered, and the room that is left beside them."""

    def __init__(self, book: Book, permit: Permit, broker: Broker, settings: DeskSettings) -> None:
        self._book, self._permit, self._broker, self._settings = book, permit, broker, settings
        self._pace = OrderPace(settings.order_rate, settings.order_rate_per_symbol)
        self._next_broker_id = 1
        self.deciding: set[str] = set()  # orders about which a decision of the desk's own is being committed
        self.coming: dict[str, tuple[str, str]] = {}  # accepted without a licence, on their way to the log -> contract
        self.unwritten: set[str] = set()  # orders whose licence is on its way to the log or to the wire
        self.unacknowledged: dict[str, float] = {}  # order id -> CLOCK_BOOTTIME of its write, on the present session
        self.second_look: frozenset[tuple[str, str]] = (
            frozenset()
        )  # (account, symbol) about which a doubt is being decided

    def begin(self) -> None:
        """A term begins."""
        self.deciding.clear()
        self.unwritten.clear()
        self.coming.clear()
        self.second_look = frozenset()

    def session_opened(self, floor: int) -> None:
        """A session is up; ids on its wire start at `floor` and only rise (R4)."""
        self._next_broker_id = max(floor, self._book.order_id_floor)

    def may(self, account: str, symbol: str, now: float, count: int = 1) -> bool:
        """R2, R4: the gate is open, nothing older waits for its licence, and pace allows so many; their right is taken then."""
        return (
            self._permit.gate_open(now)
            and (account, symbol) not in self.second_look
            and not self._queued()
            and self.room(now, count)
            and self.take(symbol, now, count)
        )

    def why_not_now(self, order: Order, now: float) -> str | None:
        """Why the order could not be written at once if it were licensed now, a sentence; None when it could."""
        if not self._permit.gate_open(now):
            return f"The gate is shut. {' '.join(self._permit.gate_reasons(now))}"
        if order.contract_key in self.second_look:
            return f"What the broker has of {order.symbol} is being looked at once more."
        return None if self.room(now) else PACE_IS_FULL

    def room(self, now: float, count: int = 1) -> bool:
        """Whether the door and the broker's answers leave room for so many more orders, all of them: a family is not cut."""
        coming = len(self.unwritten)
        out = len(self.unacknowledged) + coming
        return (
            (out + count <= self._settings.max_unacknowledged or (not out and self._settings.max_unacknowledged > 0))
            and self._pace.room(now, count)
            and self._broker.pace.order_may(now, coming, count)
        )

    def take(self, symbol: str, now: float, count: int = 1) -> bool:
        """Take so many orders' right of the pace; False, and nothing is taken, when it is full."""
        return self._pace.take(symbol, now, count)

    def frozen(self, order: Order) -> bool:
        """Whether the order's contract is held by a break that it does not name, a doubt about it is being decided, its parent
        keeps it waiting, or its children went out without it. The exit of what its parent has opened passes a hold that is about
        its own family."""
        if order.contract_key in self.second_look or waits(order, self._book.orders):
            return True
        if left_behind(order, self._book.orders, self._book.children):
            return True
        hold = self._book.holding(*order.contract_key)
        if hold is None or hold.id == order.extra.get("break_id"):
            return False
        account, symbol = order.contract_key
        found = self._book.open_breaks.values()
        holds = [b for b in found if b.holds and b.symbol in ("", symbol) and b.account in ("", account)]
        return not is_needed_exit(order, self._book.orders, self._book.children, holds)

    def issue(self, family: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The payloads that license these orders, by id, for the present session, under the next ids.

        The gateway keeps all but the last until that one comes: a family that is cut off on its way is in no market.
        """
        assert self._permit.session is not None
        first = max(self._next_broker_id, self._book.order_id_floor)
        self._next_broker_id = first + len(family)
        self.unwritten.update(family)
        payloads: dict[str, dict[str, Any]] = {
            oid: {"session": self._permit.session, "broker_order_id": broker_id}
            for broker_id, oid in enumerate(family, start=first)
        }
        for oid in family[:-1]:
            payloads[oid]["transmit"] = False
        return payloads

    def _queued(self) -> bool:
        """Whether something older is to be sent first; what its contract's hold keeps back holds nobody else up."""
        if self.deciding or any(contract not in self.second_look for contract in self.coming.values()):
            return True
        return any(not self.frozen(self._book.orders[oid]) for oid in self._book.queued)


def never_written(book: Book, epoch: int, written: Collection[str]) -> list[Draft]:
    """What takes back the licences of `epoch` but for those of `written`, the ids of orders that this process wrote (R4)."""
    mine = (order for order in book.open_orders() if order.state is State.SENDING and order.licence_epoch == epoch)
    why = {"reason": "not written: the term ended"}
    return [
        follow_up(Kind.ORDER_UNLICENSED, why, order, utcnow())
        for order in mine
        if not order.repeats and order.id not in written
    ]
