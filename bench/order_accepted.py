"""One order accepted and durable, against the least that it could cost: one commit and one HTTP round trip."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.bare import ANSWER, Commit, committing, serving
from bench.figures import compared, ratio, spread
from bench.order_pair import NO_PACE, Pair, body, opened, running
from bench.wire import Wire
from ha.local.ports import Ports
from tests.integration.restore_fixture import Copied

TARGETS = {"p50": 2.0, "p99": 3.0}
WARM = 50  # orders before the first that counts: plans, caches, the pool of prepared statements


@dataclass(slots=True)
class Samples:
    """Milliseconds, taken in turns."""

    order: list[float] = field(default_factory=list)
    commit: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Spreads and ratios, with their targets."""
        return {
            "order_ms": spread(self.order), "bare_commit_ms": spread(self.commit), "bare_http_ms": spread(self.http),
            "ratio": compared(self.order, self.commit, self.http), "target_ratio": TARGETS,
        }  # fmt: skip


async def timed(into: list[float], work: Callable[[], Awaitable[Any]]) -> Any:
    """Do it and note the milliseconds it took."""
    began = time.perf_counter()
    answer = await work()
    into.append((time.perf_counter() - began) * 1000)
    return answer


class Turns:
    """An order, a bare commit and a bare round trip in turns: whatever slows the machine slows all three."""

    def __init__(self, orders: Wire, commit: Commit, http: Wire) -> None:
        self._orders, self._commit, self._http = orders, commit, http
        self._number = 0

    async def take(self, into: Samples, count: int) -> None:
        """So many turns. Raises RuntimeError for an order that is not accepted."""
        for _ in range(count):
            self._number += 1
            order = body("accepted", self._number)
            status, answer = await timed(into.order, lambda o=order: self._orders.ask("POST", "/api/v1/orders", o))  # type: ignore[misc]
            if status != 201:
                raise RuntimeError(f"an order was answered {status}: {answer[:300]!r}")
            await timed(into.commit, self._commit.once)
            await timed(into.http, lambda o=order: self._http.ask("POST", "/", o))  # type: ignore[misc]


@contextlib.asynccontextmanager
async def turns(pair: Pair, port: int) -> AsyncIterator[Turns]:
    """The three, connected and warm."""
    leader, _ = await pair.whole()
    async with committing(pair.owner_url) as commit, serving(port) as http, await pair.wire(leader) as orders:
        found = Turns(orders, commit, http)
        await found.take(Samples(), WARM)
        yield found


def _port(asked: argparse.Namespace) -> int:
    return Ports.free().a if asked.ports is None else int(asked.ports) + 8


async def accepted(asked: argparse.Namespace) -> dict[str, Any]:
    """One client, one order after the other on one connection. Each is sent at once, and the broker's answer is logged too."""
    samples = Samples()
    async with running(asked.keep, asked.ports, NO_PACE | asked.set) as pair, turns(pair, _port(asked)) as taken:
        await taken.take(samples, asked.count)
    return {"orders": asked.count, **samples.figures(), "answer_bytes_bare": len(str(ANSWER))}


# ---- with a synchronous copy of the database


@contextlib.contextmanager
def copied(directory: Path) -> Any:
    """A primary and its copy, whose ledger is the pair's to make."""
    directory.mkdir()
    database = Copied(directory)
    try:
        with database.primary.connect("adapter") as owner:
            owner.execute("DROP SCHEMA ledger CASCADE")
        yield database
    finally:
        database.close()


def synchronous(database: Copied, names: str) -> None:
    """Let commits wait for the copy (`*`), or not (empty); returns once the server goes by it."""
    with database.primary.connect() as primary:
        primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        primary.execute("SELECT pg_reload_conf()")
    wanted, end = "sync" if names else "async", time.monotonic() + 20
    while (found := database.primary.one("SELECT sync_state FROM pg_stat_replication")) != wanted:
        if time.monotonic() > end:
            raise TimeoutError(f"the copy is {found}, not {wanted}")
        time.sleep(0.05)


async def replica(asked: argparse.Namespace) -> dict[str, Any]:
    """`accepted` on a database with a copy on this machine, in ten blocks: synchronous and asynchronous in turns."""
    alone, both = Samples(), Samples()
    with tempfile.TemporaryDirectory(prefix="pa-bench-") as name, copied(opened(name) / "database") as database:
        urls: Mapping[str, str] = {
            "DATABASE_URL": database.urls.adapter, "MIGRATE_DATABASE_URL": database.urls.owner,
        }  # fmt: skip
        async with (
            running(asked.keep, asked.ports, NO_PACE | asked.set | urls) as pair,
            turns(pair, _port(asked)) as taken,
        ):
            for block in range(10):
                names = "*" if block % 2 else ""
                await asyncio.to_thread(synchronous, database, names)
                await taken.take(both if names else alone, max(1, asked.count // 5))
    return {
        "synchronous": both.figures(), "asynchronous": alone.figures(),
        "synchronous_over_asynchronous": compared(both.order, alone.order),
        "order_added_over_commit_added_p50": _added(both, alone),
    }  # fmt: skip


def _added(both: Samples, alone: Samples) -> float | None:
    """What the copy adds to an order over what it adds to a bare commit, at the median."""
    order, commit = spread(both.order)["p50"] - spread(alone.order)["p50"], spread(both.commit)["p50"]
    return ratio(order, commit - spread(alone.commit)["p50"])
