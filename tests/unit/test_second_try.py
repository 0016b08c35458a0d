"""R6 over the end of a session and of a term: what a gateway may have kept is judged before the gate opens, and nothing else is.
R1: what is in doubt is repeated where that can be written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from engine.again import why_not
from engine.clock import utcnow
from engine.events import Draft, Kind
from engine.order import OPERATOR_DEAD, State
from ha.calendar import GatewayCalendar
from ha.role import On
from ha.second_try import PROVEN, cancel_late, repeat_doubtful
from tests.unit.book_factory import ACCOUNT, shown, traded
from tests.unit.desk_factory import ASKER, LateCommitter
from tests.unit.led_factory import LATE, Led


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


@pytest.mark.rule(6)
@pytest.mark.parametrize("seen_by", ["stream", "list"])
@pytest.mark.parametrize(("age", "cancelled"), [(LATE, True), (5.0, False)])
@pytest.mark.parametrize("in_doubt", [True, False])
async def test_what_a_dead_session_was_sent_and_a_new_leader_finds_is_cancelled_when_it_is_past_its_age(
    in_doubt: bool, age: float, cancelled: bool, seen_by: str
) -> None:
    """The leader that was told 1100 died with its marks; the gateway may have submitted the order a moment ago."""
    led = Led()
    order = await led.place()
    if in_doubt:
        led.ledger.add(Kind.ORDER_IN_DOUBT, order.id, reason="not shown")
    led.change_hands()
    await led.dial()
    there = shown(order.id, 901, broker_order_id=1, order_type="MKT", limit_price=None)
    led.wire.show(there)
    if seen_by == "stream":
        led.take(there)
    led.later(age)
    assert await led.tender.reconcile_session() is On.AGREED
    assert (led.order(order.id).state, led.order(order.id).cancel_requested) == (State.WORKING, cancelled)


@pytest.mark.rule(6)
@pytest.mark.parametrize(("first", "age", "cancelled"), [
    ("PendingSubmit", LATE, True), ("PendingSubmit", 5.0, False), ("Submitted", LATE, False), ("PreSubmitted", LATE, False),
])  # fmt: skip
async def test_what_the_old_leader_saw_at_the_gateway_alone_is_judged_by_the_new_one_as_if_nobody_had_answered(
    first: str, age: float, cancelled: bool
) -> None:
    """The gateway had it, its link was lost and came back while nobody led: IB may have got it a moment ago."""
    led = Led()
    order = await led.place()
    led.show(order, first)
    led.change_hands()
    await led.dial()
    led.show(order)
    led.later(age)
    assert await led.tender.reconcile_session() is On.AGREED
    assert (led.order(order.id).state, led.order(order.id).cancel_requested) == (State.WORKING, cancelled)


@pytest.mark.rule(6)
async def test_what_ib_has_confirmed_since_is_judged_by_no_later_leader() -> None:
    led = Led()
    order = await led.place()
    led.show(order, "PendingSubmit")
    led.show(order)
    led.change_hands()
    await led.dial()
    led.show(order)
    led.later()
    await led.tender.reconcile_session()
    assert (led.order(order.id).cancel_requested, led.kinds(order.id).count(Kind.ORDER_WORKING)) == (False, 2)


@pytest.mark.rule(6)
async def test_ibs_answer_is_written_down_behind_the_gateways_own_that_is_on_its_way() -> None:
    led = Led(LateCommitter)
    placing = asyncio.ensure_future(led.place())
    await asyncio.sleep(0)
    led.committer.commit_all()
    order = await placing
    for status in ("PendingSubmit", "PendingSubmit", "Submitted", "Submitted"):
        led.show(order, status)
    led.committer.commit_all()
    assert (led.kinds(order.id).count(Kind.ORDER_WORKING), led.order(order.id).gateway_only) == (2, False)
    assert led.order(order.id).state is State.WORKING


@pytest.mark.rule(6)
@pytest.mark.rule(22)
async def test_status_alone_that_a_version_before_wrote_makes_no_order_late() -> None:
    """It wrote no second event when IB answered: such an order may have rested for hours."""
    led = Led()
    order = await led.place(order_type="LMT", limit_price="150", tif="GTC")
    led.ledger.add(Kind.ORDER_WORKING, order.id, status="PendingSubmit", perm_id=901, con_id=265598)
    led.change_hands()
    led.later(7200.0)
    await led.dial()
    led.show(order)
    assert await led.tender.reconcile_session() is On.AGREED
    assert (led.order(order.id).state, led.order(order.id).cancel_requested) == (State.WORKING, False)


@pytest.mark.rule(6)
async def test_what_was_judged_in_time_once_is_not_judged_again() -> None:
    led = Led()
    order = await led.place()
    led.show(order, "PendingSubmit")
    for age in (5.0, LATE):
        led.change_hands()
        await led.dial()
        led.show(order)
        led.later(age)
        await led.tender.reconcile_session()
    assert (led.order(order.id).state, led.order(order.id).cancel_requested) == (State.WORKING, False)


@pytest.mark.rule(6)
async def test_what_has_traded_at_ib_is_judged_by_no_later_leader() -> None:
    led = Led()
    order = await led.place()
    led.show(order, "PendingSubmit")
    led.take(traded(order.id, quantity=4, perm_id=901))
    led.change_hands()
    await led.dial()
    led.show(order)
    led.later()
    await led.tender.reconcile_session()
    assert (led.order(order.id).state, led.order(order.id).cancel_requested) == (State.WORKING, False)


@pytest.mark.rule(6)
async def test_what_a_dead_session_was_sent_waits_for_the_link_before_its_age_is_judged() -> None:
    led = Led()
    order = await led.place()
    await led.dial(link=False)
    led.wire.show(shown(order.id, 901, broker_order_id=1, order_type="MKT", limit_price=None))
    led.later()
    await led.tender.reconcile_session()
    assert (led.order(order.id).cancel_requested, led.marked) == (False, (order.id,))


@pytest.mark.rule(1)
async def test_what_no_session_shows_is_asked_to_be_cancelled_by_nobody() -> None:
    """`send_again` would be refused, and whatever surfaces after the reconciliation is adopted."""
    led = Led()
    order = await led.place()
    await led.dial()
    led.later()
    assert await led.tender.reconcile_session() is On.AGREED
    await led.tender.reconcile_now()
    assert (led.order(order.id).state, led.order(order.id).cancel_requested) == (State.IN_DOUBT, False)
    led.show(order)
    await led.tender.reconcile_now()
    assert (led.order(order.id).state, led.order(order.id).cancel_requested) == (State.WORKING, False)


# ---- R1: an order in doubt has one repetition, and it is not spent where nothing can be written


def in_doubt(led: Led) -> str:
    """The highest order id, sent on session 1 and proven absent on session 2 of a gateway that was there all the time."""
    led.committer.may_write = lambda *_: None
    oid = led.ledger.accept("lost", session=1)
    led.ledger.session(2, led.ledger.book.order_id_floor, away=False)
    led.permit.session = 2
    led.desk.session_opened(led.ledger.book.order_id_floor)
    led.ledger.book.unbroken_since = 1
    led.ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="not shown")
    led.ledger.add(
        Kind.BREAK_OPENED, oid, id="b", kind="in_doubt", symbol="AAPL", account=ACCOUNT, ours={}, broker={"snapshot": PROVEN}
    )  # fmt: skip
    order = led.order(oid)
    led.committer.database_offset = (order.created_at - utcnow()).total_seconds()
    return oid


def shut(led: Led, _: str) -> None:
    soon = utcnow() + timedelta(seconds=20)
    led.tender.calendar = GatewayCalendar(daily=soon.time())
    led.permit.shut["calendar"] = "The gateway restarts soon."


def second_look(led: Led, _: str) -> None:
    led.desk.second_look = frozenset({(ACCOUNT, "AAPL")})


def full(led: Led, _: str) -> None:
    for _message in range(50):
        led.wire.pace.wrote(led.clock())


def halted(led: Led, _: str) -> None:
    led.committer.control = {"halted": {"reason": "a test"}}
    led.tender.obey()


@pytest.mark.rule(1)
@pytest.mark.parametrize("why", [shut, second_look, full])
async def test_the_one_repetition_is_not_spent_where_it_cannot_be_written(why: Callable[[Led, str], None]) -> None:
    led = Led()
    oid = in_doubt(led)
    why(led, oid)
    repeat_doubtful(led.committer, led.desk, led.permit, set())
    assert (led.order(oid).state, led.order(oid).repeats, led.wire.written) == (State.IN_DOUBT, 0, [])
    led.permit.shut.clear()
    led.desk.second_look = frozenset()
    led.clock.now += 2.0
    repeat_doubtful(led.committer, led.desk, led.permit, set())
    assert (led.order(oid).state, led.order(oid).repeats, led.wire.written) == (State.SENDING, 1, [1])


@pytest.mark.rule(1)
@pytest.mark.parametrize("why", [shut, second_look, full, halted])
async def test_repetition_that_could_not_be_written_is_tried_again_in_its_session_and_once(
    why: Callable[[Led, str], None],
) -> None:
    led = Led(same_id=True)
    oid = in_doubt(led)
    why(led, oid)
    led.agreed()
    led.tend()
    assert (led.order(oid).state, led.wire.written) == (State.IN_DOUBT, [])
    led.committer.control = {}
    led.tender.calendar = GatewayCalendar()
    led.desk.second_look = frozenset()
    led.clock.now += 2.0
    for _ in range(3):
        led.tend()
    assert (led.order(oid).state, led.order(oid).repeats, led.wire.written) == (State.SENDING, 1, [1])


@pytest.mark.rule(1)
@pytest.mark.parametrize("link", [True, False])
async def test_it_goes_before_any_other_order_when_the_gate_opens(link: bool) -> None:
    led = Led(same_id=True)
    oid = in_doubt(led)
    if link:
        led.tender.link_lost()
    else:
        shut(led, oid)
    led.agreed()
    waits = await led.place("new", symbol="MSFT")
    led.tend()
    assert waits.state is State.QUEUED
    if link:
        led.tender._open_after_link(led.committer)
        await led.place("newer", symbol="IBM")
    led.tender.calendar = GatewayCalendar()
    led.tend()
    assert (led.order(oid).state, led.wire.written) == (State.SENDING, [1, 2, *([3] if link else [])])


@pytest.mark.rule(1)
async def test_while_only_the_pace_keeps_it_back_nothing_else_takes_its_turn() -> None:
    led = Led(same_id=True)
    oid = in_doubt(led)
    full(led, oid)
    led.agreed()
    led.clock.now += 2.0  # there is room again, and somebody is faster than the next look
    other = await led.place("new", symbol="MSFT")
    led.tend()
    assert (led.order(oid).state, other.state, led.wire.written) == (State.SENDING, State.SENDING, [1, 2])


@pytest.mark.rule(1)
@pytest.mark.parametrize("ends", ["next session", "higher id", "cancelled", "too old", "surfaced"])
async def test_it_is_not_tried_again_once_what_it_rests_on_holds_no_more(ends: str) -> None:
    led = Led(same_id=True)
    oid = in_doubt(led)
    led.permit.shut["test"] = "Not now."
    led.agreed()
    if ends == "next session":
        led.next_session(3)
    elif ends == "higher id":
        led.ledger.accept("higher", session=2)
    elif ends == "cancelled":
        await led.desk.cancel(oid, ASKER)
    elif ends == "too old":
        led.later()
    else:
        led.show(led.order(oid))
    led.permit.shut.clear()
    for _ in range(3):
        led.tend()
    assert (led.order(oid).repeats, led.wire.written.count(1)) == (0, 0)


@pytest.mark.rule(1)
async def test_without_same_id_nothing_is_repeated_however_the_gate_opens() -> None:
    led = Led()
    oid = in_doubt(led)
    led.agreed()
    led.tend()
    assert (led.order(oid).state, led.wire.written) == (State.IN_DOUBT, [])


@pytest.mark.rule(1)
@pytest.mark.parametrize("away", [True, False])
async def test_a_restart_of_the_gateway_that_a_dial_of_another_replica_saw_stands_in_the_way_of_a_repetition(
    away: bool,
) -> None:
    led = Led()
    await led.dial()  # the gateway of session 1 may have been away before it
    oid = led.ledger.accept("lost", session=2)
    if away:
        await led.dial(found=False)  # one replica finds no gateway, and leads no more
    await led.dial()  # the other one's first dial succeeds
    led.ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="not shown")
    order = led.order(oid)
    assert ("may have restarted" in (why_not(led.ledger.book, order, order.created_at) or "")) is away


@pytest.mark.rule(1)
async def test_it_is_written_once_for_each_session() -> None:
    led = Led()
    for _ in range(2):
        await led.dial(found=False)
    assert led.count(Kind.SESSION_CLOSED) == 1
    await led.dial()
    await led.dial(found=False)
    assert led.count(Kind.SESSION_CLOSED) == 2


@pytest.mark.rule(1)
async def test_operators_word_that_an_order_is_dead_is_no_sign_of_its_life() -> None:
    led = Led()
    lost, other = await led.place("k1"), await led.place("k2")
    await led.dial()
    await led.tender.reconcile_now()
    await led.tender.reconcile_now()
    assert {led.order(order.id).state for order in (lost, other)} == {State.IN_DOUBT}
    led.tender._doubts.clear()
    led.ledger.write(Draft(Kind.ORDER_CANCELLED, {"reason": OPERATOR_DEAD}, utcnow(), lost.id))
    await asyncio.sleep(0)
    assert not led.tender._doubts
