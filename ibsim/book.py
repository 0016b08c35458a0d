"""The broker's book: takes, changes, cancels and fills orders. Pure: time is an argument, news goes to one callable.

What the book knows is the truth at IB. `link_up` False means that the gateway lost IB: orders that IB works go on there,
what the gateway is asked meanwhile is kept and passed on later, and what is shown of an order is how it stood before.
"""

import copy
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ibsim.accounts import Accounts, Position, commission
from ibsim.contracts import Universe
from ibsim.ids import TakenIds
from ibsim.match import Resting
from ibsim.orders import STOP_TYPES, ZERO, Execution, Happening, Order, happening
from ibsim.placing import Refusal, Wish, mismatch, refusal

FIRST_PERM_ID = 900_000_001
EXEC_SERVER = "0000e0d5"
FIRST_EXEC = 0x6556A1B2
MOST_PARTS = 100
"""One order is filled at one price in at most so many executions."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How the stand-in's market behaves: seconds until a fill, the largest execution, the first order id."""

    fill_delay: float = 0.0
    fill_size: Decimal | None = None
    first_id: int = 1


class Book:
    """Orders, ids, executions and accounts. `tell` gets every happening at once, in order."""

    def __init__(
        self, universe: Universe, accounts: Sequence[str], rules: Rules, tell: Callable[[Happening], None]
    ) -> None:
        self.universe = universe
        self.accounts = Accounts(accounts)
        self.rules = rules
        self.tell = tell
        self.link_up = True
        self.resubmit = True
        """Whether an order that comes while the link is down is kept and submitted later, or rejected."""
        self.unseen: set[str] = set()
        """The execIds of what IB did while the link was down, until it is up again."""
        self.live: dict[int, Order] = {}
        self.prices = {symbol: one.price for symbol, one in universe.by_symbol.items()}
        self._by_id: dict[tuple[int, int], Order] = {}
        self._resting = {symbol: Resting() for symbol in universe.by_symbol}
        self._ids: dict[int, TakenIds] = {}
        self._due: list[tuple[float, int, int]] = []
        self._perm_id = FIRST_PERM_ID
        self._exec_number = 0
        self._dues = 0
        self._shown: dict[int, Order] = {}
        self._shown_positions: list[Position] | None = None
        self._kept: list[Callable[[float], None]] = []

    def ids(self, client_id: int) -> TakenIds:
        """The order ids of one clientId."""
        return self._ids.setdefault(client_id, TakenIds(self.rules.first_id))

    def open_order(self, client_id: int, order_id: int) -> Order | None:
        """The open order under this clientId and id, None if there is none."""
        return self._by_id.get((client_id, order_id))

    # what clients ask

    def place(self, asked: Wish, now: float, reject: int | None = None, silent: bool = False) -> Order | None:
        """Takes a new order or changes the open one of the same id; returns it, None if refused.

        `reject`: IB refuses it with this code. `silent`: its sender is told nothing.
        """
        order = self.open_order(asked.client_id, asked.order_id) if asked.order_id else None
        if order is not None:
            return self._modify(order, asked, now)
        if asked.order_id and self.ids(asked.client_id).used(asked.order_id):
            self._refused(asked, Refusal(103, "Duplicate order id"))
            return None
        why = refusal(asked, self.accounts.names)
        if why is not None:
            self._refused(asked, why)
            return None
        order = self._take(asked, silent)
        self.tell(happening("order", order))
        if reject is not None:
            self._end(order, "Inactive", "rejected", reject, "Order rejected - reason:")
        elif self.link_up:
            self.submit(order, now)
        elif not self.resubmit:
            self._end(order, "Inactive", "rejected", 201, "Order rejected - reason:Not connected")
        else:
            self.tell(happening("status", order))
            self._kept.append(lambda later: None if order.done else self.submit(order, later))
        return order

    def cancel(self, client_id: int, order_id: int) -> None:
        """Cancels by clientId and order id; tells why not, if not."""
        order = self.open_order(client_id, order_id)
        if order is not None:
            self.cancel_order(order)
            return
        end = self.ids(client_id).end(order_id)
        if end is None:
            code, text = 10147, f"OrderId {order_id} that needs to be cancelled is not found."
        else:
            code, text = 10148, f"OrderId {order_id} that needs to be cancelled can not be cancelled, state: {end}."
        self.tell(Happening("refused", None, code=code, text=text, order_id=order_id))

    def cancel_order(self, order: Order) -> None:
        """Cancels an open order, whoever asks."""
        self.tell(happening("cancel", order))
        if self.link_up or not order.sent:
            self._cancelled(order)
            return
        order.status = "PendingCancel"
        self.tell(happening("status", order))
        self._kept.append(lambda _later: None if order.done else self._cancelled(order))

    def cancel_all(self) -> None:
        """reqGlobalCancel: every open order of every client."""
        for order in list(self.live.values()):
            self.cancel_order(order)

    # the market

    def set_prices(self, prices: Mapping[str, Decimal], now: float, sizes: Mapping[str, Decimal] | None = None) -> None:
        """Moves the market; resting orders that cross are filled, at most `sizes[symbol]` shares in all.

        Raises KeyError for an unknown symbol, before anything moved.
        """
        for symbol in prices:
            self.prices[symbol]
        self.prices.update(prices)
        for symbol, price in prices.items():
            left = (sizes or {}).get(symbol)
            for order in self._resting[symbol].crossed(price):
                left = self._trade(order, price, left, now)

    def advance(self, now: float) -> float | None:
        """Fills what is due; returns when to call again, None if nothing is scheduled."""
        while self._due and self._due[0][0] <= now:
            _, _, perm_id = heapq.heappop(self._due)
            order = self.live.get(perm_id)
            if order is not None and not order.place:
                self._trade(order, self.prices[order.instrument.symbol], None, now)
        return self._due[0][0] if self._due else None

    # the link between gateway and IB

    def lose_link(self) -> None:
        """The gateway loses IB: from now on what it shows is what it knew."""
        self.link_up = False
        self._shown_positions = [copy.copy(one) for one in self.accounts.positions()]

    def restore_link(self, now: float) -> None:
        """IB is back: what was kept is passed on, and the truth is shown."""
        self.link_up = True
        self._shown.clear()
        self.unseen.clear()
        self._shown_positions = None
        kept, self._kept = self._kept, []
        for action in kept:
            action(now)

    def shown_orders(self, client_id: int | None = None) -> Iterator[Order]:
        """The open orders as the gateway knows them, of one client or of all."""
        gone = (order for perm_id, order in self._shown.items() if perm_id not in self.live)
        for order in [*(self._shown.get(perm_id, order) for perm_id, order in self.live.items()), *gone]:
            if client_id in (None, order.client_id):
                yield order

    def shows_end(self, perm_id: int) -> bool:
        """Whether the gateway knows that this done order ended."""
        return perm_id not in self._shown

    def shown_positions(self, account: str | None = None) -> list[Position]:
        """The positions as the gateway knows them."""
        known = self.accounts.positions() if self._shown_positions is None else self._shown_positions
        return [one for one in known if account in (None, "", one.account)]

    # inside

    def _take(self, asked: Wish, silent: bool) -> Order:
        assert asked.instrument is not None
        order = Order(
            perm_id=self._perm_id,
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
            silent=silent,
        )
        self.adopt(order)
        return order

    def adopt(self, order: Order) -> None:
        """Enters an order that has its permId: a new one, or one from the journal."""
        self._perm_id = max(self._perm_id, order.perm_id + 1)
        self.live[order.perm_id] = order
        self._resting.setdefault(order.instrument.symbol, Resting())
        self.prices.setdefault(order.instrument.symbol, order.instrument.price)
        if order.order_id:
            self.ids(order.client_id).add(order.order_id)
            self._by_id[order.client_id, order.order_id] = order

    def forget(self, order: Order) -> None:
        """Takes a done order out of memory; its id stays used."""
        self._resting[order.instrument.symbol].remove(order)
        self.live.pop(order.perm_id, None)
        if order.order_id:
            self._by_id.pop((order.client_id, order.order_id), None)
            self.ids(order.client_id).finish(order.order_id, order.status)

    def _refused(self, asked: Wish, why: Refusal) -> None:
        """A new order is not taken: no permId exists."""
        self.tell(Happening("rejected", None, code=why.code, text=why.text, order_id=asked.order_id))

    def _modify(self, order: Order, asked: Wish, now: float) -> Order | None:
        why = mismatch(order, asked) or refusal(asked, self.accounts.names)
        if why is None and asked.quantity <= order.filled:
            why = Refusal(104, "Cannot modify a filled order.")
        if why is not None:
            self.tell(Happening("refused", None, code=why.code, text=why.text, order_id=asked.order_id))
            return None
        if self.link_up or not order.sent:
            self._change(order, asked, now)
        else:
            self._kept.append(lambda later: None if order.done else self._change(order, asked, later))
        return order

    def _change(self, order: Order, asked: Wish, now: float) -> None:
        self._resting[order.instrument.symbol].remove(order)
        order.quantity, order.tif = asked.quantity, asked.tif
        order.limit_price, order.aux_price = asked.limit_price, asked.aux_price
        order.fields = asked.fields
        self.tell(happening("modify", order))
        if order.sent:
            self.work(order, now)

    def submit(self, order: Order, now: float) -> None:
        """The order leaves the gateway: IB works it."""
        order.sent = True
        order.status = "Submitted" if order.order_type == "LMT" else "PreSubmitted"
        self.tell(happening("working", order))
        self.work(order, now)

    def work(self, order: Order, now: float) -> None:
        """Lets an order trade if it can, else rest or end, by its type and time in force."""
        price = self.prices[order.instrument.symbol]
        if order.order_type in STOP_TYPES and not order.triggered and not _triggers(order, price):
            self._resting[order.instrument.symbol].add(order)
        elif order.marketable(price) or order.order_type in STOP_TYPES:
            self._schedule(order, now)
        elif order.tif in ("IOC", "FOK"):
            self._cancelled(order)
        else:
            self._resting[order.instrument.symbol].add(order)

    def _schedule(self, order: Order, now: float) -> None:
        if self.rules.fill_delay <= 0:
            self._trade(order, self.prices[order.instrument.symbol], None, now)
            return
        self._dues += 1
        heapq.heappush(self._due, (now + self.rules.fill_delay, self._dues, order.perm_id))

    def _trade(self, order: Order, price: Decimal, left: Decimal | None, now: float) -> Decimal | None:
        """Fills what the price and the size on offer allow; what remains rests or ends. Returns the size left."""
        if order.order_type in STOP_TYPES and not order.triggered and _triggers(order, price):
            order.triggered = True
            order.status = "Submitted"
            self.tell(happening("status", order))
        if order.marketable(price):
            shares = order.remaining if left is None else min(order.remaining, left)
            if left is not None:
                left -= shares
            self._fill(order, shares, price, now)
        if order.done:
            return left
        if order.tif in ("IOC", "FOK"):
            self._cancelled(order)
        elif order.order_type in ("MKT", "STP") and order.marketable(price):
            self._schedule(order, now)
        else:
            self._resting[order.instrument.symbol].add(order)
        return left

    def _fill(self, order: Order, shares: Decimal, price: Decimal, now: float) -> None:
        part = shares
        if self.rules.fill_size is not None:
            part = max(self.rules.fill_size, shares / MOST_PARTS)
        while shares > 0:
            self._execute(order, min(part, shares), price, now)
            shares -= part

    def _execute(self, order: Order, shares: Decimal, price: Decimal, now: float) -> None:
        if not self.link_up:
            self._shown.setdefault(order.perm_id, copy.copy(order))
        self._exec_number += 1
        fee = commission(shares, price)
        signed = shares if order.side == "BUY" else -shares
        realized = self.accounts.book((order.account, order.instrument.symbol), signed, price, fee)
        order.filled += shares
        order.cost += shares * price
        order.last_price = price
        done = order.filled >= order.quantity
        order.status = "Filled" if done else "PendingCancel" if order.status == "PendingCancel" else "Submitted"
        execution = Execution(
            exec_id=f"{EXEC_SERVER}.{FIRST_EXEC + self._exec_number:08x}.01.01",
            perm_id=order.perm_id,
            client_id=order.client_id,
            order_id=order.order_id,
            order_ref=order.order_ref,
            account=order.account,
            symbol=order.instrument.symbol,
            side=order.side,
            shares=shares,
            price=price,
            cumulative=order.filled,
            average=order.average,
            at=now,
            commission=fee,
            realized_pnl=realized,
        )
        if not self.link_up:
            self.unseen.add(execution.exec_id)
        if done:
            self.forget(order)
        self.tell(happening("execution", order, execution=execution))

    def _cancelled(self, order: Order) -> None:
        self._end(order, "Cancelled", "cancelled", 202, "Order Canceled - reason:")

    def _end(self, order: Order, status: str, kind: str, code: int, text: str) -> None:
        if not self.link_up and order.sent:
            self._shown.setdefault(order.perm_id, copy.copy(order))
        order.status = status
        self.forget(order)
        self.tell(happening(kind, order, code, text))

    def count_execution(self) -> None:
        """The journal holds one more execution: its number is not given again."""
        self._exec_number += 1


def _triggers(order: Order, price: Decimal) -> bool:
    stop = order.aux_price or ZERO
    return price >= stop if order.side == "BUY" else price <= stop
