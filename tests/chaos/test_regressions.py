"""Each bug that the scenarios found, once more by itself. A test's first sentence is what went wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiohttp
import psycopg
import pytest
from adapter_client import AdapterClient, OrderRequest

from engine.book import Book
from engine.broker import Unreachable
from engine.broker_ib import IbBroker
from engine.clock import boottime
from engine.store import tail_name
from ha.demo.fetch import Fetch
from ha.etcd_access import state_key
from ha.local.parts import CLUSTER
from ha.shared_state import SUSPICIONS
from ha.suspicion import BUDGET, Budget, Entry
from ha.tail import Tail
from tests.chaos.cluster import Cluster
from tests.chaos.evidence import stopwatch
from tests.chaos.operators import command, hand_over, leads, resumed
from tests.integration.etcd_fixture import etcd_binary, free_ports

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(240)]


async def reaches(client: AdapterClient, order_id: str, state: str, within: float) -> None:
    """Return when the order has this state. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while (await client.order(order_id)).state != state:
            await asyncio.sleep(0.1)


@pytest.mark.rule(7)
@pytest.mark.guarantee(3)
async def test_a_cancel_that_the_gateway_does_not_answer_is_asked_after(cluster: Cluster) -> None:
    """The gateway cancelled an order and said nothing; the ledger called it WORKING until the next periodic look."""
    leader, [symbol, *_] = await cluster.paired(), await cluster.symbols()
    far = OrderRequest(
        symbol=symbol, side="BUY", quantity=Decimal(1), order_type="LMT", limit_price=Decimal(1), client_order_id=None
    )
    await cluster.broker("POST", "/faults/drop_acks", {"next": 1})  # of this order the gateway never says anything
    async with AdapterClient([cluster.urls[leader]]) as client:
        order = await client.place(far)
        await reaches(client, order.id, "WORKING", within=8.0)
        await client.cancel(order.id)
        await reaches(client, order.id, "CANCELLED", within=8.0)


@pytest.mark.rule(24)
@pytest.mark.guarantee(5)
async def test_a_takeover_that_could_not_see_everything_looks_again_soon(cluster: Cluster) -> None:
    """An order filled while nobody led, the executions did not come: the next look was the periodic one, 30 s later."""
    leader, [symbol, *_] = await cluster.paired(), await cluster.symbols()
    price = Decimal((await cluster.broker("GET", "/prices"))[symbol])
    bid = OrderRequest(
        symbol=symbol, side="BUY", quantity=Decimal(1), order_type="LMT", limit_price=price - 10, client_order_id=None
    )
    async with AdapterClient(list(cluster.urls.values())) as client:
        order = await client.place(bid)
        await reaches(client, order.id, "WORKING", within=8.0)
        await cluster.broker("POST", "/faults/no_end", {"request": "executions"})
        await cluster.pair.kill(leader)
        await cluster.broker("POST", "/prices", {symbol: str(price - 20)})
        # what is seen of the pair is a moment old: the kill has to be seen before the pair that comes after it
        await cluster.until(lambda: now if (now := cluster.scene.paired()) != leader else None, 30)
        await cluster.broker("DELETE", "/faults/no_end")
        await cluster.broker("POST", "/prices", {symbol: str(price)})
        await reaches(client, order.id, "FILLED", within=10.0)


@pytest.mark.guarantee(7)
async def test_a_standby_that_was_just_reading_can_claim_on_its_connection(cluster: Cluster) -> None:
    """The claim cut a read of the log short, which closed the very connection that it needs: a second was lost."""
    info = cluster.pair.info()
    tail = Tail(Book(), str(info["database_url"]), "third")
    try:
        tail.start()
        await holds(lambda: tail.lag(boottime()) < 1.0, within=10.0)
        with (
            psycopg.connect(str(info["migrate_database_url"])) as owner,
            psycopg.connect(str(info["database_url"]), autocommit=True) as looker,
        ):
            owner.execute("LOCK TABLE ledger.event IN ACCESS EXCLUSIVE MODE")
            await holds(lambda: waits_for_a_lock(looker, tail_name("third")), within=10.0)
            stopping = asyncio.create_task(tail.stop())
            await asyncio.sleep(0.05)  # it has begun to stop while its read still waits
            owner.rollback()
            await stopping
        assert tail.connection.is_open
    finally:
        await tail.close()


def waits_for_a_lock(database: psycopg.Connection[Any], application: str) -> bool:
    """Whether this client's statement is held up by a lock now."""
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
    return database.execute(query, (application,)).fetchone() is not None


async def holds(condition: Callable[[], bool], within: float) -> None:
    """Return once the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.02)


async def test_clients_that_hang_up_in_the_middle_of_a_request_are_no_defect(cluster: Cluster) -> None:
    """A thawed leader wrote a traceback for each client that had gone meanwhile, and stood still over it once more."""
    leader = await cluster.paired()
    before = await posts_answered(cluster.urls[leader], "400"), await posts_answered(cluster.urls[leader], "500")
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", getattr(cluster.ports, leader))
        writer.write(b"POST /api/v1/orders HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
    async with asyncio.timeout(10):
        while await posts_answered(cluster.urls[leader], "400") < before[0] + 20:
            assert await posts_answered(cluster.urls[leader], "500") == before[1], (
                "taken for a defect, with a traceback"
            )
            await asyncio.sleep(0.05)


async def posts_answered(url: str, status: str) -> int:
    """How many POSTs of an order this replica has answered so, by its own metrics."""
    async with aiohttp.ClientSession(trust_env=False) as session, session.get(f"{url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    name = "adapter_http_request_seconds_count"
    labels = ('method="POST"', 'path="/api/v1/orders"', f'status="{status}"')
    counted = [line for line in lines if line.startswith(name) and all(label in line for label in labels)]
    return sum(int(float(line.rpartition(" ")[2])) for line in counted)


@pytest.mark.guarantee(7)
async def test_a_replica_that_has_just_handed_over_takes_over_again_without_waiting(cluster: Cluster) -> None:
    """Who hands over lets the other one go first, for 5 s; it went on standing back when the other one had long begun to
    lead, so that a second hand-over, or that leader's death, left nobody for the rest of the time."""
    first = await cluster.paired()
    await hand_over(cluster, first)
    second = await cluster.until(lambda: now if (now := cluster.scene.paired()) not in (None, first) else None, 30.0)
    took = stopwatch()
    await hand_over(cluster, second)
    await cluster.until(lambda: True if cluster.scene.leader() == first else None, 30.0)
    assert took() < 3.0


@pytest.mark.rule(34)
@pytest.mark.guarantee(7)
async def test_a_hand_over_in_a_pause_is_carried_out_at_once(cluster: Cluster) -> None:
    """It was answered 202, and then the one that it was for did not campaign, because of the pause: nobody led for the 5 s for
    which the old leader stood back, and then it led again."""
    leader = await cluster.paired()
    other = cluster.other(leader)
    assert (await command(cluster, leader, "pause", {"reason": "a maintenance"}))[0] == 202
    try:
        async with Fetch() as fetch:
            while not (await fetch.any_status(f"{cluster.urls[other]}/health"))[1]["paused"]:
                await asyncio.sleep(0.02)
        took = stopwatch()
        await hand_over(cluster, leader)
        await leads(cluster, other, 10.0)
        assert took() < 4.0
    finally:
        await resumed(cluster)


@pytest.mark.rule(30)
async def test_a_standby_without_a_suspicion_left_waits_for_the_lease_instead_of_trying_all_the_time(
    cluster: Cluster,
) -> None:
    """It asked for one 20 times a second, with an error in the log each time, and was late to see that the lease had ended."""
    leader = await cluster.paired()
    standby = cluster.other(leader)
    log = cluster.directory / "log" / f"{standby}.log"
    spent = [Entry(datetime.now(UTC), "somebody", "nobody", standby)] * BUDGET
    with etcd_key(cluster, SUSPICIONS, Budget(tuple(spent)).to_text()):
        said_before = len(log.read_text())
        await cluster.pair.kill(leader, signal.SIGSTOP)
        try:
            await cluster.until(lambda: True if cluster.scene.leader() == standby else None, 15.0)
        finally:
            await cluster.pair.kill(leader, signal.SIGCONT)
    said = log.read_text()[said_before:]
    assert said.count("the budget of suspicions is spent") == 1
    assert "the leader is silent: taking the key over" in said
    await cluster.paired()


@contextmanager
def etcd_key(cluster: Cluster, name: str, value: str) -> Iterator[None]:
    """A small value of the pair in etcd, for as long as the body runs."""
    endpoints = ",".join(member.endpoint for member in cluster.wiring.members)
    ctl = [str(etcd_binary("etcdctl")), "--endpoints", endpoints]
    environment = {**os.environ, "ETCDCTL_API": "3"}
    key = state_key(CLUSTER, name)
    subprocess.run([*ctl, "put", key, value], env=environment, check=True, capture_output=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run([*ctl, "del", key], env=environment, check=True, capture_output=True, timeout=10)


async def test_a_gateway_that_is_away_behind_the_relay_is_dialled_again_at_once() -> None:
    """The relay takes the connection and closes it; that went unnoticed, and each dial took its whole deadline of 4 s."""

    async def away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    [port], took = free_ports(1), stopwatch()
    async with await asyncio.start_server(away, "127.0.0.1", port):
        answer = await IbBroker("127.0.0.1", port, 17, lambda _: None).connect(10.0)
    assert isinstance(answer, Unreachable)
    assert took() < 5.0
