"""Brackets at the desk: sent as one or not at all, and every way in which half of one can be left, with what is done about it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from engine.broker import BrokerError, Paced
from engine.clock import utcnow
from engine.desk_settings import Asker
from engine.errors import Problem
from engine.events import FAMILY_LEVEL, Kind
from engine.family import CLOSED, OUTLIVED_FOR, SURFACED, TABLE, Act, Family, rule
from engine.order import Order, State
from engine.position import Break
from engine.reference import order_id
from engine.request import parse_change
from tests.unit.book_factory import ACCOUNT, CLUSTER
from tests.unit.book_factory import shown as shown_order
from tests.unit.desk_factory import ASKER, LateCommitter, Scene, request

EXIT = {"side": "SELL", "parent_client_order_id": "p"}
PROFIT = EXIT | {"order_type": "LMT", "limit_price": "200"}
LOSS = EXIT | {"order_type": "STP", "stop_price": "180"}
ENTRY = {"order_type": "LMT", "limit_price": "190"}


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def bracket(scene: Scene) -> list[Order]:
    """A parent with two exits, in one batch: p, c1, c2."""
    wanted = [request("p", **ENTRY), request("c1", **PROFIT), request("c2", **LOSS)]
    return [order for _, order in await scene.desk.place_all(wanted, ASKER)]


def show(scene: Scene, *orders: Order, status: str = "Submitted") -> None:
    """The present session shows these orders live."""
    for order in orders:
        scene.take(
            shown_order(order.id, perm_id=order.perm_id or 900 + (order.broker_order_id or 0), status=status,
                        broker_order_id=order.broker_order_id, side=order.side, limit_price=order.limit_price,
                        stop_price=order.stop_price)
        )  # fmt: skip


def fill(scene: Scene, order: Order, quantity: str = "10") -> None:
    scene.ledger.fill(
        order.id,
        f"{order.client_order_id}.{order.filled}.01",
        quantity=quantity,
        side=order.side,
        perm_id=order.perm_id,
    )


def breaks(scene: Scene) -> list[Break]:
    return [b for b in scene.ledger.book.open_breaks.values() if b.kind == "naked"]


# ---- on their way out


async def test_bracket_is_one_commit_with_consecutive_ids_and_only_its_last_order_transmits(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    assert [o.broker_order_id for o in (parent, profit, loss)] == [1, 2, 3]
    sent = [(o.broker_order_id, o.parent_id, o.transmit) for o in scene.wire.placed]
    assert sent == [(1, 0, False), (2, 1, False), (3, 1, True)]
    assert profit.extra["parent_client_order_id"] == "p"


async def test_family_stays_in_one_piece_among_others_of_its_batch(scene: Scene) -> None:
    wanted = [request("p", **ENTRY), request("other", symbol="MSFT"), request("c1", **PROFIT)]
    answers = await scene.desk.place_all(wanted, ASKER)
    assert [o.client_order_id for _, o in answers] == ["p", "other", "c1"], (
        "answered in the order in which they were asked"
    )
    assert [(o.symbol, o.parent_id, o.transmit) for o in scene.wire.placed] == [
        ("AAPL", 0, False), ("AAPL", 1, True), ("MSFT", 0, True),
    ]  # fmt: skip


@pytest.mark.parametrize("settings", [{"order_rate": 4.0}, {"order_rate_per_symbol": 4.0}, {"max_unacknowledged": 4}])
async def test_pace_never_cuts_a_family(settings: dict[str, Any]) -> None:
    scene = Scene(**{"order_rate": 0.0, "order_rate_per_symbol": 0.0, **settings})
    for key in ("a", "b"):
        await scene.place(key)
    orders = await bracket(scene)
    assert {o.state for o in orders} == {State.QUEUED}
    scene.tick()
    assert {o.state for o in orders} == {State.QUEUED}
    scene.clock.now += 1.0
    show(scene, scene.order(order_id(CLUSTER, "local", "a")), scene.order(order_id(CLUSTER, "local", "b")))
    scene.tick()
    assert [(o.broker_order_id, o.transmit) for o in scene.wire.placed[2:]] == [(3, False), (4, False), (5, True)]
    assert scene.count(Kind.ORDER_LICENSED) == 3


async def test_family_larger_than_the_rate_waits_for_an_empty_second_and_goes_whole() -> None:
    scene = Scene(order_rate=2.0, order_rate_per_symbol=0.0)
    await scene.place("a")
    orders = await bracket(scene)
    scene.tick()
    assert {o.state for o in orders} == {State.QUEUED}
    scene.clock.now += 1.0
    scene.tick()
    assert len(scene.wire.placed) == 4


async def test_bracket_behind_a_shut_gate_is_licensed_in_one_second_commit() -> None:
    scene = Scene(LateCommitter)
    scene.shut()
    task = asyncio.ensure_future(bracket(scene))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    scene.committer.commit_all()
    orders = await task
    assert {o.state for o in orders} == {State.QUEUED}
    scene.permit.shut.clear()
    scene.desk.work_queue()
    assert [len(drafts) for drafts, _ in scene.committer.waiting] == [3], "one group"
    scene.committer.commit_all()
    assert [(o.parent_id, o.transmit) for o in scene.wire.placed] == [(0, False), (1, False), (1, True)]


async def test_one_members_age_ends_the_whole_unsent_family(scene: Scene) -> None:
    scene.shut()
    soon = utcnow() + timedelta(milliseconds=200)
    wanted = [request("p", **ENTRY), request("c1", **PROFIT), request("c2", **LOSS, valid_until=soon.isoformat())]
    orders = [order for _, order in await scene.desk.place_all(wanted, ASKER)]
    while utcnow() <= soon:  # time itself is the condition
        await asyncio.sleep(0.01)
    scene.tick()
    assert {o.state for o in orders} == {State.EXPIRED}
    assert "valid_until" in str(orders[2].reason)
    assert "its family waited with c2" in str(orders[0].reason)
    scene.open()
    assert scene.wire.placed == []


async def test_member_that_the_door_did_not_take_keeps_those_behind_it_and_they_go_together_later(scene: Scene) -> None:
    place = scene.wire.place

    def second_fails(order: Any) -> None:
        if order.broker_order_id == 2:
            raise Paced("full")
        place(order)

    scene.wire.place = second_fails  # type: ignore[method-assign]
    parent, profit, loss = await bracket(scene)
    assert (parent.state, profit.state, loss.state) == (State.SENDING, State.QUEUED, State.QUEUED)
    assert [(o.broker_order_id, o.transmit) for o in scene.wire.placed] == [(1, False)], "the gateway keeps it"
    scene.tick()
    assert [(o.broker_order_id, o.parent_id, o.transmit) for o in scene.wire.placed[1:]] == [
        (4, 1, False),
        (5, 1, True),
    ]
    assert (profit.state, loss.state) == (State.SENDING, State.SENDING)


async def test_parent_that_the_door_did_not_take_takes_its_children_back_with_it(scene: Scene) -> None:
    scene.wire.refuse = [ConnectionError("gone")]
    orders = await bracket(scene)
    assert {o.state for o in orders} == {State.QUEUED}
    assert scene.wire.placed == []


async def test_child_of_an_order_that_is_out_already_is_sent_alone_and_transmitted(scene: Scene) -> None:
    parent = await scene.place("p", **ENTRY)
    show(scene, parent)
    await scene.place("c1", **PROFIT)
    assert [(o.parent_id, o.transmit) for o in scene.wire.placed] == [(0, True), (1, True)]


async def test_queued_child_of_a_parent_that_has_traded_is_sent_and_stands_alone(scene: Scene) -> None:
    parent = await scene.place("p", **ENTRY)
    show(scene, parent)
    scene.shut()
    child = await scene.place("c1", **LOSS)
    fill(scene, parent)
    scene.open()
    assert (child.state, scene.wire.placed[-1].parent_id) == (State.SENDING, 0), "IB knows a filled parent no more"


async def test_change_of_a_child_names_its_parent_while_that_one_is_open(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit, loss)
    await scene.desk.modify(profit.id, parse_change({"revision": 1, "limit_price": "201"}), ASKER)
    assert scene.wire.placed[-1].parent_id == 1
    fill(scene, parent)
    await scene.desk.modify(loss.id, parse_change({"revision": 1, "stop_price": "181"}), ASKER)
    assert scene.wire.placed[-1].parent_id == 0


# ---- what is refused


async def refusal(scene: Scene, key: str = "c1", **fields: Any) -> Problem:
    log = len(scene.ledger.log)
    with pytest.raises(Problem) as refused:
        await scene.place(key, **PROFIT | fields)
    assert len(scene.ledger.log) == log, "nothing is written"
    return refused.value


async def test_child_of_an_order_that_nobody_knows_is_422_with_the_field(scene: Scene) -> None:
    problem = await refusal(scene)
    assert (problem.status, [e.field for e in problem.errors]) == (422, ["parent_client_order_id"])


async def test_child_of_another_subjects_order_is_refused(scene: Scene) -> None:
    await scene.desk.place(request("p", **ENTRY), Asker("somebody", "c"))
    assert (await refusal(scene)).status == 422


@pytest.mark.rule(22)
async def test_child_is_refused_while_an_older_version_may_lead(scene: Scene) -> None:
    await scene.place("p", **ENTRY)
    scene.committer.level = FAMILY_LEVEL - 1
    assert "--raise-level" in (await refusal(scene)).errors[0].message
    await scene.place("alone")


@pytest.mark.parametrize("end", ["final", "in doubt", "being cancelled"])
async def test_child_of_an_order_that_takes_none_is_409(scene: Scene, end: str) -> None:
    parent = await scene.place("p", **ENTRY)
    if end == "in doubt":
        scene.ledger.add(Kind.ORDER_IN_DOUBT, parent.id, reason="x")
    else:
        show(scene, parent)
        await scene.desk.cancel(parent.id, ASKER)
        if end == "final":
            scene.ledger.add(Kind.ORDER_CANCELLED, parent.id, reason="x")
    problem = await refusal(scene)
    assert (problem.status, problem.kind, [e.field for e in problem.errors]) == (
        409,
        "parent-not-open",
        ["parent_client_order_id"],
    )


async def test_child_is_in_its_parents_contract_and_account(scene: Scene) -> None:
    await scene.place("p", **ENTRY)
    assert [e.field for e in (await refusal(scene, symbol="MSFT")).errors] == ["symbol"]
    scene.ledger.book.accounts = (ACCOUNT, "DU2")
    assert [e.field for e in (await refusal(scene, account="DU2")).errors] == ["account"]


async def test_child_is_for_its_parents_account_when_it_names_none(scene: Scene) -> None:
    scene.ledger.book.accounts = (ACCOUNT, "DU2")
    await scene.place("p", **ENTRY, account="DU2")
    assert (await scene.place("c1", **PROFIT)).account == "DU2"


# ---- half-sent


async def test_refused_child_cancels_the_parent_once_and_nothing_is_sent_again(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    scene.take(BrokerError(profit.broker_order_id or 0, 201, "no"))
    show(scene, parent, loss)
    for _ in range(3):
        scene.tick()
    assert (profit.state, parent.cancel_requested) == (State.REJECTED, True)
    assert scene.wire.written == [1, 2, 3, -1]
    assert scene.count(Kind.CANCEL_REQUESTED) == 1


async def test_child_whose_parent_ib_does_not_find_is_refused_and_not_asked_about_for_ever(scene: Scene) -> None:
    parent = await scene.place("p", **ENTRY)
    show(scene, parent)
    child = await scene.place("c1", **PROFIT)
    scene.take(BrokerError(child.broker_order_id or 0, 135, "Can't find order with id"))
    assert child.state is State.REJECTED


async def test_parent_that_has_traded_is_not_cancelled_but_its_missing_exit_is_a_break_that_holds(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit)
    fill(scene, parent, "4")
    scene.take(BrokerError(loss.broker_order_id or 0, 201, "no"))
    for _ in range(3):
        scene.tick()
    [found] = breaks(scene)
    assert (found.order_id, found.symbol, found.holds) == (parent.id, "AAPL", True)
    assert (found.ours["without_exit"], found.ours["missing"], found.ours["exits"]) == ("4", "c2", "c1 WORKING")
    assert scene.wire.written == [1, 2, 3]


async def test_break_of_a_missing_exit_ends_when_its_siblings_have_closed_what_the_parent_opened(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit)
    fill(scene, parent)
    scene.take(BrokerError(loss.broker_order_id or 0, 201, "no"))
    scene.tick()
    assert breaks(scene)
    fill(scene, profit)
    scene.tick()
    assert not breaks(scene)
    assert [b.resolution for b in scene.ledger.book.breaks.values()] == [CLOSED]


async def test_break_that_an_operator_resolved_is_not_opened_again_for_the_same_order(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit)
    fill(scene, parent)
    scene.ledger.add(Kind.ORDER_IN_DOUBT, loss.id, reason="x")
    scene.tick()
    [found] = breaks(scene)
    scene.ledger.add(Kind.BREAK_RESOLVED, parent.id, id=found.id, resolution="seen")
    scene.ledger.add(Kind.ORDER_CANCELLED, loss.id, reason="operator_dead")
    scene.tick()
    assert not breaks(scene)


async def test_child_in_doubt_cancels_a_parent_that_has_not_traded_and_a_surfacing_one_answers_a_break(
    scene: Scene,
) -> None:
    parent, profit, loss = await bracket(scene)
    scene.ledger.add(Kind.ORDER_WORKING, profit.id, perm_id=902)
    scene.ledger.add(Kind.ORDER_IN_DOUBT, loss.id, reason="x")
    scene.tick()
    assert parent.cancel_requested, "asked for before the session has shown it"
    show(scene, parent)
    scene.tick()
    assert scene.wire.written[-1] == -1
    fill(scene, parent)  # it crossed the cancel
    scene.tick()
    assert breaks(scene)
    scene.ledger.add(Kind.ORDER_WORKING, loss.id, perm_id=903)
    scene.tick()
    assert [b.resolution for b in scene.ledger.book.breaks.values()] == [SURFACED]


async def test_queued_children_end_with_a_parent_that_ended(scene: Scene) -> None:
    parent = await scene.place("p", **ENTRY)
    show(scene, parent)
    scene.shut()
    child = await scene.place("c1", **PROFIT)
    scene.ledger.add(Kind.ORDER_CANCELLED, parent.id, reason="cancelled at the broker")
    scene.tick()
    assert (child.state, child.reason) == (State.CANCELLED, "never sent: its parent p is CANCELLED")


async def test_cancel_of_a_queued_parent_ends_its_children_and_one_of_a_queued_child_is_its_clients_wish(
    scene: Scene,
) -> None:
    scene.shut()
    parent, profit, loss = await bracket(scene)
    await scene.desk.cancel(loss.id, ASKER)
    scene.tick()
    assert (parent.state, profit.state) == (State.QUEUED, State.QUEUED)
    await scene.desk.cancel(parent.id, ASKER)
    scene.tick()
    assert (parent.state, profit.state) == (State.CANCELLED, State.CANCELLED)


async def test_nothing_is_decided_before_the_reconciliation_of_a_session_is_over(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit)
    scene.permit.shut["reconciling"] = "wait"
    scene.ledger.add(Kind.ORDER_IN_DOUBT, loss.id, reason="x")
    scene.tick()
    assert not parent.cancel_requested
    scene.permit.shut.clear()
    scene.desk.second_look = frozenset({(ACCOUNT, "AAPL")})
    scene.tick()
    assert not parent.cancel_requested
    scene.desk.second_look = frozenset()
    scene.tick()
    assert parent.cancel_requested


@pytest.mark.rule(7)
async def test_cancel_that_died_with_its_session_is_decided_anew_on_the_next_one_once(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit)
    scene.ledger.add(Kind.ORDER_IN_DOUBT, loss.id, reason="x")
    scene.tick()
    scene.next_session()
    show(scene, parent)
    for _ in range(3):
        scene.tick()
    assert scene.wire.written == [1, 2, 3, -1, -1]


async def test_standby_remembers_no_family_that_ended_as_it_should(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit, loss)
    assert scene.desk._families.unsettled
    fill(scene, parent)
    fill(scene, profit)
    scene.ledger.add(Kind.ORDER_CANCELLED, loss.id, reason="cancelled at the broker")
    assert not scene.desk._families.unsettled


# ---- the table


def member(scene: Scene, key: str, state: str, **fields: Any) -> Order:
    """An order in this state, of its own book."""
    oid = scene.ledger.accept(key, **fields)
    order = scene.order(oid)
    order.state = State(state)
    return order


@pytest.mark.parametrize(
    ("parent", "filled", "child", "rows"),
    [
        ("WORKING", 0, "WORKING", set()), ("WORKING", 0, "QUEUED", set()), ("WORKING", 0, "CANCELLED", set()),
        ("WORKING", 0, "REJECTED", {"half_sent"}), ("SENDING", 0, "REJECTED", {"half_sent"}),
        ("WORKING", 0, "IN_DOUBT", {"half_sent"}), ("WORKING", 0, "EXPIRED", {"half_sent"}),
        ("WORKING", 4, "REJECTED", {"naked"}), ("WORKING", 4, "QUEUED", set()), ("WORKING", 4, "EXPIRED", {"naked"}),
        ("FILLED", 10, "IN_DOUBT", {"naked"}), ("FILLED", 10, "WORKING", set()), ("FILLED", 10, "QUEUED", set()),
        ("FILLED", 10, "CANCELLED", {"exit_may_close"}),
        ("CANCELLED", 4, "CANCELLED", {"naked"}), ("CANCELLED", 4, "WORKING", set()),
        ("CANCELLED", 0, "QUEUED", {"parent_over"}), ("REJECTED", 0, "QUEUED", {"parent_over"}),
        ("EXPIRED", 0, "QUEUED", {"parent_over"}), ("CANCELLED", 0, "CANCELLED", set()), ("CANCELLED", 0, "IN_DOUBT", set()),
        ("CANCELLED", 0, "WORKING", {"child_may_outlive"}), ("QUEUED", 0, "EXPIRED", {"never_whole"}),
        ("QUEUED", 0, "REJECTED", {"never_whole"}), ("QUEUED", 0, "QUEUED", set()), ("IN_DOUBT", 0, "IN_DOUBT", set()),
        ("IN_DOUBT", 0, "QUEUED", set()), ("IN_DOUBT", 0, "WORKING", set()),
    ],
)  # fmt: skip
def test_each_pair_of_states_has_its_answer(scene: Scene, parent: str, filled: int, child: str, rows: set[str]) -> None:
    top = member(scene, "p", parent)
    top.filled += filled
    family = Family(top, [member(scene, "c", child, side="SELL")], [], None, 1, top.updated_at)
    assert {ruling.row.name for ruling in rule(family)} == rows
    flat = Family(top, family.children, [], top.filled * 0, 1, top.updated_at)
    assert Act.NAKED not in {ruling.row.act for ruling in rule(flat)}, "nothing is open, nothing lacks an exit"
    late = Family(top, family.children, [], None, 1, top.updated_at + timedelta(seconds=OUTLIVED_FOR + 1))
    if "child_may_outlive" in rows:
        assert {ruling.row.name for ruling in rule(late)} == {"child_outlives"}


def test_child_on_its_parents_side_is_no_exit(scene: Scene) -> None:
    top = member(scene, "p", "FILLED")
    top.filled += 10
    assert rule(Family(top, [member(scene, "c", "REJECTED")], [], None, 1, top.updated_at)) == []


def test_every_row_has_a_name_and_a_sentence() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert all(row.says.endswith(".") for row in TABLE)


def hold(scene: Scene, about: Order | None) -> None:
    scene.ledger.add(
        Kind.BREAK_OPENED, None if about is None else about.id, id=f"b-{about and about.client_order_id}", kind="in_doubt",
        symbol="AAPL", account=ACCOUNT, holds=True, ours={}, broker={},
    )  # fmt: skip


async def half_filled(scene: Scene) -> tuple[Order, Order, Order]:
    """A parent that filled, one exit in doubt, and one that was never sent."""
    parent = await scene.place("p", **ENTRY)
    show(scene, parent)
    doubtful = await scene.place("c1", **PROFIT)
    scene.shut()
    waiting = await scene.place("c2", **LOSS)
    scene.ledger.add(Kind.ORDER_IN_DOUBT, doubtful.id, reason="x")
    fill(scene, parent, "4")
    return parent, doubtful, waiting


async def test_unsent_exit_of_what_its_parent_has_opened_passes_its_own_familys_hold(scene: Scene) -> None:
    parent, doubtful, waiting = await half_filled(scene)
    hold(scene, doubtful)
    scene.open()
    assert waiting.state is State.QUEUED, "it would close more than there is"
    fill(scene, parent, "6")
    scene.tick()
    assert waiting.state is State.SENDING
    assert breaks(scene)[0].ours["exits"] == "c2 QUEUED"


async def test_unsent_exit_waits_behind_a_hold_that_is_about_something_else(scene: Scene) -> None:
    parent, doubtful, waiting = await half_filled(scene)
    fill(scene, parent, "6")
    hold(scene, doubtful)
    hold(scene, None)
    scene.open()
    assert waiting.state is State.QUEUED
