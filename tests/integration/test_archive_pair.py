"""`adapter archive` and `adapter rebuild` beside a running pair: what was archived is as good as there (R37)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ha.local.parts import migrate_spec
from tests.integration.pair_fixture import RunningPair, ask, running_pair, until
from tests.integration.test_log_months import SECOND, close_month, parts
from tests.integration.test_operate import order, placed

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def pair() -> Iterator[RunningPair]:
    with running_pair() as running:
        yield running


def adapter(pair: RunningPair, *arguments: str | Path) -> tuple[int, Any, str]:
    """Exit code, the JSON that was printed, and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "ha", *map(str, arguments), "--json"],
        env=migrate_spec(pair.pair._layout).env, capture_output=True, text=True, check=False, timeout=60, cwd=pair.directory,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.rule(37)
@pytest.mark.guarantee(4)
@pytest.mark.guarantee(8)
def test_a_retry_of_an_archived_key_is_answered_after_both_replicas_began_at_a_checkpoint(
    pair: RunningPair, tmp_path: Path
) -> None:
    owner = pair.pair._layout.urls.owner
    first, leader = order(), pair.leader
    oid = placed(leader, first)["id"]
    until(lambda: ask(leader, "GET", f"/api/v1/orders/{oid}").json["state"] == "WORKING", "the gateway has it")
    with psycopg.connect(owner) as connection:
        [[epoch]] = connection.execute("SELECT epoch FROM ledger.epoch").fetchall()
    assert close_month(owner, epoch, SECOND) is not None
    placed(leader, order())
    code, told, said = adapter(pair, "archive", "--before", "2097-02", "--to", tmp_path / "out", "--dry-run")
    assert (code, len(told["archived"])) == (0, 1), said
    code, told, said = adapter(pair, "archive", "--before", "2097-02", "--to", tmp_path / "out")
    assert (code, len(told["archived"])) == (0, 1), said
    [(_, begins, _)] = parts(owner)
    audit = ask(leader, "GET", "/api/v1/audit?kind=*&after=0&limit=1").json
    assert audit["log_begins"] == audit["audit"][0]["seq"] == begins > 1
    code, told, said = adapter(pair, "rebuild", "--verify")
    assert code == 1
    assert "--archive DIR" in said
    placed(pair.leader, order())

    for replica in pair.pair.replicas:
        os.kill(replica.pid, signal.SIGKILL)
    until(lambda: pair.with_status("/leader"), "one leads again", 40)
    leader = pair.leader
    assert pair.standby != leader  # it tails, and its digest is the leader's
    repeat = ask(leader, "POST", "/api/v1/orders", first)
    assert (repeat.status, repeat.json["id"], repeat.json["state"]) == (200, oid, "WORKING")
    assert ask(pair.standby, "POST", "/api/v1/orders", first).status == 200
    assert ask(leader, "POST", "/api/v1/orders", {**first, "quantity": "2"}).status == 409
    assert ask(leader, "GET", f"/api/v1/orders/{oid}").json["state"] == "WORKING"
    assert ask(leader, "DELETE", f"/api/v1/orders/{oid}").status == 202
    until(lambda: ask(leader, "GET", f"/api/v1/orders/{oid}").json["state"] == "CANCELLED", "it can be cancelled")
    assert len([e for e in pair.journal(oid) if e["kind"] == "order"]) == 1
    code, told, said = adapter(pair, "rebuild", "--verify", "--archive", tmp_path / "out")
    assert (code, told["differences"]) == (0, []), said
    code, told, said = adapter(pair, "rebuild", "--archive", tmp_path / "out")
    assert (code, told["rows"]["orders"]) == (0, 3), said
    code, told, said = adapter(pair, "rebuild", "--verify", "--archive", tmp_path / "out")
    assert (code, told["equal"]) == (0, True), told
    placed(pair.leader, order())


def test_a_wrong_month_is_a_wrong_usage_and_a_missing_owner_too(tmp_path: Path) -> None:
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    for arguments, word in (
        (["archive", "--before", "November"], "YYYY-MM"),
        (["rebuild", "--verify", "--checkpoint"], "name one"),
        (["archive"], "MIGRATE_DATABASE_URL is not set"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ha", *arguments],
            env=bare,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert word in done.stderr
