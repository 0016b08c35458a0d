"""`GET /account` and its metrics, with a real pair and the stand-in: the broker's own figures, or null, never a guess."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.account import FRESH
from tests.integration.api_calls import ORDERS, body, call, in_state
from tests.integration.pair_fixture import RunningPair, ask, running_pair, until


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair(ORDER_RATE="0", ORDER_RATE_PER_SYMBOL="0", RECONCILE_EVERY="300") as made:
        yield made


def account(url: str) -> dict[str, Any]:
    answer = ask(url, "GET", "/api/v1/account")
    assert answer.status == 200, answer.content
    [found] = answer.json["accounts"]
    return dict(found)


def questions(pair: RunningPair) -> int:
    entries = pair.control("GET", "/journal?after=0")["entries"]
    return sum(1 for e in entries if e.get("request") == "reqAccountSummary")


def test_leader_hands_on_what_the_broker_says_and_when_it_said_so(pair: RunningPair) -> None:
    before = account(pair.leader)
    assert set(before) == {
        "account", "net_liquidation", "cash", "buying_power", "maintenance_margin", "currency", "at",
    }  # fmt: skip
    assert before["currency"] == "USD"
    assert datetime.now(UTC) - datetime.fromisoformat(before["at"]) < timedelta(seconds=FRESH + 5)
    bought = call(pair.leader, "POST", ORDERS, body(order_type="MKT", limit_price=None), {})
    order = in_state(pair.leader, bought.json["id"], "FILLED")
    after = until(lambda: (now := account(pair.leader))["cash"] != before["cash"] and now, "the purchase in the cash")
    spent = Decimal(before["cash"]) - Decimal(after["cash"])
    assert abs(spent - Decimal(order["average_price"]) * 10) <= 2, "price and commission"
    assert after["at"] > before["at"]


def test_standby_has_no_session_and_names_the_leader(pair: RunningPair) -> None:
    answer = ask(pair.standby, "GET", "/api/v1/account")
    assert answer.status == 307
    assert answer.headers["location"] == f"{pair.leader}/api/v1/account?hop=1"
    assert ask(pair.standby, "GET", "/api/v1/account?hop=1").problem == "not-leader"


def test_many_who_ask_cost_the_broker_one_question(pair: RunningPair) -> None:
    until(lambda: account(pair.leader), "an answer")
    before = questions(pair)
    for _ in range(20):
        account(pair.leader)
    assert questions(pair) - before <= 1


def test_metrics_tell_the_figures_of_the_leader_only(pair: RunningPair) -> None:
    now = account(pair.leader)
    text = ask(pair.leader, "GET", "/metrics").content.decode()
    [line] = [one for one in text.splitlines() if one.startswith("adapter_net_liquidation{")]
    assert f'account="{now["account"]}"' in line
    assert Decimal(line.split()[-1]) == Decimal(account(pair.leader)["net_liquidation"])
    assert "adapter_net_liquidation{" not in ask(pair.standby, "GET", "/metrics").content.decode()


def test_what_the_broker_does_not_say_is_null_and_costs_a_bounded_time(pair: RunningPair) -> None:
    """The other replica takes over while the gateway answers no such question: it knows the account's name, and no figure."""
    pair.control("POST", "/faults/no_end", {"request": "account_summary"})
    try:
        old = pair.leader
        moved = ask(old, "POST", "/api/v1/cluster/switchover", {"force": True})
        assert moved.status == 202, moved.content
        until(lambda: pair.with_status("/leader") not in (None, old), "the other one leads")
        found = account(pair.leader)
        assert found["account"]
        assert {found[name] for name in ("net_liquidation", "cash", "buying_power", "maintenance_margin", "at")} == {
            None
        }
    finally:
        pair.control("DELETE", "/faults/no_end")
    until(lambda: account(pair.leader)["net_liquidation"] is not None, "the figures")
