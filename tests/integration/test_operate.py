"""What operators ask of a real pair: hand over, pause, halt; and a database that went back in time."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.integration.pair_fixture import RunningPair, ask, running_pair, until

pytestmark = pytest.mark.timeout(120)
_keys = itertools.count(1)


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair() as running:
        yield running


def order(**fields: Any) -> dict[str, Any]:
    return {
        "client_order_id": f"op-{next(_keys)}", "symbol": "AAPL", "side": "BUY", "quantity": "1", "order_type": "LMT",
        "limit_price": "1.00", **fields,
    }  # fmt: skip


def placed(url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = ask(url, "POST", "/api/v1/orders", body)
    assert answer.status in (200, 201), answer.content
    return dict(answer.json)


def history(url: str) -> list[dict[str, Any]]:
    return list(ask(url, "GET", "/api/v1/history").json["history"])


def name_of(pair: RunningPair, url: str) -> str:
    return next(replica.name for replica in pair.pair.replicas if replica.url == url)


def test_a_switchover_hands_over_by_name_and_loses_nothing(pair: RunningPair) -> None:
    old, new = pair.leader, pair.standby
    before = placed(old, order())
    refused = ask(old, "POST", "/api/v1/cluster/switchover", {"to": "nobody"})
    assert (refused.status, refused.problem) == (412, "not-safe-now")
    again = ask(old, "POST", "/api/v1/cluster/switchover", {"to": name_of(pair, old)})
    assert (again.status, again.problem) == (409, "leads-already")
    answer = ask(
        old, "POST", "/api/v1/cluster/switchover", {"to": name_of(pair, new), "force": True, "reason": "a test"}
    )
    assert answer.status == 202
    until(lambda: pair.with_status("/leader") == new, "the other one leads")
    row = history(new)[0]
    assert (row["kind"], row["from"], row["to"], row["reason"]) == (
        "switchover", name_of(pair, old), name_of(pair, new), "a test",
    )  # fmt: skip
    assert row["detect_ms"] is None
    same = ask(pair.leader, "GET", f"/api/v1/orders/{before['id']}").json
    assert same["state"] == "WORKING"
    assert placed(pair.leader, order())["state"] in ("SENDING", "QUEUED", "WORKING")
    assert ask(old, "POST", "/api/v1/orders", order()).status == 307


def test_hand_overs_are_not_made_in_quick_succession(pair: RunningPair) -> None:
    answer = ask(pair.leader, "POST", "/api/v1/cluster/switchover", {})
    assert (answer.status, answer.problem) == (412, "not-safe-now")
    assert "apart" in answer.json["detail"]


@pytest.mark.rule(34)
def test_in_the_pause_only_the_last_terms_leader_may_lead_again(pair: RunningPair) -> None:
    leader, standby = pair.leader, pair.standby
    assert ask(standby, "POST", "/api/v1/cluster/pause", {"reason": "maintenance"}).status == 202
    for url in (leader, standby):
        until(lambda url=url: ask(url, "GET", "/health").json["paused"], "both know of the pause")  # type: ignore[misc]
    epoch = ask(leader, "GET", "/health").json["epoch"]
    pair.run(pair.pair.kill(name_of(pair, leader), signal.SIGKILL))
    until(lambda: pair.with_status("/leader") == leader, "the same replica, started again, leads", 40)
    rows = history(leader)
    assert [row["to"] for row in rows if row["epoch"] > epoch] == [name_of(pair, leader)]
    assert ask(leader, "POST", "/api/v1/cluster/resume").status == 202
    until(lambda: not ask(standby, "GET", "/health").json["paused"], "the pause is over")


@pytest.mark.rule(28)
@pytest.mark.guarantee(5)
def test_somebody_elses_trading_is_closed_by_an_adjustment_that_names_the_operator(pair: RunningPair) -> None:
    leader = pair.leader
    placed(leader, order())  # this ledger has traded here
    pair.control("POST", "/faults/unknown_zone", {})  # nobody can read its execution,
    by_hand = {"symbol": "NVDA", "side": "BUY", "quantity": "7"}
    assert ask(f"http://127.0.0.1:{pair.pair.ports.control}", "POST", "/orders", by_hand).status == 201
    pair.control("POST", "/faults/midnight")  # and then it is of yesterday
    pair.control("DELETE", "/faults/unknown_zone")
    ask(leader, "POST", "/api/v1/cluster/reconcile", {})
    found = until(lambda: position_break(leader), "the position differs")
    path = f"/api/v1/breaks/{found['id']}"
    assert ask(leader, "POST", path, {"resolution": "external_flow", "reason": "bought in TWS"}).status == 200
    assert ask(leader, "POST", "/api/v1/cluster/reconcile", {}).json["verdict"] == "agreed"
    assert position_break(leader) is None
    for url in (leader, pair.standby):
        until(lambda url=url: held(url, "NVDA") == "7", "both books have the broker's figure")  # type: ignore[misc]
    asked = ask(leader, "GET", "/api/v1/audit?kind=position_adjusted").json["audit"]
    assert [(row["by"], row["payload"]["quantity"], row["payload"]["reason"]) for row in asked] == [
        ("local", "7", "bought in TWS")
    ]


def position_break(url: str) -> dict[str, Any] | None:
    rows = ask(url, "GET", "/api/v1/breaks").json["breaks"]
    return next((b for b in rows if b["kind"] == "position" and b["symbol"] == "NVDA" and not b["resolved_at"]), None)


def held(url: str, symbol: str) -> str | None:
    rows = ask(url, "GET", "/api/v1/positions").json["positions"]
    return next((p["quantity"] for p in rows if p["symbol"] == symbol), None)


@pytest.mark.rule(29)
def test_a_halt_stops_new_orders_and_lets_cancels_pass(pair: RunningPair) -> None:
    leader = pair.leader
    resting = placed(leader, order())
    until(lambda: ask(leader, "GET", f"/api/v1/orders/{resting['id']}").json["state"] == "WORKING", "the order works")
    halted = ask(leader, "POST", "/api/v1/cluster/halt", {"reason": "a test"})
    assert halted.status == 202
    assert resting["id"] in halted.json["still_out"]
    refused = ask(leader, "POST", "/api/v1/orders", order())
    assert (refused.status, refused.problem) == (503, "halted")
    assert ask(leader, "DELETE", f"/api/v1/orders/{resting['id']}").status == 202
    until(lambda: ask(leader, "GET", f"/api/v1/orders/{resting['id']}").json["state"] == "CANCELLED", "it is cancelled")
    assert ask(leader, "POST", "/api/v1/cluster/unhalt").status == 202
    placed(leader, order())


def test_operators_bodies_are_checked(pair: RunningPair) -> None:
    leader = pair.leader
    for path, body in (
        ("switchover", {"tow": "b"}), ("switchover", {"to": 7}), ("switchover", {"force": "yes"}), ("switchover", []),
        ("pause", {"why": ""}), ("halt", "now"), ("halt", {"cancel_open": "yes"}), ("pause", {"reason": 7}),
        ("halt", b'{"reason": "stop \\ud83d now", "cancel_open": true}'), ("reconcile", {"reason": "x" * 501}),
    ):  # fmt: skip
        assert ask(leader, "POST", f"/api/v1/cluster/{path}", body).status == 422, (path, body)
    assert ask(leader, "POST", "/api/v1/cluster/pause", b"{").status == 400
    health = ask(leader, "GET", "/health").json
    assert (health["paused"], health["halted"]) == (False, False)


@pytest.mark.rule(18)
@pytest.mark.guarantee(9)
def test_a_database_that_lost_rows_holds_everything_until_an_operator_looks(pair: RunningPair) -> None:
    """What a restore or a failover to a lagging copy leaves: the last events and the epoch are gone. Nothing is sent twice."""
    leader = pair.leader
    last = placed(leader, order())
    until(lambda: ask(leader, "GET", f"/api/v1/orders/{last['id']}").json["state"] == "WORKING", "the order works")
    before = ask(leader, "GET", "/health").json
    go_back(str(pair.pair.info()["migrate_database_url"]), to_seq=last["seq"] - 1)
    until(
        lambda: (h := pair.with_status("/leader")) and ask(h, "GET", "/health").json["state"] == "HOLDING",
        "HOLDING",
        30,
    )
    holder = str(pair.with_status("/leader"))
    health = ask(holder, "GET", "/health").json
    assert health["epoch"] > before["epoch"]  # above what anybody has seen, not above what the database remembers
    refused = ask(holder, "POST", "/api/v1/orders", order())
    assert (refused.status, refused.problem) == (503, "held")
    assert len([e for e in pair.journal(last["id"]) if e["kind"] == "order"]) == 1
    [held] = [
        b
        for b in ask(holder, "GET", "/api/v1/breaks").json["breaks"]
        if b["kind"] == "everything" and not b["resolved_at"]
    ]
    assert (
        ask(holder, "POST", f"/api/v1/breaks/{held['id']}", {"resolution": "looked", "reason": "a test"}).status == 200
    )
    until(lambda: pair.leader, "orders flow again")
    restored = ask(pair.leader, "GET", f"/api/v1/orders/{last['id']}").json
    assert restored["state"] == "WORKING"  # R19: its row is restored from the broker's evidence
    repeat = ask(pair.leader, "POST", "/api/v1/orders", {**order(), "client_order_id": last["client_order_id"]})
    assert repeat.status == 200
    assert len([e for e in pair.journal(last["id"]) if e["kind"] == "order"]) == 1
    placed(pair.leader, order())


def go_back(owner_url: str, to_seq: int, *, epoch_too: bool = True) -> None:
    """As the owner: take the fence away, cut the log, turn the epoch back (unless told not to), and put the fence up again."""
    with psycopg.connect(owner_url) as owner:
        owner.execute("LOCK TABLE ledger.write_gate IN EXCLUSIVE MODE")
        owner.execute("ALTER TABLE ledger.event DISABLE TRIGGER USER")
        owner.execute("ALTER TABLE ledger.order_key DISABLE TRIGGER USER")
        owner.execute("ALTER TABLE ledger.term DISABLE TRIGGER USER")
        owner.execute("DELETE FROM ledger.order_key USING ledger.event e WHERE e.order_id = order_key.order_id AND e.seq > %s "
                      "AND e.event_type = 'order_accepted'", (to_seq,))  # fmt: skip
        owner.execute("DELETE FROM ledger.event WHERE seq > %s", (to_seq,))
        if epoch_too:
            owner.execute("DELETE FROM ledger.term WHERE epoch = (SELECT max(epoch) FROM ledger.term)")
            owner.execute("UPDATE ledger.epoch SET epoch = (SELECT max(epoch) FROM ledger.term)")
        owner.execute("ALTER TABLE ledger.event ENABLE TRIGGER USER")
        for table in ("event", "order_key", "term"):
            owner.execute(f"ALTER TABLE ledger.{table} ENABLE TRIGGER USER")  # type: ignore[call-overload]
            owner.execute(f"ALTER TABLE ledger.{table} ENABLE ALWAYS TRIGGER a_fence")  # type: ignore[call-overload]
        for name in ("in_place", "forever", "keys"):
            owner.execute(f"ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER {name}")  # type: ignore[call-overload]
