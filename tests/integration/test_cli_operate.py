"""What operators ask of a real pair by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from ha.cli import app
from tests.integration.pair_fixture import RunningPair, ask, running_pair, until

pytestmark = pytest.mark.timeout(120)
ORDER = {"symbol": "AAPL", "side": "BUY", "quantity": "1", "order_type": "LMT", "limit_price": "1.00"}


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair() as running:
        yield running


def call(pair: RunningPair, *arguments: str) -> Result:
    result = CliRunner().invoke(app, [*arguments, "--dir", str(pair.directory)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_hand_over_waits_until_the_other_one_leads_and_says_what_it_cost(
    pair: RunningPair, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = pair.leader, pair.standby
    refused = call(pair, "switchover", "--to", "nobody")
    assert refused.exit_code == 1
    assert "412: The other replica is" in refused.stderr
    result = call(pair, "switchover", "--force", "--reason", "a test", "--json")
    assert result.exit_code == 0, result.output
    done = json.loads(result.stdout)
    assert pair.with_status("/leader") == new
    assert done["history"]["kind"] == "switchover"
    assert done["history"]["reason"] == "a test"
    assert done["history"]["total_ms"] > 0
    assert 0 < done["silence_ms"] < 5000
    with capsys.disabled():
        print(f"\nhand-over: no gate was open for {done['silence_ms']:.0f} ms at most, phases {done['history']}")
    again = call(pair, "switchover")
    assert again.exit_code == 1
    assert "apart" in again.stderr
    assert pair.standby == old


def test_a_pause_is_seen_by_who_looks_until_it_is_over(pair: RunningPair) -> None:
    assert call(pair, "pause", "--reason", "new kernel").exit_code == 0
    until(lambda: "PAUSED by" in call(pair, "status").stdout, "the pause is shown")
    assert "new kernel" in call(pair, "status").stdout
    for url in pair.urls():
        until(lambda url=url: ask(url, "GET", "/health").json["paused"], "both know")  # type: ignore[misc]
    assert call(pair, "resume").exit_code == 0
    until(lambda: "PAUSED" not in call(pair, "status").stdout, "the pause is over")


@pytest.mark.rule(29)
def test_a_halt_stops_new_orders_and_cancels_the_open_ones_at_wish(pair: RunningPair) -> None:
    leader = pair.leader
    resting = ask(leader, "POST", "/api/v1/orders", ORDER | {"client_order_id": "halt-1"}).json["id"]
    until(lambda: ask(leader, "GET", f"/api/v1/orders/{resting}").json["state"] == "WORKING", "it works")
    result = call(pair, "halt", "--cancel-open", "--reason", "a test")
    assert result.exit_code == 0, result.output
    assert "has seen it" in result.stdout
    refused = ask(leader, "POST", "/api/v1/orders", ORDER | {"client_order_id": "halt-2"})
    assert (refused.status, refused.problem) == (503, "halted")
    until(lambda: ask(leader, "GET", f"/api/v1/orders/{resting}").json["state"] == "CANCELLED", "it is cancelled")
    assert "HALTED by" in call(pair, "status").stdout
    assert call(pair, "unhalt").exit_code == 0
    assert ask(leader, "POST", "/api/v1/orders", ORDER | {"client_order_id": "halt-3"}).status == 201


def test_a_break_that_is_not_there_is_said(pair: RunningPair) -> None:
    result = call(pair, "breaks", "resolve", "none", "dead", "--reason", "x")
    assert result.exit_code == 1
    assert "404: There is no open break none." in result.stderr
