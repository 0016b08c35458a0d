"""Each bug that the scenarios found, once more by itself. A test's first sentence is what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import aiohttp
import psycopg
import pytest
from adapter_client import AdapterClient, OrderRequest

from engine.book import Book
from engine.clock import boottime
from ha.tail import Tail
from tests.chaos.cluster import Cluster

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
            await holds(lambda: waits_for_a_lock(looker, "adapter-tail:third"), within=10.0)
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
