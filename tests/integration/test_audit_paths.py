"""Every path that writes, by the description that the replica gives of itself: the audit has who, what, when and from where."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from engine.events import LEDGER_LEVEL
from engine.migrate import migrate
from ha.cli import app
from tests.integration.api_calls import ORDERS, SECRET, bearer, body, call, in_state
from tests.integration.pair_fixture import Answer, RunningPair, running_pair, until
from tests.integration.pg_fixture import IDENTITY, Urls

CLUSTER = "/api/v1/cluster"
SETTINGS = {
    "API_SECRET_KEY": SECRET, "ORDER_RATE": "0", "ORDER_RATE_PER_SYMBOL": "0", "ACK_TIMEOUT": "1", "ACK_DEADLINE": "2",
}  # fmt: skip
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair(**SETTINGS) as made:
        yield made


class Asked:
    """One call of a writing path, as a person of its own under a correlation id of its own."""

    def __init__(self, pair: RunningPair, method: str, path: str, role: str) -> None:
        self.pair, self.method, self.path = pair, method, path
        self.who = f"p{len(method)}{sum(map(ord, path))}"
        self.headers = bearer(role, self.who) | {"X-Correlation-ID": f"audit-{self.who}"}

    def __call__(self, given: object = None, *, query: str = "", **parts: str) -> Answer:
        path = self.path.format(**parts) + query
        return call(self.pair.leader, self.method, path, given, self.headers)

    def working(self, **fields: object) -> dict[str, Any]:
        """An order of this person's that is at the broker."""
        placed = call(self.pair.leader, "POST", ORDERS, body(**fields), bearer("trader", self.who))
        return in_state(self.pair.leader, placed.json["id"], "WORKING")


def a_break(asked: Asked) -> Answer:
    """An order that the gateway lost: its break, and an operator's word on it."""
    asked.pair.control("POST", "/faults/lose_orders", {"next": 1})
    oid = call(asked.pair.leader, "POST", ORDERS, body(symbol="NVDA"), bearer("trader", "t")).json["id"]
    in_state(asked.pair.leader, oid, "IN_DOUBT")
    breaks = call(asked.pair.leader, "GET", "/api/v1/breaks", None, asked.headers).json["breaks"]
    [found] = [b["id"] for b in breaks if b["order_id"] == oid and b["resolved_at"] is None]
    return asked({"resolution": "dead", "reason": "a test"}, id=found)


def switched(asked: Asked) -> Answer:
    asked.pair.standby  # noqa: B018 - waits until somebody is there to lead
    leader = asked.pair.leader
    answer = asked({"reason": "a test", "force": True})
    until(lambda: asked.pair.with_status("/leader") not in (None, leader), "the other one leads")
    return answer


CALLS: dict[tuple[str, str], tuple[str, str, Callable[[Asked], Answer]]] = {
    ("POST", ORDERS): ("trader", "order_accepted", lambda asked: asked(body())),
    ("POST", f"{ORDERS}/batch"): ("trader", "order_accepted", lambda asked: asked({"orders": [body(), body()]})),
    ("PATCH", f"{ORDERS}/{{id}}"): (
        "trader", "modify_licensed",
        lambda asked: asked({"revision": 1, "limit_price": "1.01"}, id=asked.working()["id"]),
    ),
    ("DELETE", f"{ORDERS}/{{id}}"): ("trader", "cancel_requested", lambda asked: asked(id=asked.working()["id"])),
    ("DELETE", ORDERS): (
        "trader", "cancel_requested", lambda asked: asked(query=f"?symbol={asked.working(symbol='GOOG')['symbol']}"),
    ),
    ("POST", "/api/v1/breaks/{id}"): ("operator", "break_resolved", a_break),
    ("POST", f"{CLUSTER}/reconcile"): ("operator", "operator_command", lambda asked: asked({"reason": "a test"})),
    ("POST", f"{CLUSTER}/pause"): ("operator", "operator_command", lambda asked: asked({"reason": "a test"})),
    ("POST", f"{CLUSTER}/resume"): ("operator", "operator_command", lambda asked: asked({"reason": "a test"})),
    ("POST", f"{CLUSTER}/halt"): ("operator", "operator_command", lambda asked: asked({"reason": "a test"})),
    ("POST", f"{CLUSTER}/unhalt"): ("operator", "operator_command", lambda asked: asked({"reason": "a test"})),
    ("POST", f"{CLUSTER}/switchover"): ("operator", "operator_command", switched),
}  # fmt: skip
"""By method and path: the least role, the kind of its entry, and a call that is answered 2xx."""


def audit(pair: RunningPair, **filters: object) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return list(call(pair.leader, "GET", f"/api/v1/audit?{query}", None, bearer("operator")).json["audit"])


def test_every_path_of_the_description_that_writes_leaves_its_entry_in_the_audit(pair: RunningPair) -> None:
    paths = call(pair.leader, "GET", "/api/v1/openapi.json").json["paths"]
    reads = {"get", "head", "options", "parameters"}
    writing = {(method.upper(), path) for path, methods in paths.items() for method in methods if method not in reads}
    assert writing == CALLS.keys(), "a path that writes has no case here"
    for (method, path), (role, kind, ask_it) in CALLS.items():
        asked, began = Asked(pair, method, path, role), datetime.now(UTC)
        answer = ask_it(asked)
        assert 200 <= answer.status < 300, (method, path, answer.content)

        def entries(asked: Asked = asked) -> list[dict[str, Any]]:
            found = audit(pair, subject=asked.who, after=0, limit=1000)
            return [row for row in found if row["correlation_id"] == asked.headers["X-Correlation-ID"]]

        found = until(entries, f"an entry of {method} {path}")
        assert {row["kind"] for row in found} == {kind}, (method, path)
        assert {(row["by"], row["from"]) for row in found} == {(asked.who, "127.0.0.1")}
        for row in found:
            assert began - timedelta(seconds=1) < datetime.fromisoformat(row["at"]) < datetime.now(UTC)
            if kind == "operator_command":
                assert row["payload"]["command"] == path.rsplit("/", 1)[1]
            if role == "operator":
                assert row["payload"]["reason"] == "a test"


def test_a_dry_run_writes_nothing_and_has_no_entry(pair: RunningPair) -> None:
    headers = bearer("operator", "dry")
    assert call(pair.leader, "POST", f"{CLUSTER}/reconcile", {"dry_run": True}, headers).status == 200
    call(pair.leader, "POST", f"{CLUSTER}/pause", {"reason": "behind it"}, headers)
    call(pair.leader, "POST", f"{CLUSTER}/resume", {}, headers)
    found = until(lambda: (got := audit(pair, subject="dry")) and len(got) == 2 and got, "what was asked behind it")
    assert [row["payload"]["command"] for row in found] == ["pause", "resume"]


@pytest.mark.parametrize("command", ["pause", "resume", "halt", "unhalt", "reconcile", "switchover"])
def test_every_command_of_the_command_line_has_its_entry_with_its_reason(pair: RunningPair, command: str) -> None:
    pair.standby  # noqa: B018
    token = bearer("operator", f"cli-{command}")["Authorization"].split()[1]
    more = ["--force"] if command == "switchover" else []
    arguments = [command, *more, "--reason", f"why {command}", "--token", token, "--dir", str(pair.directory)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    [found] = until(lambda: audit(pair, subject=f"cli-{command}"), "the entry")
    assert (found["payload"]["command"], found["payload"]["reason"], found["from"]) == (
        command, f"why {command}", "127.0.0.1",
    )  # fmt: skip


# ---- what the owner of the database does beside the pair


def commands(urls: Urls) -> list[tuple[Any, ...]]:
    with psycopg.connect(urls.owner) as owner:
        return owner.execute("SELECT command, by, remote, details FROM ledger.command ORDER BY id").fetchall()


@pytest.mark.rule(22)
def test_a_migration_of_a_ledger_that_is_there_is_noted_when_it_changed_something(urls: Urls) -> None:
    assert commands(urls) == [], "a new database has nobody to tell"
    with psycopg.connect(urls.owner, autocommit=True) as owner:
        owner.execute("UPDATE ledger.identity SET ledger_level = 1")
    migrate(urls.owner, urls.adapter, IDENTITY)
    assert commands(urls) == [], "nothing was changed"
    for _ in range(2):
        migrate(urls.owner, urls.adapter, IDENTITY, raise_level=True)
    [(command, by, remote, details)] = commands(urls)
    assert (command, remote, details) == ("raise-level", socket.gethostname(), {"from": 1, "to": LEDGER_LEVEL})
    assert "adapter_owner" in by
    with psycopg.connect(urls.owner, autocommit=True) as owner:
        owner.execute("UPDATE ledger.identity SET gateway_id = 'another'")
    migrate(urls.owner, urls.adapter, IDENTITY, new_gateway=True)
    assert [row[0] for row in commands(urls)] == ["raise-level", "new-gateway"]
