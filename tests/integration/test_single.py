"""A replica without a pair: no etcd, the same fences; and the way from there to a pair and back, on one database."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.etcd_fixture import Cluster, etcd_cluster
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import Urls
from tests.integration.replica_fixture import Replica, replica, settings_for
from tests.integration.sim_fixture import Sim, sim_process
from tests.integration.test_operate import go_back

pytestmark = pytest.mark.timeout(180)
_keys = itertools.count(1)


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    async with sim_process() as running:
        yield running


@pytest.fixture(scope="module")
def etcd() -> Iterator[Cluster]:
    with etcd_cluster(1) as cluster:
        yield cluster


def place(running: Replica) -> dict[str, Any]:
    """One resting order, accepted and working."""
    order = {
        "client_order_id": f"single-{next(_keys)}", "symbol": "AAPL", "side": "BUY", "quantity": "1",
        "order_type": "LMT", "limit_price": "1.00",
    }  # fmt: skip
    answer = ask(running.url, "POST", "/api/v1/orders", order)
    assert answer.status == 201, answer.content
    until(lambda: state_of(running, answer.json["id"]) == "WORKING", "the order works")
    return order | {"id": answer.json["id"]}


def state_of(running: Replica, order_id: str) -> str:
    return str(ask(running.url, "GET", f"/api/v1/orders/{order_id}").json["state"])


def epoch_of(running: Replica) -> int:
    return int(ask(running.url, "GET", "/health").json["epoch"])


async def check_broker(sim: Sim, orders: list[dict[str, Any]]) -> None:
    """Each order reached the broker, once."""
    taken = [entry["order_ref"].rsplit(".", 1)[1] for entry in await sim.journal("order")]
    assert sorted(taken) == sorted(order["id"] for order in orders)


async def test_from_single_to_a_pair_and_back_epochs_rise_and_nothing_is_lost(
    urls: Urls, sim: Sim, etcd: Cluster, tmp_path: Path
) -> None:
    orders: list[dict[str, Any]] = []
    epochs: list[int] = []

    def work(running: Replica) -> None:
        running.until_leads()
        epochs.append(epoch_of(running))
        for order in orders:  # every one from before, by its key and by its state
            again = ask(running.url, "POST", "/api/v1/orders", {k: v for k, v in order.items() if k != "id"})
            assert (again.status, again.json["id"]) == (200, order["id"])
            assert state_of(running, order["id"]) == "WORKING"
        orders.append(place(running))
        assert ask(running.url, "GET", "/api/v1/breaks").json["breaks"] == []

    single = settings_for(urls, sim.port)
    paired = {"ETCD_ENDPOINTS": ",".join(etcd.endpoints), "ONE_MACHINE": "true"}
    with replica(tmp_path / "a", single, "--single") as alone:
        await asyncio.to_thread(work, alone)
        health = ask(alone.url, "GET", "/health").json
        assert (health["single"], health["etcd"]) == (True, {"reachable": True, "members": 0})
        alone.end()
    with contextlib.ExitStack() as stack:
        a = stack.enter_context(replica(tmp_path / "a", single | paired))
        b = stack.enter_context(replica(tmp_path / "b", settings_for(urls, sim.port, "b", **paired)))
        leader, other = await asyncio.to_thread(roles, a, b)
        await asyncio.to_thread(work, leader)
        assert ask(leader.url, "GET", "/health").json["single"] is False
        await asyncio.to_thread(until, lambda: ready(other), "the standby tails")
        leader.end(signal.SIGKILL)
        await asyncio.to_thread(work, other)
        other.end()
    with replica(tmp_path / "a", single, "--single") as alone:
        await asyncio.to_thread(work, alone)
        alone.end(signal.SIGKILL)
    with replica(tmp_path / "a", single, "--single") as alone:
        await asyncio.to_thread(work, alone)
        history = ask(alone.url, "GET", "/api/v1/history").json["history"]
        assert [row["epoch"] for row in history] == sorted({row["epoch"] for row in history}, reverse=True)
    assert epochs == sorted(set(epochs))
    await check_broker(sim, orders)


def roles(a: Replica, b: Replica) -> tuple[Replica, Replica]:
    """The leader and the other one."""

    def leads(one: Replica) -> bool:
        answer = one.get("/leader")
        return answer is not None and answer.status == 200

    until(lambda: leads(a) or leads(b), "one of the two leads", 40)
    return (a, b) if leads(a) else (b, a)


def ready(one: Replica) -> bool:
    answer = one.get("/readyz")
    return answer is not None and answer.status == 200


async def test_a_second_one_on_the_same_directory_is_refused_and_the_first_goes_on(
    urls: Urls, sim: Sim, tmp_path: Path
) -> None:
    settings = settings_for(urls, sim.port)
    with replica(tmp_path / "a", settings, "--single") as first:
        await asyncio.to_thread(first.until_leads)
        with replica(tmp_path / "a", settings_for(urls, sim.port), "--single") as second:
            assert await asyncio.to_thread(second.process.wait, 40) == 1
            assert f"in use by another `adapter run --single` (pid {first.process.pid})" in second.said()
            assert "Traceback" not in second.said()
        assert ask(first.url, "GET", "/leader").status == 200
        assert epoch_of(first) == 1


@pytest.mark.rule(32)
async def test_a_single_one_started_beside_a_living_leader_does_not_claim_from_it(
    urls: Urls, sim: Sim, tmp_path: Path
) -> None:
    """By mistake, from another directory or another host: the database says that somebody proves its epoch."""
    with replica(tmp_path / "a", settings_for(urls, sim.port), "--single") as first:
        await asyncio.to_thread(first.until_leads)
        with replica(tmp_path / "b", settings_for(urls, sim.port, "b"), "--single") as second:
            await asyncio.to_thread(until, lambda: "(R32)" in second.said(), "it says why it does not lead", 40)
            assert ask(second.url, "GET", "/leader").status == 503
            assert ask(first.url, "GET", "/leader").status == 200
            assert epoch_of(first) == 1
            first.end(signal.SIGKILL)
            await asyncio.to_thread(second.until_leads)
            assert epoch_of(second) > 1


async def test_near_the_gateways_own_restart_new_orders_wait_and_cancels_pass(
    urls: Urls, sim: Sim, tmp_path: Path
) -> None:
    settings = settings_for(urls, sim.port)
    soon = datetime.now(UTC) + timedelta(minutes=3)
    calendar = {"GATEWAY_RESTART": f"{soon:%H:%M}", "GATEWAY_TIME_ZONE": "UTC", "GATEWAY_SHUT_BEFORE": "600"}
    with replica(tmp_path, settings, "--single") as running:
        await asyncio.to_thread(running.until_leads)
        resting = await asyncio.to_thread(place, running)
        assert ask(running.url, "GET", "/health").json["gateway"]["next_restart_at"] is None
        running.end()
    with replica(tmp_path, settings | calendar, "--single") as running:
        await asyncio.to_thread(until, lambda: running.get("/leader") and running._is("/leader"), "it leads", 30)
        until(lambda: not ask(running.url, "GET", "/health").json["gate"]["open"], "the gate is shut")
        health = ask(running.url, "GET", "/health").json
        assert health["gateway"]["next_restart_at"] == soon.strftime("%Y-%m-%dT%H:%M:00.000000Z")
        until(
            lambda: health["gateway"]["next_restart_at"][:16] in " ".join(gate_reasons(running)),
            "it says why it is shut",
        )
        waiting = ask(running.url, "POST", "/api/v1/orders", {
            "client_order_id": "waits", "symbol": "AAPL", "side": "BUY", "quantity": "1", "order_type": "LMT",
            "limit_price": "1.00",
        })  # fmt: skip
        assert (waiting.status, waiting.json["state"]) == (201, "QUEUED")
        assert ask(running.url, "DELETE", f"/api/v1/orders/{resting['id']}").status == 202
        until(lambda: state_of(running, resting["id"]) == "CANCELLED", "the cancel passed")
        assert state_of(running, waiting.json["id"]) == "QUEUED"
        refused = ask(running.url, "GET", "/readyz")
        assert refused.status == 503
        assert "by its own calendar" in refused.json["reasons"][0]


def gate_reasons(running: Replica) -> list[str]:
    return list(ask(running.url, "GET", "/health").json["gate"]["reasons"])


@pytest.mark.rule(18)
@pytest.mark.guarantee(1)
async def test_an_epoch_whose_claim_the_database_lost_is_never_given_again(
    urls: Urls, sim: Sim, tmp_path: Path
) -> None:
    """Its holder may be frozen and come back, whatever became of the commit by which it claimed."""
    settings = settings_for(urls, sim.port)
    with replica(tmp_path / "a", settings, "--single") as first:
        await asyncio.to_thread(first.until_leads)
        first.end()
    with replica(tmp_path / "a", settings | {"FAILPOINTS": "takeover.claimed=kill"}, "--single") as second:
        assert await asyncio.to_thread(second.process.wait, 40) == -signal.SIGKILL
    go_back(urls.owner, to_seq=10**9)  # the claim of epoch 2 and nothing else
    with replica(tmp_path / "a", settings, "--single") as third:
        await asyncio.to_thread(third.until_leads)
        assert epoch_of(third) == 3


@pytest.mark.rule(18)
@pytest.mark.guarantee(9)
async def test_a_hold_of_everything_outlives_the_leader_that_opened_it(urls: Urls, sim: Sim, tmp_path: Path) -> None:
    """What a leader writes before an operator looks fills the log up again; the next one holds all the same."""
    settings = settings_for(urls, sim.port)
    with replica(tmp_path / "a", settings, "--single") as first:
        await asyncio.to_thread(first.until_leads)
        first.end()
    with replica(tmp_path / "a", settings, "--single") as second:
        await asyncio.to_thread(second.until_leads)
        order = place(second)
        seq = ask(second.url, "GET", f"/api/v1/orders/{order['id']}").json["seq"]
        go_back(urls.owner, to_seq=seq - 1)
        await asyncio.to_thread(until, lambda: held(second), "everything is held")
        second.end(signal.SIGKILL)
    with replica(tmp_path / "a", settings, "--single") as third:
        await asyncio.to_thread(until, lambda: held(third), "everything is held again", 40)
        again = {key: value for key, value in order.items() if key != "id"} | {"client_order_id": "another"}
        assert ask(third.url, "POST", "/api/v1/orders", again).problem == "held"
        [hold] = [b for b in ask(third.url, "GET", "/api/v1/breaks").json["breaks"] if not b["resolved_at"]]
        assert (
            ask(third.url, "POST", f"/api/v1/breaks/{hold['id']}", {"resolution": "looked", "reason": "a test"}).status
            == 200
        )
        await asyncio.to_thread(until, lambda: ready(third), "orders flow again")
    await check_broker(sim, [order])


def held(one: Replica) -> bool:
    answer = one.get("/health")
    return answer is not None and answer.json["state"] == "HOLDING"
