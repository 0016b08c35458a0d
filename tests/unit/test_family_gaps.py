"""Brackets where something else went wrong beside them: a lost link, fills that nobody booked, a member that is never sent."""

from __future__ import annotations

import pytest

from engine.broker import BrokerError
from engine.events import Kind
from engine.order import Order, State
from ha.second_try import cancel_late
from tests.unit.book_factory import shown
from tests.unit.desk_factory import Scene
from tests.unit.test_family import ENTRY, bracket, breaks, fill, show


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
