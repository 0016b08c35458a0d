"""Replicas that keep few ended orders in memory answer as if they kept all: one real pair, its database, the stand-in gateway."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.integration.api_calls import ORDERS, SECRET, bearer, body, call, in_state, one, quiet
from tests.integration.pair_fixture import RunningPair, ask, running_pair, until

KEEP = 3
FILLS, RESTS = 8, 2
EXECUTIONS = "/api/v1/executions"
pytestmark = pytest.mark.timeout(180)


class Desk:
    """A pair, what was sent to it, and the orders as they ended, in the order in which they did."""

    def __init__(self, pair: RunningPair) -> None:
        self.pair = pair
        self.sent: list[dict[str, object]] = []
        self.ended: list[dict[str, Any]] = []
        leader = pair.leader
        for n in range(FILLS):
            self.sent.append(body(symbol="AAPL", order_type="MKT", limit_price=None, quantity=str(n + 1)))
            made = call(leader, "POST", ORDERS, self.sent[-1]).json
            in_state(leader, made["id"], "FILLED")
            until(lambda: self._commission(made["id"]) is not None, "the commission")  # noqa: B023 - asked at once
            self.ended.append(one(leader, made["id"]))
        for _ in range(RESTS):
            self.sent.append(body(oca_group="old"))
            made = call(leader, "POST", ORDERS, self.sent[-1]).json
            in_state(leader, made["id"], "WORKING")
            call(leader, "DELETE", f"{ORDERS}/{made['id']}")
            self.ended.append(in_state(leader, made["id"], "CANCELLED"))
        quiet(leader)

    def _commission(self, oid: str) -> object:
        executions = call(self.pair.leader, "GET", f"{EXECUTIONS}?limit=1000").json["executions"]
        return next((e["commission"] for e in executions if e["order_id"] == oid), None)

    @property
    def first(self) -> dict[str, Any]:
        return self.ended[0]

    def events(self, kind: str) -> int:
        """How many events of this kind the log holds."""
        with psycopg.connect(self.pair.pair.info()["database_url"]) as connection:
            [count] = connection.execute(
                "SELECT count(*) FROM ledger.event WHERE event_type = %s", [kind]
            ).fetchone() or [0]
        return int(count)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    settings = {
        "API_SECRET_KEY": SECRET, "ORDERS_IN_MEMORY": str(KEEP), "RECONCILE_EVERY": "1", "ORDER_RATE": "0",
        "ORDER_RATE_PER_SYMBOL": "0",
    }  # fmt: skip
    with running_pair(**settings) as made:
        yield Desk(made)


def both(desk: Desk) -> list[str]:
    return [desk.pair.leader, desk.pair.standby]


def pages(url: str, path: str, name: str, limit: int) -> list[dict[str, Any]]:
    """Every row, a page at a time."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        answer = call(url, "GET", f"{path}{'&' if '?' in path else '?'}after={after}&limit={limit}")
        assert answer.status == 200, answer.content
        assert len(answer.json[name]) <= limit
        found += answer.json[name]
        after = answer.json["next"]
    return found


def test_an_order_that_left_memory_is_read_from_the_database_by_both_replicas(desk: Desk) -> None:
    for url in both(desk):
        for order in desk.ended:
            assert one(url, order["id"]) == order


@pytest.mark.rule(37)
def test_its_key_and_body_are_200_and_another_body_409_and_nothing_is_written(desk: Desk) -> None:
    before = quiet(desk.pair.leader)
    for sent, order in zip(desk.sent, desk.ended, strict=True):
        again = call(desk.pair.leader, "POST", ORDERS, sent)
        assert (again.status, again.json) == (200, order)
        other = call(desk.pair.leader, "POST", ORDERS, {**sent, "quantity": "99"})
        assert (other.status, other.json["type"]) == (409, "urn:adapter:key-reused")
    assert quiet(desk.pair.leader) == before
    assert len(desk.pair.journal(desk.first["id"])) == len(
        [e for e in desk.pair.journal(desk.first["id"]) if e["kind"] != "order"]
    ) + 1, "one order at the broker"  # fmt: skip


@pytest.mark.rule(37)
def test_a_repetition_is_200_whatever_would_refuse_it_as_a_new_order(desk: Desk) -> None:
    """A halt refuses before anything is committed: the key is looked up all the same."""
    leader = desk.pair.leader
    operator = bearer("operator")
    assert ask(leader, "POST", "/api/v1/cluster/halt", {"reason": "test"}, operator).status == 202
    try:
        until(lambda: call(leader, "POST", ORDERS, body()).status == 503, "the halt")
        assert call(leader, "POST", ORDERS, desk.sent[0]).status == 200
        assert call(leader, "POST", ORDERS, {**desk.sent[0], "quantity": "99"}).status == 409
    finally:
        assert ask(leader, "POST", "/api/v1/cluster/unhalt", {"reason": "test"}, operator).status in (200, 202)
    until(lambda: call(leader, "GET", "/readyz").status == 200, "the gate open again")


@pytest.mark.rule(36)
def test_a_standby_does_not_answer_a_repetition_that_its_memory_does_not_have(desk: Desk) -> None:
    answer = call(desk.pair.standby, "POST", ORDERS, desk.sent[0])
    assert answer.status == 307
    assert call(desk.pair.standby, "GET", f"{ORDERS}/{'A' * 16}").status in (307, 503)
    assert call(desk.pair.leader, "GET", f"{ORDERS}/{'A' * 16}").status == 404


def test_it_can_neither_be_cancelled_nor_changed(desk: Desk) -> None:
    path = f"{ORDERS}/{desk.first['id']}"
    cancel = call(desk.pair.leader, "DELETE", path)
    assert (cancel.status, cancel.json["type"]) == (409, "urn:adapter:order-final")
    change = call(desk.pair.leader, "PATCH", path, {"revision": 1, "quantity": "3"})
    assert (change.status, change.json["type"]) == (409, "urn:adapter:order-final")
    assert call(desk.pair.leader, "DELETE", f"{ORDERS}/{'A' * 16}").status == 404


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_lists_are_whole_on_both_replicas(desk: Desk, limit: int) -> None:
    known = [order["id"] for order in desk.ended]
    for url in both(desk):
        found = pages(url, ORDERS, "orders", limit)
        assert [order["id"] for order in found if order["id"] in known] == known
        assert [order for order in found if order["id"] in known] == desk.ended
        assert len({order["id"] for order in found}) == len(found)
        assert [order["seq"] for order in found] == sorted(order["seq"] for order in found)
        filled = pages(url, f"{ORDERS}?state=FILLED&symbol=AAPL", "orders", limit)
        assert [order["id"] for order in filled] == known[:FILLS]
        executions = pages(url, EXECUTIONS, "executions", limit)
        keys = {order["id"]: order["client_order_id"] for order in desk.ended}
        mine = [e for e in executions if e["order_id"] in keys]
        assert [e["order_id"] for e in mine] == known[:FILLS]
        assert all(e["client_order_id"] == keys[e["order_id"]] and e["commission"] is not None for e in mine)


@pytest.mark.rule(36)
def test_the_filter_for_a_key_finds_it(desk: Desk) -> None:
    for url in both(desk):
        found = call(url, "GET", f"{ORDERS}?client_order_id={desk.first['client_order_id']}").json
        assert found == {"orders": [desk.first], "next": None}
    assert call(desk.pair.standby, "GET", f"{ORDERS}?client_order_id=nobody").status in (307, 503)


def test_a_batch_with_an_old_key_takes_the_new_one(desk: Desk) -> None:
    new = body()
    answer = call(desk.pair.leader, "POST", f"{ORDERS}/batch", {"orders": [desk.sent[0], new]})
    assert answer.status == 201
    assert [order["client_order_id"] for order in answer.json["orders"]] == [
        desk.sent[0]["client_order_id"], new["client_order_id"]
    ]  # fmt: skip
    oid = answer.json["orders"][1]["id"]
    in_state(desk.pair.leader, oid, "WORKING")
    call(desk.pair.leader, "DELETE", f"{ORDERS}/{oid}")
    in_state(desk.pair.leader, oid, "CANCELLED")


@pytest.mark.guarantee(5)
def test_a_late_correction_is_booked_once_after_the_order_was_recalled(desk: Desk) -> None:
    """The order is read back, its execution replaced, the position moved by the difference; both replicas are equal after it."""
    leader, order = desk.pair.leader, desk.ended[4]
    [execution] = [e for e in pages(leader, EXECUTIONS, "executions", 1000) if e["order_id"] == order["id"]]
    recalled = desk.events("order_recalled")
    desk.pair.control("POST", "/faults/correction", {"exec_id": execution["exec_id"], "quantity": "4", "price": "100"})
    until(lambda: one(leader, order["id"])["filled"] == "4", "the correction", 20)
    assert desk.events("order_recalled") == recalled + 1
    total = sum(n + 1 for n in range(FILLS)) - 1
    [position] = [p for p in call(leader, "GET", "/api/v1/positions").json["positions"] if p["symbol"] == "AAPL"]
    assert position["quantity"] == str(total)
    booked = [e for e in pages(leader, EXECUTIONS, "executions", 1000) if e["order_id"] == order["id"]]
    assert [(e["quantity"], e["revision"]) for e in booked] == [("4", 2)]
    quiet(leader)
    same_digest(desk)
    desk.pair.control("POST", "/faults/correction", {"exec_id": booked[0]["exec_id"], "quantity": "5", "price": "100"})
    until(lambda: one(leader, order["id"])["filled"] == "5", "the correction of the correction", 20)
    assert one(leader, order["id"])["state"] == "FILLED"


def same_digest(desk: Desk) -> None:
    """G8, at the same event."""

    def told() -> bool:
        first, second = (ask(url, "GET", "/health").json for url in both(desk))
        if first["database"]["seq"] != second["tail"]["seq"]:
            return False
        assert first["tail"]["digest"] == second["tail"]["digest"]
        return True

    until(told, "both replicas at the same event")


@pytest.mark.guarantee(5)
@pytest.mark.rule(19)
def test_whole_looks_and_a_failover_neither_restore_nor_book_what_left_memory(desk: Desk) -> None:
    """A new leader's day begins with lists that bring everything again."""
    orders, executions = desk.events("order_accepted"), desk.events("execution")
    recalled = desk.events("order_recalled")
    leader = desk.pair.leader
    os.kill(ask(leader, "GET", "/health").json["pid"], signal.SIGKILL)
    until(lambda: desk.pair.leader != leader, "another leader", 30)
    same_digest(desk)
    for _ in range(2):
        quiet(desk.pair.leader)
    assert desk.events("order_restored") == desk.events("order_external") == 0
    assert (desk.events("order_accepted"), desk.events("execution")) == (orders, executions)
    assert desk.events("order_recalled") == recalled, "nothing was read back for a list"
    assert call(desk.pair.leader, "GET", "/api/v1/breaks").json["breaks"] == []
    for order in desk.ended[:4]:
        assert one(desk.pair.leader, order["id"]) == order
    again = call(desk.pair.leader, "POST", ORDERS, desk.sent[0])
    assert (again.status, again.json) == (200, desk.first)


@pytest.mark.rule(1)
@pytest.mark.guarantee(5)
def test_an_order_that_is_adopted_takes_over_executions_that_have_left_memory(desk: Desk) -> None:
    """A person placed it instead, its record ended and left; an operator finds out later."""
    pair, leader = desk.pair, desk.pair.leader
    control = f"http://127.0.0.1:{pair.pair.ports.control}"
    wanted = {"symbol": "GOOG", "side": "BUY", "quantity": "3", "order_type": "LMT", "limit_price": "1.00"}
    perm_id = ask(control, "POST", "/orders", wanted).json["perm_id"]

    def record() -> dict[str, Any]:
        rows = call(leader, "GET", f"{ORDERS}?symbol=GOOG").json["orders"]
        return next((o for o in rows if o["external"] and o["perm_id"] in (perm_id, None)), {})

    until(record, "the record of it", 20)
    pair.control("POST", "/prices", {"GOOG": "0.90"})
    external = until(lambda: (found := record()).get("state") == "FILLED" and found["id"], "its end", 20)
    pair.control("POST", "/prices", {"GOOG": "200.00"})
    pair.control("POST", "/faults/lose_orders", {"next": 1})
    lost = call(leader, "POST", ORDERS, body(**wanted)).json["id"]
    in_state(leader, lost, "IN_DOUBT")
    for _ in range(KEEP + 1):  # the record leaves
        made = call(leader, "POST", ORDERS, body(symbol="IBM", order_type="MKT", limit_price=None)).json
        in_state(leader, made["id"], "FILLED")
    recalled = desk.events("order_recalled")
    breaks = call(leader, "GET", "/api/v1/breaks").json["breaks"]
    [found] = [b["id"] for b in breaks if b["order_id"] == lost and b["resolved_at"] is None]
    word = {"resolution": "adopt", "perm_id": perm_id, "reason": "a test"}
    answer = call(leader, "POST", f"/api/v1/breaks/{found}", word, bearer("operator", "op"))
    assert answer.status == 200, answer.content
    assert desk.events("order_recalled") == recalled + 1
    assert (one(leader, lost)["state"], one(leader, lost)["filled"]) == ("FILLED", "3")
    assert (one(leader, external)["state"], one(leader, external)["filled"]) == ("CANCELLED", "0")
    rows = [e for e in pages(leader, EXECUTIONS, "executions", 1000) if e["perm_id"] == perm_id]
    assert {e["order_id"] for e in rows} == {lost}
    [position] = [p for p in call(leader, "GET", "/api/v1/positions").json["positions"] if p["symbol"] == "GOOG"]
    assert (position["quantity"], position["break_id"]) == ("3", None)
    quiet(leader)
    same_digest(desk)
