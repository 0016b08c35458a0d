"""The gateway and IB behind it: one session for each clientId, orders with permIds, executions, positions, and what may go wrong:
bytes that nobody read, orders that wait inside unseen, acknowledgements that never come, lists that lack something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.broker import (
    Admitted,
    BrokerError,
    CommissionFact,
    ContractDetail,
    ContractFact,
    ContractQuery,
    ExecutionFact,
    Fact,
    InUse,
    OpenOrder,
    OrderStatus,
    Outgoing,
    PositionFact,
)
from engine.order import ZERO
from tests.simulation.world import Link, World

ACCOUNT = "DU1"
ENDED = frozenset({"Filled", "Cancelled", "Inactive"})


@dataclass(eq=False, slots=True)
class Session:
    """One TCP connection, seen from the gateway. `tell` reaches its client, in order."""

    number: int
    replica: str
    link: Link
    tell: Callable[[Any], None]
    client_id: int = 0
    admitted: bool = False
    gone: bool = False  # at the gateway; what still comes vanishes
    asked: set[str] = field(default_factory=set)  # the lists that were asked for on it
    asked_whole: set[str] = field(default_factory=set)  # those of them without a filter, in the present collection
    executions_since: datetime | None = (
        None  # from when on executions were asked for in the present collection, with a filter
    )
    unanswered: set[str] = field(default_factory=set)  # those that were not answered when they were last asked for


@dataclass(eq=False, slots=True)
class BrokerOrder:
    """An order as IB has it."""

    perm_id: int
    client_id: int
    asked: Outgoing
    silent: bool
    status: str = "PendingSubmit"
    filled: Decimal = ZERO

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.status in ENDED

    @property
    def contract(self) -> ContractFact:
        """Its contract as the gateway names it."""
        return contract(self.asked.symbol)

    def shown(self) -> OpenOrder:
        """As openOrder or completedOrder shows it; a completed one has no ids, a filled one no quantity."""
        a, done = self.asked, self.done
        quantity = ZERO if self.status == "Filled" else a.quantity
        return OpenOrder(
            self.perm_id, 0 if done else self.client_id, 0 if done else a.broker_order_id, a.reference, ACCOUNT, self.contract,
            a.side, quantity, a.order_type, a.limit_price, a.stop_price, a.tif, self.status, self.filled, done, self.status,
        )  # fmt: skip

    def as_status(self) -> OrderStatus:
        """As orderStatus tells it."""
        a = self.asked
        return OrderStatus(
            a.broker_order_id, self.perm_id, self.client_id, self.status, self.filled, a.quantity - self.filled
        )


def contract(symbol: str) -> ContractFact:
    """The contract of a symbol."""
    return ContractFact(1000 + sum(symbol.encode()), symbol, "STK", "SMART", "USD")


def detail(query: ContractQuery) -> ContractDetail:
    """The one contract that IB knows of a symbol."""
    found = contract(query.symbol)
    return ContractDetail(
        found.con_id, found.symbol, found.symbol, "STK", "SMART", "NASDAQ", "USD", "", Decimal("0.01")
    )


class Gateway:
    """Gateway and broker. The judge hears of everything that it takes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.up = True
        self.mute = False
        self.link_up = True
        self.losing = False  # the last milliseconds before a restart: read, never taken
        self.loading_until = 0.0
        self.sessions: dict[int, Session] = {}
        self.orders: dict[int, BrokerOrder] = {}
        self.inside: list[Outgoing] = []
        self.executions: list[ExecutionFact] = []
        self.next_valid_id = 1
        self._highest: dict[int, int] = {}
        self._numbers = 0
        self._kept: list[Callable[[], None]] = []  # what waits for the link to IB
        self._exec = 0

    # ---- sessions

    def accept(self, replica: str, link: Link, tell: Callable[[Any], None]) -> Session:
        """A TCP connection was made."""
        self._numbers += 1
        return Session(self._numbers, replica, link, tell)

    def start(self, session: Session, client_id: int) -> None:
        """startApi: admitted, or 326."""
        if session.gone or self.mute:
            return
        holder = self.sessions.get(client_id)
        if holder is not None:
            session.gone = True
            session.tell(InUse(f"client id {client_id} is in use by session {holder.number}"))
            return
        session.client_id, session.admitted = client_id, True
        self.sessions[client_id] = session
        self._world.judge.admitted(session)
        self._world.say("gateway", f"session {session.number} of {session.replica} admitted as client {client_id}")
        session.tell(Admitted(max(self.next_valid_id, self._highest.get(client_id, 0) + 1), (ACCOUNT,)))

    def over(self, session: Session, why: str, *, tell: bool) -> None:
        """The session is dead here: its id is free, what it wrote and nobody read is gone."""
        if session.gone:
            return
        session.gone = True
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
            self._world.say("gateway", f"session {session.number} of {session.replica} is over: {why}")
        if tell:
            session.tell(None)

    def drop(self, client_id: int) -> None:
        """The relay drops whoever holds this id."""
        if (holder := self.sessions.get(client_id)) is not None:
            self.over(holder, "dropped by the relay", tell=True)

    # ---- what clients ask

    def read(self, session: Session, what: str, argument: Any) -> None:
        """One message, read from the socket."""
        if session.gone:
            return
        if what == "place":
            self._read_order(session, argument)
        elif what == "cancel":
            self._cancel(session.client_id, argument)
        else:
            self._read_request(session, what, *argument)

    def _read_request(self, session: Session, what: str, number: int, argument: Any) -> None:
        if what == "ask_ib":  # IB's own servers, where there is a link to them
            if self.link_up and not self.mute:
                session.tell((what, number, []))
            return
        listless = what == "current_time"  # a mute gateway answers that neither
        answers = not self.mute and (listless or not self._world.maybe(self._world.fate.unanswered))
        if what != "contract_details":
            session.asked.add(what)
            if what == "current_time":  # a collection begins with it
                session.asked_whole.clear()
                session.executions_since = None
            elif argument is None:
                session.asked_whole.add(what)
            elif what == "executions":
                session.executions_since = min(argument, session.executions_since or argument)
            (session.unanswered.discard if answers else session.unanswered.add)(what)
        if answers:
            session.tell((what, number, self._answer(what, argument)))

    def _answer(self, what: str, argument: Any) -> list[Any]:
        loading = self._world.now < self.loading_until
        if what == "contract_details":
            return [detail(argument)]
        if what == "current_time":
            return [int(self._world.loop.time())]
        if what == "open_orders":
            return [] if loading else [order.shown() for order in self.orders.values() if not order.done]
        if what == "completed_orders":
            return [] if loading else [order.shown() for order in self.orders.values() if order.done]
        if what == "executions":
            return [] if loading else [one for one in self.executions if argument is None or one.at >= argument]
        return self.positions()

    def positions(self) -> list[PositionFact]:
        """What the executions sum up to."""
        sums: dict[str, Decimal] = {}
        for one in self.executions:
            signed = one.quantity if one.side == "BUY" else -one.quantity
            sums[one.contract.symbol] = sums.get(one.contract.symbol, ZERO) + signed
        return [PositionFact(ACCOUNT, contract(s).con_id, s, q, Decimal(100)) for s, q in sorted(sums.items())]

    def _read_order(self, session: Session, order: Outgoing) -> None:
        self._world.judge.read_order(session, order)
        if not self._takes_id(session.client_id, order):
            return
        if self.losing:
            self._world.say("gateway", f"{order.reference} is read and never taken")
        elif self._world.maybe(self._world.fate.hold_inside):
            seconds = self._world.chance.uniform(0.05, 4.0)
            self._world.say("gateway", f"{order.reference} waits inside, unseen, for {seconds:.2f} s")
            self.inside.append(order)
            self._world.after(seconds, self._come_out, session.client_id, order)
        else:
            self._take(session.client_id, order)

    def _takes_id(self, client_id: int, asked: Outgoing) -> bool:
        """An id is used up when it is read, whatever becomes of its order."""
        self._world.judge.not_a_modification(self.orders.values(), client_id, asked)
        if asked.broker_order_id <= self._highest.get(client_id, 0):
            self._tell(client_id, BrokerError(asked.broker_order_id, 103, "Duplicate order id"))
            return False
        self._highest[client_id] = asked.broker_order_id
        return True

    def _come_out(self, client_id: int, order: Outgoing) -> None:
        if order in self.inside:
            self.inside.remove(order)
            self._take(client_id, order)

    def _take(self, client_id: int, asked: Outgoing) -> None:
        perm_id = 900_000_001 + len(self.orders)
        order = self.orders[perm_id] = BrokerOrder(
            perm_id, client_id, asked, self._world.maybe(self._world.fate.drop_acks)
        )
        self._world.judge.taken(order)
        self._world.say("broker", f"takes {asked.reference} as {perm_id}, order id {asked.broker_order_id}")
        self._at_ib(lambda: self._work(order), self._world.fate.gateway.draw(self._world.chance))

    def _at_ib(self, action: Callable[[], None], seconds: float) -> None:
        def now() -> None:
            if self.link_up:
                action()
            else:
                self._kept.append(now)

        self._world.after(seconds, now)

    def _work(self, order: BrokerOrder) -> None:
        if order.done:
            return
        chance = self._world.chance
        if self._world.maybe(self._world.fate.reject):
            order.status = "Inactive"
            self._say(
                order, BrokerError(order.asked.broker_order_id, 201, "Order rejected - reason:"), order.as_status()
            )
            return
        order.status = "Submitted"
        self._say(order, order.shown(), order.as_status())
        if order.asked.order_type == "LMT" and chance.random() < 0.4:
            return  # it rests
        parts = 1 if chance.random() < 0.7 else 2
        for _ in range(parts):
            share = order.asked.quantity / parts
            self._at_ib(lambda share=share: self._fill(order, share), self._world.fate.market.draw(chance))  # type: ignore[misc]

    def _fill(self, order: BrokerOrder, quantity: Decimal) -> None:
        if order.done:
            return
        a = order.asked
        order.filled += quantity
        if order.filled >= a.quantity:
            order.status = "Filled"
        self._exec += 1
        price = a.limit_price or Decimal(100)
        fact = ExecutionFact(
            f"0000e0d5.{self._exec:08x}.01.01", order.perm_id, order.client_id, a.broker_order_id, a.reference, ACCOUNT,
            order.contract, a.side, quantity, price, "SMART", self._world.wall().replace(microsecond=0),
        )  # fmt: skip
        self.executions.append(fact)
        self._world.say("broker", f"{a.reference} trades {quantity} as {fact.exec_id}")
        self._say(order, fact, CommissionFact(fact.exec_id, Decimal(1), "USD", None), order.as_status())

    def _cancel(self, client_id: int, order_id: int) -> None:
        order = next(
            (o for o in self.orders.values() if (o.client_id, o.asked.broker_order_id) == (client_id, order_id)), None
        )
        if order is None or order.done:
            code = 10147 if order is None else 10148
            self._tell(client_id, BrokerError(order_id, code, "OrderId that needs to be cancelled is not found."))
            return

        def cancelled() -> None:
            if not order.done:
                order.status = "Cancelled"
                self._say(order, order.as_status(), BrokerError(order_id, 202, "Order Canceled - reason:"))

        self._at_ib(cancelled, self._world.fate.gateway.draw(self._world.chance))

    # ---- what it says

    def _say(self, order: BrokerOrder, *facts: Fact) -> None:
        if order.silent:
            return
        said = list(facts)
        if self._world.maybe(self._world.fate.repeat):
            said += self._world.chance.sample(facts, 1)
            self._world.chance.shuffle(said)
        for fact in said:
            self._tell(order.client_id, fact)

    def _tell(self, client_id: int, fact: Fact) -> None:
        session = self.sessions.get(client_id)
        if session is not None and not self.mute:
            session.tell(fact)

    # ---- what happens to it

    def crash(self, *, forgets_inside: bool) -> None:
        """It restarts: every session dies, unread bytes vanish, ids may roll back."""
        self.up = False
        if forgets_inside:
            self.inside.clear()
        for session in list(self.sessions.values()):
            self.over(session, "the gateway restarts", tell=True)

    def come_back(self, loading: float, rollback: int) -> None:
        """It is up again, for a while without its orders, and maybe with an older idea of the next id."""
        self.up, self.losing = True, False
        self.loading_until = self._world.now + loading
        for client_id in self._highest:
            self._highest[client_id] = max(0, self._highest[client_id] - rollback)

    def lose_link(self) -> None:
        """1100."""
        self.link_up = False
        for client_id in list(self.sessions):
            self._tell(client_id, BrokerError(-1, 1100, "Connectivity between IB and TWS has been lost."))

    def restore_link(self) -> None:
        """1102, and what was kept goes on."""
        self.link_up = True
        kept, self._kept = self._kept, []
        for action in kept:
            action()
        for client_id in list(self.sessions):
            self._tell(client_id, BrokerError(-1, 1102, "Connectivity between IB and TWS has been restored."))
