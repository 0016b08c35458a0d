"""From what the gateway says to the ledger: repeated, reordered and skipped callbacks leave the same order."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.broker import BrokerError, CommissionFact, DecoderLoss, Fact, OpenOrder, OrderStatus, Throttled
from engine.commission import MAX_EARLY
from engine.events import Kind
from engine.evidence import execution_draft
from engine.order import Order, State
from engine.reference import order_id
from tests.unit.book_factory import ACCOUNT, CLIENT, CLUSTER, CON_IDS, holds, reference, shown, traded
from tests.unit.desk_factory import ASKER, LateCommitter, Scene, request


@pytest.fixture
def scene() -> Scene:
    """A fresh scene."""
    return Scene()


def status(
    name: str, perm_id: int = 900, filled: int = 0, broker_order_id: int = 1, client_id: int = CLIENT
) -> OrderStatus:
    """An orderStatus of the order with broker id 1."""
    return OrderStatus(broker_order_id, perm_id, client_id, name, Decimal(filled), Decimal(10 - filled))


def commission(exec_id: str = "0001.01") -> CommissionFact:
    """A commission report."""
    return CommissionFact(exec_id, Decimal("1.00"), "USD", None)


# ---- any interleaving and duplication of one order's callbacks


OID = order_id(CLUSTER, "local", "k1")
FILLED: list[Fact] = [
    shown(OID, status="PreSubmitted"), status("PreSubmitted"), shown(OID), status("Submitted"),
    traded(OID, "0001.01", 4), status("Submitted", filled=4), traded(OID, "0002.01", 6), status("Filled", filled=10),
    shown(OID, status="Filled"),
]  # fmt: skip
CORRECTED: list[Fact] = [shown(OID), status("Submitted"), traded(OID, "0001.01", 4), traded(OID, "0001.02", 3)]
CANCELLED: list[Fact] = [
    shown(OID), status("Submitted"), traded(OID, "0001.01", 4), status("PendingCancel", filled=4),
    status("Cancelled", filled=4), shown(OID, status="Cancelled"),
]  # fmt: skip
REJECTED: list[Fact] = [shown(OID, status="Inactive"), status("Inactive"), BrokerError(1, 201, "no margin")]


def fate(order: Order) -> dict[str, Any]:
    """What a client would see of the order, but for times and places in the log."""
    return {
        "state": order.state, "filled": order.filled, "average_price": order.average_price, "perm_id": order.perm_id,
        "broker_order_id": order.broker_order_id, "reason": order.reason,
    }  # fmt: skip


def after(facts: Sequence[Fact]) -> Scene:
    """A scene in which the order was sent and these facts came."""
    scene = Scene()
    scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(*facts)
    return scene


@st.composite
def mixed(draw: st.DrawFn, facts: list[Fact]) -> list[Fact]:
    """The facts in any order, some of them several times."""
    return draw(st.permutations(facts + draw(st.lists(st.sampled_from(facts), max_size=4))))


@settings(max_examples=150, deadline=None)
@given(mixed(FILLED))
@pytest.mark.rule(27)
@pytest.mark.guarantee(5)
def test_filled_order_is_the_same_whatever_the_order_of_its_callbacks(facts: list[Fact]) -> None:
    scene, clean = after(facts), after(FILLED)
    assert fate(scene.order(OID)) == fate(clean.order(OID))
    assert scene.order(OID).state is State.FILLED
    assert scene.ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]].quantity == 10
    assert not scene.desk.unacknowledged


@settings(max_examples=100, deadline=None)
@given(mixed(CANCELLED))
@pytest.mark.guarantee(5)
def test_cancelled_order_is_the_same_whatever_the_order_of_its_callbacks(facts: list[Fact]) -> None:
    scene, clean = after(facts), after(CANCELLED)
    assert fate(scene.order(OID)) == fate(clean.order(OID))
    assert (scene.order(OID).state, scene.order(OID).filled) == (State.CANCELLED, 4)


@settings(max_examples=50, deadline=None)
@given(mixed(CORRECTED))
@pytest.mark.guarantee(5)
def test_corrected_execution_counts_once_whatever_comes_first(facts: list[Fact]) -> None:
    scene = after(facts)
    assert fate(scene.order(OID)) == fate(after(CORRECTED).order(OID))
    assert scene.ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]].quantity == 3


@settings(max_examples=50, deadline=None)
@given(mixed(FILLED))
def test_committed_late_or_at_once_is_the_same_order(facts: list[Fact]) -> None:
    scene = Scene(LateCommitter)
    scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(*facts)
    scene.committer.commit_all()  # type: ignore[attr-defined]
    assert fate(scene.order(OID)) == fate(after(FILLED).order(OID))


@settings(max_examples=50, deadline=None)
@given(mixed(REJECTED))
def test_rejected_order_is_the_same_whatever_the_order_of_its_callbacks(facts: list[Fact]) -> None:
    assert fate(after(facts).order(OID)) == fate(after(REJECTED[::-1]).order(OID))


def test_reason_of_a_rejection_stays_when_its_perm_id_comes_while_it_is_on_its_way() -> None:
    scene = Scene(LateCommitter)
    scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(*REJECTED[::-1])
    scene.committer.commit_all()
    order = scene.order(OID)
    assert (order.state, order.reason, order.perm_id) == (State.REJECTED, "201: no margin", 900)


def test_contract_is_learned_from_open_order_also_when_a_status_came_first() -> None:
    assert after([status("Submitted"), shown(OID)]).order(OID).con_id == CON_IDS["AAPL"]


def test_what_is_on_its_way_to_the_log_is_not_written_twice_because_a_second_callback_tells_it_too() -> None:
    scene = Scene(LateCommitter)
    scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(shown(OID), status("Submitted"), shown(OID), status("Submitted"))
    assert [draft.kind for drafts, _ in scene.committer.waiting for draft in drafts] == [Kind.ORDER_WORKING]
    scene.committer.commit_all()
    order = scene.order(OID)
    assert (order.state, order.perm_id, order.broker_order_id, order.con_id) == (State.WORKING, 900, 1, CON_IDS["AAPL"])


def test_an_id_that_was_on_its_way_in_vain_is_asked_of_the_broker_and_taken_from_its_next_word() -> None:
    scene = Scene(LateCommitter)
    scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(shown(OID), status("Submitted"))
    scene.committer.refuse_all()
    assert scene.doubts == ["evidence was not written: no"]
    scene.take(status("Submitted"))
    scene.committer.commit_all()
    assert (scene.order(OID).state, scene.order(OID).perm_id) == (State.WORKING, 900)


def test_late_status_does_not_reopen_an_order_whose_end_is_on_its_way_to_the_log() -> None:
    scene = Scene(LateCommitter)
    scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(status("Cancelled"), status("Submitted"))
    scene.committer.commit_all()  # type: ignore[attr-defined]
    assert scene.order(OID).state is State.CANCELLED


def test_commission_that_comes_before_its_execution_is_kept() -> None:
    scene = after([commission(), traded(OID, "0001.01", 4)])
    assert scene.ledger.book.executions[ACCOUNT, "0001"].commission == 1


# ---- evidence


@pytest.mark.parametrize(
    "name", ["ApiPending", "PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel", "Inactive"]
)
def test_any_living_status_is_evidence(scene: Scene, name: str) -> None:
    oid = scene.ledger.accept(session=1)
    scene.take(status(name))
    assert (scene.order(oid).state, scene.order(oid).perm_id) == (State.WORKING, 900)


@pytest.mark.rule(27)
def test_status_filled_fills_nothing(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    scene.take(status("Filled", filled=10))
    assert (scene.order(oid).state, scene.order(oid).filled) == (State.WORKING, 0)
    scene.take(traded(oid))
    assert scene.order(oid).state is State.FILLED


def test_status_that_ib_has_not_documented_concludes_nothing(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    scene.take(status("Teleported"))
    assert scene.order(oid).state is State.SENDING


@pytest.mark.parametrize("name", ["Cancelled", "ApiCancelled"])
def test_cancel_that_was_asked_for_and_one_that_was_not_are_told_apart(scene: Scene, name: str) -> None:
    asked, unasked = (
        scene.ledger.working("a", perm_id=901, broker_id=11),
        scene.ledger.working("b", perm_id=902, broker_id=12),
    )
    scene.ledger.add(Kind.CANCEL_REQUESTED, asked, session=1)
    scene.take(status(name, 901, broker_order_id=11), status(name, 902, broker_order_id=12))
    assert (scene.order(asked).state, scene.order(asked).reason) == (State.CANCELLED, "cancelled")
    assert (scene.order(unasked).state, scene.order(unasked).reason) == (State.CANCELLED, "cancelled at the broker")


@pytest.mark.rule(1)
def test_order_in_doubt_that_surfaces_is_working(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    scene.ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="not shown")
    scene.take(shown(oid))
    assert scene.order(oid).state is State.WORKING


def test_order_that_ended_here_and_lives_there_asks_for_a_reconciliation(scene: Scene) -> None:
    oid = scene.ledger.working()
    scene.ledger.add(Kind.ORDER_CANCELLED, oid, reason="operator_dead")
    scene.take(shown(oid))
    assert scene.order(oid).state is State.CANCELLED
    assert len(scene.doubts) == 1


def test_evidence_that_is_known_writes_nothing(scene: Scene) -> None:
    oid = scene.ledger.working()
    scene.ledger.fill(oid, "0001.01", quantity="4")
    seq = scene.ledger.book.seq
    scene.take(shown(oid), status("Submitted", filled=4), traded(oid, "0001.01", 4))
    assert scene.ledger.book.seq == seq


def test_same_evidence_is_on_its_way_to_the_log_only_once() -> None:
    scene = Scene(LateCommitter)
    oid = scene.ledger.accept(session=1)
    scene.take(shown(oid), shown(oid), traded(oid), traded(oid))
    assert [drafts[0].kind for drafts, _ in scene.committer.waiting] == [Kind.ORDER_WORKING, Kind.EXECUTION]  # type: ignore[attr-defined]
    scene.committer.commit_all()  # type: ignore[attr-defined]
    assert scene.order(oid).state is State.FILLED


async def test_order_that_this_process_wrote_is_stamped_and_acknowledged(scene: Scene) -> None:
    code, order = await scene.desk.place(request(), ASKER)
    assert (code, order.state, len(scene.wire.placed)) == (201, State.SENDING, 1)
    assert order.id in scene.desk.unacknowledged
    scene.take(shown(order.id, broker_order_id=1))
    assert order.id not in scene.desk.unacknowledged
    assert (order.state, order.acknowledged_at is not None) == (State.WORKING, True)


async def test_time_of_the_write_stands_in_the_ledger(scene: Scene) -> None:
    _, order = await scene.desk.place(request(), ASKER)
    scene.take(shown(order.id, broker_order_id=1))
    assert order.sent_at is not None


async def test_time_of_the_write_is_kept_when_an_execution_comes_first_or_the_session_is_lost(scene: Scene) -> None:
    filled, late = await scene.place("filled"), await scene.place("late")
    scene.take(traded(filled.id, perm_id=901))
    assert (filled.state, filled.sent_at is not None) == (State.FILLED, True)
    scene.next_session()
    scene.take(shown(late.id, perm_id=902, broker_order_id=2))
    assert (late.state, late.sent_at is not None) == (State.WORKING, True)


async def test_refusal_and_end_acknowledge_the_order_too(scene: Scene) -> None:
    refused, ended = await scene.place("refused"), await scene.place("ended")
    assert len(scene.desk.unacknowledged) == 2
    scene.take(BrokerError(refused.broker_order_id or 0, 201, "no"))
    scene.take(status("Cancelled", 902, broker_order_id=ended.broker_order_id or 0))
    assert not scene.desk.unacknowledged
    assert refused.sent_at is not None
    assert ended.sent_at is not None


async def test_order_whose_end_a_reconciliation_wrote_waits_for_no_answer_any_more(scene: Scene) -> None:
    order = await scene.place()
    scene.ledger.add(Kind.ORDER_CANCELLED, order.id, reason="cancelled at the broker")
    assert not scene.desk.unacknowledged


# ---- whose is it?


def test_reference_decides_before_perm_id_and_another_tag_is_nobodys(scene: Scene) -> None:
    oid = scene.ledger.working(perm_id=900)
    assert scene.inbound.find(reference(oid), 5, 0) is scene.order(oid)
    assert scene.inbound.find(reference(oid, tag="ZZZZ"), 5, 0) is None
    assert scene.inbound.find("", 900, 0) is scene.order(oid)
    assert scene.inbound.find("typed by hand", 0, 1) is scene.order(oid)
    assert scene.inbound.find("", 0, 0) is None
    assert scene.inbound.find(reference(oid, tag="ZZZZ"), 0, 1) is None  # nor is it by an order id


@pytest.mark.rule(26)
def test_order_id_of_another_client_is_not_ours(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    scene.take(status("Cancelled", perm_id=77, client_id=CLIENT + 1))
    scene.take(traded(perm_id=77, client_id=CLIENT + 1, broker_order_id=1, symbol="IBM"))
    assert scene.order(oid).state is State.SENDING
    assert scene.ledger.book.executions[ACCOUNT, "0001"].order_id is None


def test_order_id_that_ib_gave_to_another_order_does_not_mislead(scene: Scene) -> None:
    oid = scene.ledger.working(perm_id=900, broker_id=1)
    scene.take(status("Cancelled", perm_id=950, broker_order_id=1))
    assert scene.order(oid).state is State.WORKING


@pytest.mark.rule(19)
def test_order_with_our_tag_that_the_ledger_does_not_know_asks_for_a_reconciliation(scene: Scene) -> None:
    scene.take(shown(order_id(CLUSTER, "local", "lost")))
    assert len(scene.doubts) == 1
    assert not scene.ledger.book.orders


def test_strangers_order_is_left_to_the_reconciliation_and_asks_for_nothing(scene: Scene) -> None:
    scene.take(shown(perm_id=77), status("Submitted", 77, client_id=0))
    assert (scene.doubts, scene.ledger.book.orders) == ([], {})


def test_recorded_order_of_another_cluster_is_found_by_its_perm_id(scene: Scene) -> None:
    foreign = reference("A" * 16, tag="ZZZZ")
    fields = {
        "client_order_id": None, "body": None, "account": ACCOUNT, "symbol": "AAPL", "side": "BUY", "quantity": "10",
        "order_type": "LMT", "tif": "DAY", "sec_type": "STK", "exchange": "SMART", "currency": "USD", "perm_id": 77,
    }  # fmt: skip
    scene.ledger.add(Kind.ORDER_EXTERNAL, "E" * 16, **fields)
    scene.take(traded(perm_id=77, reference=foreign))
    assert scene.order("E" * 16).state is State.FILLED


@pytest.mark.rule(26)
@pytest.mark.parametrize("committed", [True, False])
def test_callbacks_of_a_twin_ask_once_and_move_nothing_but_the_position(committed: bool) -> None:
    scene = Scene(LateCommitter)
    oid = scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(shown(oid, perm_id=900))
    if committed:
        scene.committer.commit_all()
    twin = shown(oid, perm_id=901, status="Cancelled")
    scene.take(twin, twin, traded(oid, perm_id=901, quantity=4), status("Cancelled", 901))
    scene.committer.commit_all()
    assert (scene.order(oid).state, scene.order(oid).perm_id, scene.order(oid).filled) == (State.WORKING, 900, 4)
    assert len(scene.doubts) == 1


@pytest.mark.rule(26)
@pytest.mark.guarantee(4)
@pytest.mark.parametrize("ended", [900, 901])
def test_end_of_either_twin_asks_and_is_not_booked_as_the_orders_end(scene: Scene, ended: int) -> None:
    oid = scene.ledger.working(perm_id=900)
    scene.take(shown(oid, perm_id=901))
    scene.take(status("Cancelled", ended))  # both have one orderId: IB chooses which one a cancel ends
    assert (scene.order(oid).state, len(scene.doubts)) == (State.WORKING, 2 if ended == 900 else 1)


@pytest.mark.rule(26)
def test_after_a_failover_an_open_break_still_says_that_there_are_two(scene: Scene) -> None:
    oid = scene.ledger.working(perm_id=900)
    twin = {"kind": "twin", "symbol": "AAPL", "account": ACCOUNT, "ours": {}, "broker": {}, "holds": True}
    scene.ledger.add(Kind.BREAK_OPENED, oid, id="TWIN", **twin)
    scene.take(status("Cancelled", 900))
    assert (scene.order(oid).state, len(scene.doubts)) == (State.WORKING, 1)
    scene.ledger.add(Kind.BREAK_RESOLVED, oid, id="TWIN", resolution="one of them ended")
    scene.take(status("Cancelled", 900))
    assert scene.order(oid).state is State.CANCELLED


@pytest.mark.rule(19)
def test_execution_of_an_order_that_the_ledger_lost_is_left_to_the_reconciliation(scene: Scene) -> None:
    scene.take(traded(order_id(CLUSTER, "local", "lost")))
    assert (len(scene.doubts), scene.ledger.book.executions) == (1, {})


@pytest.mark.rule(27)
def test_live_execution_that_contradicts_a_booked_one_is_not_booked_and_asks(scene: Scene) -> None:
    oid = scene.ledger.working()
    scene.take(traded(oid, "0001.01", 4), traded(oid, "0001.02", 4, side="SELL"))
    assert len(scene.doubts) == 1
    assert scene.ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]].quantity == 4


@pytest.mark.rule(28)
@pytest.mark.parametrize(
    ("change", "asks"),
    [({"quantity": Decimal(8)}, 1), ({"limit_price": Decimal(191)}, 1), ({"stop_price": Decimal(3)}, 0), ({}, 0),
     ({"order_type": "MKT", "limit_price": Decimal(1)}, 0)],
)  # fmt: skip
def test_order_that_was_changed_at_the_broker_asks_once_for_each_change(change: dict[str, Any], asks: int) -> None:
    scene = Scene()
    oid = scene.ledger.working()
    scene.take(shown(oid, **change), shown(oid, **change))
    assert len(scene.doubts) == asks
    scene.take(shown(oid, quantity=Decimal(7)))
    assert len(scene.doubts) == asks + 1


def test_doubt_is_told_again_on_the_next_session(scene: Scene) -> None:
    lost = shown(order_id(CLUSTER, "local", "lost"))
    scene.take(lost, lost)
    scene.next_session()
    scene.take(lost)
    assert len(scene.doubts) == 2


def test_evidence_that_was_judged_by_a_state_that_is_over_asks_again() -> None:
    scene = Scene(LateCommitter)
    oid = scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(shown(oid))
    scene.committer.refuse_all()
    assert len(scene.doubts) == 1
    scene.take(shown(oid))  # and it is not thought to be on its way any more
    scene.committer.commit_all()
    assert scene.order(oid).state is State.WORKING


def test_execution_that_somebody_else_booked_meanwhile_asks_for_nothing() -> None:
    scene = Scene(LateCommitter)
    oid = scene.ledger.working()
    scene.take(traded(oid))
    scene.ledger.fill(oid)
    scene.committer.commit_all()
    assert (scene.doubts, scene.order(oid).filled) == ([], 10)


@pytest.mark.rule(26)
def test_second_perm_id_under_one_reference_asks_for_a_reconciliation(scene: Scene) -> None:
    oid = scene.ledger.working(perm_id=900)
    scene.take(shown(oid, perm_id=901))
    assert scene.doubts


# ---- errors


@pytest.mark.parametrize("code", [201, 110, 200, 321])
def test_refusal_of_a_new_order_rejects_it(scene: Scene, code: int) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    scene.take(BrokerError(1, code, "no"))
    assert (scene.order(oid).state, scene.order(oid).reason) == (State.REJECTED, f"{code}: no")


@pytest.mark.rule(4)
def test_used_order_id_with_no_other_evidence_takes_the_licence_back(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    scene.take(BrokerError(1, 103, "Duplicate order id"))
    assert scene.order(oid).state is State.QUEUED


@pytest.mark.rule(4)
@pytest.mark.parametrize("code", [103, 201])
def test_error_about_an_order_that_has_shown_itself_ends_nothing(scene: Scene, code: int) -> None:
    oid = scene.ledger.working(broker_id=1)
    scene.take(BrokerError(1, code, "on a modify"))
    assert scene.order(oid).state is State.WORKING


def test_refusal_of_an_order_that_rests_ends_nothing_and_asks(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    scene.take(status("PreSubmitted"), status("Inactive"), BrokerError(1, 201, "no margin"))
    assert (scene.order(oid).state, len(scene.doubts)) == (State.WORKING, 1)


def test_refusal_of_an_inactive_order_that_has_traded_ends_nothing(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    scene.take(status("Inactive"), traded(oid, quantity=4), BrokerError(1, 201, "no margin"))
    assert scene.order(oid).state is State.WORKING


def test_error_about_an_order_id_that_was_taken_back_says_nothing_of_the_new_one(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    duplicate = BrokerError(1, 103, "Duplicate order id")
    scene.take(duplicate)
    scene.ledger.add(Kind.ORDER_LICENSED, oid, session=1, broker_order_id=2)
    scene.take(duplicate, BrokerError(1, 201, "no"))
    assert scene.order(oid).state is State.SENDING


@pytest.mark.parametrize("code", [161, 202, 399, 404, 10147, 10148, 10349, 2103, 1100, 99999])
def test_error_that_says_nothing_of_a_new_order_ends_nothing(scene: Scene, code: int) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    scene.take(BrokerError(1, code, "?"))
    assert scene.order(oid).state is State.SENDING


@pytest.mark.rule(2)
def test_error_that_reaches_an_order_of_a_dead_session_ends_nothing(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    scene.permit.session = 2
    scene.take(BrokerError(1, 201, "another order's, the id was rolled back"))
    assert scene.order(oid).state is State.SENDING


def test_error_about_a_request_or_about_nothing_touches_no_order(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1, broker_id=1)
    scene.take(BrokerError(-1, 201, "?"), BrokerError(1 << 30, 201, "?"), BrokerError(0, 201, "?"))
    assert scene.order(oid).state is State.SENDING


# ---- the rest


def test_commission_is_noted_on_its_execution_once(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    scene.take(traded(oid), commission())
    seq = scene.ledger.book.seq
    scene.take(commission())
    execution = scene.ledger.book.executions[ACCOUNT, "0001"]
    assert (execution.commission, execution.commission_currency, scene.ledger.book.seq) == (1, "USD", seq)


@pytest.mark.parametrize("order", ["commission first", "execution first"])
def test_commission_is_noted_whatever_comes_first_and_is_on_its_way(order: str) -> None:
    scene = Scene(LateCommitter)
    facts = [commission(), traded(exec_id="0001.01")]
    scene.take(*(facts if order == "commission first" else facts[::-1]))
    scene.committer.commit_all()
    scene.committer.commit_all()
    assert scene.ledger.book.executions[ACCOUNT, "0001"].commission == 1
    assert scene.count(Kind.COMMISSION) == 1


def test_commission_of_an_execution_that_a_reconciliation_booked_is_noted(scene: Scene) -> None:
    scene.take(commission())
    scene.ledger.fill(None)
    scene.take(holds(10))  # whatever comes next
    assert scene.ledger.book.executions[ACCOUNT, "0001"].commission == 1


def test_commission_of_a_correction_replaces_the_one_before_and_an_old_one_does_not_come_back(scene: Scene) -> None:
    corrected = CommissionFact("0001.02", Decimal("0.70"), "USD", None)
    scene.take(traded(exec_id="0001.01"), commission(), traded(exec_id="0001.02", quantity=7), corrected, commission())
    assert scene.ledger.book.executions[ACCOUNT, "0001"].commission == Decimal("0.70")


def test_early_commissions_are_bounded(scene: Scene) -> None:
    scene.take(*(commission(f"{n:05}.01") for n in range(MAX_EARLY + 1)))
    scene.take(traded(exec_id="00000.01"), traded(exec_id="00001.01"))
    assert scene.ledger.book.executions[ACCOUNT, "00000"].commission is None  # the oldest was dropped
    assert scene.ledger.book.executions[ACCOUNT, "00001"].commission == 1


def test_brokers_positions_are_remembered_as_said(scene: Scene) -> None:
    scene.take(holds(7), holds(9))
    assert scene.inbound.broker_positions[ACCOUNT, CON_IDS["AAPL"]].quantity == 9


def test_facts_about_the_session_touch_no_order(scene: Scene) -> None:
    seq = scene.ledger.book.seq
    scene.take(Throttled(True), DecoderLoss("Error handling fields"))
    assert scene.ledger.book.seq == seq


def test_after_the_term_nothing_is_written(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    scene.inbound.end()
    scene.take(shown(oid), traded(oid))
    assert scene.order(oid).state is State.SENDING


def test_execution_is_drafted_with_all_that_the_fold_reads(scene: Scene) -> None:
    oid = scene.ledger.working()
    of_ours, of_nobody = execution_draft(traded(oid, "0001.02", 4), scene.order(oid)), execution_draft(traded(), None)
    assert (of_ours.order_id, of_ours.subject, of_nobody.order_id) == (oid, "local", None)
    assert (of_ours.payload["root"], of_ours.payload["revision"], of_ours.payload["quantity"]) == ("0001", 2, "4")
    scene.ledger.write(of_ours)
    assert scene.order(oid).filled == 4


def test_completed_order_from_a_list_is_no_live_fact() -> None:
    assert OpenOrder.__dataclass_fields__["completed"].default is False
