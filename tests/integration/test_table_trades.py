"""Each row of the reconciliation table about executions and positions, made to happen at the stand-in gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from engine.order import State
from tests.integration.sim_fixture import until_entries
from tests.integration.table_fixture import MANUAL, Leader, a_leader, row


@pytest.fixture
async def leader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leader]:
    """A leader with a session."""
    async with a_leader(monkeypatch) as made:
        yield made


async def trade_by_hand(leader: Leader, side: str = "BUY", quantity: str = "5") -> dict[str, Any]:
    """Somebody trades AAPL at the market; the order as the gateway has it."""
    body = {"symbol": "AAPL", "side": side, "quantity": quantity}
    made: dict[str, Any] = await leader.sim.call("POST", "/orders", body, status=201)
    assert made["state"] == "Filled", made
    return made


def held(leader: Leader) -> Decimal:
    """The ledger's only position."""
    [position] = leader.ledger.book.positions.values()
    return position.quantity


# ---- executions


@row("filled_while_away", "partly_filled_while_away")
@pytest.mark.rule(27)
@pytest.mark.guarantee(5)
async def test_fills_of_a_moment_without_a_leader_are_booked_and_close_the_order(leader: Leader) -> None:
    oid = await leader.working()
    leader.die()
    await leader.sim.call("POST", "/prices", {"AAPL": {"price": "99.00", "size": "4"}})
    await leader.connect()
    assert await leader.rows() == ["partly_filled_while_away"]
    await leader.reconcile()
    assert (leader.order(oid).state, leader.order(oid).filled, held(leader)) == (State.WORKING, 4, 4)
    leader.die()
    await leader.sim.call("POST", "/prices", {"AAPL": {"price": "98.00", "size": "6"}})
    await leader.connect()
    assert await leader.rows() == ["filled_while_away"]
    await leader.reconcile()
    assert (leader.order(oid).state, held(leader), leader.breaks()) == (State.FILLED, 10, [])


@row("execution_missing_here")
@pytest.mark.rule(28)
async def test_trade_by_hand_is_booked_because_positions_are_sums(leader: Leader) -> None:
    await trade_by_hand(leader)
    assert await leader.rows() == ["execution_missing_here"]
    await leader.reconcile()
    assert (held(leader), leader.breaks(), leader.ledger.book.orders) == (5, [], {})


@row("execution_corrected")
@pytest.mark.guarantee(5)
@pytest.mark.parametrize("booked_before", [True, False])
async def test_correction_replaces_whether_the_first_was_booked_or_not(leader: Leader, booked_before: bool) -> None:
    oid = await leader.working()
    await leader.sim.call("POST", "/prices", {"AAPL": {"price": "99.00", "size": "4"}})
    [made] = await until_entries(leader.sim, "execution", 1)
    if booked_before:
        await leader.reconcile()
    await leader.sim.fault("correction", exec_id=made["exec_id"], quantity="3", price="98.50")
    assert await leader.rows() == ["execution_corrected" if booked_before else "partly_filled_while_away"]
    await leader.reconcile()
    [execution] = leader.ledger.book.executions.values()
    assert (execution.quantity, execution.price, execution.revision) == (3, Decimal("98.50"), 2)
    assert (leader.order(oid).filled, held(leader), leader.breaks()) == (3, 3, [])


@row("execution_contradicts", "execution_contradicts_known")
@pytest.mark.rule(27)
async def test_execution_whose_root_the_ledger_has_for_another_contract_is_not_booked(leader: Leader) -> None:
    made = await trade_by_hand(leader)
    [execution] = await until_entries(leader.sim, "execution", 1)
    root = execution["exec_id"].rpartition(".")[0]
    other = {"exec_id": f"{root}.00", "account": MANUAL, "con_id": 272093, "symbol": "MSFT", "quantity": "5"}
    leader.ledger.fill(None, **other, perm_id=made["perm_id"])
    assert "execution_contradicts" in await leader.rows()
    await leader.reconcile()
    assert "execution" in leader.breaks()
    assert "execution_contradicts_known" in await leader.rows()
    assert [p.symbol for p in leader.ledger.book.positions.values()] == ["MSFT"]


@row("bust", "bust_known")
@pytest.mark.rule(25)
async def test_execution_that_the_broker_took_back_is_a_break_and_stays_booked(leader: Leader) -> None:
    await trade_by_hand(leader)
    await leader.reconcile()
    [known] = leader.ledger.book.executions.values()
    leader.ledger.fill(
        None, exec_id="7777.01", account=MANUAL, con_id=known.con_id, quantity="2", perm_id=7, at="2126-01-01T00:00:00Z"
    )
    assert "bust" in await leader.rows()
    await leader.reconcile()
    assert "bust" in leader.breaks()
    assert "bust_known" in await leader.rows()
    assert len(leader.ledger.book.executions) == 2


@row("missing_executions", "missing_executions_known", "missing_executions_unproven")
@pytest.mark.guarantee(6)
async def test_fills_from_before_midnight_are_not_invented(leader: Leader) -> None:
    oid = await leader.working()
    leader.die()
    await leader.sim.call("POST", "/prices", {"AAPL": {"price": "99.00", "size": "4"}})
    await leader.sim.fault("midnight")
    await leader.sim.call("POST", "/prices", {"AAPL": {"price": "98.00", "size": "6"}})
    await leader.connect()
    await leader.sim.fault("no_end", request="executions")
    assert "missing_executions_unproven" in await leader.rows(0.4)
    await leader.sim.mend("no_end")
    assert "missing_executions" in await leader.rows()
    await leader.reconcile()
    assert (leader.order(oid).filled, "missing_executions" in leader.breaks()) == (6, True)
    assert "missing_executions_known" in await leader.rows()


# ---- positions


@row("external_position")
async def test_position_from_before_this_ledgers_time_is_named_and_freezes_nothing(leader: Leader) -> None:
    await trade_by_hand(leader)
    await leader.sim.fault("midnight")
    assert await leader.rows() == ["external_position"]
    await leader.reconcile()
    assert [(found.kind, found.holds) for found in leader.ledger.book.open_breaks.values()] == [
        ("external_position", False)
    ]


@row("position_differs", "position_known", "position_agrees_again", "position_unproven")
@pytest.mark.guarantee(5)
async def test_position_without_executions_holds_its_contract_until_the_figures_agree(leader: Leader) -> None:
    await leader.working()  # so that this ledger has traded
    await trade_by_hand(leader)
    await leader.sim.fault("midnight")
    await leader.sim.fault("no_end", request="executions")
    assert await leader.rows(0.4) == ["position_unproven"]
    await leader.sim.mend("no_end")
    assert await leader.rows() == ["position_differs"]
    await leader.reconcile()
    found = leader.the_break()
    assert (found.kind, found.ours["quantity"], found.broker["quantity"], found.holds) == ("position", "0", "5", True)
    assert await leader.rows() == ["position_known"]
    await trade_by_hand(leader, "SELL")
    await leader.sim.fault("midnight")
    assert await leader.rows() == ["position_agrees_again"]
    await leader.reconcile()
    assert leader.breaks() == []
