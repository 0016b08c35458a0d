"""The version before and this one as a pair on one database, as during a rollout (R22).

The version before is built from the history; the stand-in gateway's journal is the judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from engine.events import LEVELS
from engine.migrate import migrate
from engine.schema import needed_version, newest_version
from tests.integration.etcd_fixture import Cluster, etcd_cluster
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import IDENTITY, Postgres, Urls
from tests.integration.replica_fixture import Replica, replica, settings_for
from tests.integration.sim_fixture import Sim, sim_process
from tests.integration.test_log_months import SECOND, close_month
from tests.integration.test_operate import order, placed
from tests.integration.test_single import ready

ROOT = Path(__file__).parents[2]
STEP = "engine/migrations/versions/000[3-9]_*"
"""The steps that the version before does not have."""


def git(*arguments: str) -> bytes:
    """What git says about this tree's history; without one the test is skipped, and says what to do."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=False, capture_output=True, timeout=60)
    if done.returncode != 0:
        pytest.skip(
            f"the version before is built from the history, and git {arguments[0]} says: {done.stderr.decode().strip()}"
        )
    return done.stdout


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the newest commit of ledger level 1: none of this pair's steps, and none of its kinds of events (R22)."""
    commit = git("log", "-SLEDGER_LEVEL = 2", "--format=%H", "--", "engine/events.py").decode().split()[-1:]
    if not commit or git("rev-parse", "--is-shallow-repository").strip() == b"true":
        pytest.skip(
            "the history does not say which commit raised the level to 2: fetch all of it (git fetch --unshallow)"
        )
    place = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(git("archive", f"{commit[0]}^"))) as tree:
        tree.extractall(place, filter="data")
    assert "LEDGER_LEVEL = 1" in (place / "engine" / "events.py").read_text()
    assert not list(place.glob(STEP))
    assert list(place.glob(STEP.replace("[3-9]", "2")))
    return place


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    async with sim_process() as running:
        yield running


@pytest.fixture
def etcd() -> Iterator[Cluster]:
    with etcd_cluster(1) as cluster:
        yield cluster


def test_the_old_tree_is_the_one_that_runs(old: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(old)}
    code = "import ha, engine, reconcile; print(ha.__file__, engine.__file__, reconcile.__file__)"
    said = subprocess.run([sys.executable, "-c", code], env=env, cwd="/", capture_output=True, text=True, check=True)
    assert all(path.startswith(f"{old}/") for path in said.stdout.split())


def migrate_with_the_old_one(old: Path, urls: Urls) -> None:
    env = {**os.environ, **settings_for(urls, 1), "MIGRATE_DATABASE_URL": urls.owner, "PYTHONPATH": str(old)}
    done = subprocess.run(
        [sys.executable, "-m", "ha", "migrate"],
        env=env,
        cwd=old,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(240)
@pytest.mark.rule(22)
@pytest.mark.guarantee(4)
async def test_the_version_before_and_this_one_take_turns_on_one_schema(
    postgres_server: Postgres, sim: Sim, etcd: Cluster, old: Path, tmp_path: Path
) -> None:
    urls = postgres_server.fresh(migrated=False)
    await asyncio.to_thread(migrate_with_the_old_one, old, urls)
    shared = {"ETCD_ENDPOINTS": ",".join(etcd.endpoints), "ONE_MACHINE": "true"}
    ways = {name: settings_for(urls, sim.port, name, **shared) for name in ("a", "b")}
    before = {"PYTHONPATH": str(old)}
    sent: list[str] = []

    def send(one: Replica) -> None:
        sent.append(str(placed(one.url, order())["id"]))
        found = f"/api/v1/orders/{sent[-1]}"
        until(lambda: ask(one.url, "GET", found).json["state"] == "WORKING", "the gateway has the order")

    def steps(running: contextlib.ExitStack) -> None:
        def start(name: str, version: Mapping[str, str] | None = None) -> Replica:
            return running.enter_context(replica(tmp_path / name, ways[name] | (version or {})))

        a = start("a", before)
        a.until_leads()
        b = start("b", before)
        until(lambda: ready(b), "two of the version before")
        send(a)
        assert migrate(urls.owner, urls.adapter, IDENTITY).version == needed_version()
        send(a)  # the leader goes on, on the new schema
        b.end()
        b = start("b")
        until(lambda: ready(b), "the new one stands by the old one")
        a.end(signal.SIGKILL)
        b.until_leads()
        send(b)
        a = start("a", before)
        until(lambda: ready(a), "the old one starts on the new schema, and stands by the new one")
        send(b)
        assert ask(b.url, "POST", "/api/v1/cluster/halt", {"reason": "a rollout"}).status == 202
        assert ask(b.url, "POST", "/api/v1/cluster/unhalt").status == 202
        send(b)
        assert kinds(urls) <= {kind for kind, level in LEVELS.items() if level == 1}
        assert ready(a)  # what the new one wrote, the old one has read
        b.end(signal.SIGKILL)
        a.until_leads()
        send(a)
        assert close_month(urls.owner, epoch(urls), SECOND) is not None
        send(a)  # into a part that it knows nothing of
        b = start("b")
        until(lambda: ready(b), "the new one again")
        a.end()
        b.until_leads()
        send(b)
        for oid in sent:
            assert ask(b.url, "GET", f"/api/v1/orders/{oid}").json["state"] == "WORKING"
        assert ask(b.url, "GET", "/health").json["breaks"] == 0
        assert migrate(urls.owner, urls.adapter, IDENTITY, post=True).version == newest_version()
        send(b)
        a = start("a", before)
        assert a.process.wait(40) == 1
        assert "newer than this version's 0002; install the newer version" in a.said()

    with contextlib.ExitStack() as running:
        await asyncio.to_thread(steps, running)
    taken = [entry["order_ref"].rsplit(".", 1)[1] for entry in await sim.journal("order")]
    assert sorted(taken) == sorted(sent)
    assert len(sent) == 9


def kinds(urls: Urls) -> set[str]:
    with psycopg.connect(urls.owner) as owner:
        return {kind for (kind,) in owner.execute("SELECT DISTINCT event_type FROM ledger.event").fetchall()}


def epoch(urls: Urls) -> int:
    with psycopg.connect(urls.owner) as owner:
        [[present]] = owner.execute("SELECT epoch FROM ledger.epoch").fetchall()
        return int(present)
