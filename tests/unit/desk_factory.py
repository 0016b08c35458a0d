"""A leader with a session, for tests: real desk, way in and fold; a scripted broker and a folding committer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.broker import Fact, Outgoing
from engine.commit import Done, Outcome
from engine.contracts import Contracts, Meant
from engine.desk_settings import Asker, DeskSettings
from engine.events import Draft, Kind
from engine.inbound import Inbound
from engine.order import Order
from engine.permit import Permit
from engine.request import OrderRequest, parse_order
from engine.risk import Limits
from engine.submit import Desk
from tests.unit.book_factory import CLIENT, CLUSTER, FoldingCommitter, Ledger, ScriptedBroker

ASKER = Asker("local", "c1")


class Wire(ScriptedBroker):
    """A broker that notes what is written to it, in order: an orderId for an order, minus it for a cancel."""

    def __init__(self, now: Clock) -> None:
        super().__init__()
        self.placed: list[Outgoing] = []
        self.prepared: list[Outgoing] = []
        self.written: list[int] = []
        self.refuse: list[Exception] = []  # what the next writes raise, instead of writing
        self._now = now

    def place(self, order: Outgoing) -> None:
        if self.refuse:
            raise self.refuse.pop(0)
        self.placed.append(order)
        self.written.append(order.broker_order_id)
        self.pace.wrote(self._now())

    def prepare(self, order: Outgoing) -> None:
        self.prepared.append(order)

    def cancel(self, broker_order_id: int) -> None:
        if self.refuse:
            raise self.refuse.pop(0)
        self.written.append(-broker_order_id)
        self.pace.wrote(self._now())


class LateCommitter(FoldingCommitter):
    """Folds only when it is told to: what is on its way to the log is not in the book yet."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.waiting: list[tuple[Sequence[Draft], Done]] = []
        self.meanwhile: list[Callable[[], None]] = []

    def submit(self, drafts: Sequence[Draft], done: Done, meanwhile: Callable[[], None] | None = None) -> None:
        self.waiting.append((drafts, done))
        if meanwhile is not None:
            self.meanwhile.append(meanwhile)

    def commit_all(self) -> None:
        """Commit what waits, in order; what is submitted meanwhile waits for the next call."""
        waiting, self.waiting = self.waiting, []
        for drafts, done in waiting:
            super().submit(drafts, done)

    def refuse_all(self, why: str = "no") -> None:
        """Refuse what waits."""
        waiting, self.waiting = self.waiting, []
        for _, done in waiting:
            done(Outcome.REFUSED, (), why)


class Taken(Contracts):
    """Contracts as they are asked for, without a question to IB."""

    async def meant(self, request: OrderRequest, *, session: bool) -> Meant:
        return Meant(request.symbol or "")

    async def of_order(self, order: Order, *, session: bool) -> Meant | None:
        return Meant(order.symbol)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A leader on session 1 with its gate open: its book, its desk, and the way in."""

    def __init__(self, committer: type[FoldingCommitter] = FoldingCommitter, **settings: Any) -> None:
        self.ledger, self.clock, self.doubts = Ledger(), Clock(), list[str]()
        self.ledger.session(1)
        self.wire = Wire(self.clock)
        self.permit = Permit(proof_max_age=1e9)
        self.permit.grant(5, self.clock())
        self.permit.session = 1
        self.permit.shut.clear()
        made = DeskSettings(CLUSTER, settings.pop("limits", Limits()), {"": 60.0}, **settings)
        self.desk = Desk(self.ledger.book, self.permit, self.wire, made, self.clock)
        self.desk.contracts = Taken(self.wire, self.ledger.book)
        self.inbound = Inbound(self.ledger.book, self.desk, self.doubts.append)
        self.committer: Any = committer(self.ledger)
        self.desk.begin(self.committer)
        self.inbound.begin(self.committer, CLIENT)

    def take(self, *facts: Fact) -> None:
        """Take facts in this order."""
        for fact in facts:
            self.inbound.take(fact)

    def order(self, oid: str) -> Order:
        """The order as it stands."""
        return self.ledger.order(oid)

    async def place(self, key: str = "k1", **fields: Any) -> Order:
        """Place an order; what was accepted."""
        return (await self.desk.place(request(key, **fields), ASKER))[1]

    def shut(self) -> None:
        """Shut the gate."""
        self.permit.shut["link"] = "The link is down."

    def open(self) -> None:
        """Open the gate and let the desk look at its queue."""
        self.permit.shut.clear()
        self.desk.work_queue()

    def next_session(self, number: int = 2) -> None:
        """The session ends, and the next one is up."""
        self.permit.session = None
        self.desk.session_lost()
        self.ledger.session(number)
        self.permit.session = number
        self.desk.session_opened(1)

    def tick(self) -> None:
        """What the leader does every 20 ms."""
        self.desk.work_queue()
        self.desk.cancels_to_write()

    def kinds(self, oid: str | None = None) -> list[str]:
        """Kinds of the events since the session was opened, of one order or of all."""
        return [str(e.kind) for e in self.ledger.log[1:] if e.order_id == oid or oid is None]

    def count(self, kind: Kind) -> int:
        """How many events of this kind there are."""
        return sum(1 for event in self.ledger.log if event.kind == kind)


def request(key: str = "k1", **fields: Any) -> OrderRequest:
    """A market order of 10 AAPL, unless said otherwise."""
    body = {"client_order_id": key, "symbol": "AAPL", "side": "BUY", "quantity": "10", "order_type": "MKT"} | fields
    return parse_order(body)
