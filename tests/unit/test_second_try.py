"""R6 over the end of a session and of a term: what a gateway may have kept is judged before the gate opens, and nothing else is."""

from __future__ import annotations

import pytest

from engine.order import State
from ha.role import On
from ha.second_try import cancel_late
from tests.unit.book_factory import shown
from tests.unit.led_factory import Led


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
