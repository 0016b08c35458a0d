"""Brackets where something else went wrong beside them: a lost link, fills that nobody booked, a member that is never sent."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.broker import BrokerError, Paced
from engine.clock import from_iso, utcnow
from engine.errors import Problem
from engine.events import Draft, Kind
from engine.order import Order, State
from engine.plain import plain
from engine.reference import order_id
from engine.request import parse_change
from ha.second_try import cancel_late
from tests.unit.book_factory import ACCOUNT, CLUSTER, shown
from tests.unit.desk_factory import ASKER, LateCommitter, Scene, request
from tests.unit.test_family import ENTRY, LOSS, PROFIT, bracket, breaks, fill, show


@pytest.fixture
def scene() -> Scene:
    return Scene()


# ---- R6: what the gateway kept while its link was down


async def kept_through_an_outage(scene: Scene) -> tuple[Order, Order, Order]:
    """A bracket that met a lost link unanswered and was submitted two minutes later, when the link was back."""
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit, loss, status="PendingSubmit")
    scene.permit.shut["link"] = "1100"
    scene.desk.cancels.unconfirmed.link_lost(scene.desk.unacknowledged)
    scene.desk.cancels.unconfirmed.link_back()
    show(scene, parent, profit, loss)
    scene.committer.database_offset = 1e9  # of the database's clock: everything is long past its age
    return parent, profit, loss


@pytest.mark.rule(6)
async def test_exits_of_a_parent_that_filled_as_the_link_came_back_are_never_too_late(scene: Scene) -> None:
    parent, profit, loss = await kept_through_an_outage(scene)
    fill(scene, parent)
    cancel_late(scene.committer, scene.desk)
    assert (profit.cancel_requested, loss.cancel_requested) == (False, False)
    assert scene.wire.written == [1, 2, 3]
    assert not scene.desk.cancels.unconfirmed.marked, "they were judged"


@pytest.mark.rule(6)
async def test_late_bracket_is_cancelled_by_its_parent_so_that_a_fill_that_crosses_keeps_its_exits(
    scene: Scene,
) -> None:
    parent, profit, loss = await kept_through_an_outage(scene)
    cancel_late(scene.committer, scene.desk)
    assert parent.cancel_requested
    assert (profit.cancel_requested, loss.cancel_requested) == (False, False)
    assert scene.wire.written[3:] == [-1]


@pytest.mark.rule(6)
async def test_late_child_on_its_parents_side_is_cancelled(scene: Scene) -> None:
    parent = await scene.place("p", **ENTRY)
    show(scene, parent)
    more = await scene.place("c1", parent_client_order_id="p", **ENTRY)
    show(scene, more, status="PendingSubmit")
    scene.desk.cancels.unconfirmed.link_lost(())
    show(scene, more)
    fill(scene, parent)
    scene.committer.database_offset = 1e9
    cancel_late(scene.committer, scene.desk)
    assert more.cancel_requested


@pytest.mark.rule(26)
async def test_somebody_elses_order_is_never_too_late(scene: Scene) -> None:
    scene.ledger.add(
        Kind.ORDER_EXTERNAL, "x", account="DU1", symbol="AAPL", side="BUY", quantity="10", order_type="LMT", limit_price="1",
        tif="GTC", sec_type="STK", exchange="SMART", currency="USD", perm_id=990, broker_order_id=0,
    )  # fmt: skip
    scene.take(shown(None, 990, status="PendingSubmit"))
    scene.desk.cancels.unconfirmed.link_lost(("x",))
    scene.committer.database_offset = 1e9
    cancel_late(scene.committer, scene.desk)
    assert not scene.order("x").cancel_requested
    assert scene.order("x").state is State.WORKING


# ---- a naked break that ended, and what came after it


async def lost_stop(scene: Scene) -> tuple[Order, Order, Order]:
    """A bracket whose parent filled 4 and whose stop was refused: its break is open."""
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit)
    fill(scene, parent, "4")
    scene.take(BrokerError(loss.broker_order_id or 0, 201, "margin"))
    scene.tick()
    assert len(breaks(scene)) == 1
    return parent, profit, loss


async def test_break_that_ended_by_itself_is_opened_again_when_the_parent_fills_more(scene: Scene) -> None:
    parent, profit, _ = await lost_stop(scene)
    fill(scene, profit, "4")
    scene.tick()
    assert not breaks(scene)
    fill(scene, parent, "6")
    scene.tick()
    assert [b.ours["without_exit"] for b in breaks(scene)] == ["6"]


async def test_exit_that_surfaced_and_is_in_doubt_once_more_is_told_once_more(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit)
    fill(scene, parent)
    for _ in range(2):
        scene.ledger.add(Kind.ORDER_IN_DOUBT, loss.id, reason="x")
        scene.tick()
        assert len(breaks(scene)) == 1
        scene.ledger.add(Kind.ORDER_WORKING, loss.id, perm_id=903)
        scene.tick()
        assert not breaks(scene)


async def test_operators_answer_counts_for_what_was_open_then_and_not_for_more(scene: Scene) -> None:
    parent, _, _ = await lost_stop(scene)
    [found] = breaks(scene)
    scene.ledger.add(Kind.BREAK_RESOLVED, parent.id, id=found.id, resolution="seen")
    scene.tick()
    assert not breaks(scene)
    fill(scene, parent, "1")
    scene.tick()
    assert [b.ours["without_exit"] for b in breaks(scene)] == ["5"]


async def test_one_break_is_open_at_a_time_and_its_answer_counts_for_the_figures_that_it_names(scene: Scene) -> None:
    parent, _, _ = await lost_stop(scene)
    fill(scene, parent, "6")
    scene.tick()
    [found] = breaks(scene)
    assert found.ours["without_exit"] == "4", "the figures of its opening"
    for resolution in ("seen", "closed"):
        [found] = breaks(scene)
        scene.ledger.add(Kind.BREAK_RESOLVED, parent.id, id=found.id, resolution=resolution)
        scene.tick()
        assert [b.ours["without_exit"] for b in breaks(scene)] == (["10"] if resolution == "seen" else [])


# ---- a member that is never sent: the gateway keeps those before it for ever, in no market


async def cut_before_the_stop(scene: Scene) -> tuple[Order, Order, Order]:
    """A bracket of which the gateway took and keeps two; the stop waits, because nothing takes it."""
    place = scene.wire.place

    def all_but_stops(order: Any) -> None:
        if order.order_type == "STP":
            raise Paced("full")
        place(order)

    scene.wire.place = all_but_stops  # type: ignore[method-assign]
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit, status="Inactive")
    assert (parent.state, profit.state, loss.state) == (State.WORKING, State.WORKING, State.QUEUED)
    return parent, profit, loss


async def test_what_was_written_to_be_kept_by_the_gateway_is_known_of_each_order(scene: Scene) -> None:
    assert [o.kept for o in await bracket(scene)] == [True, True, False]
    assert plain(scene.order(order_id(CLUSTER, "local", "p")))["kept"] is True
    other = Scene()
    _, _, loss = await cut_before_the_stop(other)
    assert loss.kept is False


async def change(scene: Scene, order: Order, price: str = "191") -> None:
    await scene.desk.modify(order.id, parse_change({"revision": order.revision, "limit_price": price}), ASKER)


async def test_change_of_a_bracket_that_is_not_out_whole_is_refused_it_would_send_it_without_its_stop(
    scene: Scene,
) -> None:
    parent, profit, _ = await cut_before_the_stop(scene)
    for order in (parent, profit):
        with pytest.raises(Problem) as refused:
            await change(scene, order)
        assert (refused.value.status, refused.value.kind) == (503, "family-not-sent")
    assert [(o.broker_order_id, o.transmit) for o in scene.wire.placed] == [(1, False), (2, False)]


async def test_change_is_refused_while_the_last_member_is_on_its_way_and_taken_once_it_is_written() -> None:
    scene = Scene(LateCommitter)
    scene.shut()
    task = asyncio.ensure_future(bracket(scene))
    for _ in range(5):
        await asyncio.sleep(0)
        scene.committer.commit_all()
    parent, profit, loss = await task
    scene.permit.shut.clear()
    place, took = scene.wire.place, list[bool]()

    def not_yet(order: Any) -> None:
        if order.order_type == "STP" and not took:
            raise Paced("full")
        place(order)

    scene.wire.place = not_yet  # type: ignore[method-assign]
    scene.desk.work_queue()
    scene.committer.commit_all()
    show(scene, parent, profit, status="Inactive")
    scene.committer.commit_all()  # the stop's licence is taken back
    took.append(True)
    scene.desk.work_queue()  # and it is licensed anew: on its way to the log
    assert loss.state is State.QUEUED
    with pytest.raises(Problem) as refused:
        await change(scene, parent)
    assert refused.value.kind == "family-not-sent"
    scene.committer.commit_all()
    assert scene.wire.placed[-1].transmit
    changing = asyncio.ensure_future(change(scene, parent))
    await asyncio.sleep(0)
    scene.committer.commit_all()
    await changing
    assert scene.wire.placed[-1].limit_price == Decimal("191")


async def test_change_that_was_licensed_before_its_family_was_found_cut_is_not_written() -> None:
    scene = Scene()
    parent, _, loss = await cut_before_the_stop(scene)
    scene.desk.cancels.shown(parent.id, 1, 901)
    event = scene.ledger.add(
        Kind.MODIFY_LICENSED,
        parent.id,
        session=1,
        broker_order_id=1,
        perm_id=901,
        revision=1,
        changes={"limit_price": "191"},
    )
    scene.desk.carry_out([event])
    assert len(scene.wire.placed) == 2
    assert loss.state is State.QUEUED
    assert "without" in str(parent.reason)


async def test_bracket_whose_last_member_its_client_cancelled_unsent_is_cancelled_instead_of_lying_there(
    scene: Scene,
) -> None:
    parent, profit, loss = await cut_before_the_stop(scene)
    await scene.desk.cancel(loss.id, ASKER)
    for _ in range(3):
        scene.tick()
    assert (loss.state, parent.cancel_requested) == (State.CANCELLED, True)
    assert scene.wire.written == [1, 2, -1]
    scene.ledger.add(Kind.ORDER_CANCELLED, parent.id, reason="cancelled at the broker")
    scene.tick()
    assert scene.wire.written == [1, 2, -1, -2], (
        "IB does not cancel it with its parent: the event is older than 2 s here"
    )
    assert profit.cancel_requested


async def test_parent_whose_only_child_its_client_cancelled_unsent_is_cancelled(scene: Scene) -> None:
    place = scene.wire.place
    scene.wire.place = lambda order: place(order) if not order.parent_id else _full()  # type: ignore[method-assign]
    wanted = [request("p", **ENTRY), request("c", **LOSS)]
    parent, child = [order for _, order in await scene.desk.place_all(wanted, ASKER)]
    show(scene, parent, status="Inactive")
    scene.tick()
    assert not parent.cancel_requested, "the child waits and may still be sent"
    await scene.desk.cancel(child.id, ASKER)
    scene.tick()
    assert parent.cancel_requested


async def test_bracket_that_went_out_whole_is_left_alone_when_its_last_member_ends(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit, loss)
    await scene.desk.cancel(loss.id, ASKER)
    scene.ledger.add(Kind.ORDER_CANCELLED, loss.id, reason="cancelled at the broker")
    scene.tick()
    assert not parent.cancel_requested
    await change(scene, parent)
    assert scene.wire.placed[-1].limit_price == Decimal("191")


async def test_kept_exit_of_a_parent_in_the_market_is_a_missing_one_once_nothing_sends_it(scene: Scene) -> None:
    parent = await scene.place("p", **ENTRY)
    show(scene, parent)
    place = scene.wire.place
    scene.wire.place = lambda order: _full() if order.order_type == "STP" else place(order)  # type: ignore[method-assign]
    wanted = [request("c1", **PROFIT), request("c2", **LOSS)]
    profit, loss = [order for _, order in await scene.desk.place_all(wanted, ASKER)]
    show(scene, profit, status="Inactive")
    fill(scene, parent)
    await scene.desk.cancel(loss.id, ASKER)
    scene.tick()
    assert [b.ours["missing"] for b in breaks(scene)] == ["c1"]
    assert profit.kept


def _full() -> None:
    raise Paced("full")


# ---- R4: a parent whose order id was used already, while its children are out under it


@pytest.mark.rule(4)
async def test_parent_that_lost_its_order_id_is_not_sent_alone_while_its_children_are_out(scene: Scene) -> None:
    parent, profit, loss = await bracket(scene)
    scene.take(BrokerError(parent.broker_order_id or 0, 103, "Duplicate order id"))
    for _ in range(3):
        scene.tick()
    assert (parent.state, profit.state, loss.state) == (State.QUEUED, State.SENDING, State.SENDING)
    assert scene.wire.written == [1, 2, 3]
    scene.take(BrokerError(profit.broker_order_id or 0, 135, "Can't find order with id"))
    for _ in range(3):
        scene.tick()
    assert (parent.state, scene.wire.written) == (State.CANCELLED, [1, 2, 3]), "never sent: its family is not whole"


@pytest.mark.rule(4)
async def test_others_are_not_kept_waiting_by_a_parent_that_lost_its_order_id(scene: Scene) -> None:
    parent, *_ = await bracket(scene)
    scene.take(BrokerError(parent.broker_order_id or 0, 103, "Duplicate order id"))
    scene.tick()
    other = await scene.place("other", symbol="MSFT")
    assert other.state is State.SENDING


@pytest.mark.rule(4)
async def test_order_without_children_that_lost_its_order_id_is_sent_under_the_next_one(scene: Scene) -> None:
    order = await scene.place("a")
    scene.take(BrokerError(1, 103, "Duplicate order id"))
    scene.tick()
    assert (order.state, scene.wire.written) == (State.SENDING, [1, 2])


# ---- exits that end at the broker by nobody's wish here


GTC = {"tif": "GTC"}
GTD_LATER = {"tif": "GTD", "good_till": "2099-01-02T12:00:00Z"}


async def good_till_cancelled(scene: Scene, **exits: Any) -> tuple[Order, Order, Order]:
    """A bracket that is filled, with two exits that outlive the day."""
    wanted = [request("p", **ENTRY), request("c1", **PROFIT | GTC | exits), request("c2", **LOSS | GTC | exits)]
    parent, profit, loss = [order for _, order in await scene.desk.place_all(wanted, ASKER)]
    show(scene, parent, profit, loss)
    fill(scene, parent)
    return parent, profit, loss


def ends(scene: Scene, order: Order, ago: float) -> None:
    """IB says that the order is cancelled, so many seconds ago."""
    at = utcnow() - timedelta(seconds=ago)
    scene.ledger.write(Draft(Kind.ORDER_CANCELLED, {"reason": "cancelled at the broker"}, at, order.id, "local"))


async def test_exits_that_the_broker_cancelled_are_missing_while_what_the_parent_opened_is_open(scene: Scene) -> None:
    _, profit, loss = await good_till_cancelled(scene)
    ends(scene, profit, 3)
    ends(scene, loss, 3)
    scene.tick()
    assert [(b.ours["missing"], b.ours["without_exit"], b.holds) for b in breaks(scene)] == [("c1, c2", "10", True)]


async def test_exit_that_ends_with_its_group_is_not_missing_the_others_execution_may_be_on_its_way(
    scene: Scene,
) -> None:
    _, profit, loss = await good_till_cancelled(scene)
    ends(scene, loss, 0)
    scene.tick()
    assert not breaks(scene)
    assert scene.desk._families.unsettled, "looked at again"
    fill(scene, profit)
    scene.tick()
    assert not breaks(scene)
    assert not scene.desk._families.unsettled


async def test_break_about_exits_that_ended_is_not_closed_and_opened_by_turns(scene: Scene) -> None:
    _, profit, loss = await good_till_cancelled(scene)
    ends(scene, loss, 3)
    for _ in range(3):
        scene.tick()
    ends(scene, profit, 0)
    for _ in range(3):
        scene.tick()
    assert scene.count(Kind.BREAK_OPENED) == 1
    assert scene.count(Kind.BREAK_RESOLVED) == 0


PAST = "2026-01-02T12:00:00Z"


@pytest.mark.parametrize("given", ["valid_until", "good_till", "IOC"])
async def test_exit_that_ended_with_its_time_is_not_missing(scene: Scene, given: str) -> None:
    _, profit, loss = await good_till_cancelled(scene)
    for order in (profit, loss):
        if given == "valid_until":
            order.valid_until = from_iso(PAST)
        elif given == "good_till":
            order.tif, order.extra = "GTD", order.extra | {"good_till": "20260102-12:00:00"}
        else:
            order.tif = "IOC"
        ends(scene, order, 3)
    scene.tick()
    assert not breaks(scene)


@pytest.mark.parametrize(("exits", "holds"), [({"tif": "DAY"}, False), (GTD_LATER, True)])
async def test_exit_that_the_broker_ended_is_missing_and_holds_the_contract_unless_its_day_may_be_over(
    scene: Scene, exits: dict[str, str], holds: bool
) -> None:
    parent, profit, loss = await good_till_cancelled(scene, **exits)
    ends(scene, profit, 1)
    ends(scene, loss, 1)
    scene.tick()
    assert not breaks(scene), "an execution may be on its way"
    ends_now = [o.updated_at - timedelta(seconds=3) for o in (profit, loss)]
    profit.updated_at, loss.updated_at = ends_now
    scene.tick()
    [found] = breaks(scene)
    assert (found.order_id, found.ours["missing"], found.ours["without_exit"], found.holds) == (
        parent.id,
        "c1, c2",
        "10",
        holds,
    )
    assert (
        (await scene.place("next")).state is State.SENDING if not holds else scene.ledger.book.holding(ACCOUNT, "AAPL")
    )
    scene.ledger.fill(None, "x.1.01", quantity="10", side="SELL", perm_id=0)
    scene.tick()
    assert not breaks(scene), "closed by somebody"


async def test_break_of_what_ended_with_its_day_does_not_hide_an_exit_that_is_missing_otherwise(scene: Scene) -> None:
    _, profit, loss = await good_till_cancelled(scene, tif="DAY")
    ends(scene, profit, 3)
    scene.tick()
    assert [(b.ours["missing"], b.holds) for b in breaks(scene)] == [("c1", False)]
    scene.ledger.add(Kind.ORDER_REJECTED, loss.id, reason="201: no")
    for _ in range(3):
        scene.tick()
    assert [(b.ours["missing"], b.holds) for b in breaks(scene)] == [("c1", False), ("c1, c2", True)]
    scene.ledger.fill(None, "x.1.01", quantity="10", side="SELL", perm_id=0)
    scene.tick()
    assert not breaks(scene)


async def test_day_exit_that_ended_beside_one_that_stays_in_the_market_is_told_and_holds_nothing(scene: Scene) -> None:
    _, profit, loss = await good_till_cancelled(scene, tif="DAY")
    ends(scene, profit, 3)
    scene.tick()
    assert [(b.ours["missing"], b.ours["exits"], b.holds) for b in breaks(scene)] == [("c1", "c2 WORKING", False)]
    fill(scene, loss)
    scene.tick()
    assert not breaks(scene)


async def test_exit_that_its_client_cancelled_is_not_missing(scene: Scene) -> None:
    _, profit, loss = await good_till_cancelled(scene)
    for order in (profit, loss):
        await scene.desk.cancel(order.id, ASKER)
        ends(scene, order, 3)
    scene.tick()
    assert not breaks(scene)


# ---- fills that the broker told of and nobody booked


def told(scene: Scene, kind: str, about: Order | None, **broker: str) -> str:
    """A break about the order, or about AAPL's position; its id."""
    scene.ledger.add(
        Kind.BREAK_OPENED, None if about is None else about.id, id=f"b-{kind}", kind=kind, symbol="AAPL", account=ACCOUNT,
        holds=True, ours={"filled": "0"}, broker=broker,
    )  # fmt: skip
    return f"b-{kind}"


async def ended_unfilled(scene: Scene) -> tuple[Order, Order, Order]:
    """A bracket whose parent ended long ago, without a fill in the ledger, with both exits live."""
    parent, profit, loss = await bracket(scene)
    show(scene, parent, profit, loss)
    scene.ledger.add(Kind.ORDER_CANCELLED, parent.id, reason="cancelled at the broker")
    return parent, profit, loss


@pytest.mark.parametrize("kind", ["missing_executions", "position", "vanished"])
async def test_exits_stay_while_it_is_in_doubt_whether_their_parent_traded(scene: Scene, kind: str) -> None:
    parent, profit, loss = await ended_unfilled(scene)
    found = told(scene, kind, None if kind == "position" else parent, filled="5")
    for _ in range(3):
        scene.tick()
    assert (profit.cancel_requested, loss.cancel_requested) == (False, False)
    fill(scene, parent, "5")
    scene.ledger.add(Kind.BREAK_RESOLVED, parent.id, id=found, resolution="agrees again")
    scene.tick()
    assert scene.wire.written == [1, 2, 3]


async def test_exits_are_cancelled_once_the_doubt_is_over_and_their_parent_never_traded(scene: Scene) -> None:
    await ended_unfilled(scene)
    found = told(scene, "position", None, quantity="7")
    scene.tick()
    assert scene.wire.written == [1, 2, 3]
    scene.ledger.add(Kind.BREAK_RESOLVED, None, id=found, resolution="agrees again")
    scene.tick()
    assert scene.wire.written == [1, 2, 3, -2, -3]


async def test_exits_stay_when_an_operator_looked_at_fills_that_were_never_booked(scene: Scene) -> None:
    parent, *_ = await ended_unfilled(scene)
    found = told(scene, "missing_executions", parent, filled="5")
    scene.tick()
    scene.ledger.add(Kind.BREAK_RESOLVED, parent.id, id=found, resolution="seen")
    for _ in range(3):
        scene.tick()
    assert scene.wire.written == [1, 2, 3]


async def test_break_about_another_contract_or_order_is_no_doubt_about_this_parent(scene: Scene) -> None:
    await ended_unfilled(scene)
    other = await scene.place("other", symbol="MSFT")
    told(scene, "missing_executions", other, filled="5")
    scene.ledger.add(
        Kind.BREAK_OPENED, None, id="b", kind="position", symbol="MSFT", account=ACCOUNT, holds=True, ours={}, broker={}
    )
    scene.tick()
    assert scene.wire.written[-2:] == [-2, -3]
