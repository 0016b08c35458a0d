"""Brackets where something else went wrong beside them: a lost link, fills that nobody booked, a member that is never sent."""

from __future__ import annotations

import pytest

from engine.events import Kind
from engine.order import Order, State
from ha.second_try import cancel_late
from tests.unit.book_factory import shown
from tests.unit.desk_factory import Scene
from tests.unit.test_family import ENTRY, bracket, fill, show


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
