"""An order's way once it is taken: to IB, to the exchange, through its fills, to its end. Pure: time is an argument.

Every step tells what happened; what IB does while the gateway has lost it is marked `unseen`.
"""

from collections.abc import Callable
from decimal import Decimal

from ibsim.accounts import Accounts, commission
from ibsim.agenda import Agenda
from ibsim.contracts import Universe
from ibsim.deals import corrected, first
from ibsim.groups import CANCEL, Groups
from ibsim.link import Link
from ibsim.live import LiveOrders
from ibsim.market import Market, Rules
from ibsim.opening import Opening
from ibsim.orders import STOP_TYPES, Execution, Happening, Order, Stage, happening


class Course:
    """What may befall an order. The market calls it with trades, the book with what clients ask."""

    def __init__(
        self,
        universe: Universe,
        accounts: Accounts,
        rules: Rules,
        opening: Opening,
        tell: Callable[[Happening], None],
    ) -> None:
        self.accounts = accounts
        self.opening = opening
        self.tell = tell
        self.orders = LiveOrders(rules.first_id)
        self.link = Link(self.orders)
        self.agenda = Agenda()
        self.market = Market(universe, rules, self.agenda, self)
        self._groups = Groups()
        self._executions = 0

    def adopt(self, order: Order) -> None:
        """Enters an order that has its permId: a new one, or one from the journal."""
        self.orders.adopt(order)
        if order.fields.get("ocaGroup"):
            order.oca_group = str(order.fields["ocaGroup"])
            order.oca_type = int(str(order.fields.get("ocaType") or 3))
        if order.parent is not None:
            order.parent.children.append(order)
        if order.oca_group or order.parent is not None:
            self._groups.join(order)
        if order.expires is not None:
            self.agenda.add(order.expires, order, self._expires)

    def forget(self, order: Order) -> None:
        """Takes an order that is over out of memory."""
        self.market.withdraw(order)
        self.orders.forget(order)
        if order.oca_group or order.parent is not None:
            self._groups.leave(order)

    # into the market

    def advance(self, order: Order, now: float) -> None:
        """Brings an order as far as it may go: to IB, to the exchange."""
        if order.done or order.stage is Stage.WORKING:
            return
        first = order.stage is Stage.GATEWAY
        if first and not self._leaves(order):
            return
        why = self._held(order, now)
        if not why:
            seen = self.link.before(order)
            order.stage = Stage.WORKING
            order.why_held = "trigger" if order.order_type in STOP_TYPES else ""
            order.status = "Submitted" if order.order_type == "LMT" else "PreSubmitted"
            self.tell(happening("working", order, unseen=not seen))
            self.market.work(order, now)
        elif first:
            self._wait(order, why, now)

    def _leaves(self, order: Order) -> bool:
        """Whether an order that the gateway keeps goes to IB now."""
        if not order.transmit:
            return False
        if self.link.up:
            return True
        if not self.link.resubmit:
            self.end(order, "Inactive", "rejected", 201, "Order rejected - reason:Not connected")
        else:
            self.tell(happening("status", order))
            self.link.keep(lambda later: self.advance(order, later))
        return False

    def _wait(self, order: Order, why: str, now: float) -> None:
        order.stage = Stage.WAITING
        order.status = "Inactive" if why == "inactive" else "PreSubmitted"
        order.why_held = why if why == "child" else ""
        self.tell(happening("working", order))
        if why == "hours":
            self.tell(happening("warning", order, 399, self.opening.warning(order, now)))
        elif why == "time" and order.starts is not None:
            self.agenda.add(order.starts, order, self.advance)

    def _held(self, order: Order, now: float) -> str:
        """Why an order that IB has is not in the market; empty if it may be."""
        if order.inactive:
            return "inactive"
        if order.parent is not None and not order.parent.done:
            return "child"
        if order.starts is not None and now < order.starts:
            return "time"
        return "" if self.opening.lets(order, now) else "hours"

    def resume(self, order: Order, now: float) -> None:
        """An order that the journal says is open goes on where it stood; nobody is told."""
        if order.done:
            return
        if order.stage is Stage.GATEWAY:
            self.advance(order, now)
        elif not self._held(order, now):
            order.stage = Stage.WORKING
            self.market.work(order, now)
        elif order.starts is not None and now < order.starts:
            self.agenda.add(order.starts, order, self.advance)

    def changed(self, order: Order, now: float) -> None:
        """An order has new figures, by its client's wish: it trades anew."""
        if order.expires is not None:
            self.agenda.add(order.expires, order, self._expires)
        if order.inactive:
            order.inactive, order.status = False, "PreSubmitted"
        self.tell(happening("modify", order))
        if order.stage is Stage.WORKING:
            self.market.work(order, now)

    # the exchange opens and closes

    def open(self, now: float) -> None:
        """What waited goes to the exchange; a DAY order that could trade outside regular hours ends."""
        for order in self.orders:
            if order.outside and order.tif == "DAY" and order.taken_at < self.opening.closed_at:
                self.end(order, "Cancelled", "cancelled")
            elif order.stage is Stage.WAITING:
                self.advance(order, now)

    def close(self, now: float) -> None:
        """The closing auction, then DAY orders end and the others wait for the opening."""
        self.market.close(now)
        for order in self.orders:
            if order.done or order.outside or not self.opening.binds(order.instrument):
                continue
            if order.tif == "DAY":
                self.end(order, "Cancelled", "cancelled")
            elif order.stage is Stage.WORKING:
                seen = self.link.before(order)
                self.market.withdraw(order)
                order.stage, order.status = Stage.WAITING, "PreSubmitted"
                self.tell(happening("status", order, unseen=not seen))

    # trades

    def executed(self, order: Order, shares: Decimal, price: Decimal, now: float) -> None:
        """One execution, from the market."""
        seen = self.link.before(order)
        self._executions += 1
        fee = commission(order.instrument, shares, price)
        signed = shares if order.side == "BUY" else -shares
        realized = self.accounts.book(order.account, order.instrument, signed, price, fee)
        order.filled += shares
        order.cost += shares * price
        order.last_price = price
        order.why_held = ""
        order.done = order.filled >= order.quantity
        order.status = "Filled" if order.done else "PendingCancel" if order.status == "PendingCancel" else "Submitted"
        execution = first(order, self._executions, shares, now, fee, realized)
        if not seen:
            self.link.unseen.add(execution.exec_id)
        if order.done:
            self.forget(order)
        self.tell(happening("execution", order, execution=execution, unseen=not seen))
        if order.oca_group:
            self._others(order, shares)
        if order.done:
            for child in list(order.children):
                self.advance(child, now)

    def _others(self, order: Order, shares: Decimal) -> None:
        """A fill in an OCA group: the others end, or have so much less to do."""
        for other in self._groups.others(order):
            if other.done or other.stage is Stage.GATEWAY:
                continue
            if order.oca_type == CANCEL or other.remaining <= shares:
                self.cancelled(other)
                continue
            seen = self.link.before(other)
            other.quantity -= shares
            self.tell(happening("modify", other, text="reduced by its OCA group", unseen=not seen))

    def triggered(self, order: Order) -> None:
        """The price set off the order's stop, from the market."""
        seen = self.link.before(order)
        order.triggered = True
        order.why_held = ""
        if order.status != "PendingCancel":
            order.status = "Submitted"
        self.tell(happening("working", order, unseen=not seen))

    def killed(self, order: Order) -> None:
        """What is left of it cannot rest, from the market."""
        self.cancelled(order)

    def correct(self, order: Order, was: Execution, shares: Decimal, price: Decimal, now: float) -> None:
        """IB corrects an execution: the same with the last part of its id raised, in place of `was`.

        `order` is the execution's order, open or over; its filled quantity and cost follow.
        """
        order.filled += shares - was.shares
        order.cost += shares * price - was.shares * was.price
        execution = corrected(order, was, shares, price, now)
        self.accounts.correct(was, execution)
        self.tell(happening("correction", order, execution=execution, was=was, unseen=not self.link.up))

    def count_execution(self) -> None:
        """The journal holds one more execution: its number is not given again."""
        self._executions += 1

    # out of the market

    def cancelled(self, order: Order) -> None:
        """The order is confirmed cancelled."""
        self.end(order, "Cancelled", "cancelled", 202, "Order Canceled - reason:")

    def end(self, order: Order, status: str, kind: str, code: int | None = None, text: str = "") -> None:
        """The order is over, and so are its children."""
        seen = order.stage is Stage.GATEWAY or self.link.before(order)
        order.status, order.done = status, True
        self.forget(order)
        self.tell(happening(kind, order, code, text, unseen=not seen))
        for child in list(order.children):
            if not child.done:
                self.cancelled(child)

    def later(self, order: Order, at: float, fill: bool) -> None:
        """At that time the order is cancelled, or filled instead."""
        self.agenda.add(at, order, self._filled_instead if fill else lambda one, _now: self.cancelled(one))

    def _filled_instead(self, order: Order, now: float) -> None:
        if order.stage is not Stage.WORKING:
            self.cancelled(order)
            return
        self.market.withdraw(order)
        self.market.fill(order, order.remaining, now, order.limit_price)
        text = f"OrderId {order.order_id} that needs to be cancelled cannot be cancelled, state: Filled."
        self.tell(happening("warning", order, 10148, text))

    def _expires(self, order: Order, now: float) -> None:
        if order.tif == "GTD" and order.expires is not None and now >= order.expires:
            self.end(order, "Cancelled", "cancelled")
