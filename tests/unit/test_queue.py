"""A long queue behind the gate: what one look is about is bounded, and nothing is forgotten or overtaken by it."""

from __future__ import annotations

import pytest

from engine import queue
from engine.events import Kind
from engine.order import State
from tests.unit.desk_factory import LateCommitter, Scene


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks of four orders at once."""
    monkeypatch.setattr(queue, "AT_ONCE", 4)


async def queued(scene: Scene, count: int, **fields: str) -> list[str]:
    """So many orders that wait, in order of acceptance."""
    scene.shut()
    return [(await scene.place(f"k{n}", **fields)).id for n in range(count)]


def licensed(scene: Scene) -> list[str]:
    """Ids of the orders that were written, in that order."""
    return [order.reference.rsplit(".", 1)[1] for order in scene.wire.placed]


@pytest.mark.rule(9)
@pytest.mark.usefixtures("short")
async def test_long_queue_goes_out_in_the_order_of_its_acceptance() -> None:
    scene = Scene(order_rate=1000, order_rate_per_symbol=1000, max_unacknowledged=1000)
    ids = await queued(scene, 23)
    scene.permit.shut.clear()
    for _ in range(12):
        scene.clock.now += 1.0
        scene.desk.work_queue()
    assert licensed(scene) == ids


@pytest.mark.rule(8)
@pytest.mark.usefixtures("short")
async def test_ages_of_a_long_queue_come_round_while_the_gate_is_shut() -> None:
    scene = Scene()
    ids = await queued(scene, 23)
    scene.desk.settings.max_intent_age[""] = -1.0  # type: ignore[index]  # each of them is too old from now on
    scene.desk.work_queue()
    first = [oid for oid in ids if scene.order(oid).state is State.EXPIRED]
    assert 0 < len(first) <= 8  # one look is bounded
    for _ in range(12):
        scene.desk.work_queue()
    assert {scene.order(oid).state for oid in ids} == {State.EXPIRED}
    assert scene.count(Kind.ORDER_EXPIRED) == 23


@pytest.mark.rule(24)
@pytest.mark.usefixtures("short")
async def test_what_a_hold_keeps_back_at_the_front_of_a_long_queue_holds_nobody_else_up() -> None:
    scene = Scene(order_rate=1000, order_rate_per_symbol=1000, max_unacknowledged=1000)
    kept = await queued(scene, 12, symbol="MSFT")
    free = (await scene.place("free", symbol="AAPL")).id
    scene.permit.shut.clear()
    scene.desk.second_look = frozenset({("DU1", "MSFT")})
    for _ in range(8):
        scene.desk.work_queue()
    assert licensed(scene) == [free]
    assert {scene.order(oid).state for oid in kept} == {State.QUEUED}


@pytest.mark.rule(4)
@pytest.mark.usefixtures("short")
async def test_order_that_is_being_decided_is_not_decided_twice_by_the_next_look() -> None:
    scene = Scene(LateCommitter, order_rate=1000, order_rate_per_symbol=1000, max_unacknowledged=1000)
    scene.shut()
    for n in range(9):
        oid = scene.ledger.accept(f"k{n}")
        scene.ledger.order(oid).created_at = queue.utcnow()
    scene.permit.shut.clear()
    for _ in range(6):
        scene.desk.work_queue()
    scene.committer.commit_all()
    assert len(licensed(scene)) == len(set(licensed(scene))) == 9
