"""The conformance run: equal to itself, different where the gateway differs, and never on a live account."""

import asyncio
import json
import sys
from pathlib import Path

from ibsim.conformance import compare, observe
from ibsim.lab import Plan
from tests.integration.sim_fixture import Sim, running_sim

PLAN = Plan("AAPL", "", 7101, patience=1.0, quiet=0.05, trade=True)


async def _run(*options: str | Path) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ibsim", "conformance", *map(str, options),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


async def test_run_against_the_stand_in_itself_it_reports_no_difference(tmp_path: Path):
    async with running_sim() as sim:
        record = tmp_path / "record.json"
        code, out, err = await _run(
            "--against", f"127.0.0.1:{sim.port}", "--patience", "1", "--quiet", "0.05", "--trade", "--record", record
        )
        assert (code, err) == (0, "")
        assert "0 differs, 0 not seen" in out
        recorded = json.loads(record.read_text())
        assert recorded["next_order_id"]["after"] > recorded["next_order_id"]["before"] == 1
        lines = recorded["compared"]
        assert len(lines) > 70
        told = {line["what"]: line["gateway"] for line in lines}
        assert told["place: callbacks"] == ["openOrder Submitted", "orderStatus Submitted"]
        assert told["second session: codes"] == ["326"]
        assert told["cancel by another client: codes"] == ["10147"]
        orders = (await sim.call("GET", "/orders"))["orders"]
        assert {order["state"] for order in orders} == {"Filled", "Cancelled"}
        assert (await sim.call("GET", "/positions"))["positions"] == []


async def test_what_a_gateway_does_differently_or_not_at_all_is_named():
    async with running_sim() as sim, running_sim(commission="before") as other:
        await other.fault("no_end", request="positions")
        ours, theirs = await asyncio.gather(_observed(sim), _observed(other))
        results = {line["what"]: line["result"] for line in compare(theirs, ours) if line["result"] != "equal"}
        assert results == {
            "reqPositions: positionEnd": "differs",
            "reqPositionsMulti: positionMultiEnd": "differs",
            "BUY: commission report after the execution": "differs",
            "SELL: commission report after the execution": "differs",
        }
        assert compare({}, {"x": True})[0]["result"] == "not seen"


async def _observed(sim: Sim):
    return (await observe("127.0.0.1", sim.port, PLAN)).observed


async def test_a_live_account_is_refused_before_anything_is_placed():
    async with running_sim(accounts=("DU1234567", "U7654321")) as sim:
        code, out, err = await _run("--against", f"127.0.0.1:{sim.port}", "--patience", "1", "--quiet", "0.05")
        assert (code, out) == (2, "")
        assert "U7654321" in err
        assert not await sim.journal("order")


async def test_a_live_port_and_a_gateway_that_is_not_there_are_refused():
    code, _, err = await _run("--against", "127.0.0.1:4001")
    assert (code, "4001" in err) == (2, True)
    async with running_sim() as sim:
        port = sim.port
    code, _, err = await _run("--against", f"127.0.0.1:{port}")
    assert (code, str(port) in err) == (2, True)


async def test_what_is_no_gateway_or_lets_nobody_in_is_refused_in_a_sentence():
    async with running_sim() as sim:
        control = sim.control.rpartition(":")[2]
        code, _, err = await _run("--against", f"127.0.0.1:{control}", "--patience", "0.5", "--quiet", "0.05")
        assert (code, "handshake" in err, len(err.splitlines())) == (2, True, 1)
        await sim.client(7101)
        code, _, err = await _run("--against", f"127.0.0.1:{sim.port}", "--patience", "0.5", "--quiet", "0.05")
        assert (code, "326" in err, len(err.splitlines())) == (2, True, 1)
