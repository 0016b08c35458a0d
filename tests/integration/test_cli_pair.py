"""The command line against one real pair, and the starts that `adapter run` refuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from ha.cli import app
from tests.integration.pair_fixture import RunningPair, ask, running_pair, until
from tests.integration.pg_fixture import IDENTITY, Postgres, Urls

ORDERS = "/api/v1/orders"
BASE = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}


class Said:
    """How a command ended and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def adapter(*arguments: str, where: Path, env: dict[str, str] | None = None) -> Said:
    """Run the command in `where`, with nothing of this process's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "ha", *arguments], cwd=where, env={**BASE, **(env or {})}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair(ACK_TIMEOUT="1", ACK_DEADLINE="2") as made:
        yield made


@pytest.fixture(scope="module")
def filled(pair: RunningPair) -> dict[str, Any]:
    """One order that is filled and one that rests."""
    order = {"client_order_id": "cli-1", "symbol": "AAPL", "side": "BUY", "quantity": "7", "order_type": "MKT"}
    made = ask(pair.leader, "POST", ORDERS, order).json
    resting = {
        "client_order_id": "cli-2",
        "symbol": "IBM",
        "side": "BUY",
        "quantity": "3",
        "order_type": "LMT",
        "limit_price": "1",
    }
    assert ask(pair.leader, "POST", f"{ORDERS}?wait=working", resting).json["state"] == "WORKING"
    state = f"{ORDERS}/{made['id']}"
    until(lambda: ask(pair.leader, "GET", state).json["state"] == "FILLED", "a filled order")
    assert made["subject"] == "local", "without API_SECRET_KEY, on loopback, everybody is `local`"
    return dict(made)


def look(pair: RunningPair, *arguments: str) -> Said:
    """The same in this process, which is quicker."""
    return ask_here(*arguments, "--dir", str(pair.directory))


def ask_here(*arguments: str) -> Said:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def lines(said: Said) -> list[str]:
    return said.out.splitlines()


# ---- looking


def test_status_shows_both_replicas_and_is_fine(pair: RunningPair) -> None:
    leader = ask(pair.leader, "GET", "/health").json
    assert pair.standby
    said = adapter("status", "--dir", str(pair.directory), where=pair.directory)
    assert (said.code, said.err) == (0, "")
    assert lines(said)[0] == f"local, leader {leader['name']}, epoch {leader['epoch']}"
    assert {line.split()[0] for line in lines(said)[2:4]} == {"a", "b"}
    found = look(pair, "status", "--json")
    assert (found.code, found.json["fine"], found.json["faults"]) == (0, True, [])
    assert {r["health"]["role"] for r in found.json["replicas"]} == {"leader", "standby"}


def test_status_with_watch_looks_again(pair: RunningPair) -> None:
    said = look(pair, "status", "--watch", "--every", "0.1", "--times", "3")
    assert (said.code, sum(line.startswith("local, leader") for line in lines(said))) == (0, 3)


def test_orders_are_listed_and_filtered(pair: RunningPair, filled: dict[str, Any]) -> None:
    said = look(pair, "orders")
    assert (said.code, said.err) == (0, "")
    rows = {line.split()[1]: line for line in lines(said)[1:]}
    assert "FILLED" in rows["cli-1"]
    assert "WORKING" in rows["cli-2"]
    found = {
        arguments: [o["client_order_id"] for o in look(pair, "orders", "--json", *arguments).json["orders"]]
        for arguments in (
            ("--open",),
            ("--symbol", "AAPL"),
            ("--state", "filled"),
            ("--client-order-id", "cli-2"),
            ("--limit", "1"),
        )
    }
    assert list(found.values()) == [["cli-2"], ["cli-1"], ["cli-1"], ["cli-2"], ["cli-2"]]
    wrong = look(pair, "orders", "--state", "open")
    assert (wrong.code, "state" in wrong.err) == (1, True)


def test_positions_agree_with_the_broker(pair: RunningPair, filled: dict[str, Any]) -> None:
    said = look(pair, "positions")
    assert said.code == 0
    [row] = [line.split() for line in lines(said) if "AAPL" in line]
    assert row[1:4] == ["AAPL", "7", row[3]]
    [position] = look(pair, "positions", "--json").json["positions"]
    assert Decimal(position["quantity"]) == Decimal(position["broker_quantity"]) == 7


def test_history_has_the_start(pair: RunningPair) -> None:
    said = look(pair, "history")
    assert (said.code, said.err, "start: no leader was there" in lines(said)[-1]) == (0, "", True)
    rows = look(pair, "history", "--json").json["history"]
    assert (rows[-1]["epoch"], rows[-1]["kind"]) == (1, "start")


def test_breaks_are_none_and_then_one(pair: RunningPair, filled: dict[str, Any]) -> None:
    none = look(pair, "breaks")
    assert (none.code, len(lines(none))) == (0, 1), "the head of the table"
    pair.control("POST", "/faults/lose_orders", {"next": 1})
    order = {"client_order_id": "cli-3", "symbol": "TSLA", "side": "BUY", "quantity": "1", "order_type": "MKT"}
    made = ask(pair.leader, "POST", ORDERS, order).json
    until(lambda: ask(pair.leader, "GET", f"{ORDERS}/{made['id']}").json["state"] == "IN_DOUBT", "an order in doubt")
    said = look(pair, "breaks")
    assert said.code == 1, "there is one"
    assert made["id"] in lines(said)[1]
    [found] = look(pair, "breaks", "--json").json["breaks"]
    assert (found["kind"], found["order_id"], found["resolved_at"]) == ("in_doubt", made["id"], None)


def test_one_address_is_enough_and_none_is_not_fine(pair: RunningPair) -> None:
    said = ask_here("status", "--json", "--url", pair.standby)
    assert (said.code, len(said.json["replicas"])) == (0, 2)
    for command in ("status", "orders", "positions", "history", "breaks"):
        nobody = ask_here(command, "--url", "http://127.0.0.1:9")
        assert nobody.code == 1
        assert "nothing listens there" in nobody.out + nobody.err
    assert ask_here("orders", "--url", "127.0.0.1:9").code == 2


def test_half_a_pair_is_not_fine_and_still_answers(pair: RunningPair, filled: dict[str, Any]) -> None:
    standby = pair.standby
    name = next(r.name for r in pair.pair.replicas if r.url == standby)
    pair.pair.supervisor.restart.discard(name)
    pair.run(pair.pair.kill(name))
    said = look(pair, "status")
    assert said.code == 1
    assert any(line.startswith(f"{standby}: no answer") for line in lines(said))
    assert look(pair, "orders").code == 0


# ---- starts that are refused


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def settings(urls: Urls, **more: str) -> dict[str, str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    return {
        "REPLICA_NAME": "a", "CLUSTER_NAME": IDENTITY.cluster, "TWS_GATEWAY_ID": IDENTITY.gateway_id, "TWS_CLIENT_ID": "17",
        "DATABASE_URL": urls.adapter, "ETCD_ENDPOINTS": "127.0.0.1:9", "HTTP_PORT": str(port), **more,
    }  # fmt: skip


def refused(place: Path, env: dict[str, str], command: str = "run") -> list[str]:
    """The sentences with which the command ends, without what stands before each in the log."""
    said = adapter(command, where=place, env=env)
    assert said.code in (1, 2), said.err
    password = env.get("DATABASE_URL", "").partition("@")[0].rpartition(":")[2]
    assert not password or password not in said.out + said.err, "a secret is never printed"
    errors = [line for line in said.err.splitlines() if " ERROR " in line or said.code == 2 or command == "migrate"]
    errors = [line for line in errors if not line.startswith("warning: ")]
    return [line.partition(" ha.main: ")[2] or line for line in errors]


def test_wrong_settings_are_refused_with_one_sentence_each(place: Path) -> None:
    env = {
        "REPLICA_NAME": "a b",
        "HTTP_PORT": "70000",
        "LEASE_TTL": "two",
        "TWS_CLIENT_ID": "0",
        "STATE_FILE": "/x",
        "TWS_PROT": "1",
    }
    said = refused(place, {**env, "DATABASE_URL": "mysql://user:hunter2@host/db"})
    assert len(said) == len(env) + 2, said
    for name in (*env, "DATABASE_URL", "ETCD_ENDPOINTS"):
        assert sum(name in sentence.split(" ", 1)[0] for sentence in said) == 1, (name, said)
    assert any("did you mean TWS_PORT" in sentence for sentence in said)


def test_database_that_is_not_migrated_is_refused_with_the_command(place: Path, postgres_server: Postgres) -> None:
    said = refused(place, settings(postgres_server.fresh(migrated=False)))
    assert len(said) == 1
    assert "not migrated; run `adapter migrate`" in said[0]


def test_newer_database_is_refused_by_run_and_by_migrate(place: Path, urls: Urls) -> None:
    with psycopg.connect(urls.owner, autocommit=True) as db:
        db.execute("UPDATE ledger.alembic_version SET version_num = '9999'")
    for command in ("run", "migrate"):
        said = refused(place, settings(urls, MIGRATE_DATABASE_URL=urls.owner), command)
        assert len(said) == 1
        assert "schema 9999" in said[0]
        assert "newer than this version's" in said[0]


@pytest.mark.rule(10)
def test_role_that_owns_the_fence_is_refused(place: Path, urls: Urls) -> None:
    owner = Urls(urls.owner, urls.owner)
    [said] = refused(place, settings(owner))
    assert "owns the ledger" in said
    assert "MIGRATE_DATABASE_URL" in said
    [migrated] = refused(place, settings(owner, MIGRATE_DATABASE_URL=urls.owner), "migrate")
    assert "same role" in migrated


@pytest.mark.rule(14)
def test_replica_of_another_cluster_gateway_or_client_id_is_refused(place: Path, urls: Urls) -> None:
    said = refused(place, settings(urls, CLUSTER_NAME="other", TWS_CLIENT_ID="18", TWS_GATEWAY_ID="elsewhere"))
    assert [sentence.split(" ", 1)[0] for sentence in said] == ["CLUSTER_NAME", "TWS_CLIENT_ID", "TWS_GATEWAY_ID"]
    assert "set CLUSTER_NAME=test1 or use another database" in said[0]


def test_busy_port_is_named(place: Path, urls: Urls) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        port = holder.getsockname()[1]
        [said] = refused(place, settings(urls, HTTP_PORT=str(port)))
    assert said.startswith(f"Port {port} on 127.0.0.1 cannot be listened on")
    assert "HTTP_PORT" in said
