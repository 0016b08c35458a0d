"""The broker's book: what clients ask of it. Pure: time is an argument, news goes to one callable.

What the book knows is the truth at IB; what the gateway knows of it while the link between them is down is in `link`.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from ibsim.accounts import Accounts
from ibsim.contracts import Universe
from ibsim.course import Course
from ibsim.groups import family
from ibsim.hours import Hours
from ibsim.ids import TakenIds
from ibsim.market import Rules
from ibsim.opening import Opening
from ibsim.orders import Happening, Order, Stage, happening
from ibsim.placing import Refusal, Wish, mismatch, orphan, refusal

__all__ = ["NORMAL", "Book", "Fate", "Rules"]


class Fate(NamedTuple):
    """What befalls one order. `reject`: IB refuses it with this code. `silent`: its sender is told nothing.

    `inactive`: IB takes it and does not work it. `twin`: IB has it twice, or, of a change that waits for the link, has it as a
    second order beside the unchanged one. `admitted`: its id was taken before.
    """

    reject: int | None = None
    silent: bool = False
    inactive: bool = False
    twin: bool = False
    admitted: bool = False


NORMAL = Fate()


class Book:
    """Orders, ids, executions and accounts. `tell` gets every happening at once, in order."""

    def __init__(
        self,
        universe: Universe,
        accounts: Sequence[str],
        rules: Rules,
        tell: Callable[[Happening], None],
        hours: Hours | None = None,
    ) -> None:
        self.universe = universe
        self.accounts = Accounts(accounts)
        self.tell = tell
        self.opening = Opening(hours)
        self.course = course = Course(universe, self.accounts, rules, self.opening, tell)
        self.orders = course.orders
        self.link = course.link
        self.market = course.market

    def ids(self, client_id: int) -> TakenIds:
        """The order ids of one clientId."""
        return self.orders.ids(client_id)

    # orders

    def place(self, asked: Wish, now: float, fate: Fate = NORMAL) -> Order | None:
        """Takes a new order or changes the open one of the same id; returns it, None if refused."""
        if asked.order_id:
            order = self.orders.find(asked.client_id, asked.order_id)
            if order is not None:
                return self._modify(order, asked, now, fate)
        parent = self.orders.find(asked.client_id, asked.parent_id) if asked.parent_id else None
        why = self._late(asked, fate) or refusal(asked, self.accounts.names, now) or orphan(asked, parent)
        if why is not None:
            self.tell(Happening("rejected", None, code=why.code, text=why.text, order_id=asked.order_id))
            return None
        order = self._take(asked, now, parent, fate)
        self.tell(happening("order", order))
        if fate.reject is not None:
            self.course.end(order, "Inactive", "rejected", fate.reject, "Order rejected - reason:")
            return order
        self._transmit(order, now)
        if fate.twin:
            self._twin(asked, parent, now, fate)
        return order

    def _take(self, asked: Wish, now: float, parent: Order | None, fate: Fate) -> Order:
        order = Order(
            perm_id=self.orders.next_perm_id,
            client_id=asked.client_id,
            order_id=asked.order_id,
            order_ref=asked.order_ref,
            account=asked.account,
            instrument=asked.instrument,
            side=asked.side,
            quantity=asked.quantity,
            order_type=asked.order_type,
            limit_price=asked.limit_price,
            aux_price=asked.aux_price,
            tif=asked.tif,
            session=asked.session,
            fields=asked.fields,
            transmit=asked.transmit,
            silent=fate.silent,
            inactive=fate.inactive,
            taken_at=now,
            expires=asked.expires,
            starts=asked.starts,
            parent=parent,
        )
        self.course.adopt(order)
        return order

    def _transmit(self, order: Order, now: float) -> None:
        """Sends an order on its way, and with it the parent and siblings that waited for it."""
        if not order.transmit:
            return
        if order.parent is None and not order.children:
            self.course.advance(order, now)
            return
        for one in family(order):
            one.transmit = True
            self.course.advance(one, now)

    def _late(self, asked: Wish, fate: Fate) -> Refusal | None:
        """Why the id of a new order is not free: it is that of this very order, which is filled, or of another."""
        if not asked.order_id or fate.admitted or not self.ids(asked.client_id).used(asked.order_id):
            return None
        ended = self.ids(asked.client_id).end(asked.order_id)
        if ended is not None and ended.status == "Filled" and len(asked.instruments) == 1:
            was = ended.con_id, ended.side, ended.order_ref
            if was == (asked.instrument.con_id, asked.side, asked.order_ref):
                return Refusal(104, "Cannot modify a filled order.")
        return Refusal(103, "Duplicate order id")

    def _modify(self, order: Order, asked: Wish, now: float, fate: Fate) -> Order | None:
        parent = self.orders.find(asked.client_id, asked.parent_id) if asked.parent_id else None
        why = mismatch(order, asked) or refusal(asked, self.accounts.names, now) or orphan(asked, parent)
        if why is not None:
            self.tell(Happening("refused", None, code=why.code, text=why.text, order_id=asked.order_id))
            return None
        if self.link.up or order.stage is Stage.GATEWAY:
            self._change(order, asked, now)
        elif fate.twin:
            self.link.keep(lambda later: self._twin(asked, parent, later, NORMAL))
        else:
            self.link.keep(lambda later: None if order.done else self._change(order, asked, later))
        return order

    def _twin(self, asked: Wish, parent: Order | None, now: float, fate: Fate) -> None:
        """IB has one order twice: the second has a permId of its own and the id and reference of the first."""
        order = self._take(asked, now, parent, fate)
        self.tell(happening("order", order, "twin"))
        self._transmit(order, now)

    def _change(self, order: Order, asked: Wish, now: float) -> None:
        self.market.withdraw(order)
        order.quantity, order.tif = asked.quantity, asked.tif
        order.limit_price, order.aux_price = asked.limit_price, asked.aux_price
        order.fields = asked.fields
        order.expires, order.starts = asked.expires, asked.starts
        order.transmit = order.transmit or asked.transmit
        self.course.changed(order, now)
        self._transmit(order, now)

    # cancels

    def cancel(self, client_id: int, order_id: int, now: float, delay: float = 0.0, fill: bool = False) -> None:
        """Cancels by clientId and order id; tells why not, if not."""
        order = self.orders.find(client_id, order_id)
        if order is not None:
            self.cancel_order(order, now, delay, fill)
            return
        ended = self.ids(client_id).end(order_id)
        which = f"OrderId {order_id} that needs to be cancelled"
        if ended is None:
            why = Refusal(10147, f"{which} is not found.")
        else:
            why = Refusal(10148, f"{which} cannot be cancelled, state: {ended.status}.")
        self.tell(Happening("refused", None, code=why.code, text=why.text, order_id=order_id))

    def cancel_order(self, order: Order, now: float, delay: float = 0.0, fill: bool = False) -> None:
        """Cancels an open order, whoever asks: after `delay` seconds, in which it still works.

        `fill`: it is filled then, instead.
        """
        if order.status == "PendingCancel":
            text = f"Cancel attempted when order is not in a cancellable state. Order permId = {order.perm_id}"
            self.tell(Happening("refused", None, code=161, text=text, order_id=order.order_id))
            return
        self.tell(happening("cancel", order))
        if order.stage is Stage.GATEWAY or (self.link.up and delay <= 0 and not fill):
            self.course.cancelled(order)
            return
        order.status = "PendingCancel"
        self.tell(happening("status", order))
        if self.link.up:
            self.course.later(order, now + delay, fill)
        else:
            self.link.keep(lambda _later: None if order.done else self.course.cancelled(order))

    def cancel_all(self, now: float) -> None:
        """reqGlobalCancel: every open order of every client."""
        for order in self.orders:
            if not order.done and order.status != "PendingCancel":
                self.cancel_order(order, now)

    # the market

    def set_prices(self, prices: Mapping[int, Decimal], now: float, sizes: Mapping[int, Decimal] | None = None) -> None:
        """Moves the market, prices by conId; resting orders that cross are filled, at most `sizes` shares in all."""
        self.market.move(prices, now, sizes)

    def at(self, now: float) -> float | None:
        """Does what is due; returns when to call again, None if nothing is scheduled."""
        change = self.opening.change(now)
        if change == "close":
            self.course.close(now)
        elif change == "open":
            self.course.open(now)
        due = self.course.agenda.run(now)
        later = self.opening.next_change
        return due if later is None else later if due is None else min(due, later)
