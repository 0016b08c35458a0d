"""R6 over the end of a session and of a term: what a gateway may have kept is judged before the gate opens, and nothing else is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.broker import Admitted
from engine.order import Order, State
from ha.lease import Held
from ha.role import On
from ha.second_try import cancel_late
from ha.takeover import Rules, Takeover
from ha.tend import Tender, TendRules
from ha.term import Phases
from reconcile.run import Reconciler
from tests.unit.book_factory import ACCOUNT, CLIENT, CLUSTER, shown
from tests.unit.desk_factory import Scene

LATE = 600.0


class Led(Scene):
    """A leader whose tender is real; what a takeover would give it is made up."""

    def __init__(self, **rules: Any) -> None:
        super().__init__()

        async def nothing(*_: object) -> None:
            """A note that costs nothing."""

        takeover: Any = SimpleNamespace(
            committer=self.committer, phases=Phases(), place_known=False, must_hold=None, term=None, claim_above=lambda _: None,
            note_phases=nothing, remember=nothing,
        )  # fmt: skip
        self.takeover = takeover
        reconciler = Reconciler(
            self.ledger.book, self.wire, cluster=CLUSTER, client_id=CLIENT, present_session=lambda: self.permit.session
        )
        self.tender = Tender(
            takeover, lambda _: None, permit=self.permit, desk=self.desk, broker=self.wire, reconciler=reconciler,
            rules=TendRules(**rules),
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

    async def dial(self, *, link: bool = True) -> None:
        """The session is lost, and a gateway is dialled, by the takeover's own code; without its link it says so at once."""
        if self.permit.session is not None:
            self.permit.session = None
            self.desk.session_lost()

        async def connect(_: float) -> Admitted:
            if not link:
                self.tender.link_lost()
            return Admitted(self.ledger.book.order_id_floor, (ACCOUNT,))

        async def held() -> Held:
            return Held(1, 2, 1e12)

        async def proven() -> None:
            """The epoch is proven."""

        self.committer.prove_now, self.committer.control, self.wire.connect = proven, {}, connect  # type: ignore[method-assign]
        lease: Any = SimpleNamespace(verify=held)
        nobody: Any = None
        dialler = Takeover(
            self.ledger.book, self.permit, self.desk, self.inbound, self.wire, lease, nobody, nobody, nobody, CLIENT, Rules(),
            on_fenced=lambda _: None,
        )  # fmt: skip
        dialler.committer = self.committer
        assert await dialler.connect() is On.ADMITTED


@pytest.mark.rule(6)
async def test_what_met_a_lost_link_is_judged_by_the_next_session_whose_gateway_has_its_link() -> None:
    led = Led()
    kept = await led.place(order_type="LMT", limit_price="190")
    led.show(kept, "PendingSubmit")
    led.tender.link_lost()
    await led.dial()  # the gateway has restarted: nobody says 1101 or 1102
    led.show(kept)
    led.later()
    assert await led.tender.reconcile_session() is On.AGREED
    assert (led.order(kept.id).cancel_requested, led.marked) == (True, ())


@pytest.mark.rule(6)
async def test_it_is_not_judged_before_the_link_is_back() -> None:
    led = Led()
    kept = await led.place(order_type="LMT", limit_price="190")
    led.show(kept, "PendingSubmit")
    led.tender.link_lost()
    await led.dial(link=False)
    led.later()
    await led.tender.reconcile_session()
    assert (led.order(kept.id).cancel_requested, led.marked) == (False, (kept.id,))


@pytest.mark.rule(6)
async def test_a_mark_of_the_session_before_is_on_no_order_that_ib_has_confirmed_since() -> None:
    led = Led()
    led.tender.link_lost()
    await led.dial()
    await led.tender.reconcile_session()
    order = await led.place(order_type="LMT", limit_price="150", tif="GTC")
    led.show(order, "PendingSubmit")
    led.show(order, "Submitted")
    assert led.marked == ()
    led.later(7200.0)
    led.tender.link_lost()
    led.tender.link_restored()
    cancel_late(led.committer, led.desk)
    assert (led.order(order.id).state, led.order(order.id).cancel_requested) == (State.WORKING, False)


@pytest.mark.rule(6)
async def test_a_gateway_that_tells_a_new_session_at_once_that_its_link_is_lost_is_believed() -> None:
    led = Led()
    order = await led.place(order_type="LMT", limit_price="150")
    await led.dial(link=False)
    led.show(order, "PendingSubmit")
    assert led.marked == (order.id,)


@pytest.mark.rule(6)
async def test_an_order_of_somebody_else_is_never_cancelled_for_its_age() -> None:
    led = Led()
    theirs = shown(None, 990, status="PendingSubmit")
    led.wire.show(theirs)
    await led.tender.reconcile_now()
    led.take(theirs)
    [external] = [o for o in led.ledger.book.orders.values() if o.external]
    led.tender.link_lost()
    led.tender.link_restored()
    led.later(1e9)
    cancel_late(led.committer, led.desk)
    assert (external.cancel_requested, led.marked) == (False, ())
