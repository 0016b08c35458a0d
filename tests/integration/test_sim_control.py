"""The control port: the broker's truth, and mistakes that are answered with a sentence and harm nothing."""

import json

import aiohttp
import pytest
from ib_async import MarketOrder, Stock

from tests.integration.sim_fixture import running_sim, until_answer

ORDER = {"symbol": "AAPL", "side": "BUY", "quantity": "1", "limit_price": "100"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/orders", b"not JSON"),
        ("POST", "/orders", b"\xff\xfe"),
        ("POST", "/orders", b"[1]"),
        ("POST", "/orders", b"[" * 100_000),
        *(
            ("POST", "/orders", json.dumps({**ORDER, **wrong}).encode())
            for wrong in (
                {"symbol": "NOPE"},
                {"side": "HOLD"},
                {"quantity": "0"},
                {"quantity": "1e-999999999"},
                {"limit_price": "1e999999999"},
                {"limit_price": "0.001"},
                {"order_ref": "a\0b"},
                {"order_ref": "\ud800"},
                {"order_ref": "x" * 5000},
                {"client_id": "1"},
                {"order_id": 1.5},
                {"account": "DU0"},
                {"tif": "\n"},
            )
        ),
        ("POST", "/prices", b'{"NOPE": "1"}'),
        ("POST", "/prices", b'{"AAPL": "1e999999999"}'),
        ("POST", "/prices", b'{"AAPL": {"price": "1"}}'),
        ("POST", "/market", b'{"open": "yes"}'),
        ("POST", "/settings", b'{"time_form": "mine"}'),
        ("POST", "/settings", b'{"nope": []}'),
        ("POST", "/faults/nope", b"{}"),
        ("POST", "/faults/twin", b'{"of": "all"}'),
        ("POST", "/faults/pacing", b'{"limit": 0}'),
        ("DELETE", "/faults/nope", b""),
        ("GET", "/journal?after=-1", b""),
        ("GET", "/journal?after=x", b""),
    ],
)
async def test_a_mistake_is_400_with_a_sentence_and_changes_nothing(method: str, path: str, body: bytes):
    async with running_sim() as sim, aiohttp.ClientSession() as http:
        before = await sim.call("GET", "/prices")
        async with http.request(method, sim.control + path, data=body) as answer:
            assert answer.status == 400
            assert json.loads(await answer.text())["error"]
        assert await sim.call("GET", "/prices") == before
        assert (await sim.call("GET", "/orders"))["orders"] == []
        assert (await sim.call("GET", "/faults"))["faults"] == {}
        assert not await sim.journal("order")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("PUT", "/orders", 405)])
async def test_a_call_that_does_not_exist_is_told_so_in_json(method: str, path: str, status: int):
    async with running_sim() as sim:
        assert path in (await sim.call(method, path, status=status))["error"]


async def test_the_truth_has_the_fields_that_a_judge_needs():
    async with running_sim() as sim:
        placed = await sim.call("POST", "/orders", ORDER, status=201)
        await sim.call("POST", "/prices", {"AAPL": "99.50"})
        (order,) = (await sim.call("GET", "/orders"))["orders"]
        assert order["perm_id"] == placed["perm_id"]
        assert {"order_ref", "client_id", "order_id", "symbol", "side", "quantity", "filled", "state"} <= set(order)
        assert (order["filled"], order["state"]) == ("1", "Filled")
        (held,) = (await sim.call("GET", "/positions"))["positions"]
        assert (held["account"], held["symbol"], held["con_id"], held["quantity"]) == ("DU1234567", "AAPL", 265598, "1")
        assert held["average_cost"] == "100.495"
        await sim.client(5)
        (session,) = (await sim.call("GET", "/sessions"))["sessions"]
        assert {"session", "client_id", "peer", "since", "state"} <= set(session)
        journal = await sim.call("GET", "/journal")
        assert [entry["seq"] for entry in journal["entries"]] == list(range(1, journal["seq"] + 1))
        later = await sim.call("GET", f"/journal?after={journal['seq'] - 1}")
        assert later["entries"] == journal["entries"][-1:]
        assert await sim.journal(after=journal["seq"] + 10) == []


async def test_how_often_a_fault_took_effect_is_told_and_switching_it_on_is_no_effect() -> None:
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("drop_acks", next=2)
        await sim.fault("duplicate_callbacks")
        assert (await sim.call("GET", "/faults"))["struck"] == {}
        ib.placeOrder(Stock("AAPL", "SMART", "USD"), MarketOrder("BUY", 1))
        await until_answer(sim, "/faults", lambda answer: answer["struck"].get("drop_acks") == 1)
