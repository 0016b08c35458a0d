"""The table, row by row: what each difference between ledger and broker leads to, and what the ledger says afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from engine import intent
from engine.events import Kind
from engine.order import State
from engine.reference import order_id
from engine.request import parse_order
from engine.risk import Limits
from reconcile.differences import NOTHING, OrderDiffers
from reconcile.drafts import View
from reconcile.plan import TABLE, Acts, Verdict, row_for
from tests.unit.book_factory import (
    ACCOUNT,
    CLIENT,
    CON_IDS,
    ME,
    NOON,
    TAG,
    Ledger,
    done,
    holds,
    kinds,
    reference,
    rows,
    shown,
    snap,
    traded,
)

F = TypeVar("F", bound=Callable[..., Any])
tested: set[str] = set()


def row(*names: str) -> Callable[[F], F]:
    """Marks a test as a case of these rows."""
    tested.update(names)
    return lambda test: test


@pytest.fixture
def ledger() -> Ledger:
    """A ledger whose session 1 is over; snapshots are of session 2."""
    made = Ledger()
    made.session(1)
    made.add(Kind.SESSION_CLOSED, session=1)
    made.session(2, next_valid_id=50)
    return made


# ---- the table itself


def test_every_row_of_the_table_has_a_test_here() -> None:
    assert tested == {item.name for item in TABLE}


def test_row_names_are_unique_and_each_row_has_its_sentence() -> None:
    assert len({item.name for item in TABLE}) == len(TABLE)
    for item in TABLE:
        assert item.says.endswith(".")
        assert item.says[0].isupper()
        assert "|" not in item.says


def test_a_row_that_ignores_writes_nothing_and_one_that_does_not_writes_something() -> None:
    for item in TABLE:
        assert (item.write.__name__ == "nothing") == (item.verdict is Verdict.IGNORE)


def test_no_hold_on_an_absence_acts_at_first_sight() -> None:
    by_evidence = {"twin", "twin_cancelled", "execution_contradicts", "dead_traded"}  # what is there, is there
    assert all(item.acts > Acts.NOW or item.name in by_evidence for item in TABLE if item.verdict is Verdict.HOLD)


def test_a_difference_that_no_row_fits_is_never_passed_over(ledger: Ledger) -> None:
    filled = ledger.working(session=1)
    view = View(ledger.book, snap(), ME, NOON, (), never_traded=False)
    ledger.order(filled).state = State.IN_DOUBT
    with pytest.raises(LookupError, match="no row"):
        row_for(OrderDiffers(ledger.order(filled), NOTHING, Decimal(0)), view)


# ---- orders of the ledger


@row("queued")
def test_queued_intent_is_left_to_the_desk(ledger: Ledger) -> None:
    oid = ledger.accept()
    plan = ledger.plan(snap(), last=True)
    assert rows(plan) == ["queued"]
    assert plan.drafts == ()
    assert plan.queued == (oid,)


@row("sending_now")
@pytest.mark.rule(3)
def test_order_of_the_present_session_is_not_judged(ledger: Ledger) -> None:
    ledger.accept(session=2)
    plan = ledger.plan(snap(), last=True)
    assert rows(plan) == ["sending_now"]
    assert plan.drafts == ()


@pytest.mark.rule(3)
def test_order_licensed_after_the_collection_began_is_not_judged(ledger: Ledger) -> None:
    began = ledger.book.seq + 1
    ledger.accept(session=1)
    assert rows(ledger.plan(snap(first_unjudged_seq=began), last=True)) == ["sending_now"]
    assert rows(ledger.plan(snap(first_unjudged_seq=began + 1), last=True)) == ["sending_absent"]


@row("sending_present")
@pytest.mark.rule(1)
def test_unacknowledged_order_that_the_broker_shows_is_working(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    plan = ledger.plan(snap(shown(oid, perm_id=901, broker_order_id=1)))
    assert rows(plan) == ["sending_present"]
    ledger.write(*plan.drafts)
    order = ledger.order(oid)
    assert (order.state, order.perm_id, order.con_id) == (State.WORKING, 901, CON_IDS["AAPL"])


def test_sending_order_that_only_its_execution_shows_is_adopted_and_filled(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    ledger.repair(snap(traded(oid, perm_id=901), holds(10)))
    assert (ledger.order(oid).state, ledger.order(oid).perm_id) == (State.FILLED, 901)
    assert not ledger.book.open_breaks


@row("sending_absent")
@pytest.mark.rule(1)
@pytest.mark.guarantee(4)
def test_sending_on_a_dead_session_absent_from_a_complete_snapshot_is_in_doubt_and_never_sent_again(
    ledger: Ledger,
) -> None:
    oid = ledger.accept(session=1)
    first = ledger.plan(snap())
    assert rows(first) == ["sending_absent"]
    assert first.drafts == ()  # held back: most doubts answer themselves
    second = ledger.plan(snap(), doubted=sorted(first.undecided))
    assert kinds(second) == [Kind.ORDER_IN_DOUBT, Kind.BREAK_OPENED]
    ledger.write(*second.drafts)
    assert ledger.order(oid).state is State.IN_DOUBT
    found = ledger.book.holding(ACCOUNT, "AAPL")
    assert found is not None
    assert (found.kind, found.order_id, found.holds) == ("in_doubt", oid, True)
    assert (found.ours["state"], found.ours["session"]) == ("SENDING", "1")
    assert (found.broker["shown"], found.broker["snapshot"]) == ("nothing", "complete snapshot")
    assert ledger.plan(snap(), last=True).drafts == ()  # and that is all, for ever


@row("sending_unproven")
@pytest.mark.rule(23)
@pytest.mark.rule(24)
@pytest.mark.guarantee(6)
@pytest.mark.parametrize(
    "part", ["open_orders", "completed_orders", "executions", "positions", "round_trip", "decoded"]
)
def test_incomplete_snapshot_gives_no_verdict_until_the_last_round_parks_the_order(ledger: Ledger, part: str) -> None:
    oid = ledger.accept(session=1)
    incomplete = snap(missing=[part])
    plan = ledger.plan(incomplete, doubted=[f"order:{oid}"])
    assert rows(plan) == ["sending_unproven"]
    assert plan.drafts == ()
    ledger.write(*ledger.plan(incomplete, last=True).drafts)
    assert ledger.order(oid).state is State.IN_DOUBT
    [found] = ledger.book.open_breaks.values()
    assert found.broker["snapshot"] == f"incomplete snapshot: {part}"


@pytest.mark.rule(23)
def test_snapshot_that_lacks_a_working_order_proves_nothing_about_another_one(ledger: Ledger) -> None:
    ledger.working("seen", session=1, symbol="IBM")
    oid = ledger.accept("unseen", session=1)
    plan = ledger.plan(snap(), doubted=[f"order:{oid}"])
    assert sorted(rows(plan)) == ["sending_unproven", "vanished"]
    assert plan.drafts == ()


@pytest.mark.rule(23)
@pytest.mark.guarantee(6)
def test_absence_of_an_order_that_is_older_than_the_gateways_day_proves_nothing(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    asked = [f"order:{oid}"]
    before = ledger.order(oid).created_at
    assert rows(ledger.plan(snap(), doubted=asked, day_began=before)) == ["sending_absent"]
    late = ledger.plan(snap(), doubted=asked, day_began=before + timedelta(microseconds=1))
    assert (rows(late), late.drafts) == (["sending_unproven"], ())
    ledger.write(*ledger.plan(snap(), last=True, day_began=before + timedelta(hours=1)).drafts)
    [found] = ledger.book.open_breaks.values()
    assert "older than the gateway's day" in (found.broker["snapshot"] or "")
    assert ledger.order(oid).state is State.IN_DOUBT


@pytest.mark.rule(23)
def test_absence_of_an_order_whose_contract_has_another_position_proves_nothing(ledger: Ledger) -> None:
    traded_before = ledger.working("k0")
    ledger.fill(traded_before)
    oid = ledger.accept("k1", session=1)
    moved = snap(traded(traded_before), done(traded_before), holds(17))
    assert "sending_unproven" in rows(ledger.plan(moved, doubted=[f"order:{oid}"]))
    ledger.repair(moved)
    doubt = next(found for found in ledger.book.open_breaks.values() if found.kind == "in_doubt")
    assert "position differs" in (doubt.broker["snapshot"] or "")


@row("in_doubt_surfaced", "break_answered")
@pytest.mark.rule(1)
def test_order_in_doubt_that_surfaces_is_working_and_its_break_is_resolved(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    ledger.repair(snap())
    plan = ledger.plan(snap(shown(oid)))
    assert rows(plan) == ["in_doubt_surfaced", "break_answered"]
    ledger.write(*plan.drafts)
    assert ledger.order(oid).state is State.WORKING
    assert ledger.book.holding(ACCOUNT, "AAPL") is None
    assert next(iter(ledger.book.breaks.values())).resolution == "surfaced"


def test_break_of_an_order_that_the_live_stream_brought_back_is_resolved(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    ledger.repair(snap())
    ledger.work(oid)
    plan = ledger.plan(snap(shown(oid)))
    assert rows(plan) == ["break_answered"]


@pytest.mark.parametrize("status", ["Cancelled", "ApiCancelled", "Inactive"])
def test_order_in_doubt_that_surfaces_as_ended_is_ended_and_its_break_resolved(ledger: Ledger, status: str) -> None:
    oid = ledger.accept(session=1)
    ledger.repair(snap())
    ledger.repair(snap(done(oid, status)))
    assert ledger.order(oid).state is (State.REJECTED if status == "Inactive" else State.CANCELLED)
    assert not ledger.book.open_breaks


@row("queued_yet_present")
@pytest.mark.rule(18)
def test_order_that_was_never_licensed_here_and_is_at_the_broker_is_adopted_not_sent(ledger: Ledger) -> None:
    oid = ledger.accept()
    plan = ledger.plan(snap(shown(oid)))
    assert rows(plan) == ["queued_yet_present"]
    ledger.write(*plan.drafts)
    assert ledger.order(oid).state is State.WORKING
    assert not ledger.book.queued


@row("cancelled_by_ib")
@pytest.mark.parametrize("status", ["Cancelled", "ApiCancelled"])
def test_order_that_ended_at_the_broker_is_cancelled(ledger: Ledger, status: str) -> None:
    oid = ledger.working()
    plan = ledger.plan(snap(done(oid, status)))
    assert rows(plan) == ["cancelled_by_ib"]
    ledger.write(*plan.drafts)
    assert (ledger.order(oid).state, ledger.order(oid).reason) == (State.CANCELLED, "cancelled at the broker")


def test_order_that_was_partly_filled_and_then_cancelled_keeps_its_fills(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    ledger.add(Kind.CANCEL_REQUESTED, oid)
    ledger.repair(snap(done(oid, "Cancelled", filled=Decimal(4)), traded(oid, quantity=4), holds(4)))
    order = ledger.order(oid)
    assert (order.state, order.filled, order.reason) == (State.CANCELLED, 4, "cancelled")


def test_cancel_in_flight_that_filled_is_filled(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.add(Kind.CANCEL_REQUESTED, oid, session=1)
    ledger.repair(snap(done(oid, "Filled"), traded(oid), holds(10)))
    assert ledger.order(oid).state is State.FILLED


@row("rejected_by_ib")
def test_order_that_completed_as_inactive_without_a_fill_is_rejected(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    plan = ledger.plan(snap(done(oid, "Inactive", text="no buying power")))
    assert rows(plan) == ["rejected_by_ib"]
    ledger.write(*plan.drafts)
    assert (ledger.order(oid).state, ledger.order(oid).reason) == (State.REJECTED, "no buying power")


def test_order_that_completed_as_inactive_with_a_fill_is_cancelled_not_rejected(ledger: Ledger) -> None:
    oid = ledger.working()
    plan = ledger.plan(snap(done(oid, "Inactive", filled=Decimal(4)), traded(oid, quantity=4), holds(4)))
    assert rows(plan) == ["cancelled_by_ib", "partly_filled_while_away"]


@row("ended_just_now")
@pytest.mark.rule(24)
def test_order_that_ended_while_the_snapshot_was_taken_is_no_difference(ledger: Ledger) -> None:
    oid = ledger.working()
    began = ledger.book.seq + 1
    ledger.add(Kind.ORDER_CANCELLED, oid, reason="cancelled")
    plan = ledger.plan(snap(shown(oid), first_unjudged_seq=began), last=True)
    assert rows(plan) == ["ended_just_now"]
    assert plan.drafts == ()


@row("reopened")
@pytest.mark.rule(1)
def test_order_called_dead_that_is_live_at_the_broker_is_reopened_and_alarms(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    ledger.repair(snap())
    ledger.add(Kind.ORDER_CANCELLED, oid, reason="operator_dead")
    assert ledger.plan(snap(shown(oid))).undecided == {f"order:{oid}"}
    plan = ledger.plan(snap(shown(oid)), doubted=[f"order:{oid}"])
    assert rows(plan)[0] == "reopened"
    ledger.write(*plan.drafts)
    assert ledger.order(oid).state is State.WORKING
    assert [found.kind for found in ledger.book.open_breaks.values()] == ["reopened"]


@pytest.mark.rule(1)
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("reason", ["operator_dead", "cancelled at the broker"])
def test_order_that_surfaces_after_its_end_is_cancelled_where_an_operator_called_it_dead_or_somebody_asked_for_it(
    ledger: Ledger, reason: str, asked: bool
) -> None:
    oid = ledger.accept(session=1)
    ledger.repair(snap())
    if asked:
        ledger.add(Kind.CANCEL_REQUESTED, oid, session=1)  # licensed for a session that is over
    ledger.add(Kind.ORDER_CANCELLED, oid, reason=reason)
    ledger.repair(snap(shown(oid)))
    wanted = asked or reason == "operator_dead"
    assert ledger.order(oid).state is State.WORKING
    assert (oid in ledger.book.cancels_wanted) is wanted
    assert (ledger.order(oid).cancel_requested, ledger.order(oid).cancel_session) == (wanted, None)


@row("dead_traded", "dead_traded_known")
@pytest.mark.rule(1)
@pytest.mark.parametrize("quantity", [4, 10])
def test_order_called_dead_that_traded_is_booked_and_somebody_is_told(ledger: Ledger, quantity: int) -> None:
    oid = ledger.accept(session=1)
    ledger.repair(snap())
    ledger.add(Kind.ORDER_CANCELLED, oid, reason="operator_dead")
    plan = ledger.plan(snap(traded(oid, quantity=quantity), holds(quantity)))
    assert rows(plan)[:2] == ["partly_filled_while_away" if quantity < 10 else "filled_while_away", "dead_traded"]
    ledger.write(*plan.drafts)
    assert ledger.order(oid).filled == quantity
    [found] = [b for b in ledger.book.open_breaks.values() if b.kind == "reopened"]
    assert (found.order_id, found.broker["filled"]) == (oid, str(quantity))
    assert rows(ledger.plan(snap(traded(oid, quantity=quantity), holds(quantity)))) == ["dead_traded_known"]


@row("filled_yet_open", "filled_yet_open_known")
def test_filled_order_that_the_broker_goes_on_to_list_as_open_is_told_and_held(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    still_open = snap(shown(oid), traded(oid), holds(10))
    assert ledger.plan(still_open, doubted=[f"order:{oid}"]).drafts == ()  # a list may be a moment old
    plan = ledger.plan(still_open, last=True)
    assert rows(plan) == ["filled_yet_open"]
    ledger.write(*plan.drafts)
    assert (ledger.order(oid).state, ledger.book.holding(ACCOUNT, "AAPL") is not None) == (State.FILLED, True)
    assert rows(ledger.plan(still_open, last=True)) == ["filled_yet_open_known"]
    ledger.repair(snap(done(oid), traded(oid), holds(10)))
    assert not ledger.book.open_breaks


def test_filled_order_of_which_a_twin_is_open_is_the_twins_case(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    ledger.fill(oid)
    assert rows(ledger.plan(snap(done(oid), shown(oid, 901), traded(oid), holds(10)), last=True)) == ["twin"]


@row("perm_id_learned")
def test_perm_id_that_was_not_known_is_noted(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=None)
    plan = ledger.plan(snap(shown(oid, perm_id=905)))
    assert rows(plan) == ["perm_id_learned"]
    ledger.write(*plan.drafts)
    assert ledger.book.by_perm_id[905] == oid
    assert rows(ledger.plan(snap(shown(oid, perm_id=905)))) == []


@row("working_now")
@pytest.mark.rule(3)
@pytest.mark.rule(24)
def test_working_order_that_moved_during_the_collection_is_not_judged(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    began = ledger.book.seq + 1
    ledger.work(oid)
    plan = ledger.plan(snap(first_unjudged_seq=began), last=True)
    assert rows(plan) == ["working_now"]
    assert plan.drafts == ()


@row("vanished_unproven")
@pytest.mark.guarantee(6)
@pytest.mark.parametrize("part", ["open_orders", "completed_orders", "executions"])
def test_working_order_is_never_called_gone_by_a_snapshot_without_a_part(ledger: Ledger, part: str) -> None:
    oid = ledger.working()
    plan = ledger.plan(snap(missing=[part]), doubted=[f"order:{oid}"])
    assert rows(plan) == ["vanished_unproven"]
    assert plan.undecided
    assert ledger.plan(snap(missing=[part]), last=True).drafts == ()


@row("vanished", "vanished_known")
@pytest.mark.rule(25)
def test_order_that_was_seen_and_then_is_gone_keeps_its_state_and_holds_its_contract(ledger: Ledger) -> None:
    oid = ledger.working()
    assert ledger.plan(snap(), doubted=[f"order:{oid}"]).drafts == ()  # a gateway may not have loaded its orders yet
    plan = ledger.plan(snap(), last=True)
    assert rows(plan) == ["vanished"]
    assert kinds(plan) == [Kind.BREAK_OPENED]
    ledger.write(*plan.drafts)
    assert ledger.order(oid).state is State.WORKING
    assert ledger.book.holding(ACCOUNT, "AAPL") is not None
    again = ledger.plan(snap(), last=True)
    assert rows(again) == ["vanished_known"]
    assert again.drafts == ()


@pytest.mark.rule(23)
def test_order_that_is_held_as_vanished_does_not_spoil_later_snapshots(ledger: Ledger) -> None:
    ledger.working("gone", session=1, symbol="IBM")
    ledger.repair(snap())
    oid = ledger.accept("unseen", session=1)
    assert "sending_absent" in rows(ledger.plan(snap(), doubted=[f"order:{oid}"]))


def test_vanished_order_that_comes_back_resolves_its_break(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.repair(snap())
    assert rows(ledger.plan(snap(shown(oid)))) == ["break_answered"]


# ---- orders of somebody else


@pytest.mark.rule(18)
@pytest.mark.rule(19)
@pytest.mark.guarantee(9)
def test_the_row_of_a_lost_order_and_the_hold_of_everything_are_one_group(ledger: Ledger) -> None:
    """Whatever ends the term between the two: the next one finds the hold in the log, and no key is taken twice meanwhile."""
    oid = order_id("desk1", "local", "lost")
    plan = ledger.plan(snap(shown(oid), shown(order_id("desk1", "local", "lost2"), 901)), epoch=9)
    assert kinds(plan) == [Kind.ORDER_RESTORED, Kind.ORDER_RESTORED, Kind.BREAK_OPENED]
    assert [len(ruling.drafts) for ruling in plan.in_order] == [2, 1]  # together also when each ruling is written alone
    ledger.write(*plan.drafts)
    hold = ledger.book.holds_everything
    assert hold is not None
    assert "went back in time" in (hold.broker["why"] or "")
    one_more = snap(
        shown(oid), shown(order_id("desk1", "local", "lost2"), 901), shown(order_id("desk1", "local", "lost3"), 902)
    )
    assert kinds(ledger.plan(one_more, epoch=9)) == [Kind.ORDER_RESTORED]  # held already


@row("external")
@pytest.mark.rule(26)
def test_order_placed_by_hand_is_recorded_as_external_and_counts_for_nothing_of_ours(ledger: Ledger) -> None:
    plan = ledger.plan(snap(shown(perm_id=77, broker_order_id=3)))
    assert rows(plan) == ["external"]
    ledger.write(*plan.drafts)
    order = ledger.order(order_id("desk1", "external", "77"))
    assert (order.external, order.state, order.client_order_id) == (True, State.WORKING, None)
    assert 3 not in ledger.book.by_broker_id
    assert rows(ledger.plan(snap(shown(perm_id=77)))) == []


def test_order_of_another_cluster_is_external_although_its_reference_has_our_form(ledger: Ledger) -> None:
    other = shown(perm_id=78, reference=reference("A" * 16, tag="ZZZZ"))
    ledger.repair(snap(other))
    assert ledger.order(order_id("desk1", "external", "78")).external
    assert rows(ledger.plan(snap(other))) == []


@row("external_ended")
@pytest.mark.parametrize("status", ["Cancelled", "Inactive", "Filled"])
def test_external_order_that_completed_ends_with_the_brokers_word(ledger: Ledger, status: str) -> None:
    ledger.repair(snap(shown(perm_id=77)))
    plan = ledger.plan(snap(done(perm_id=77, status=status)))
    assert rows(plan) == ["external_ended"]
    ledger.write(*plan.drafts)
    order = ledger.order(order_id("desk1", "external", "77"))
    assert (order.state, order.reason) == (State.CANCELLED, f"ended at the broker: {status}")


def test_external_order_whose_executions_are_shown_is_filled_by_them(ledger: Ledger) -> None:
    ledger.repair(snap(shown(perm_id=77)))
    ledger.repair(snap(done(perm_id=77), traded(perm_id=77), holds(10)))
    assert ledger.order(order_id("desk1", "external", "77")).state is State.FILLED


@row("external_unproven")
@pytest.mark.rule(6)
@pytest.mark.guarantee(6)
def test_nothing_is_called_absent_while_ibs_own_servers_were_not_asked(ledger: Ledger) -> None:
    ledger.repair(snap(shown(perm_id=77)))
    external = order_id("desk1", "external", "77")
    doubtful, gone = ledger.accept("sent", session=1), ledger.working("seen", perm_id=901)
    unasked = dataclasses.replace(snap(), linked=False)
    keys = [f"order:{oid}" for oid in (external, doubtful, gone)]
    plan = ledger.plan(unasked, doubted=keys)
    assert rows(plan) == ["external_unproven", "sending_unproven", "vanished_unproven"]
    assert (plan.drafts, plan.undecided) == ((), frozenset(keys))


@row("external_gone")
def test_external_order_that_is_nowhere_ends_and_holds_nothing(ledger: Ledger) -> None:
    ledger.repair(snap(shown(perm_id=77)))
    oid = order_id("desk1", "external", "77")
    assert rows(ledger.plan(snap(missing=["completed_orders"]), last=True)) == ["working_now"]
    plan = ledger.plan(snap(), doubted=[f"order:{oid}"])
    assert rows(plan) == ["external_gone"]
    ledger.write(*plan.drafts)
    assert ledger.order(oid).final
    assert not ledger.book.open_breaks


@row("restored")
@pytest.mark.rule(19)
@pytest.mark.guarantee(9)
def test_order_with_our_tag_that_the_ledger_lost_is_restored_under_its_own_id_and_epoch(ledger: Ledger) -> None:
    oid = order_id("desk1", "local", "lost")
    lost = shown(oid, reference=reference(oid, epoch=3), broker_order_id=400)
    plan = ledger.plan(snap(lost))
    assert rows(plan) == ["restored"]
    ledger.write(*plan.drafts)
    order = ledger.order(oid)
    assert (order.external, order.epoch, order.body, order.client_order_id) == (False, 3, None, None)
    assert (order.state, order.perm_id, order.quantity) == (State.WORKING, 900, 10)
    assert ledger.book.order_id_floor == 401
    assert rows(ledger.plan(snap(lost))) == []


@pytest.mark.rule(19)
@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (lambda oid: [done(oid), traded(oid), holds(10)], State.FILLED),
        (lambda oid: [done(oid, "Cancelled")], State.CANCELLED),
        (lambda oid: [done(oid, "Inactive")], State.REJECTED),
        (lambda oid: [traded(oid), holds(10)], State.FILLED),
        (lambda oid: [shown(oid), traded(oid, quantity=4), holds(4)], State.WORKING),
    ],
    ids=["filled", "cancelled", "inactive", "executions only", "partly filled"],
)
def test_lost_order_is_restored_with_its_fills_and_its_end(ledger: Ledger, facts: Any, state: State) -> None:
    oid = order_id("desk1", "local", "lost")
    snapshot = snap(*facts(oid))
    ledger.repair(snapshot)
    assert ledger.order(oid).state is state
    assert not ledger.order(oid).external
    assert ledger.plan(snapshot, last=True).drafts == ()
    assert [found.kind for found in ledger.book.open_breaks.values()] == ["everything"]


PARENT_ID, CHILD_ID = (order_id("desk1", "local", key) for key in ("parent", "child"))
GROUPED = {"oca_group": f"pa.{TAG}.{PARENT_ID}", "oca_type": 2}


@pytest.mark.rule(19)
@pytest.mark.parametrize(
    ("fields", "extra"),
    [
        (GROUPED, {"parent": PARENT_ID}),
        (GROUPED | {"parent_id": 41}, {"parent": PARENT_ID}),
        ({"parent_id": 41, "oca_group": f"pa.{TAG}.g", "oca_type": 1}, {"parent": PARENT_ID, "oca_group": "g"}),
        ({"parent_id": 41}, {"parent": PARENT_ID}),
        ({"parent_id": 42}, {}),
        ({"oca_group": f"pa.{TAG}.{PARENT_ID}", "oca_type": 1}, {"oca_group": PARENT_ID}),
        ({"oca_group": "somebody's", "oca_type": 2}, {}),
        ({}, {}),
    ],
)
def test_lost_order_is_restored_with_its_parent_and_its_group(
    ledger: Ledger, fields: dict[str, Any], extra: dict[str, str]
) -> None:
    parent = shown(PARENT_ID, 901, broker_order_id=41)
    child = shown(CHILD_ID, 902, broker_order_id=43, side="SELL", limit_price=Decimal(200), **fields)
    snapshot = snap(child, parent)
    ledger.repair(snapshot)
    assert ledger.order(CHILD_ID).extra == extra
    assert ledger.book.children == ({PARENT_ID: [CHILD_ID]} if "parent" in extra else {})
    assert ledger.order(PARENT_ID).extra == {}
    assert ledger.plan(snapshot, last=True).drafts == ()


@pytest.mark.rule(19)
def test_parent_that_the_ledger_kept_or_that_ib_shows_no_more_is_the_restored_childs_all_the_same(
    ledger: Ledger,
) -> None:
    kept = ledger.working("kept", broker_id=41, perm_id=901)
    child = shown(CHILD_ID, 902, broker_order_id=43, parent_id=41)
    ended = done(CHILD_ID[::-1], "Cancelled", perm_id=903, **GROUPED)
    ledger.repair(snap(shown(kept, 901, broker_order_id=41), child, ended))
    assert ledger.order(CHILD_ID).extra == {"parent": kept}
    assert ledger.order(CHILD_ID[::-1]).extra == {"parent": PARENT_ID}


@pytest.mark.rule(19)
@pytest.mark.rule(37)
@pytest.mark.parametrize(
    ("asked", "same"),
    [
        ({"parent_client_order_id": "parent"}, True),
        ({}, False),
        ({"parent_client_order_id": "p", "oca_group": "g"}, True),
    ],
)
def test_retry_of_a_restored_child_names_a_parent_or_is_another_order(asked: dict[str, str], same: bool) -> None:
    ledger = Ledger()
    ledger.repair(snap(shown(CHILD_ID, 902, **GROUPED), shown(PARENT_ID, 901, broker_order_id=2)))
    body = {"client_order_id": "child", "symbol": "AAPL", "side": "BUY", "quantity": "10", "order_type": "LMT"}
    request = parse_order(body | {"limit_price": "190.50"} | asked)
    assert intent.repeats(ledger.order(CHILD_ID), request) is same


# ---- executions


@row("filled_while_away")
@pytest.mark.rule(27)
@pytest.mark.guarantee(5)
def test_order_filled_while_nobody_looked_is_filled_by_its_executions(ledger: Ledger) -> None:
    oid = ledger.working()
    plan = ledger.plan(snap(done(oid), traded(oid, "0001.01", 4), traded(oid, "0002.01", 6), holds(10)))
    assert rows(plan) == ["filled_while_away", "filled_while_away"]
    ledger.write(*plan.drafts)
    assert (ledger.order(oid).state, ledger.order(oid).filled) == (State.FILLED, 10)
    assert ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]].quantity == 10


@row("partly_filled_while_away")
def test_part_that_was_filled_while_nobody_looked_is_booked_and_the_order_works_on(ledger: Ledger) -> None:
    oid = ledger.working()
    plan = ledger.plan(snap(shown(oid), traded(oid, quantity=4), holds(4)))
    assert rows(plan) == ["partly_filled_while_away"]
    ledger.write(*plan.drafts)
    assert (ledger.order(oid).state, ledger.order(oid).filled) == (State.WORKING, 4)


@row("execution_missing_here")
@pytest.mark.guarantee(5)
def test_execution_of_nobody_we_know_is_booked_because_positions_are_sums(ledger: Ledger) -> None:
    plan = ledger.plan(snap(traded(perm_id=55, symbol="IBM"), holds(10, "IBM")))
    assert rows(plan) == ["execution_missing_here"]
    assert plan.drafts[0].order_id is None
    ledger.write(*plan.drafts)
    assert ledger.book.positions[ACCOUNT, CON_IDS["IBM"]].quantity == 10


@pytest.mark.guarantee(5)
def test_execution_that_is_booked_is_never_booked_again(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    assert rows(ledger.plan(snap(traded(oid), holds(10)))) == []


@row("execution_corrected")
@pytest.mark.guarantee(5)
def test_correction_replaces_the_execution_and_an_old_revision_changes_nothing(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid, "0001.01", quantity="4")
    corrected = snap(shown(oid), traded(oid, "0001.02", 3), traded(oid, "0001.01", 4), holds(3))
    plan = ledger.plan(corrected)
    assert rows(plan) == ["execution_corrected"]
    ledger.write(*plan.drafts)
    assert (ledger.order(oid).filled, ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]].quantity) == (3, 3)
    assert rows(ledger.plan(corrected)) == []


def test_correction_and_original_that_come_together_are_booked_once(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.repair(snap(shown(oid), traded(oid, "0001.01", 4), traded(oid, "0001.02", 3), holds(3)))
    assert ledger.order(oid).filled == 3


@row("execution_contradicts", "execution_contradicts_known")
@pytest.mark.rule(27)
@pytest.mark.parametrize("change", [{"side": "SELL"}, {"symbol": "MSFT"}])
def test_same_execution_with_another_side_or_contract_is_a_break_and_not_booked(
    ledger: Ledger, change: dict[str, str]
) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    wrong = snap(traded(oid, "0001.02", **change), holds(10))
    plan = ledger.plan(wrong)
    assert rows(plan) == ["execution_contradicts"]
    ledger.write(*plan.drafts)
    assert ledger.book.holding(ACCOUNT, "AAPL") is not None
    assert ledger.order(oid).filled == 10
    assert rows(ledger.plan(wrong)) == ["execution_contradicts_known"]


# ---- what an order traded, and how often it exists


@row("missing_executions", "missing_executions_known")
@pytest.mark.guarantee(6)
@pytest.mark.parametrize("status", ["Filled", "Cancelled"])
def test_fills_whose_executions_left_the_window_are_not_invented(ledger: Ledger, status: str) -> None:
    oid = ledger.working()
    over = snap(done(oid, status, filled=Decimal(10) if status == "Filled" else Decimal(4)))
    ledger.repair(over)
    assert (ledger.order(oid).filled, ledger.book.executions) == (0, {})
    [found] = ledger.book.open_breaks.values()
    assert (found.kind, found.ours["filled"], found.broker["filled"]) == (
        "missing_executions", "0", "10" if status == "Filled" else "4",
    )  # fmt: skip
    assert rows(ledger.plan(over, last=True)) == ["missing_executions_known"]
    ledger.add(Kind.BREAK_RESOLVED, id=found.id, resolution="booked elsewhere")
    assert rows(ledger.plan(over, last=True)) == ["missing_executions_known"]


@row("missing_executions_unproven")
@pytest.mark.guarantee(6)
def test_fills_are_not_called_missing_while_the_executions_did_not_come(ledger: Ledger) -> None:
    oid = ledger.working()
    incomplete = snap(done(oid), missing=["executions"])
    plan = ledger.plan(incomplete, doubted=[f"fills:{oid}"])
    assert rows(plan) == ["missing_executions_unproven"]
    assert plan.drafts == ()
    assert kinds(ledger.plan(incomplete, last=True)) == [Kind.BREAK_OPENED]


def test_break_about_missing_executions_is_resolved_when_they_come(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.repair(snap(done(oid)))
    ledger.repair(snap(done(oid), traded(oid), holds(10)))
    assert ledger.order(oid).state is State.FILLED
    assert not ledger.book.open_breaks


@row("changed_there", "changed_just_now")
@pytest.mark.rule(28)
def test_order_that_a_person_changed_in_tws_has_the_brokers_figures_and_is_not_reverted(ledger: Ledger) -> None:
    oid = ledger.working()
    there = snap(shown(oid, quantity=Decimal(6), limit_price=Decimal("191.25")))
    plan = ledger.plan(there)
    assert rows(plan) == ["changed_there"]
    assert kinds(plan) == [Kind.ORDER_CHANGED]
    ledger.write(*plan.drafts)
    order = ledger.order(oid)
    assert (order.quantity, order.limit_price, order.revision) == (6, Decimal("191.25"), 2)
    assert rows(ledger.plan(there)) == []
    assert not ledger.book.breaks
    began = ledger.book.seq
    assert rows(ledger.plan(snap(shown(oid), first_unjudged_seq=began))) == ["changed_just_now"]


def asked(ledger: Ledger, session: int = 1) -> str:
    """A working order with a change on its way to the broker."""
    oid = ledger.working()
    changes = {"limit_price": "191.25"}
    ledger.add(Kind.MODIFY_LICENSED, oid, session=session, broker_order_id=1, perm_id=900, changes=changes)
    return oid


@row("vanished_answered")
@pytest.mark.rule(25)
def test_order_that_vanished_is_asked_about_again_only_when_it_was_heard_of_since(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.repair(snap())
    [found] = ledger.book.open_breaks.values()
    ledger.add(Kind.BREAK_RESOLVED, oid, id=found.id, resolution="expired on Friday", reason="", by="op")
    assert rows(ledger.plan(snap(), last=True)) == ["vanished_answered"]
    assert not snap().lacks(ledger.book)  # and it makes no other snapshot incomplete


@row("change_lost")
@pytest.mark.rule(7)
def test_change_whose_session_died_before_it_came_there_is_over_and_never_sent_again(ledger: Ledger) -> None:
    oid = asked(ledger)
    plans = ledger.repair(snap(shown(oid)))
    assert [rows(plan) for plan in plans] == [["change_lost"], ["change_lost"], []]
    assert kinds(plans[1]) == [Kind.MODIFY_REFUSED]
    order = ledger.order(oid)
    assert (order.asked, order.limit_price, order.revision) == ({}, Decimal("190.50"), 2)


@pytest.mark.rule(7)
def test_change_in_flight_that_came_there_is_found_and_is_no_persons(ledger: Ledger) -> None:
    oid = asked(ledger)
    ledger.repair(snap(shown(oid, limit_price=Decimal("191.25"))))
    order = ledger.order(oid)
    assert (order.asked, order.limit_price, order.revision) == ({}, Decimal("191.25"), 2)


@pytest.mark.rule(3)
def test_change_on_the_present_session_is_not_judged(ledger: Ledger) -> None:
    assert rows(ledger.plan(snap(shown(asked(ledger, session=2))))) == []


@pytest.mark.rule(28)
def test_order_that_was_made_larger_than_a_limit_allows_is_told_and_freezes_nothing(ledger: Ledger) -> None:
    oid = ledger.working()
    limits = Limits(max_quantity=Decimal(50), max_value=Decimal(1_000_000))
    plan = ledger.plan(snap(shown(oid, quantity=Decimal(60))), limits=limits)
    assert kinds(plan) == [Kind.ORDER_CHANGED, Kind.BREAK_OPENED]
    ledger.write(*plan.drafts)
    [found] = ledger.book.open_breaks.values()
    assert (found.kind, found.holds, found.ours["quantity"], found.broker["quantity"]) == ("risk", False, "10", "60")
    assert "MAX_ORDER_QUANTITY" in (found.broker["limits"] or "")


@pytest.mark.rule(28)
def test_filled_order_that_was_made_larger_works_on(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    ledger.repair(snap(shown(oid, quantity=Decimal(15)), traded(oid), holds(10)))
    assert (ledger.order(oid).state, ledger.order(oid).remaining) == (State.WORKING, 5)
    assert not ledger.book.breaks


@pytest.mark.rule(28)
def test_order_made_larger_and_filled_further_while_nobody_looked_is_right_at_once(ledger: Ledger) -> None:
    oid = ledger.working()
    there = snap(shown(oid, quantity=Decimal(20)), traded(oid, quantity=15), holds(15))
    ledger.repair(there)
    assert (ledger.order(oid).state, ledger.order(oid).filled, ledger.order(oid).remaining) == (State.WORKING, 15, 5)
    assert rows(ledger.plan(there)) == []


@pytest.mark.rule(28)
@pytest.mark.parametrize("fact", ["external", "sending"])
def test_figures_of_somebody_elses_order_and_of_one_never_seen_are_not_compared(ledger: Ledger, fact: str) -> None:
    if fact == "external":
        ledger.repair(snap(shown(perm_id=77)))
        assert rows(ledger.plan(snap(shown(perm_id=77, quantity=Decimal(5))))) == []
    else:
        oid = ledger.accept(session=1)
        assert rows(ledger.plan(snap(shown(oid, quantity=Decimal(5))))) == ["sending_present"]


@row("bust", "bust_known")
@pytest.mark.rule(25)
def test_execution_that_the_broker_does_not_show_any_more_is_a_break_and_stays_booked(ledger: Ledger) -> None:
    oid = ledger.working(quantity="20")
    ledger.fill(oid, "0001.01", quantity="4", at="2026-01-02T11:00:00Z")
    ledger.fill(oid, "0002.01", quantity="6", at="2026-01-02T12:00:00Z")
    first = traded(oid, "0001.01", 4, at=NOON - timedelta(hours=1))
    busted = snap(shown(oid, quantity=Decimal(20)), first, holds(10))
    plan = ledger.plan(busted)
    assert (rows(plan), plan.drafts) == (["bust"], ())
    ledger.write(*ledger.plan(busted, doubted=sorted(plan.undecided)).drafts)
    found = ledger.book.holding(ACCOUNT, "AAPL")
    assert found is not None
    assert (found.kind, found.order_id, found.ours["exec_id"]) == ("bust", oid, "0002.01")
    assert ledger.order(oid).filled == 10
    assert rows(ledger.plan(busted, last=True)) == ["bust_known"]
    second = traded(oid, "0002.01", 6)
    assert rows(ledger.plan(snap(shown(oid, quantity=Decimal(20)), first, second, holds(10)))) == ["break_answered"]


@pytest.mark.rule(23)
@pytest.mark.parametrize("shows", ["nothing", "a younger one", "an incomplete list"])
def test_execution_of_a_time_that_the_list_does_not_cover_is_not_called_gone(ledger: Ledger, shows: str) -> None:
    oid = ledger.working(quantity="20")
    ledger.fill(oid, "0001.01", quantity="4", at="2026-01-01T20:00:00Z")
    later = [traded(oid, "0002.01", 6)] if shows != "nothing" else []
    ledger.write(*ledger.plan(snap(shown(oid, quantity=Decimal(20)), *later)).drafts)
    missing = ["executions"] if shows == "an incomplete list" else []
    after_midnight = snap(
        shown(oid, quantity=Decimal(20)), *([] if missing else later), holds(10 if later else 4), missing=missing
    )
    assert "bust" not in rows(ledger.plan(after_midnight, last=True))


@pytest.mark.rule(24)
def test_execution_that_came_in_while_the_list_was_asked_for_is_not_called_gone(ledger: Ledger) -> None:
    oid = ledger.working(session=2, quantity="20")
    ledger.fill(oid, "0001.01", quantity="4", at="2026-01-02T11:00:00Z")
    began = ledger.book.seq + 1
    ledger.fill(oid, "0002.01", quantity="6", at="2026-01-02T12:00:00Z")
    early = traded(oid, "0001.01", 4, at=NOON - timedelta(hours=1))
    plan = ledger.plan(snap(shown(oid, quantity=Decimal(20)), early, holds(4), first_unjudged_seq=began), last=True)
    assert rows(plan) == []


@row("twin_cancelled")
@pytest.mark.rule(26)
@pytest.mark.guarantee(4)
def test_younger_twin_is_cancelled_once_and_its_break_is_resolved_when_it_ended(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    both = snap(shown(oid, 900), shown(oid, 901, broker_order_id=60))
    plan = ledger.plan(both, may_cancel=True)
    assert rows(plan) == ["twin_cancelled"]
    assert kinds(plan) == [Kind.TWIN_CANCEL_LICENSED, Kind.BREAK_OPENED]
    assert plan.drafts[0].payload == {"session": 2, "broker_order_id": 60, "perm_id": 901}
    ledger.write(*plan.drafts)
    assert rows(ledger.plan(both, may_cancel=True)) == ["twin_known"]  # once, whatever came of it
    over = snap(shown(oid, 900), done(oid, "Cancelled", 901))
    ledger.repair(over)
    assert not ledger.book.open_breaks
    assert (ledger.order(oid).state, ledger.order(oid).perm_id) == (State.WORKING, 900)
    assert ledger.plan(over, last=True, may_cancel=True).drafts == ()


@pytest.mark.rule(26)
def test_twin_that_outlived_the_first_one_is_the_order_from_then_on(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    over = snap(done(oid, "Cancelled", 900), shown(oid, 901))
    plan = ledger.plan(over, may_cancel=True)
    assert Kind.TWIN_CANCEL_LICENSED not in kinds(plan)  # the only one that is left
    ledger.repair(over)
    assert (ledger.order(oid).state, ledger.order(oid).perm_id) == (State.WORKING, 901)
    assert not ledger.book.open_breaks
    assert ledger.plan(over, last=True).drafts == ()


@pytest.mark.rule(26)
def test_twins_that_both_traded_stay_held(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    both = snap(
        done(oid), done(oid, perm_id=901), traded(oid), traded(oid, "0002.01", perm_id=901), holds(20), session=2
    )
    ledger.repair(both)
    assert [found.kind for found in ledger.book.open_breaks.values()] == ["twin"]
    assert ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]].quantity == 20  # nothing is flattened
    assert ledger.plan(both, last=True, may_cancel=True).drafts == ()


@pytest.mark.rule(26)
@pytest.mark.parametrize("fields", [{"client_id": CLIENT + 1}, {"broker_order_id": 0}])
def test_second_order_that_is_not_surely_ours_is_never_cancelled(ledger: Ledger, fields: dict[str, int]) -> None:
    oid = ledger.working(perm_id=900)
    plan = ledger.plan(snap(shown(oid, 900), shown(oid, 901, **fields)), may_cancel=True)
    assert rows(plan) == ["twin"]


@pytest.mark.rule(26)
def test_live_twin_of_a_filled_order_is_cancelled(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    ledger.fill(oid)
    plan = ledger.plan(snap(done(oid), shown(oid, 901, broker_order_id=60), traded(oid), holds(10)), may_cancel=True)
    assert rows(plan) == ["twin_cancelled"]
    assert plan.drafts[0].payload["broker_order_id"] == 60


@row("twin", "twin_known")
@pytest.mark.rule(26)
@pytest.mark.guarantee(4)
def test_two_perm_ids_under_one_reference_are_a_break_that_names_both(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    both = snap(shown(oid, 900), shown(oid, 901))
    plan = ledger.plan(both)
    assert rows(plan) == ["twin"]
    ledger.write(*plan.drafts)
    [found] = ledger.book.open_breaks.values()
    assert (found.kind, found.broker["perm_id"], found.holds) == ("twin", "900, 901", True)
    assert ledger.order(oid).state is State.WORKING
    ledger.add(Kind.BREAK_RESOLVED, id=found.id, resolution="cancelled by hand")
    assert rows(ledger.plan(both)) == ["twin_known"]


@pytest.mark.rule(26)
def test_perm_id_that_changed_while_nobody_looked_is_a_twin_too(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    alone = snap(shown(oid, 901))
    assert rows(ledger.plan(alone)) == ["perm_id_learned", "twin"]
    ledger.repair(alone)
    assert (ledger.order(oid).state, ledger.order(oid).perm_id) == (State.WORKING, 901)
    assert not ledger.book.open_breaks


@pytest.mark.rule(26)
@pytest.mark.rule(7)
def test_cancel_that_ended_only_one_of_two_is_wanted_again_for_the_one_that_is_left(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    ledger.add(Kind.CANCEL_REQUESTED, oid, session=2, broker_order_id=1, perm_id=900)
    assert not ledger.book.cancels_wanted
    ledger.repair(snap(done(oid, "Cancelled", 900), shown(oid, 901)))
    assert (ledger.order(oid).state, ledger.order(oid).perm_id) == (State.WORKING, 901)
    assert list(ledger.book.cancels_wanted) == [oid]


@pytest.mark.rule(26)
def test_end_of_one_twin_is_not_the_orders_end(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    ledger.repair(snap(done(oid, "Cancelled", 900), shown(oid, 901)))
    assert ledger.order(oid).state is State.WORKING


# ---- positions


@row("position_differs", "position_known")
@pytest.mark.guarantee(5)
def test_position_that_differs_holds_its_contract_and_shows_both_figures(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    differs = snap(traded(oid), holds(7))
    assert ledger.plan(differs).drafts == ()  # held back once
    ledger.repair(differs)
    found = ledger.book.holding(ACCOUNT, "AAPL")
    assert found is not None
    assert (found.kind, found.ours["quantity"], found.broker["quantity"]) == ("position", "10", "7")
    assert rows(ledger.plan(differs, last=True)) == ["position_known"]
    assert rows(ledger.plan(snap(traded(oid), holds(6)), last=True)) == ["position_known"]


@row("position_agrees_again")
def test_position_break_is_resolved_when_the_figures_agree_again(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    ledger.repair(snap(traded(oid), holds(7)))
    plan = ledger.plan(snap(traded(oid), holds(10)))
    assert rows(plan) == ["position_agrees_again"]
    ledger.write(*plan.drafts)
    assert not ledger.book.open_breaks
    assert ledger.repair(snap(traded(oid), holds(7)))[-1] is not None
    assert len(ledger.book.open_breaks) == 1  # the same figures again are a new break


def test_position_break_is_not_resolved_while_the_executions_are_unknown(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    ledger.repair(snap(traded(oid), holds(7)))
    assert rows(ledger.plan(snap(holds(10), missing=["executions"]))) == ["position_known"]


@row("position_unproven")
@pytest.mark.guarantee(6)
def test_position_is_not_called_different_while_the_executions_did_not_come(ledger: Ledger) -> None:
    ledger.working()
    incomplete = snap(shown(next(iter(ledger.book.orders))), holds(10), missing=["executions"])
    plan = ledger.plan(incomplete, doubted=[f"position:{ACCOUNT}:{CON_IDS['AAPL']}"])
    assert rows(plan) == ["position_unproven"]
    assert plan.drafts == ()
    assert kinds(ledger.plan(incomplete, last=True)) == [Kind.BREAK_OPENED]


def test_positions_that_did_not_come_differ_from_nothing(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    assert rows(ledger.plan(snap(traded(oid), missing=["positions"]), last=True)) == []


@pytest.mark.guarantee(5)
def test_absent_position_and_one_of_zero_are_equal(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid)
    ledger.fill(None, "0002.01", side="SELL", perm_id=5)
    assert rows(ledger.plan(snap())) == []
    assert rows(ledger.plan(snap(holds(0), holds(0, "IBM")))) == []


@pytest.mark.rule(24)
@pytest.mark.parametrize(("figure", "explained"), [(0, True), (4, True), (10, True), (6, False), (11, False)])
def test_position_that_the_live_stream_explains_is_no_difference(ledger: Ledger, figure: int, explained: bool) -> None:
    oid = ledger.working(session=2)
    began = ledger.book.seq + 1
    ledger.fill(oid, "0001.01", quantity="4")
    ledger.fill(oid, "0002.01", quantity="6")
    plan = ledger.plan(snap(holds(figure), first_unjudged_seq=began))
    assert (rows(plan) == []) == explained


@row("external_position")
def test_position_from_before_the_first_order_freezes_nothing_and_is_counted_beside_ours(ledger: Ledger) -> None:
    ledger.accept()  # accepted while the first takeover was under way
    ledger.repair(snap(holds(100), holds(-5, "IBM")))
    assert [found.kind for found in ledger.book.open_breaks.values()] == ["external_position"] * 2
    assert ledger.book.holding(ACCOUNT, "AAPL") is None
    oid = ledger.working("k2", session=1, perm_id=910)
    ledger.fill(oid, perm_id=910)
    assert rows(ledger.plan(snap(holds(110), holds(-5, "IBM")))) == ["queued"]
    assert "position_differs" in rows(ledger.plan(snap(holds(109), holds(-5, "IBM"))))


def test_position_from_before_is_closed_when_the_figures_agree_without_it(ledger: Ledger) -> None:
    ledger.repair(snap(holds(100)))
    assert rows(ledger.plan(snap())) == ["position_agrees_again"]


@pytest.mark.rule(18)
def test_position_at_a_broker_that_shows_our_tag_is_never_from_before(ledger: Ledger) -> None:
    oid = order_id("desk1", "local", "lost")
    plan = ledger.plan(snap(shown(oid), holds(100)))
    assert rows(plan) == ["restored", "position_differs"]
