"""From what the gateway says to the ledger: repeated, reordered and skipped callbacks leave the same order."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.broker import BrokerError, CommissionFact, DecoderLoss, Fact, OpenOrder, OrderStatus, Outgoing, Throttled
from engine.clock import boottime
from engine.commit import Done
from engine.events import Draft, Kind
from engine.inbound import Inbound, execution_draft
from engine.order import Order, State
from engine.permit import Permit
from engine.reference import order_id
from engine.request import parse_order
from engine.risk import Limits
from engine.submit import Asker, Desk, DeskSettings
from tests.unit.book_factory import (
    ACCOUNT,
    CLIENT,
    CLUSTER,
    CON_IDS,
    FoldingCommitter,
    Ledger,
    ScriptedBroker,
    holds,
    reference,
    shown,
    traded,
)


class Wire(ScriptedBroker):
    """A broker that notes what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.placed: list[Outgoing] = []

    def place(self, order: Outgoing) -> None:
        self.placed.append(order)


class LateCommitter(FoldingCommitter):
    """Folds only when it is told to: what is on its way to the log is not in the book yet."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.waiting: list[tuple[Sequence[Draft], Done]] = []

    def submit(self, drafts: Sequence[Draft], done: Done) -> None:
        self.waiting.append((drafts, done))

    def commit_all(self) -> None:
        """Commit what waits, in order."""
        waiting, self.waiting = self.waiting, []
        for drafts, done in waiting:
            super().submit(drafts, done)


class Scene:
    """A leader on session 1: its book, its desk, and the way in."""

    def __init__(self, committer: type[FoldingCommitter] = FoldingCommitter) -> None:
        self.ledger, self.wire, self.doubts = Ledger(), Wire(), list[str]()
        self.ledger.session(1)
        self.permit = Permit()
        self.permit.grant(5, boottime())
        self.permit.session = 1
        self.permit.shut.clear()
        settings = DeskSettings(CLUSTER, Limits(), {"": 60.0})
        self.desk = Desk(self.ledger.book, self.permit, self.wire, settings)
        self.inbound = Inbound(self.ledger.book, self.desk, self.doubts.append)
        self.committer = committer(self.ledger)
        self.desk.begin(self.committer)  # type: ignore[arg-type]
        self.inbound.begin(self.committer, CLIENT)  # type: ignore[arg-type]

    def take(self, *facts: Fact) -> None:
        """Take facts in this order."""
        for fact in facts:
            self.inbound.take(fact)

    def order(self, oid: str) -> Order:
        """The order as it stands."""
        return self.ledger.order(oid)


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
@pytest.mark.xfail(strict=True, reason="Inactive makes it WORKING, and the error is then not heard")
def test_rejected_order_is_the_same_whatever_the_order_of_its_callbacks(facts: list[Fact]) -> None:
    assert fate(after(facts).order(OID)) == fate(after(REJECTED[::-1]).order(OID))


@pytest.mark.xfail(strict=True, reason="a status carries no contract, and an openOrder that comes second adds nothing")
def test_contract_is_learned_from_open_order_also_when_a_status_came_first() -> None:
    assert after([status("Submitted"), shown(OID)]).order(OID).con_id == CON_IDS["AAPL"]


@pytest.mark.xfail(
    strict=True,
    reason="a late status is judged by the state before the end that is on its way",
)
def test_late_status_does_not_reopen_an_order_whose_end_is_on_its_way_to_the_log() -> None:
    scene = Scene(LateCommitter)
    scene.ledger.accept("k1", session=1, broker_id=1)
    scene.take(status("Cancelled"), status("Submitted"))
    scene.committer.commit_all()  # type: ignore[attr-defined]
    assert scene.order(OID).state is State.CANCELLED


@pytest.mark.xfail(
    strict=True,
    reason="folded into nothing; the next list of executions mends it",
)
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
    code, order = await scene.desk.place(_request(), Asker("local", "c1"))
    assert (code, order.state, len(scene.wire.placed)) == (201, State.SENDING, 1)
    assert order.id in scene.desk.unacknowledged
    scene.take(shown(order.id, broker_order_id=1))
    assert order.id not in scene.desk.unacknowledged
    assert (order.state, order.acknowledged_at is not None) == (State.WORKING, True)


@pytest.mark.xfail(strict=True, reason="`acknowledged` forgets it before the event is made")
async def test_time_of_the_write_stands_in_the_ledger(scene: Scene) -> None:
    _, order = await scene.desk.place(_request(), Asker("local", "c1"))
    scene.take(shown(order.id, broker_order_id=1))
    assert order.sent_at is not None


def _request() -> Any:
    return parse_order(
        {"client_order_id": "k1", "symbol": "AAPL", "side": "BUY", "quantity": "10", "order_type": "MKT"}
    )


# ---- whose is it?


def test_reference_decides_before_perm_id_and_another_tag_is_nobodys(scene: Scene) -> None:
    oid = scene.ledger.working(perm_id=900)
    assert scene.inbound.find(reference(oid), 5, 0) is scene.order(oid)
    assert scene.inbound.find(reference(oid, tag="ZZZZ"), 5, 0) is None
    assert scene.inbound.find("", 900, 0) is scene.order(oid)
    assert scene.inbound.find("typed by hand", 0, 1) is scene.order(oid)
    assert scene.inbound.find("", 0, 0) is None


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


@pytest.mark.xfail(strict=True, reason="`find` gives up on a reference with another tag before it looks at the permId")
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
@pytest.mark.xfail(
    strict=True,
    reason="only the next periodic reconciliation finds it",
)
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
