"""The person at the desk, while faults strike: orders in doubt hold their contracts until somebody says what became of them.

After a short while this one says that an order is dead which the broker does not show. It may be wrong, as a person may:
an order that surfaces later is found, and cancelled (R1).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from ha.demo.broker_record import parse_reference
from ha.demo.fetch import Fetch, FetchFailed
from tests.chaos.cluster import Cluster

LOOKS_EVERY = 0.5
THINKS_FOR = timedelta(seconds=1.5)
DEAD = {"resolution": "dead", "reason": "the broker's list does not show it"}
SEEN = {"resolution": "seen", "reason": "somebody has read it"}
READ_AT_ONCE = frozenset({"reopened"})  # these breaks tell something that the pair has dealt with already
READ_BETWEEN_ROUNDS = READ_AT_ONCE | {"twin"}  # and these, once the judge has seen that it did


@asynccontextmanager
async def attended(cluster: Cluster) -> AsyncIterator[list[str]]:
    """Somebody looks while the body runs; yields the list to which each order is added that was called dead."""
    called: list[str] = []
    task = asyncio.create_task(_look_for_ever(cluster, called), name="the desk")
    try:
        yield called
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _look_for_ever(cluster: Cluster, called: list[str]) -> None:
    async with Fetch(timeout=5.0, token=cluster.token) as fetch:
        while True:
            with suppress(FetchFailed, aiohttp.ClientError, TimeoutError, OSError):
                called += (await look(cluster, fetch))[0]
            await asyncio.sleep(LOOKS_EVERY)


async def tidied(cluster: Cluster, within: float) -> None:
    """Return when nothing is in doubt and all is read, or the time is up. For the time between two rounds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within), Fetch(timeout=5.0, token=cluster.token) as fetch:
            while True:
                with suppress(FetchFailed, aiohttp.ClientError, OSError):
                    if not (await look(cluster, fetch, READ_BETWEEN_ROUNDS))[1]:
                        return
                await asyncio.sleep(LOOKS_EVERY)


async def look(cluster: Cluster, fetch: Fetch, readable: Collection[str] = READ_AT_ONCE) -> tuple[list[str], bool]:
    """Answer what is in doubt for long enough, and the breaks of these kinds; returns the orders that were called dead,
    and whether there was anything to answer.

    Raises FetchFailed, aiohttp.ClientError. What one answer is refused for is no reason to leave the others.
    """
    leader = cluster.scene.leader()
    if leader is None:
        return [], True
    api = f"{cluster.urls[leader]}/api/v1"
    breaks = [one for one in (await fetch.get(f"{api}/breaks"))["breaks"] if one["resolved_at"] is None]
    if not breaks:
        return [], False
    doubtful = {order["id"] for order in (await fetch.get(f"{api}/orders?state=IN_DOUBT"))["orders"]}
    shown = [parse_reference(one["order_ref"]) for one in (await cluster.broker("GET", "/orders"))["orders"]]
    dead = doubtful - {reference.id for reference in shown if reference is not None}
    called: list[str] = []

    async def answer(one: Mapping[str, Any]) -> None:
        with suppress(FetchFailed):
            if one["order_id"] in dead:
                await fetch.post(f"{api}/breaks/{one['id']}", DEAD)
                called.append(one["order_id"])
            elif one["kind"] in readable and one["order_id"] not in doubtful:
                await fetch.post(f"{api}/breaks/{one['id']}", SEEN)

    old = datetime.now(UTC) - THINKS_FOR
    # together: the pair decides words that come together on one snapshot
    await asyncio.gather(*(answer(one) for one in breaks if datetime.fromisoformat(one["opened_at"]) <= old))
    return called, bool(doubtful) or any(one["kind"] in readable for one in breaks)
