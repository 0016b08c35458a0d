"""A leader with a tender, for tests: a real reconciliation and a real dial; what a takeover would give it is made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.broker import Admitted, Unreachable
from engine.order import Order
from ha.lease import Held
from ha.phase import TermOver
from ha.role import On
from ha.takeover import Rules, Takeover
from ha.tend import Tender
from ha.tend_rules import TendRules
from ha.term import Phases
from reconcile.run import Reconciler
from tests.unit.book_factory import ACCOUNT, CLIENT, CLUSTER, FoldingCommitter, shown
from tests.unit.desk_factory import Scene

LATE = 600.0
"""Seconds after which every order is past its age."""


class Led(Scene):
    """A scene with a tender on it."""

    def __init__(self, committer: type[FoldingCommitter] = FoldingCommitter, **rules: Any) -> None:
        super().__init__(committer)

        async def nothing(*_: object) -> None:
            """A note that costs nothing."""

        takeover: Any = SimpleNamespace(
            committer=self.committer, phases=Phases(), place_known=False, must_hold=None, term=None, claim_above=lambda _: None,
            note_phases=nothing, remember=nothing,
        )  # fmt: skip
        self.takeover, self.committer.control = takeover, {}
        reconciler = Reconciler(
            self.ledger.book, self.wire, cluster=CLUSTER, client_id=CLIENT, present_session=lambda: self.permit.session
        )
        self.tender = Tender(
            takeover, lambda _: None, permit=self.permit, desk=self.desk, broker=self.wire, reconciler=reconciler,
            rules=TendRules(**rules), clock=self.clock,
        )  # fmt: skip

    @property
    def marked(self) -> tuple[str, ...]:
        return self.desk.cancels.unconfirmed.marked

    def later(self, seconds: float = LATE) -> None:
        """So much later by the database's clock."""
        self.committer.database_offset = seconds

    def show(self, order: Order, status: str = "Submitted", perm_id: int = 901, **fields: Any) -> None:
        """The gateway shows an order of ours, in the stream and in each list from now on."""
        fact = shown(
            order.id, perm_id, broker_order_id=order.broker_order_id, status=status, order_type=order.order_type,
            symbol=order.symbol, limit_price=order.limit_price, **fields,
        )  # fmt: skip
        self.wire.show(fact)
        self.take(fact)

    def agreed(self) -> None:
        """The session's reconciliation is over: the gate opens, where nothing else keeps it shut."""
        assert self.tender._open(0) is On.AGREED

    def tend(self) -> None:
        """What the leader does at every tick, as far as it sends."""
        self.tender._calendar_read_at = 0.0
        self.tender.tick()

    def change_hands(self) -> None:
        """A term ends and another one begins: what the leader knew beside the book is forgotten."""
        self.inbound.end()
        self.desk.end()
        self.desk.begin(self.committer)
        self.inbound.begin(self.committer, CLIENT)
        self.permit.session = None

    async def dial(self, *, link: bool = True, found: bool = True) -> None:
        """The session is lost, and a gateway is dialled, by the code of a takeover that knows of no dial before this one.

        Without its link the gateway says so at once. Not `found`: nobody answers, and the term ends before the second dial.
        """
        if self.permit.session is not None:
            self.permit.session = None
            self.desk.session_lost()

        async def connect(_: float) -> Admitted | Unreachable:
            if not found:
                over.append("somebody else leads")
                return Unreachable("nobody listens")
            if not link:
                self.tender.link_lost()
            return Admitted(self.ledger.book.order_id_floor, (ACCOUNT,))

        async def held() -> Held:
            return Held(1, 2, 1e12)

        over: list[str] = []

        async def proven() -> None:
            if over:
                raise TermOver(over[0])

        self.committer.prove_now, self.committer.control, self.wire.connect = proven, {}, connect  # type: ignore[method-assign]
        lease: Any = SimpleNamespace(verify=held)
        nobody: Any = None
        dialler = Takeover(
            self.ledger.book, self.permit, self.desk, self.inbound, self.wire, lease, nobody, nobody, nobody, CLIENT, Rules(),
            on_fenced=lambda _: None,
        )  # fmt: skip
        dialler.committer, self.wire.abort = self.committer, lambda: None  # type: ignore[method-assign]
        if found:
            assert await dialler.connect() is On.ADMITTED
        else:
            with pytest.raises(TermOver):
                await dialler.connect()
