"""R6 on a whole pair: a link to IB that is lost before anybody knows, and what the gateway keeps meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.pair_fixture import RunningPair, ask, running_pair, until

pytestmark = pytest.mark.timeout(120)
AGE = 3.0


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair(MAX_INTENT_AGE_LMT=str(AGE)) as running:
        yield running


@pytest.fixture(autouse=True)
def mended(pair: RunningPair) -> Iterator[None]:
    yield
    pair.control("DELETE", "/faults/link_down")


def place(pair: RunningPair, key: str, symbol: str = "IBM") -> str:
    body = {
        "client_order_id": key, "symbol": symbol, "side": "BUY", "quantity": "1", "order_type": "LMT", "limit_price": "1.00",
    }  # fmt: skip
    answer = ask(pair.leader, "POST", "/api/v1/orders", body)
    assert answer.status == 201, answer.content
    return str(answer.json["id"])


def order(pair: RunningPair, oid: str) -> dict[str, Any]:
    return dict(ask(pair.leader, "GET", f"/api/v1/orders/{oid}").json)


def health(url: str) -> dict[str, Any]:
    return dict(ask(url, "GET", "/health").json)


def kinds(pair: RunningPair, oid: str) -> list[str]:
    return [e["kind"] for e in pair.journal(oid) if e["kind"] in ("order", "cancelled")]


@pytest.mark.rule(6)
def test_what_the_gateway_kept_past_its_age_is_cancelled_before_the_gate_opens_and_nothing_else_is(
    pair: RunningPair,
) -> None:
    before = place(pair, "l-before")
    until(lambda: any(e["kind"] == "working" for e in pair.journal(before)), "an order that IB has")
    leader = pair.leader
    pair.control("POST", "/faults/link_down", {"notice_ms": 1500})
    kept = place(pair, "l-kept")
    placed = time.monotonic()
    until(lambda: order(pair, kept)["state"] == "WORKING", "the gateway takes it as if all were well")
    until(lambda: not health(leader)["gateway"]["link"], "1100 comes late")
    until(lambda: time.monotonic() - placed > AGE + 0.5, "its age is past")
    waits = ask(leader, "POST", "/api/v1/orders", {
        "client_order_id": "l-waits", "symbol": "AAPL", "side": "BUY", "quantity": "1", "order_type": "LMT", "limit_price": "1.00",
    }).json["id"]  # fmt: skip
    assert kinds(pair, kept) == ["order"]
    pair.control("DELETE", "/faults/link_down")
    until(lambda: order(pair, kept)["state"] == "CANCELLED", "it is cancelled")
    assert order(pair, kept)["cancel_requested"] is True
    until(lambda: order(pair, waits)["state"] == "WORKING", "the gate is open again")
    assert kinds(pair, kept) == ["order", "cancelled"]
    [cancelled] = [e["seq"] for e in pair.journal(kept) if e["kind"] == "cancelled"]
    [sent] = [e["seq"] for e in pair.journal(waits) if e["kind"] == "order"]
    assert cancelled < sent, "before the gate opened"
    assert order(pair, before)["state"] == "WORKING", "IB had it before: its age is no matter"


@pytest.mark.rule(6)
def test_what_the_gateway_kept_for_a_moment_goes_on(pair: RunningPair) -> None:
    leader = pair.leader
    pair.control("POST", "/faults/link_down", {"notice_ms": 200})
    kept = place(pair, "l-young")
    until(lambda: not health(leader)["gateway"]["link"], "1100")
    pair.control("DELETE", "/faults/link_down")
    until(lambda: ask(leader, "GET", "/readyz").status == 200, "the gate is open")
    assert (order(pair, kept)["state"], kinds(pair, kept)) == ("WORKING", ["order"])


@pytest.mark.rule(6)
def test_what_the_old_leaders_gateway_kept_and_sent_while_nobody_led_is_cancelled_by_the_next_leader(
    pair: RunningPair,
) -> None:
    """To the old leader it was WORKING, and IB had never said so: nobody was told that the link was lost."""
    pair.standby  # noqa: B018
    old = pair.leader
    before = place(pair, "l-confirmed", "MSFT")
    until(lambda: any(e["kind"] == "working" for e in pair.journal(before)), "an order that IB has")
    pair.control("POST", "/faults/link_down", {"notice_ms": 60_000})
    kept = place(pair, "l-nobody", "MSFT")
    placed = time.monotonic()
    until(lambda: order(pair, kept)["state"] == "WORKING", "the gateway takes it as if all were well")
    until(lambda: time.monotonic() - placed > AGE + 0.5, "its age is past")
    pair.run(pair.pair.kill(next(r.name for r in pair.pair.replicas if r.url == old), signal.SIGKILL))
    pair.control("DELETE", "/faults/link_down")
    until(lambda: any(e["kind"] == "working" for e in pair.journal(kept)), "IB gets it late")
    until(lambda: pair.with_status("/leader") not in (None, old), "the other one leads")
    until(lambda: order(pair, kept)["state"] == "CANCELLED", "it is cancelled")
    assert order(pair, kept)["cancel_requested"] is True
    assert order(pair, before)["state"] == "WORKING", "IB had it in time"


@pytest.mark.rule(6)
@pytest.mark.guarantee(6)
def test_while_the_link_is_lost_and_nobody_knows_nothing_is_called_absent(pair: RunningPair) -> None:
    pair.standby  # noqa: B018
    old = pair.leader
    pair.control("POST", "/faults/link_down", {"notice_ms": 60_000})
    pair.control("POST", "/faults/lose_orders", {"next": 1})
    lost = place(pair, "l-lost", "NVDA")
    until(lambda: "lose_orders" not in pair.control("GET", "/faults")["faults"], "the gateway has read it")
    pair.run(pair.pair.kill(next(r.name for r in pair.pair.replicas if r.url == old), signal.SIGKILL))
    until(lambda: pair.with_status("/leader") not in (None, old), "the other one leads")
    until(lambda: order(pair, lost)["state"] == "IN_DOUBT", "it is parked")
    found = [b for b in ask(pair.leader, "GET", "/api/v1/breaks").json["breaks"] if b["order_id"] == lost]
    assert [b["broker"]["snapshot"] for b in found] == ["incomplete snapshot: link"]
    refused = ask(pair.leader, "POST", f"/api/v1/breaks/{found[0]['id']}", {"resolution": "dead", "reason": "a test"})
    assert (refused.status, refused.problem) == (503, "no-snapshot")
    assert "link" in refused.json["detail"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(pair: RunningPair) -> None:
    leader = pair.leader
    answer = ask(leader, "POST", "/api/v1/cluster/reconcile", {"dry_run": True})
    assert (answer.status, answer.json["dry_run"]) == (200, True)
    by_hand = {"symbol": "GOOG", "side": "BUY", "quantity": "2", "order_type": "LMT", "limit_price": "1.00"}
    control = f"http://127.0.0.1:{pair.pair.ports.control}"
    perm_id = ask(control, "POST", "/orders", by_hand).json["perm_id"]
    seq = health(leader)["database"]["seq"]
    found = ask(leader, "POST", "/api/v1/cluster/reconcile", {"dry_run": True}).json
    [row] = [row for row in found["plan"] if row["row"] == "external"]
    assert (found["verdict"], row["verdict"], row["writes"]) == ("would write", "adopt", ["order_external"])
    assert row["broker"]["perm_id"] == str(perm_id)
    assert health(leader)["database"]["seq"] == seq, "nothing is written"
    done = ask(leader, "POST", "/api/v1/cluster/reconcile", {}).json
    assert (done["verdict"], done["repaired"], [r["row"] for r in done["plan"]]) == ("agreed", 1, ["external"])
    until(lambda: health(leader)["database"]["seq"] == seq + 2, "the order by hand, and who asked")
    standby = ask(pair.standby, "POST", "/api/v1/cluster/reconcile", {"dry_run": True})
    assert (standby.status, standby.problem) == (503, "not-leader")
    wrong = ask(leader, "POST", "/api/v1/cluster/reconcile", {"dry_run": "yes"})
    assert (wrong.status, wrong.fields) == (422, {"dry_run"})
