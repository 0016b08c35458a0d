"""Each row of the reconciliation table about orders, made to happen at the stand-in gateway and read through ib_async."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from engine.clock import utcnow
from engine.events import Draft, Kind
from engine.order import State
from engine.request import parse_change
from reconcile.plan import TABLE
from reconcile.snapshot import COMPLETED_ORDERS
from tests.integration import test_table_trades
from tests.integration.sim_fixture import until, until_entries
from tests.integration.table_fixture import Leader, a_leader, row, tested
from tests.unit.desk_factory import ASKER, request


@pytest.fixture
async def leader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leader]:
    """A leader with a session."""
    async with a_leader(monkeypatch) as made:
        yield made


def test_every_row_of_the_table_happens_at_the_stand_in() -> None:
    assert test_table_trades.__name__  # its rows are in `tested` too
    assert {item.name for item in TABLE} - tested == set()


# ---- never licensed, or just licensed


@row("queued")
async def test_queued_order_is_not_at_the_broker_and_is_sent_when_the_gate_opens(leader: Leader) -> None:
    leader.permit.shut["link"] = "The link is down."
    oid = await leader.place()
    assert await leader.rows() == ["queued"]
    assert (await leader.reconcile()).repaired == 0
    assert leader.there(oid) == []
    leader.permit.shut.clear()
    leader.desk.work_queue()
    await until(lambda: leader.there(oid), "it is sent")


@row("sending_now")
@pytest.mark.rule(3)
async def test_absence_of_the_present_sessions_order_says_nothing(leader: Leader) -> None:
    await leader.sim.fault("lose_orders", next=1)
    oid = await leader.place()
    assert await leader.rows() == ["sending_now"]
    await leader.reconcile()
    assert leader.order(oid).state is State.SENDING


@row("queued_yet_present")
@pytest.mark.rule(18)
async def test_order_that_the_ledger_calls_queued_and_the_broker_has_is_working_and_not_sent(leader: Leader) -> None:
    leader.permit.shut["link"] = "The link is down."
    oid = await leader.place()
    before = leader.kept()
    leader.permit.shut.clear()
    leader.desk.work_queue()
    await until(lambda: leader.there(oid), "it is sent")
    leader.die()
    leader.go_back(before)
    await leader.connect()
    assert await leader.rows() == ["queued_yet_present"]
    await leader.reconcile()
    leader.desk.work_queue()
    await leader.broker.current_time(2.0)
    assert (leader.order(oid).state, len(leader.there(oid))) == (State.WORKING, 1)


# ---- in flight when its session died


@row("sending_present")
@pytest.mark.rule(1)
async def test_lost_acknowledgement_the_order_is_there_and_is_adopted(leader: Leader) -> None:
    await leader.sim.fault("drop_acks", next=1)
    oid = await leader.place()
    await leader.after_a_failover()
    assert await leader.rows() == ["sending_present"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.WORKING, [])


@row("sending_absent", "in_doubt_surfaced", "break_answered")
@pytest.mark.rule(1)
@pytest.mark.guarantee(3)
async def test_order_held_inside_the_gateway_is_in_doubt_and_adopted_when_it_surfaces(leader: Leader) -> None:
    await leader.sim.fault("hold_inside", next=1, ms=4000)
    oid = await leader.place()
    await leader.after_a_failover()
    assert await leader.rows() == ["sending_absent"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.IN_DOUBT, ["in_doubt"])
    await until(lambda: leader.there(oid), "it surfaces")
    assert await leader.rows() == ["in_doubt_surfaced", "break_answered"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.WORKING, [])
    assert len(await leader.sim.journal("order")) == 1


@row("sending_unproven")
@pytest.mark.guarantee(6)
@pytest.mark.parametrize("part", ["executions", "open_orders", "completed", "positions"])
async def test_snapshot_that_misses_a_part_proves_nothing_and_its_break_says_so(leader: Leader, part: str) -> None:
    await leader.sim.fault("lose_orders", next=1)
    oid = await leader.place()
    await leader.after_a_failover()
    await leader.sim.fault("no_end", request=part)
    assert await leader.rows(0.4) == ["sending_unproven"]
    await leader.reconcile(0.6)
    told = leader.the_break().broker["snapshot"] or ""
    assert leader.order(oid).state is State.IN_DOUBT
    assert told.startswith("incomplete snapshot: ")
    missing = told.removeprefix("incomplete snapshot: ").split(", ")  # and the link, for which there was no time
    assert (COMPLETED_ORDERS if part == "completed" else part) in missing


@row("reopened")
@pytest.mark.rule(1)
async def test_order_that_an_operator_called_dead_and_that_surfaces_is_reopened_and_told(leader: Leader) -> None:
    await leader.sim.fault("hold_inside", next=1, ms=4000)
    oid = await leader.place()
    await leader.after_a_failover()
    await leader.reconcile()
    found = leader.the_break()
    leader.ledger.write(
        Draft(Kind.ORDER_CANCELLED, {"reason": "operator_dead"}, utcnow(), oid),
        Draft(Kind.BREAK_RESOLVED, {"id": found.id, "resolution": "dead"}, utcnow(), oid),
    )
    await until(lambda: leader.there(oid), "it surfaces")
    assert await leader.rows() == ["reopened"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.WORKING, ["reopened"])


@pytest.mark.rule(3)
async def test_order_sent_while_the_snapshot_was_taken_is_not_judged_by_it(leader: Leader) -> None:
    snapshot = await leader.snapshot()
    oid = await leader.place()
    plan = leader.plan(snapshot)
    assert ([r.row.name for r in plan.rulings], plan.drafts) == (["sending_now"], ())
    leader.die()  # and a verdict about a session that is over is void, even if its snapshot says nothing of the order
    await leader.connect()
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.WORKING, [])


# ---- cancels and changes in flight


@pytest.mark.rule(7)
@pytest.mark.guarantee(5)
async def test_order_that_filled_while_its_cancel_was_in_flight_is_filled(leader: Leader) -> None:
    await leader.sim.fault("pending_cancel", ms=100, fill=True)
    oid = await leader.working()
    leader.hears = True
    await leader.reconcile()  # shows it live on this session
    await leader.desk.cancel(oid, ASKER)
    leader.die()
    await until(lambda: leader.there(oid) == [], "it has ended at the broker")
    await leader.connect()
    await leader.reconcile()
    assert (leader.order(oid).state, leader.order(oid).filled, leader.breaks()) == (State.FILLED, 10, [])
    assert len(await leader.sim.journal("cancel")) == 1


@pytest.mark.rule(7)
async def test_change_that_was_in_flight_is_what_the_broker_shows(leader: Leader) -> None:
    oid = await leader.working()
    leader.hears = True
    await leader.reconcile()
    leader.hears = False
    await leader.desk.modify(oid, parse_change({"revision": 1, "limit_price": "99.00"}), ASKER)
    await until_entries(leader.sim, "modify", 1)
    await leader.after_a_failover()
    assert await leader.rows() == ["changed_there"]
    await leader.reconcile()
    order = leader.order(oid)
    assert (order.limit_price, order.asked, order.revision) == (Decimal(99), {}, 2)  # the revision that was promised
    assert len(await leader.sim.journal("modify")) == 1


@row("dead_traded", "dead_traded_known")
@pytest.mark.rule(1)
async def test_order_that_an_operator_called_dead_and_that_traded_is_booked_and_told(leader: Leader) -> None:
    await leader.sim.fault("hold_inside", next=1, ms=1200)
    oid = await leader.place(limit_price="500.00")  # fills as soon as the gateway takes it
    await leader.after_a_failover()
    await leader.reconcile()
    leader.ledger.write(
        Draft(Kind.ORDER_CANCELLED, {"reason": "operator_dead"}, utcnow(), oid),
        Draft(Kind.BREAK_RESOLVED, {"id": leader.the_break().id, "resolution": "dead"}, utcnow(), oid),
    )
    await until_entries(leader.sim, "execution", 1)
    assert "dead_traded" in await leader.rows()
    await leader.reconcile()
    assert (leader.order(oid).filled, leader.breaks()) == (10, ["reopened"])
    assert "dead_traded_known" in await leader.rows()


# ---- ended while nobody was there


@row("cancelled_by_ib")
async def test_order_that_was_cancelled_meanwhile_is_cancelled(leader: Leader) -> None:
    oid = await leader.working()
    leader.die()
    await leader.sim.call("DELETE", f"/orders/{leader.order(oid).perm_id}")
    await leader.connect()
    assert await leader.rows() == ["cancelled_by_ib"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.CANCELLED, [])


@row("rejected_by_ib")
async def test_order_that_was_rejected_meanwhile_is_rejected(leader: Leader) -> None:
    await leader.sim.fault("reject", next=1, code=201)
    oid = await leader.place()
    await leader.after_a_failover()
    assert await leader.rows() == ["rejected_by_ib"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.REJECTED, [])


@row("ended_just_now")
@pytest.mark.rule(3)
async def test_order_that_ended_while_the_snapshot_was_taken_has_ended(leader: Leader) -> None:
    oid = await leader.working()
    snapshot = await leader.snapshot()
    leader.hears = True
    await leader.sim.call("DELETE", f"/orders/{leader.order(oid).perm_id}")
    await until(lambda: leader.order(oid).state is State.CANCELLED, "it is cancelled")
    plan = leader.plan(snapshot)
    assert ([r.row.name for r in plan.rulings], plan.drafts) == (["ended_just_now"], ())


@row("filled_yet_open", "filled_yet_open_known")
@pytest.mark.rule(27)
async def test_order_that_its_executions_fill_and_the_broker_still_shows_is_a_break(leader: Leader) -> None:
    oid = await leader.working(limit_price="180.00")
    await leader.sim.call("POST", "/prices", {"AAPL": {"price": "179.00", "size": "4"}})
    [made] = await until_entries(leader.sim, "execution", 1)
    await leader.reconcile()
    more = {"quantity": "6", "price": "179.00", "exec_id": "9999.01", "account": made["account"]}
    leader.ledger.fill(oid, **more, con_id=leader.order(oid).con_id, perm_id=leader.order(oid).perm_id)
    assert leader.order(oid).state is State.FILLED
    assert "filled_yet_open" in await leader.rows()
    await leader.reconcile()
    assert "filled_yet_open" in leader.breaks()
    assert "filled_yet_open_known" in await leader.rows()


# ---- seen and then gone


@row("working_now")
@pytest.mark.rule(3)
async def test_working_order_of_the_present_session_that_is_not_shown_is_not_judged(leader: Leader) -> None:
    oid = await leader.working()
    await leader.sim.call("DELETE", f"/orders/{leader.order(oid).perm_id}")
    await leader.sim.fault("midnight")
    assert await leader.rows() == ["working_now"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.WORKING, [])


@row("vanished", "vanished_unproven", "vanished_known", "vanished_answered")
@pytest.mark.rule(25)
async def test_order_that_was_seen_and_then_is_nowhere_keeps_its_state_and_is_a_break(leader: Leader) -> None:
    oid = await leader.working()
    leader.die()
    await leader.sim.call("DELETE", f"/orders/{leader.order(oid).perm_id}")
    await leader.sim.fault("midnight")
    await leader.connect()
    await leader.sim.fault("no_end", request="completed")
    assert await leader.rows(0.4) == ["vanished_unproven"]
    await leader.sim.mend("no_end")
    assert await leader.rows() == ["vanished"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.breaks()) == (State.WORKING, ["vanished"])
    assert await leader.rows() == ["vanished_known"]
    leader.ledger.write(
        Draft(Kind.BREAK_RESOLVED, {"id": leader.the_break().id, "resolution": "seen in TWS"}, utcnow(), oid)
    )
    assert await leader.rows() == ["vanished_answered"]


# ---- orders that the ledger has not, or has otherwise


@row("restored")
@pytest.mark.rule(19)
async def test_order_of_ours_that_the_ledger_lost_is_restored_under_its_own_id(leader: Leader) -> None:
    before = leader.kept()
    oid = await leader.place()
    leader.die()
    leader.go_back(before)
    await leader.connect()
    assert await leader.rows() == ["restored"]
    await leader.reconcile()
    restored = leader.order(oid)
    assert (restored.state, restored.client_order_id, restored.external) == (State.WORKING, None, False)
    assert restored.epoch == leader.ledger.epoch


@pytest.mark.rule(19)
async def test_bracket_and_group_that_the_ledger_lost_are_restored_as_what_they_were(leader: Leader) -> None:
    before = leader.kept()
    out = {"side": "SELL", "parent_client_order_id": "p", "order_type": "LMT"}
    wanted = [
        request("p", order_type="LMT", limit_price="100.00"), request("c1", **out, limit_price="300.00"),
        request("c2", **out | {"order_type": "STP"}, stop_price="50.00"),
        *(request(key, order_type="LMT", limit_price="99.00", oca_group="g") for key in ("g1", "g2")),
    ]  # fmt: skip
    parent, *children, one, other = [order.id for _, order in await leader.desk.place_all(wanted, ASKER)]
    await leader.broker.current_time(2.0)
    leader.die()
    leader.go_back(before)
    await leader.connect()
    assert await leader.rows() == ["restored"] * 5
    await leader.reconcile()
    assert [leader.order(oid).extra for oid in children] == [{"parent": parent}] * 2
    assert [leader.order(oid).extra for oid in (one, other)] == [{"oca_group": "g"}] * 2
    assert (leader.order(parent).extra, sorted(leader.ledger.book.children[parent])) == ({}, sorted(children))
    assert await leader.rows() == []


@row("external", "external_ended")
@pytest.mark.rule(28)
async def test_order_by_hand_is_recorded_and_its_end_too(leader: Leader) -> None:
    by_hand = {"symbol": "AAPL", "side": "SELL", "quantity": "3", "limit_price": "500.00"}
    made = await leader.sim.call("POST", "/orders", by_hand, status=201)
    assert await leader.rows() == ["external"]
    await leader.reconcile()
    [order] = leader.ledger.book.orders.values()
    assert (order.external, order.state, order.perm_id) == (True, State.WORKING, made["perm_id"])
    await leader.sim.call("DELETE", f"/orders/{made['perm_id']}")
    assert await leader.rows() == ["external_ended"]
    await leader.reconcile()
    assert order.state is State.CANCELLED


@row("external_gone", "external_unproven")
async def test_record_of_an_order_by_hand_ends_when_the_broker_shows_it_nowhere(leader: Leader) -> None:
    by_hand = {"symbol": "AAPL", "side": "SELL", "quantity": "3", "limit_price": "500.00"}
    made = await leader.sim.call("POST", "/orders", by_hand, status=201)
    await leader.reconcile()
    leader.die()
    await leader.sim.call("DELETE", f"/orders/{made['perm_id']}")
    await leader.sim.fault("midnight")
    await leader.connect()
    assert await leader.rows(linked=False) == ["external_unproven"]
    assert await leader.rows() == ["external_gone"]
    await leader.reconcile()
    assert [order.state for order in leader.ledger.book.orders.values()] == [State.CANCELLED]


@row("changed_there", "changed_just_now")
@pytest.mark.rule(28)
async def test_order_that_a_person_changed_has_the_brokers_figures_and_is_not_reverted(leader: Leader) -> None:
    oid = await leader.working()
    began = leader.ledger.book.seq
    by_hand = {
        "symbol": "AAPL", "side": "BUY", "quantity": "25", "limit_price": "101.00", "client_id": leader.broker.client_id,
        "order_id": leader.order(oid).broker_order_id, "order_ref": leader.there(oid)[0].order_ref,
    }  # fmt: skip
    await leader.sim.call("POST", "/orders", by_hand, status=201)
    assert await leader.rows() == ["changed_there"]
    leader.ledger.work(oid, leader.order(oid).perm_id)  # it moved while the next snapshot was taken
    snapshot = dataclasses.replace(await leader.snapshot(), first_unjudged_seq=began + 1)
    assert [r.row.name for r in leader.plan(snapshot).rulings] == ["changed_just_now"]
    await leader.reconcile()
    order = leader.order(oid)
    assert (order.quantity, order.limit_price, order.revision) == (25, 101, 2)
    assert await leader.sim.journal("cancel") == []


@row("change_lost")
@pytest.mark.rule(7)
async def test_change_that_never_reached_the_gateway_is_over_and_not_sent_again(leader: Leader) -> None:
    oid = await leader.working()
    leader.ledger.add(
        Kind.MODIFY_LICENSED, oid, session=leader.session, broker_order_id=leader.order(oid).broker_order_id,
        perm_id=leader.order(oid).perm_id, revision=1, changes={"limit_price": "99.00"},
    )  # fmt: skip
    await leader.after_a_failover()  # killed between the licence and its bytes
    assert await leader.rows() == ["change_lost"]
    await leader.reconcile()
    order = leader.order(oid)
    assert (order.asked, str(order.limit_price), order.state) == ({}, "100.00", State.WORKING)
    assert await leader.sim.journal("modify") == []


# ---- twins


@row("twin_cancelled", "twin_known", "perm_id_learned")
@pytest.mark.rule(26)
@pytest.mark.guarantee(4)
async def test_twin_is_cancelled_once_and_the_one_that_is_left_is_the_order(leader: Leader) -> None:
    await leader.sim.fault("twin", next=1)
    oid = await leader.working()
    assert await leader.rows() == ["twin_cancelled"]
    plan = leader.plan(await leader.snapshot())
    leader.ledger.write(*plan.drafts)  # licensed and told, not written yet
    assert await leader.rows() == ["twin_known"]
    mine = leader.order(oid).perm_id
    [other] = [order.perm_id for order in leader.there(oid) if order.perm_id != mine]
    await leader.sim.call("DELETE", f"/orders/{mine}")  # the gateway ends the one that the ledger has
    assert await leader.rows() == ["perm_id_learned", "twin_known", "break_answered"]
    await leader.reconcile()
    order = leader.order(oid)
    assert (order.state, order.perm_id, leader.breaks()) == (State.WORKING, other, [])


@row("twin")
@pytest.mark.rule(26)
async def test_twin_under_another_clientid_is_a_break_and_nothing_is_cancelled(leader: Leader) -> None:
    oid = await leader.working()
    stranger = {
        "symbol": "AAPL", "side": "BUY", "quantity": "10", "limit_price": "100.00", "client_id": 99, "order_id": 1,
        "order_ref": leader.there(oid)[0].order_ref,
    }  # fmt: skip
    await leader.sim.call("POST", "/orders", stranger, status=201)
    assert await leader.rows() == ["twin"]
    await leader.reconcile()
    assert leader.breaks() == ["twin"]
    assert await leader.sim.journal("cancel") == []
