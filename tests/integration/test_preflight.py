"""A gateway is looked at with a spare clientId before it is accepted (R14): what it shows, what it does not, and its fence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.broker import Admitted, Broker, Outgoing
from engine.broker_ib import IbBroker
from engine.migrate import migrate
from ha.cli import app
from ha.preflight import Finding, Known, preflight
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import IDENTITY, Urls
from tests.integration.replica_fixture import replica, settings_for
from tests.integration.sim_fixture import Sim, running_sim, sim_process

pytestmark = pytest.mark.timeout(90)
OURS, SPARE = 17, 18


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    async with running_sim() as running:
        yield running


def dialler(sim: Sim, client_id: int = SPARE) -> Any:
    def dial() -> Broker:
        return IbBroker("127.0.0.1", sim.port, client_id, lambda _: None)

    return dial


async def look(sim: Sim, known: Known, **more: Any) -> dict[str, Finding]:
    found = await preflight(dialler(sim), known, **({"deadline": 1.0} | more))
    return {finding.what: finding for finding in found}


@pytest.fixture
async def known(sim: Sim) -> AsyncIterator[Known]:
    """The pair's session is up, with an order of ours."""
    broker = dialler(sim, OURS)()
    admitted = await broker.connect(2.0)
    assert isinstance(admitted, Admitted)
    broker.place(
        Outgoing(admitted.next_valid_id, "pa.ABCD.1.AAAAAAAAAAAAAAAA", admitted.accounts[0], "AAPL", "STK", "SMART", "USD", 0,
                 "BUY", Decimal(1), "LMT", Decimal(1), None, "DAY", {})
    )  # fmt: skip
    [perm_id] = {order.perm_id for order in await broker.open_orders(2.0)}
    yield Known(admitted.accounts, {perm_id: "s1-000001"})
    assert await broker.current_time(2.0), "the pair's own session lives"
    broker.abort()


@pytest.mark.rule(14)
async def test_a_gateway_that_is_ours_shows_it_and_its_fence_without_touching_the_pairs_session(
    sim: Sim, known: Known
) -> None:
    found = await look(sim, known)
    assert list(found) == ["session", "accounts", "link", "orders", "fence"]
    assert all(finding.fine for finding in found.values()), found
    sessions = [entry for entry in await sim.journal("session_refused") if entry["client_id"] == SPARE]
    assert len(sessions) >= 1, "the second one under the spare clientId was refused"


@pytest.mark.parametrize("what", ["accounts", "orders"])
async def test_another_gateway_is_told_by_the_account_or_the_orders_that_it_does_not_have(
    sim: Sim, known: Known, what: str
) -> None:
    other = replace(known, accounts=("DU999",)) if what == "accounts" else replace(known, orders={1: "lost-1"})
    found = await look(sim, other)
    assert [name for name, finding in found.items() if not finding.fine] == [what]
    assert ("DU999" if what == "accounts" else "lost-1 (permId 1)") in found[what].says


@pytest.mark.parametrize(
    ("fault", "parameters", "what"),
    [("link_down", {}, {"link"}), ("no_end", {"request": "open_orders"}, {"orders"}), ("mute", {}, {"session"})],
)
async def test_what_the_gateway_does_not_answer_is_not_proven(
    sim: Sim, known: Known, fault: str, parameters: dict[str, str], what: set[str]
) -> None:
    await sim.fault(fault, **parameters)
    found = await look(sim, known, deadline=0.5)
    await sim.mend(fault)
    assert {name for name, finding in found.items() if not finding.fine} == what


async def test_a_spare_clientid_that_somebody_has_is_named(sim: Sim, known: Known) -> None:
    other = dialler(sim)()
    assert isinstance(await other.connect(2.0), Admitted)
    found = await look(sim, known)
    assert (list(found), found["session"].fine) == (["session"], False)
    assert "TWS_SPARE_CLIENT_ID" in found["session"].says
    other.abort()


async def test_a_session_that_the_agent_does_not_end_is_no_fence(sim: Sim, known: Known) -> None:
    async def nobody(_: str) -> None:
        """An agent that does nothing."""

    found = await look(sim, known, drop=nobody, deadline=0.5)
    assert [name for name, finding in found.items() if not finding.fine] == ["fence"]
    assert "admits none" in found["fence"].says


def open_breaks(url: str) -> list[str]:
    return [b["id"] for b in ask(url, "GET", "/api/v1/breaks").json["breaks"] if b["resolved_at"] is None]


@pytest.mark.rule(14)
async def test_a_new_gateway_is_accepted_only_when_it_shows_our_orders_or_an_operator_insists(
    urls: Urls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sim_process() as old, sim_process() as new:
        before = settings_for(urls, old.port)
        with replica(tmp_path / "a", before, "--single") as a:
            await asyncio.to_thread(a.until_leads)
            order = {"client_order_id": "kept", "symbol": "IBM", "side": "BUY", "quantity": "1", "order_type": "LMT"}
            placed = ask(a.url, "POST", "/api/v1/orders", order | {"limit_price": "1.00"}).json["id"]
            await asyncio.to_thread(
                until, lambda: ask(a.url, "GET", f"/api/v1/orders/{placed}").json["state"] == "WORKING", "it is there"
            )
            a.end()
        moved = settings_for(urls, new.port, TWS_GATEWAY_ID="new gateway")
        migrate(urls.owner, urls.adapter, replace(IDENTITY, gateway_id="new gateway"), new_gateway=True)
        for name, value in moved.items():
            monkeypatch.setenv(name, value)
        told = await asyncio.to_thread(CliRunner().invoke, app, ["preflight"])
        assert told.exit_code == 1, told.output
        assert "NOT orders: It shows 0 of our 1 open orders, and not kept (permId" in told.stdout
        assert "ok  fence: It refuses a second session (326)" in told.stdout
        with replica(tmp_path / "a", moved, "--single") as a:
            await asyncio.to_thread(
                until,
                lambda: (told := a.get("/health")) is not None and told.json["state"] == "HOLDING",
                "it holds",
                40,
            )
            [held] = await asyncio.to_thread(until, lambda: open_breaks(a.url), "its break")
            word = {"resolution": "off", "reason": "a test"}
            refused = await asyncio.to_thread(ask, a.url, "POST", f"/api/v1/breaks/{held}", word)
            assert (refused.status, refused.problem) == (412, "gateway-not-proven")
            assert "not kept (permId" in refused.json["detail"]
            assert ask(a.url, "GET", "/health").json["state"] == "HOLDING"
            forced = await asyncio.to_thread(ask, a.url, "POST", f"/api/v1/breaks/{held}", word | {"force": True})
            assert forced.status == 200, forced.content
            await asyncio.to_thread(a.until_leads)
            a.end()
