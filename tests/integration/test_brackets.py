"""Brackets and groups at a real pair and the real stand-in: whole, half-sent at every point, and over a failover."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.api_calls import ORDERS, body, call, in_state, one
from tests.integration.pair_fixture import RunningPair, ask, running_pair, until
from tests.integration.test_operate import name_of

pytestmark = pytest.mark.timeout(180)
FAST = {
    "ORDER_RATE": "0",
    "ORDER_RATE_PER_SYMBOL": "0",
    "ACK_TIMEOUT": "1",
    "ACK_DEADLINE": "2",
    "RECONCILE_EVERY": "5",
}


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair(**FAST) as made:
        yield made


def bracket(symbol: str, entry: str, profit: str, loss: str, quantity: str = "10") -> list[dict[str, object]]:
    """A parent that buys at `entry`, and its two exits."""
    parent = body(symbol=symbol, limit_price=entry, quantity=quantity)
    out = {"symbol": symbol, "side": "SELL", "quantity": quantity, "parent_client_order_id": parent["client_order_id"]}
    stop = {"order_type": "STP", "limit_price": None, "stop_price": loss}
    return [parent, body(**out, limit_price=profit), body(**out, **stop)]


def placed(leader: str, orders: list[dict[str, object]]) -> list[dict[str, Any]]:
    answer = call(leader, "POST", f"{ORDERS}/batch", {"orders": orders})
    assert answer.status == 201, answer.content
    return list(answer.json["orders"])


def kinds(pair: RunningPair, oid: str) -> list[str]:
    """What the gateway wrote of the order."""
    return [e["kind"] for e in pair.journal(oid)]


def position(pair: RunningPair, symbol: str) -> Decimal:
    rows = pair.control("GET", "/positions")["positions"]
    return sum((Decimal(r["quantity"]) for r in rows if r["symbol"] == symbol), Decimal(0))


def ours(leader: str, symbol: str) -> Decimal:
    rows = call(leader, "GET", "/api/v1/positions").json["positions"]
    return sum((Decimal(r["quantity"]) for r in rows if r["symbol"] == symbol), Decimal(0))


def open_breaks(leader: str, kind: str) -> list[dict[str, Any]]:
    rows = call(leader, "GET", "/api/v1/breaks").json["breaks"]
    return [b for b in rows if b["kind"] == kind and b["resolved_at"] is None]


def kill_leader(pair: RunningPair) -> None:
    pair.run(pair.pair.kill(name_of(pair, pair.leader), signal.SIGKILL))


# ---- whole


def test_bracket_goes_round(pair: RunningPair) -> None:
    leader = pair.leader
    parent, profit, loss = placed(leader, bracket("MSFT", "400.00", "420.00", "380.00"))
    assert (profit["parent_client_order_id"], parent["parent_client_order_id"]) == (parent["client_order_id"], None)
    rows = [in_state(leader, o["id"], "WORKING") for o in (parent, profit, loss)]
    first = rows[0]["broker_order_id"]
    assert [o["broker_order_id"] for o in rows] == [first, first + 1, first + 2]
    sent = [next(e for e in pair.journal(o["id"]) if e["kind"] == "order") for o in rows]
    assert [e["fields"].get("parentId") for e in sent] == [None, str(first), str(first)]
    assert [e.get("transmit", True) for e in sent] == [False, False, True]
    pair.control("POST", "/prices", {"MSFT": "425.00"})
    assert one(leader, profit["id"])["filled"] == "0", "a child waits for its parent"
    pair.control("POST", "/prices", {"MSFT": "399.00"})
    in_state(leader, parent["id"], "FILLED")
    until(lambda: kinds(pair, profit["id"])[-1] == "working", "the child is in the market")
    pair.control("POST", "/prices", {"MSFT": "421.00"})
    in_state(leader, profit["id"], "FILLED")
    in_state(leader, loss["id"], "CANCELLED")
    assert (position(pair, "MSFT"), ours(leader, "MSFT")) == (0, 0)
    assert not open_breaks(leader, "naked")


def test_exit_that_fills_in_part_leaves_the_other_one_so_much_smaller(pair: RunningPair) -> None:
    leader = pair.leader
    parent, profit, loss = placed(leader, bracket("NVDA", "100.00", "120.00", "80.00"))
    in_state(leader, loss["id"], "WORKING")
    pair.control("POST", "/prices", {"NVDA": "99.00"})
    in_state(leader, parent["id"], "FILLED")
    until(lambda: kinds(pair, profit["id"])[-1] == "working", "the child is in the market")
    pair.control("POST", "/prices", {"NVDA": {"price": "121.00", "size": "4"}})
    until(lambda: one(leader, loss["id"])["quantity"] == "6", "the stop covers what is left")
    assert one(leader, profit["id"])["filled"] == "4"
    pair.control("POST", "/prices", {"NVDA": "79.00"})
    in_state(leader, loss["id"], "FILLED")
    in_state(leader, profit["id"], "CANCELLED")
    assert (position(pair, "NVDA"), ours(leader, "NVDA")) == (0, 0)


def test_cancelled_parent_takes_its_children_along(pair: RunningPair) -> None:
    leader = pair.leader
    family = placed(leader, bracket("GOOG", "1.00", "900.00", "0.50"))
    for order in family:
        in_state(leader, order["id"], "WORKING")
    assert call(leader, "DELETE", f"{ORDERS}/{family[0]['id']}").status == 202
    for order in family:
        in_state(leader, order["id"], "CANCELLED")


def test_refused_parent_leaves_no_child_behind(pair: RunningPair) -> None:
    leader = pair.leader
    pair.control("POST", "/faults/reject", {"next": 1, "code": 201})
    family = placed(leader, bracket("AMZN", "1.00", "900.00", "0.50"))
    for order in family:
        in_state(leader, order["id"], "REJECTED")
    assert [kinds(pair, o["id"]) for o in family[1:]] == [[], []], "the gateway took none of them"


def test_refused_child_has_its_parent_cancelled(pair: RunningPair) -> None:
    leader = pair.leader
    parent, profit, _ = bracket("TSLA", "1.00", "900.00", "0.50")
    [top] = placed(leader, [parent])
    in_state(leader, top["id"], "WORKING")
    pair.control("POST", "/faults/reject", {"next": 1, "code": 201})
    [child] = placed(leader, [profit])
    in_state(leader, child["id"], "REJECTED")
    in_state(leader, top["id"], "CANCELLED")
    assert kinds(pair, top["id"]).count("cancel") == 1


@pytest.mark.parametrize("place", [1, 2])
def test_refused_member_of_a_batch_has_the_rest_of_its_family_cancelled(pair: RunningPair, place: int) -> None:
    leader = pair.leader
    pair.control("POST", "/faults/reject", {"next": 1, "code": 201, "skip": place})
    family = placed(leader, bracket("TSLA", "1.00", "900.00", "0.50"))
    in_state(leader, family[place]["id"], "REJECTED")
    for order in family[:place] + family[place + 1 :]:
        in_state(leader, order["id"], "CANCELLED")
    assert kinds(pair, family[0]["id"]).count("cancel") == 1
    assert ("working" in kinds(pair, family[0]["id"])) is (place == 1), "its last member transmits a family"


def test_lost_member_of_a_batch_has_the_rest_of_its_family_cancelled(pair: RunningPair) -> None:
    leader = pair.leader
    pair.control("POST", "/faults/lose_orders", {"next": 1, "skip": 2})
    family = placed(leader, bracket("TSLA", "900.00", "950.00", "0.50"))  # it would trade at once
    in_state(leader, family[2]["id"], "IN_DOUBT")
    for order in family[:2]:
        in_state(leader, order["id"], "CANCELLED")
        assert "working" not in kinds(pair, order["id"]), "it was in no market"
    [doubt] = open_breaks(pair.leader, "in_doubt")
    dead = call(pair.leader, "POST", f"/api/v1/breaks/{doubt['id']}", {"resolution": "dead", "reason": "lost"})
    assert dead.status == 200, dead.content
    assert not open_breaks(pair.leader, "naked")


def test_child_of_an_order_that_ended_is_409(pair: RunningPair) -> None:
    leader = pair.leader
    parent, profit, _ = bracket("IBM", "1.00", "900.00", "0.50")
    [top] = placed(leader, [parent])
    in_state(leader, top["id"], "WORKING")
    call(leader, "DELETE", f"{ORDERS}/{top['id']}")
    in_state(leader, top["id"], "CANCELLED")
    answer = call(leader, "POST", ORDERS, profit)
    assert (answer.status, answer.problem, answer.fields) == (409, "parent-not-open", {"parent_client_order_id"})
    behind = call(leader, "POST", f"{ORDERS}/batch", {"orders": bracket("IBM", "1.00", "9.00", "0.50")[::-1]})
    assert (behind.status, behind.fields) == (
        422,
        {"orders[0].parent_client_order_id", "orders[1].parent_client_order_id"},
    )


def test_lost_exit_of_a_parent_that_filled_is_a_break_that_names_the_position(pair: RunningPair) -> None:
    leader = pair.leader
    parent, profit, loss = bracket("SPY", "1.00", "900.00", "0.50")
    [top] = placed(leader, [parent])
    in_state(leader, top["id"], "WORKING")
    pair.control("POST", "/faults/lose_orders", {"next": 1})
    [child] = placed(leader, [loss])
    pair.control("POST", "/prices", {"SPY": "0.90"})
    in_state(leader, top["id"], "FILLED")
    in_state(leader, child["id"], "IN_DOUBT")
    [found] = until(lambda: open_breaks(pair.leader, "naked"), "the break")
    assert (found["order_id"], found["symbol"], found["ours"]["without_exit"]) == (top["id"], "SPY", "10")
    assert (found["ours"]["missing"], found["broker"]["position"]) == (child["client_order_id"], "10")
    assert call(pair.leader, "POST", ORDERS, profit | {"parent_client_order_id": None}).problem == "held"
    [doubt] = open_breaks(pair.leader, "in_doubt")
    dead = call(pair.leader, "POST", f"/api/v1/breaks/{doubt['id']}", {"resolution": "dead", "reason": "lost"})
    assert dead.status == 200, dead.content
    assert open_breaks(pair.leader, "naked"), "called dead, it is missing all the more"
    way_out = {"client_order_id": "out", "order_type": "MKT", "limit_price": None, "parent_client_order_id": None}
    assert call(pair.leader, "POST", ORDERS, profit | way_out | {"break_id": found["id"]}).status == 201
    until(lambda: position(pair, "SPY") == 0, "the position is closed by its owner")
    until(lambda: not open_breaks(pair.leader, "naked"), "nothing is left without an exit")


def test_exits_that_end_with_the_day_while_the_position_is_open_are_told_and_freeze_nothing(pair: RunningPair) -> None:
    leader = pair.leader
    orders = bracket("TSLA", "100.00", "900.00", "50.00")
    parent, profit, loss = placed(leader, orders)
    in_state(leader, loss["id"], "WORKING")
    pair.control("POST", "/prices", {"TSLA": "99.00"})
    in_state(leader, parent["id"], "FILLED")
    until(lambda: kinds(pair, loss["id"])[-1] == "working", "the stop is in the market")
    try:
        pair.control("POST", "/market", {"open": False})
        for order in (profit, loss):
            in_state(leader, order["id"], "CANCELLED")
        [found] = until(lambda: open_breaks(leader, "naked"), "the break")
    finally:
        pair.control("POST", "/market", {"open": True})
    assert (found["order_id"], found["ours"]["without_exit"], found["holds"]) == (parent["id"], "10", False)
    assert set(found["ours"]["missing"].split(", ")) == {profit["client_order_id"], loss["client_order_id"]}
    out = body(symbol="TSLA", side="SELL", quantity="10", order_type="MKT", limit_price=None)
    assert call(leader, "POST", ORDERS, out).status == 201, "nothing is held"
    until(lambda: not open_breaks(leader, "naked"), "nothing is left without an exit")
    assert (position(pair, "TSLA"), ours(leader, "TSLA")) == (0, 0)


# ---- the leader ends between the writes of a family


@pytest.mark.guarantee(4)
@pytest.mark.parametrize(
    ("written", "forgets"),
    [
        pytest.param(1, True, id="1-forgotten"),
        pytest.param(2, False, id="2-kept"),
        pytest.param(1, False, id="1-kept", marks=pytest.mark.slow),
        pytest.param(2, True, id="2-forgotten", marks=pytest.mark.slow),
    ],
)
def test_family_cut_off_by_a_kill_never_trades_and_is_cancelled_by_rule(written: int, forgets: bool) -> None:
    armed = {"FAILPOINTS": f"submit.before_write=kill@{written + 1}"}
    with running_pair(**FAST, **armed) as pair:
        if forgets:
            pair.control("POST", "/faults/forget_untransmitted", {})
        orders, old = bracket("IBM", "500.00", "900.00", "1.00"), pair.leader  # it would trade at once
        with pytest.raises(OSError):  # noqa: PT011 - the connection ends with the leader, in one of several ways
            call(old, "POST", f"{ORDERS}/batch", {"orders": orders})
        leader = until(lambda: pair.leader != old and pair.leader, "the other one leads")
        again = call(leader, "POST", f"{ORDERS}/batch", {"orders": orders})
        assert again.status == 200, again.content
        family = again.json["orders"]
        for place, order in enumerate(family):
            there = place < written and not forgets
            in_state(leader, order["id"], "CANCELLED" if there else "IN_DOUBT")
            assert kinds(pair, order["id"]).count("order") == (1 if place < written else 0), "nothing is sent twice"
        assert {b["order_id"] for b in open_breaks(leader, "in_doubt")} == {
            o["id"] for place, o in enumerate(family) if place >= written or forgets
        }
        events = [kind for order in family for kind in kinds(pair, order["id"])]
        assert "working" not in events, "the gateway kept it, it was in no market"
        assert position(pair, "IBM") == 0
        live = [
            o for o in pair.control("GET", "/orders")["orders"] if o["state"] not in ("Filled", "Cancelled", "Inactive")
        ]
        assert live == []


@pytest.mark.guarantee(4)
def test_family_that_was_written_whole_goes_on_under_the_next_leader() -> None:
    with running_pair(**FAST, FAILPOINTS="submit.after_write=kill@3") as pair:
        orders, old = bracket("IBM", "100.00", "300.00", "50.00"), pair.leader
        with pytest.raises(OSError):  # noqa: PT011
            call(old, "POST", f"{ORDERS}/batch", {"orders": orders})
        leader = until(lambda: pair.leader != old and pair.leader, "the other one leads")
        parent, profit, loss = call(leader, "POST", f"{ORDERS}/batch", {"orders": orders}).json["orders"]
        for order in (parent, profit, loss):
            in_state(leader, order["id"], "WORKING")
        pair.control("POST", "/prices", {"IBM": "99.00"})
        in_state(leader, parent["id"], "FILLED")
        until(lambda: kinds(pair, loss["id"])[-1] == "working", "the stop is in the market")
        kill_leader(pair)
        pair.control("POST", "/prices", {"IBM": "49.00"})  # nobody leads: the stop fills, and IB cancels the other exit
        leader = until(lambda: pair.with_status("/leader"), "a leader")
        in_state(leader, loss["id"], "FILLED")
        in_state(leader, profit["id"], "CANCELLED")
        assert (position(pair, "IBM"), ours(leader, "IBM")) == (0, 0)
        assert not open_breaks(leader, "naked")
        assert all(kinds(pair, o["id"]).count("order") == 1 for o in (parent, profit, loss))


def test_family_that_waited_behind_the_gate_is_sent_whole_by_the_next_leader(pair: RunningPair) -> None:
    pair.control("POST", "/faults/link_down", {})
    until(lambda: not ask(pair.urls()[0], "GET", "/health").json["gate"]["open"], "the gate is shut")
    until(lambda: pair.with_status("/leader"), "a leader")
    leader = pair.with_status("/leader")
    assert leader is not None
    until(lambda: not ask(leader, "GET", "/health").json["gate"]["open"], "its gate is shut")
    family = placed(leader, bracket("AAPL", "1.00", "900.00", "0.50"))
    assert {o["state"] for o in family} == {"QUEUED"}
    pair.run(pair.pair.kill(name_of(pair, leader), signal.SIGKILL))
    new = until(lambda: (found := pair.with_status("/leader")) not in (None, leader) and found, "the other one leads")
    pair.control("DELETE", "/faults/link_down")
    rows = [in_state(new, o["id"], "WORKING") for o in family]
    first = rows[0]["broker_order_id"]
    assert [o["broker_order_id"] for o in rows] == [first, first + 1, first + 2]
    sent = [next(e for e in pair.journal(o["id"]) if e["kind"] == "order") for o in rows]
    assert [(e["fields"].get("parentId"), e.get("transmit", True)) for e in sent] == [
        (None, False), (str(first), False), (str(first), True),
    ]  # fmt: skip


def test_group_of_which_one_fills_while_nobody_leads_is_cancelled_by_ib_and_the_next_leader_learns_it(
    pair: RunningPair,
) -> None:
    leader = pair.leader
    low, high = (
        placed(leader, [body(symbol="GOOG", oca_group="g", limit_price=price)])[0] for price in ("1.00", "2.00")
    )
    for order in (low, high):
        in_state(leader, order["id"], "WORKING")
    kill_leader(pair)
    pair.control("POST", "/prices", {"GOOG": "1.90"})
    new = until(lambda: pair.with_status("/leader"), "a leader")
    in_state(new, high["id"], "FILLED")
    assert in_state(new, low["id"], "CANCELLED")["oca_group"] == "g"
    entries = pair.control("GET", "/journal?after=0")["entries"]
    filled = next(e["seq"] for e in entries if e["kind"] == "execution" and e["order_ref"].endswith(high["id"]))
    opened = [e["seq"] for e in entries if e["kind"] == "session_open"]
    assert filled < opened[-1], "it filled while nobody was connected"
