"""A leader's ledger before the real stand-in gateway over TCP: what the table says of it, and what a reconciliation makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest

from engine import broker_ib
from engine.broker import Admitted, DecoderLoss, Fact, Unreachable
from engine.broker_ib import IbBroker
from engine.clock import boottime, utcnow
from engine.contracts import Contracts
from engine.desk_settings import DeskSettings
from engine.events import Kind
from engine.inbound import Inbound
from engine.order import Order, State
from engine.permit import Permit
from engine.position import Break
from engine.reference import order_id
from engine.risk import Limits
from engine.submit import Desk
from reconcile.collect import collect
from reconcile.diff import compare
from reconcile.plan import Plan, make_plan
from reconcile.run import Reconciler, Result
from reconcile.snapshot import Identity, Snapshot
from tests.integration.sim_fixture import PATIENCE, Sim, running_sim, until
from tests.unit.book_factory import CLIENT, CLUSTER, FoldingCommitter, Ledger
from tests.unit.desk_factory import ASKER, request

F = TypeVar("F", bound=Callable[..., Any])
tested: set[str] = set()
ME = Identity.of(CLUSTER, CLIENT)
MANUAL = "DU1234567"  # the stand-in's account


def row(*names: str) -> Callable[[F], F]:
    """Marks a test as one that makes these rows happen."""
    tested.update(names)
    return lambda test: test


@contextlib.asynccontextmanager
async def a_leader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leader]:
    """A leader with a session, before a gateway of its own that may be asked for IB's own answer at any time."""
    monkeypatch.setattr(broker_ib, "ASK_IB_EVERY", 0.0)
    async with running_sim() as sim:
        made = await Leader(sim).connect()
        try:
            yield made
        finally:
            made.broker.abort()


class Leader:
    """Desk, way in, fold and reconciler as a replica has them; only the commit is in memory.

    `hears`: whether what the gateway tells by itself goes into the ledger; a leader that was not there did not hear it.
    """

    def __init__(self, sim: Sim) -> None:
        self.sim, self.ledger, self.hears = sim, Ledger(), False
        self.committer = FoldingCommitter(self.ledger)
        self.permit = Permit(proof_max_age=1e9)
        self.broker = IbBroker("127.0.0.1", sim.port, CLIENT, self._take)
        self._build()

    def _build(self) -> None:
        book = self.ledger.book
        self.permit.grant(self.ledger.epoch, boottime())
        self.desk = Desk(book, self.permit, self.broker, DeskSettings(CLUSTER, Limits(), {"": 60.0}))
        self.desk.contracts = Contracts(self.broker, book)
        self.inbound = Inbound(book, self.desk, lambda _reason: None)
        self.desk.begin(self.committer)  # type: ignore[arg-type]
        self.inbound.begin(self.committer, CLIENT)  # type: ignore[arg-type]
        self.reconciler = Reconciler(
            book, self.broker, cluster=CLUSTER, client_id=CLIENT, present_session=lambda: self.permit.session,
            losses=lambda: self.inbound.losses, carry_out=self.desk.carry_out,
        )  # fmt: skip

    def _take(self, fact: Fact) -> None:
        if isinstance(fact, DecoderLoss):
            self.inbound.losses += 1
        if self.hears:
            self.inbound.take(fact)

    @property
    def session(self) -> int:
        """The present session's number."""
        assert self.permit.session is not None
        return self.permit.session

    # ---- sessions

    async def connect(self) -> Leader:
        """Take a session and open the gate."""
        ends = boottime() + PATIENCE
        while isinstance(answer := await self.broker.connect(3.0), Unreachable) and boottime() < ends:
            await asyncio.sleep(0.02)  # a leader dials until the gateway is there
        assert isinstance(answer, Admitted), answer
        number = self.ledger.book.session + 1
        self.ledger.add(
            Kind.SESSION_OPENED, session=number, next_valid_id=answer.next_valid_id, accounts=list(answer.accounts)
        )
        self.permit.session = number
        self.desk.session_opened(answer.next_valid_id)
        self.permit.shut.clear()
        return self

    def die(self) -> None:
        """The session ends, as it does when a leader is killed."""
        self.broker.abort()
        self.permit.session = None
        self.desk.session_lost()
        self.ledger.add(Kind.SESSION_CLOSED, session=self.ledger.book.session)

    async def after_a_failover(self) -> Leader:
        """The next leader: the old session is dead, its own is up."""
        self.die()
        return await self.connect()

    # ---- orders

    async def place(self, key: str = "k1", **fields: Any) -> str:
        """Place an order (a resting limit order of 10 AAPL, unless said otherwise); its id. The gateway has read it then."""
        body = {"order_type": "LMT", "limit_price": "100.00"} | fields
        if body["order_type"] == "MKT":
            del body["limit_price"]
        await self.desk.place(request(key, **body), ASKER)
        await self.broker.current_time(2.0)  # what was written before has been read
        return order_id(CLUSTER, ASKER.subject, key)

    async def working(self, key: str = "k1", **fields: Any) -> str:
        """Place an order and hear the gateway's evidence of it."""
        self.hears, before = True, self.hears
        oid = await self.place(key, **fields)
        await until(lambda: self.order(oid).state not in (State.SENDING, State.QUEUED), "the gateway shows the order")
        self.hears = before
        return oid

    def order(self, oid: str) -> Order:
        """The order as the ledger has it."""
        return self.ledger.order(oid)

    def there(self, oid: str) -> Any:
        """The orders that the gateway has under this order's reference."""
        assert self.sim.stand is not None
        known = self.sim.stand.gateway.book.orders.by_perm_id.values()
        return [order for order in known if order.order_ref.endswith(oid)]

    # ---- looking

    async def snapshot(self, deadline: float = 4.0, *, linked: bool = True) -> Snapshot:
        """One whole collection; `linked`: IB's own servers are asked too, without which nothing is absent (R6)."""
        return await collect(
            self.broker, deadline=deadline, book=self.ledger.book, session=self.session, prove_link=linked,
            losses=lambda: self.inbound.losses,
        )  # fmt: skip

    def plan(self, snapshot: Snapshot, *, last: bool = True) -> Plan:
        """What the table says of it."""
        book = self.ledger.book
        return make_plan(book, snapshot, compare(book, snapshot, ME), ME, utcnow(), last=last, may_cancel=True)

    async def rows(self, deadline: float = 4.0, *, linked: bool = True) -> list[str]:
        """Names of the rows that fit what the gateway shows now; nothing is written."""
        return [ruling.row.name for ruling in self.plan(await self.snapshot(deadline, linked=linked)).rulings]

    async def reconcile(self, deadline: float = 5.0) -> Result:
        """A whole reconciliation; the gate may open after it."""
        result = await self.reconciler.reconcile(self.committer, self.session, deadline=deadline, hold_back=0.05)
        assert result.gate_may_open, result
        return result

    def breaks(self) -> list[str]:
        """Kinds of the open breaks."""
        return [found.kind for found in self.ledger.book.open_breaks.values()]

    def the_break(self) -> Break:
        """The only open break."""
        [found] = self.ledger.book.open_breaks.values()
        return found

    def kept(self) -> Ledger:
        """The ledger as it is now, for a database that goes back to it."""
        kept = Ledger(self.ledger.epoch)
        kept.log = list(self.ledger.log)
        for event in copy.deepcopy(kept.log):
            kept.book.apply(event)
        return kept

    def go_back(self, ledger: Ledger) -> None:
        """The database is what it was: this leader leads over an older ledger."""
        self.ledger, self.committer = ledger, FoldingCommitter(ledger)
        self._build()
