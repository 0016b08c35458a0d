"""The audit, against a real pair: each order and each command, by whom, when and from where, and found again by every filter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from typer.testing import CliRunner

from ha.cli import app
from tests.integration.api_calls import ORDERS, SECRET, bearer, body, call, in_state, quiet, seq
from tests.integration.pair_fixture import Answer, RunningPair, running_pair, until

OPERATOR = bearer("operator", "op1")
FIELDS = {
    "seq", "epoch", "at", "kind", "by", "from", "order_id", "client_order_id", "correlation_id", "event_id", "payload",
}  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair(API_SECRET_KEY=SECRET, ORDER_RATE="0", ORDER_RATE_PER_SYMBOL="0") as made:
        yield made


def asked(url: str, **filters: object) -> Answer:
    query = urlencode({name: value for name, value in filters.items() if value is not None})
    return call(url, "GET", f"/api/v1/audit?{query}", None, OPERATOR)


def rows(url: str, **filters: object) -> list[dict[str, Any]]:
    answer = asked(url, **filters)
    assert answer.status == 200, answer.content
    found = list(answer.json["audit"])
    assert all(set(row) == FIELDS for row in found)
    assert [row["seq"] for row in found] == sorted(row["seq"] for row in found)
    return found


def test_each_thing_that_was_asked_of_an_order_says_by_whom_and_from_where(pair: RunningPair) -> None:
    leader, sent = pair.leader, body()
    placed = call(leader, "POST", ORDERS, sent, bearer("trader", "s7") | {"X-Correlation-ID": "audit-place"})
    oid = placed.json["id"]
    in_state(leader, oid, "WORKING")
    change = {"revision": 1, "limit_price": "1.01"}
    changed = call(leader, "PATCH", f"{ORDERS}/{oid}", change, bearer("trader", "s8") | {"X-Correlation-ID": "audit-c"})
    assert changed.status == 202, changed.content
    until(lambda: call(leader, "GET", f"{ORDERS}/{oid}").json["limit_price"] == "1.01", "the change")
    cancelled = call(leader, "DELETE", f"{ORDERS}/{oid}", None, bearer("operator", "op2"))
    assert cancelled.status == 202
    in_state(leader, oid, "CANCELLED")
    for url in (leader, pair.standby):
        found = rows(url, order_id=oid)
        assert [(r["kind"], r["by"], r["from"]) for r in found] == [
            ("order_accepted", "s7", "127.0.0.1"), ("modify_licensed", "s8", "127.0.0.1"),
            ("cancel_requested", "op2", "127.0.0.1"),
        ]  # fmt: skip
        assert [r["correlation_id"] for r in found][:2] == ["audit-place", "audit-c"]
        assert {r["client_order_id"] for r in found} == {sent["client_order_id"]}
        assert rows(url, client_order_id=sent["client_order_id"]) == found
        assert rows(url, order_id=oid, subject="s8") == found[1:2]
        assert rows(url, order_id=oid, kind="order_accepted,cancel_requested") == [found[0], found[2]]
        everything = rows(url, order_id=oid, kind="*")
        assert {"order_working", "order_cancelled"} <= {r["kind"] for r in everything}
        assert rows(url, order_id=oid, since=found[1]["at"], until=found[2]["at"]) == found[1:2]


def test_every_command_is_noted_in_the_log_wherever_it_was_asked_for(pair: RunningPair) -> None:
    leader, standby = pair.leader, pair.standby
    before = seq(leader)
    for url, command in ((standby, "pause"), (leader, "resume"), (leader, "halt"), (standby, "unhalt")):
        given = {"reason": f"a test of {command}"}
        headers = OPERATOR | {"X-Correlation-ID": f"audit-{command}"}
        assert call(url, "POST", f"/api/v1/cluster/{command}", given, headers).status == 202
    found = until(
        lambda: (got := rows(leader, kind="operator_command", after=before)) and len(got) == 4 and got, "four commands"
    )
    assert [r["payload"]["command"] for r in found] == ["pause", "resume", "halt", "unhalt"]
    for row in found:
        command = row["payload"]["command"]
        assert (row["by"], row["from"], row["correlation_id"]) == ("op1", "127.0.0.1", f"audit-{command}")
        assert row["payload"]["reason"] == f"a test of {command}"
        assert row["payload"]["asked_at"] <= row["at"]
    quiet(leader)
    assert len(rows(leader, kind="operator_command", after=before)) == 4, "each is noted once"


def test_switchover_is_noted_once_whoever_leads_then(pair: RunningPair) -> None:
    leader, before = pair.leader, seq(pair.leader)
    given = {"reason": "a drill", "force": True}
    answer = call(leader, "POST", "/api/v1/cluster/switchover", given, OPERATOR)
    assert answer.status == 202, answer.content
    until(lambda: pair.leader != leader, "the other one leads")
    found = until(lambda: rows(pair.leader, kind="operator_command", after=before), "the command")
    quiet(pair.leader)
    assert rows(pair.standby, kind="operator_command", after=before) == found
    [row] = found
    assert (row["payload"]["command"], row["payload"]["reason"]) == ("switchover", "a drill")
    assert row["payload"]["details"] == {"to": None, "force": True}


def test_commands_lie_in_the_order_of_their_commits_and_the_adapter_cannot_change_them(pair: RunningPair) -> None:
    with psycopg.connect(pair.pair.info()["database_url"], autocommit=True) as db:
        ids = [i for (i,) in db.execute("SELECT id FROM ledger.command ORDER BY at").fetchall()]
        assert ids == list(range(1, len(ids) + 1))
        for statement in ("UPDATE ledger.command SET by = 'me'", "DELETE FROM ledger.command"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement)


def test_pages_and_the_newest(pair: RunningPair) -> None:
    everything = rows(pair.leader, kind="*", after=0, limit=1000)
    assert [r["seq"] for r in everything] == list(range(1, len(everything) + 1))
    first = asked(pair.leader, kind="*", after=0, limit=3).json
    assert ([r["seq"] for r in first["audit"]], first["next"]) == ([1, 2, 3], 3)
    assert [r["seq"] for r in rows(pair.leader, kind="*", after=first["next"], limit=2)] == [4, 5]
    newest = asked(pair.leader, kind="*", limit=2).json
    assert newest["next"] is None
    assert newest["audit"][0]["seq"] > 3
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert rows(pair.leader, since=later) == []


@pytest.mark.parametrize(
    ("filters", "field"),
    [({"since": "yesterday"}, "since"), ({"until": "2025-01-31T15:00:00"}, "until"), ({"limit": "0"}, "limit"),
     ({"after": "-1"}, "after"), ({"kind": "order"}, "kind"), ({"subject": "a\x00"}, "subject")],
)  # fmt: skip
def test_wrong_filter_is_named(pair: RunningPair, filters: dict[str, str], field: str) -> None:
    answer = asked(pair.leader, **filters)
    assert (answer.status, answer.problem, answer.fields) == (422, "invalid-order", {field})


def test_audit_is_for_operators(pair: RunningPair) -> None:
    for role in ("viewer", "trader"):
        assert call(pair.leader, "GET", "/api/v1/audit", None, bearer(role)).problem == "role"


def test_command_prints_the_same_as_a_table_and_as_json(pair: RunningPair) -> None:
    command = ["audit", "--kind", "operator_command", "--after", "0", "--token", OPERATOR["Authorization"].split()[1]]
    command += ["--dir", str(pair.directory)]
    as_json = CliRunner().invoke(app, [*command, "--json"])
    assert as_json.exit_code == 0, as_json.output
    assert json.loads(as_json.stdout)["audit"] == rows(pair.leader, kind="operator_command", after=0)
    table = CliRunner().invoke(app, command).stdout.splitlines()
    assert len(table) == len(json.loads(as_json.stdout)["audit"]) + 1
    assert any("op1" in line and "127.0.0.1" in line and "switchover (a drill)" in line for line in table)
    wrong = CliRunner().invoke(app, [*command, "--since", "yesterday"])
    assert wrong.exit_code == 1
    assert "422" in wrong.stderr
