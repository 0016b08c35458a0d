"""R29: a hold does not trap risk: what only reduces the position and names the break passes, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import Problem
from engine.events import Kind
from engine.order import State
from tests.unit.book_factory import ACCOUNT
from tests.unit.desk_factory import Scene

pytestmark = pytest.mark.rule(29)


@pytest.fixture
def scene() -> Scene:
    """Long 10 AAPL, and the contract is held by break b1."""
    made = Scene()
    made.ledger.fill(None, quantity="10")
    hold(made)
    return made


def hold(scene: Scene) -> None:
    scene.ledger.add(
        Kind.BREAK_OPENED, id="b1", kind="in_doubt", symbol="AAPL", account=ACCOUNT, holds=True, ours={}, broker={}
    )


async def refusal(scene: Scene, **fields: Any) -> Problem:
    log = len(scene.ledger.log)
    with pytest.raises(Problem) as refused:
        await scene.place("no", **fields)
    assert (len(scene.ledger.log), scene.wire.written) == (log, []), "nothing is written"
    return refused.value


async def test_order_that_reduces_the_position_and_names_the_break_is_sent(scene: Scene) -> None:
    order = await scene.place("out", side="SELL", quantity="10", break_id="b1")
    assert (order.state, len(scene.wire.placed)) == (State.SENDING, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"side": "SELL", "quantity": "10"}, {"side": "SELL", "quantity": "11", "break_id": "b1"},
        {"side": "BUY", "quantity": "1", "break_id": "b1"},
    ],
)  # fmt: skip
async def test_everything_else_waits_for_the_operator(scene: Scene, fields: dict[str, Any]) -> None:
    refused = await refusal(scene, **fields)
    assert (refused.status, refused.kind) == (503, "held")


async def test_two_orders_together_reduce_no_more_than_there_is(scene: Scene) -> None:
    await scene.place("first", side="SELL", quantity="6", break_id="b1")
    with pytest.raises(Problem):
        await scene.place("second", side="SELL", quantity="5", break_id="b1")
    assert (await scene.place("third", side="SELL", quantity="4", break_id="b1")).state is State.SENDING


@pytest.mark.parametrize("named", ["b2", "b1"])
async def test_break_that_does_not_hold_the_contract_is_422(named: str) -> None:
    scene = Scene()
    if named == "b2":
        hold(scene)
    refused = await refusal(scene, side="SELL", quantity="1", break_id=named)
    assert (refused.status, refused.errors[0].field) == (422, "break_id")


async def test_reducing_order_that_was_queued_passes_its_hold_when_the_gate_opens(scene: Scene) -> None:
    scene.shut()
    order = await scene.place("out", side="SELL", quantity="10", break_id="b1")
    assert order.state is State.QUEUED
    scene.open()
    assert scene.order(order.id).state is State.SENDING
