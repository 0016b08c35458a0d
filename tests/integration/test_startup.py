"""How replicas start: together, alone, after a crash, and while something that they need is away."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from engine.migrate import MigrationError, migrate
from tests.integration.etcd_fixture import Cluster, etcd_cluster
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import IDENTITY, Urls
from tests.integration.replica_fixture import Replica, replica, settings_for
from tests.integration.sim_fixture import Sim, sim_process
from tests.integration.test_gateway_outage import Relay
from tests.integration.test_single import epoch_of, place, ready, roles, state_of

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    async with sim_process() as running:
        yield running


@pytest.fixture
def etcd() -> Iterator[Cluster]:
    with etcd_cluster(1) as cluster:
        yield cluster


@contextlib.contextmanager
def cut_relay(target: int) -> Iterator[Relay]:
    """A way to `target` that is cut until it is mended."""
    relay = Relay(target)
    relay.cut()
    try:
        yield relay
    finally:
        relay.close()


def paired(urls: Urls, gateway_port: int, etcd: Cluster, name: str, **more: str) -> dict[str, str]:
    shared = {"ETCD_ENDPOINTS": ",".join(etcd.endpoints), "ONE_MACHINE": "true"}
    return settings_for(urls, gateway_port, name, **(shared | more))


def state(one: Replica) -> str | None:
    """The replica's state, None before it answers."""
    answer = one.get("/health")
    return None if answer is None else str(answer.json["state"])


async def refusal(started: Replica) -> str:
    """What a replica said that did not start."""
    assert await asyncio.to_thread(started.process.wait, 40) == 1, started.said()
    assert "Traceback" not in started.said()
    return started.said()


async def test_of_two_that_start_at_once_one_leads_and_one_stands_by(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    with (
        replica(tmp_path / "a", paired(urls, sim.port, etcd, "a")) as a,
        replica(tmp_path / "b", paired(urls, sim.port, etcd, "b")) as b,
    ):
        leader, other = await asyncio.to_thread(roles, a, b)
        await asyncio.to_thread(leader.until_leads)
        await asyncio.to_thread(until, lambda: ready(other), "the other one stands by")
        assert (epoch_of(leader), state(other)) == (1, "STANDBY")


async def test_one_alone_leads_and_the_next_life_waits_for_the_lease_that_still_stands(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    with replica(tmp_path / "a", paired(urls, sim.port, etcd, "a", LEASE_TTL="6", WATCHDOG="5")) as a:
        await asyncio.to_thread(a.until_leads)
        a.end(signal.SIGKILL)  # and nobody gives its lease back
    with replica(tmp_path / "b", paired(urls, sim.port, etcd, "b")) as b:
        assert await asyncio.to_thread(until, lambda: state(b), "b answers", 40) == "STANDBY"
        await asyncio.to_thread(b.until_leads)
        assert epoch_of(b) == 2


@pytest.mark.rule(34)
async def test_a_replica_with_the_name_of_a_living_one_does_not_start(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    with replica(tmp_path / "a", paired(urls, sim.port, etcd, "a")) as first:
        await asyncio.to_thread(first.until_leads)
        await asyncio.to_thread(until, lambda: len(cluster_rows(first)) == 1, "it has joined")
        with replica(tmp_path / "other", paired(urls, sim.port, etcd, "a")) as second:
            said = await refusal(second)
        assert f"REPLICA_NAME=a is the name of a replica that runs at {first.url} (pid {first.process.pid})" in said
        assert (epoch_of(first), ask(first.url, "GET", "/leader").status) == (1, 200)
        first.end(signal.SIGKILL)
    with replica(tmp_path / "other", paired(urls, sim.port, etcd, "a")) as again:  # the name is free now
        await asyncio.to_thread(again.until_leads)


def cluster_rows(one: Replica) -> list[str]:
    return [str(row["name"]) for row in ask(one.url, "GET", "/api/v1/cluster").json["replicas"]]


async def test_two_replicas_that_advertise_one_address_are_told_so(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    with replica(tmp_path / "a", paired(urls, sim.port, etcd, "a")) as a:
        await asyncio.to_thread(a.until_leads)
        with replica(tmp_path / "b", paired(urls, sim.port, etcd, "b", ADVERTISE_URL=a.url)) as b:
            sentence = f"replica b advertises {a.url}, which is this replica's own address"
            await asyncio.to_thread(until, lambda: sentence in a.said(), "a says so", 40)
            assert b.process.poll() is None


async def test_a_replica_of_another_cluster_does_not_start(urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path) -> None:
    with replica(tmp_path / "a", paired(urls, sim.port, etcd, "a", CLUSTER_NAME="desk2")) as a:
        said = await refusal(a)
    assert "CLUSTER_NAME is 'desk2', this database was set up with" in said


@pytest.mark.rule(18)
async def test_a_database_failover_that_could_lose_orders_is_told_by_health(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    host = urlsplit(urls.adapter).netloc.rpartition("@")[2]
    way = urls.adapter.replace(host, f"{host},{host}")
    with replica(tmp_path / "a", paired(urls, sim.port, etcd, "a", DATABASE_URL=way)) as a:
        await asyncio.to_thread(a.until_leads)
        [warning] = ask(a.url, "GET", "/health").json["warnings"]
        assert warning.startswith("A database failover can lose orders")
        assert warning in a.said()


async def test_without_postgresql_a_replica_waits_and_says_so(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    port = urlsplit(urls.adapter).port
    assert port is not None
    with cut_relay(port) as relay:
        way = urls.adapter.replace(f":{port}/", f":{relay.port}/")
        assert way != urls.adapter
        with replica(tmp_path / "a", paired(urls, sim.port, etcd, "a", DATABASE_URL=way)) as a:
            await asyncio.to_thread(until, lambda: "waiting for PostgreSQL" in a.said(), "it says so", 40)
            assert ask(a.url, "GET", "/livez").status == 200
            assert ask(a.url, "GET", "/readyz").status == 503
            relay.mend()
            await asyncio.to_thread(a.until_leads)


async def test_without_etcd_a_replica_waits_and_says_so(urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path) -> None:
    etcd.members[0].kill()
    with replica(tmp_path / "a", paired(urls, sim.port, etcd, "a")) as a:
        await asyncio.to_thread(until, lambda: state(a) == "STANDBY", "it stands by", 40)
        found = until(lambda: ask(a.url, "GET", "/health").json, "health")
        assert found["etcd"]["reachable"] is False
        assert any("etcd does not answer" in reason for reason in found["reasons"])
        etcd.members[0].start()
        await asyncio.to_thread(a.until_leads)


async def test_without_its_gateway_a_leader_connects_on_and_keeps_what_it_accepted(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    with replica(tmp_path / "a", paired(urls, sim.port, etcd, "a")) as a:
        await asyncio.to_thread(a.until_leads)
        first = await asyncio.to_thread(place, a)
        a.end()
    with (
        cut_relay(sim.port) as relay,
        replica(tmp_path / "a", paired(urls, relay.port, etcd, "a")) as a,
    ):
        await asyncio.to_thread(until, lambda: state(a) == "CONNECTING", "it connects", 40)
        body = {k: v for k, v in first.items() if k != "id"} | {"client_order_id": "meanwhile"}
        accepted = ask(a.url, "POST", "/api/v1/orders", body)
        assert (accepted.status, accepted.json["state"]) == (201, "QUEUED")
        relay.mend()
        await asyncio.to_thread(a.until_leads)
        await asyncio.to_thread(until, lambda: state_of(a, accepted.json["id"]) == "WORKING", "it is sent")
    taken = [entry["order_ref"].rsplit(".", 1)[1] for entry in await sim.journal("order")]
    assert sorted(taken) == sorted([first["id"], accepted.json["id"]])


@pytest.mark.rule(33)
async def test_a_claim_that_cannot_be_made_gives_the_lease_back_and_is_tried_again_later(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    """Somebody's own transaction, which is no older leader's and is not ended, holds the gate of the log."""
    with (
        psycopg.connect(urls.owner) as other,
        replica(tmp_path / "a", paired(urls, sim.port, etcd, "a", CLAIM_DEADLINE="1")) as a,
    ):
        other.execute("LOCK TABLE ledger.write_gate IN ROW EXCLUSIVE MODE")
        gave_up = "the claim waited too long for transactions in flight"
        await asyncio.to_thread(until, lambda: a.said().count(gave_up) > 1, "two claims were given up", 60)
        assert "stepped down: tailing" in a.said()
        other.rollback()
        await asyncio.to_thread(a.until_leads)


def open_breaks(one: Replica) -> list[Any]:
    return [b for b in ask(one.url, "GET", "/api/v1/breaks").json["breaks"] if b["resolved_at"] is None]


@pytest.mark.rule(14)
async def test_another_gateway_is_taken_only_when_an_operator_confirms_that_the_old_one_is_off(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    moved = paired(urls, sim.port, etcd, "a", TWS_GATEWAY_ID="new gateway")
    identity = replace(IDENTITY, gateway_id="new gateway")
    with pytest.raises(MigrationError, match="switch the old gateway off, and run `adapter migrate --new-gateway`"):
        migrate(urls.owner, urls.adapter, identity)
    with replica(tmp_path / "a", moved) as a:
        assert "TWS_GATEWAY_ID is 'new gateway', this database was set up with" in await refusal(a)
    migrate(urls.owner, urls.adapter, identity, new_gateway=True)
    with replica(tmp_path / "a", moved) as a:
        await asyncio.to_thread(until, lambda: state(a) == "HOLDING", "it holds", 40)
        assert await sim.journal("session_open") == []  # it has not even dialled
        a.end(signal.SIGKILL)
    with replica(tmp_path / "a", moved) as a:  # the next leader asks too
        await asyncio.to_thread(until, lambda: state(a) == "HOLDING", "it holds", 40)
        [held] = await asyncio.to_thread(
            until, lambda: open_breaks(a), "its break, which the first leader may not have left"
        )
        assert held["broker"]["why"].endswith(f"confirm that {IDENTITY.gateway_id} is off")
        confirmed = ask(a.url, "POST", f"/api/v1/breaks/{held['id']}", {"resolution": "off", "reason": "unplugged"})
        assert confirmed.status == 200
        await asyncio.to_thread(a.until_leads)
        a.end()
    with replica(tmp_path / "a", moved) as a:  # and nobody asks again
        await asyncio.to_thread(a.until_leads)
