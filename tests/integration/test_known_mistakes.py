"""What order engines are known to get wrong before Interactive Brokers: each case happens at the stand-in, and goes right here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from engine.broker import InUse
from engine.events import Kind
from engine.order import State
from engine.request import parse_change
from tests.integration.sim_fixture import until, until_entries
from tests.integration.table_fixture import Leader, a_leader
from tests.unit.desk_factory import ASKER


@pytest.fixture
async def leader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leader]:
    """A leader with a session."""
    async with a_leader(monkeypatch) as made:
        yield made


@pytest.mark.rule(1)
@pytest.mark.guarantee(3)
@pytest.mark.parametrize("fault", ["drop_acks", "hold_inside", "lose_orders"])
async def test_order_in_flight_without_an_answer_is_never_called_rejected(leader: Leader, fault: str) -> None:
    await leader.sim.fault(fault, next=1, **({"ms": 4000} if fault == "hold_inside" else {}))
    oid = await leader.place()
    await leader.after_a_failover()
    await leader.reconcile()
    first = leader.order(oid).state
    if fault == "hold_inside":
        await until(lambda: leader.there(oid), "it surfaces")
        await leader.reconcile()
    told = {event.kind for event in leader.ledger.log if event.order_id == oid}
    assert not told & {Kind.ORDER_REJECTED, Kind.ORDER_CANCELLED, Kind.ORDER_EXPIRED}
    assert first is (State.WORKING if fault == "drop_acks" else State.IN_DOUBT)
    assert leader.order(oid).state is (State.IN_DOUBT if fault == "lose_orders" else State.WORKING)
    assert len(await leader.sim.journal("order")) == (0 if fault == "lose_orders" else 1)


@pytest.mark.guarantee(5)
@pytest.mark.parametrize("data_lost", [True, False])
async def test_fill_during_a_lost_link_is_booked_once_when_the_link_is_back(leader: Leader, data_lost: bool) -> None:
    oid = await leader.working()
    leader.hears = True
    await leader.sim.fault("link_down", resubmit=True, data_lost=data_lost)
    await leader.sim.call("POST", "/prices", {"AAPL": "99.00"})
    assert leader.order(oid).filled == 0
    await leader.sim.mend("link_down")
    await leader.reconcile()
    assert (leader.order(oid).state, len(leader.ledger.book.executions), leader.breaks()) == (State.FILLED, 1, [])


@pytest.mark.rule(4)
@pytest.mark.guarantee(5)
async def test_ids_that_the_gateway_rolled_back_are_not_used_again(leader: Leader) -> None:
    first = [await leader.working(f"k{n}", limit_price="90.00") for n in range(3)]
    used = [leader.order(oid).broker_order_id for oid in first]
    leader.die()
    await leader.sim.fault("restart", down_ms=1, rollback_ids=3)
    await until_entries(leader.sim, "restart", 1)
    await leader.connect()
    await leader.reconcile()
    leader.hears = True
    later = await leader.working("k9", limit_price="95.00")
    assert leader.order(later).broker_order_id not in used
    await leader.sim.call("POST", "/prices", {"AAPL": "94.00"})  # fills the later one only
    await until(lambda: leader.order(later).state is State.FILLED, "its fill is booked on it")
    assert [leader.order(oid).filled for oid in first] == [0, 0, 0]
    assert len(await leader.sim.journal("order")) == 4


@pytest.mark.rule(7)
@pytest.mark.rule(26)
@pytest.mark.guarantee(4)
async def test_change_during_a_lost_link_that_became_a_second_order_is_found_and_ended(leader: Leader) -> None:
    oid = await leader.working()
    leader.hears = True
    await leader.reconcile()
    await leader.sim.fault("twin", next=1, of="changes")
    await leader.sim.fault("link_down", resubmit=True)
    await leader.desk.modify(oid, parse_change({"revision": 1, "limit_price": "99.00"}), ASKER)
    await leader.broker.current_time(2.0)
    await leader.sim.mend("link_down")
    await until(lambda: len(leader.there(oid)) == 2, "the broker has it twice")
    await leader.reconcile()
    await until(lambda: len(leader.there(oid)) == 1, "one of them is cancelled")
    await leader.reconcile()
    assert leader.order(oid).state is State.WORKING
    assert [found.kind for found in leader.ledger.book.breaks.values()] == ["twin"]
    [left] = leader.there(oid)
    assert leader.order(oid).perm_id == left.perm_id
    await leader.desk.cancel(oid, ASKER)
    leader.desk.cancels_to_write()
    await until(lambda: leader.order(oid).final, "the cancel is confirmed")
    assert (leader.order(oid).state, leader.there(oid)) == (State.CANCELLED, [])  # and nothing survived it


@pytest.mark.guarantee(2)
async def test_after_a_refused_clientid_the_same_one_is_taken_and_its_orders_can_be_cancelled(leader: Leader) -> None:
    oid = await leader.working()
    await leader.sim.fault("half_open")
    leader.die()
    refused = await leader.broker.connect(3.0)
    assert isinstance(refused, InUse), refused
    await leader.sim.mend("half_open")
    await leader.connect()
    leader.hears = True
    await leader.reconcile()
    await leader.desk.cancel(oid, ASKER)
    await until(lambda: leader.order(oid).state is State.CANCELLED, "it is cancelled")
    assert {entry["client_id"] for entry in await leader.sim.journal("session_open")} == {leader.broker.client_id}


@pytest.mark.guarantee(6)
@pytest.mark.parametrize("part", ["executions", "open_orders", "completed", "positions"])
async def test_request_that_fails_is_unknown_and_ends_nothing(leader: Leader, part: str) -> None:
    oid = await leader.working()
    await leader.sim.call("POST", "/prices", {"AAPL": {"price": "99.00", "size": "4"}})
    leader.die()
    await leader.connect()
    await leader.sim.fault("no_end", request=part)
    await leader.reconcile(0.6)
    asked = ["position"] if part == "executions" else []  # 4 there, 0 here, and nobody said why: held, not booked
    assert (leader.order(oid).state, leader.breaks()) == (State.WORKING, asked)
    assert leader.order(oid).filled == (0 if part == "executions" else 4)  # what did arrive is added
    await leader.sim.mend("no_end")
    await leader.reconcile()
    assert (leader.order(oid).filled, leader.breaks()) == (4, [])


@pytest.mark.guarantee(5)
async def test_correction_is_no_second_fill(leader: Leader) -> None:
    oid = await leader.working()
    leader.hears = True
    await leader.sim.call("POST", "/prices", {"AAPL": {"price": "99.00", "size": "4"}})
    await until(lambda: leader.order(oid).filled == 4, "it is booked")
    [made] = await leader.sim.journal("execution")
    await leader.sim.fault("correction", exec_id=made["exec_id"], quantity="3", price="98.00")
    await until(lambda: leader.order(oid).filled == 3, "the correction takes its place")
    await leader.reconcile()
    [position] = leader.ledger.book.positions.values()
    assert (position.quantity, leader.order(oid).average_price, leader.breaks()) == (3, Decimal(98), [])


@pytest.mark.guarantee(5)
@pytest.mark.guarantee(6)
async def test_midnight_in_the_gap_is_a_break_with_both_figures_and_no_invented_fill(leader: Leader) -> None:
    oid = await leader.working()
    leader.die()
    await leader.sim.call("POST", "/prices", {"AAPL": "99.00"})
    await leader.sim.fault("midnight")
    await leader.connect()
    await leader.reconcile()
    assert (leader.order(oid).state, leader.order(oid).filled) == (State.WORKING, 0)
    assert sorted(leader.breaks()) == ["position", "vanished"]
    position = next(found for found in leader.ledger.book.open_breaks.values() if found.kind == "position")
    assert (position.ours["quantity"], position.broker["quantity"], position.holds) == ("0", "10", True)
