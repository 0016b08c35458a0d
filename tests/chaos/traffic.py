"""What flows while a fault strikes: recorded orders, a moving market, and the question "do you lead?" at both replicas.

The traffic is the client's own (`adapter_client.traffic`), a process that knows two addresses and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import aiohttp

from ha.demo import market
from ha.local.process import Child, Spec, spawn
from tests.chaos.check import Probe

PROBE_EVERY = 0.04
_STARTS_WITHIN = 10.0
_PROBE_LIMIT = aiohttp.ClientTimeout(total=0.25)


class TrafficFailed(Exception):
    """The traffic did not run to its end; the message says how it ended."""


@dataclass(frozen=True, slots=True)
class Load:
    """Orders a second for so many seconds, then up to `settle` seconds for those that were not answered."""

    rate: float = 20.0
    seconds: float = 7.0
    settle: float = 8.0
    cancel_share: float = 0.15
    repeat_for: float | None = None
    """Seconds for which an order that nobody answers is repeated; None = to the end."""
    limit_share: float = 0.5


@asynccontextmanager
async def flowing(
    load: Load,
    urls: Iterable[str],
    prices: Mapping[str, Decimal],
    history: Path,
    log: Path,
    seed: int,
    token: str | None = None,
    limit_share: float | None = None,
) -> AsyncIterator[Child]:
    """Orders of `seed` on these contracts, from a process of its own that writes every step into `history`.

    Yields it when the first order has left. Raises TrafficFailed; the process has ended when the body has.
    """
    argv = [sys.executable, "-m", "adapter_client.traffic", "--history", str(history), f"--seed={seed}"]
    argv += [f"--rate={load.rate}", f"--seconds={load.seconds}", f"--settle={load.settle}"]
    limits = load.limit_share if limit_share is None else limit_share
    argv += [f"--limit-share={limits}", f"--cancel-share={load.cancel_share}", f"--symbols={','.join(prices)}"]
    argv += [] if load.repeat_for is None else [f"--repeat-for={load.repeat_for}"]
    argv += [f"--price={symbol}={price}" for symbol, price in prices.items()]
    argv += [f"--url={url}" for url in urls]
    env = dict(os.environ) | ({} if token is None else {"ADAPTER_TOKEN": token})
    child = spawn(Spec("traffic", tuple(argv), env, history.parent, log))
    try:
        async with asyncio.timeout(_STARTS_WITHIN):
            while not _has_begun(history):
                if child.code is not None:
                    raise TrafficFailed(f"{child.how_it_ended()}: {child.last_lines()}")
                await asyncio.sleep(0.01)
        yield child
    finally:
        if child.code is None:
            await child.stop((signal.SIGTERM, 2.0))


def _has_begun(history: Path) -> bool:
    return history.exists() and '"place"' in history.read_text(encoding="utf-8")


async def finished(child: Child) -> None:
    """Return when the traffic has ended by itself. Raises TrafficFailed when it broke."""
    if await child.wait() != 0:
        raise TrafficFailed(f"{child.how_it_ended()}: {child.last_lines()}")


@asynccontextmanager
async def moving_market(control: str, prices: Mapping[str, Decimal], seed: int) -> AsyncIterator[None]:
    """Prices that walk while the body runs, so that resting orders fill, also while nobody leads."""
    task = asyncio.create_task(market.move(control, prices, random.Random(seed)))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Prober:
    """Asks both replicas `/leader` for as long as the body of `async with` runs; `probes` are the answers, in order."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.probes: list[Probe] = []
        self._urls = urls
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Prober:
        session = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=_PROBE_LIMIT, trust_env=False))
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(self._ask_for_ever(session, name, url)) for name, url in self._urls.items()]
        self._stack.callback(lambda: [task.cancel() for task in tasks])
        return self

    async def __aexit__(self, *_unused: object) -> None:
        await self._stack.aclose()

    async def _ask_for_ever(self, session: aiohttp.ClientSession, name: str, url: str) -> None:
        while True:
            asked = datetime.now(UTC)
            try:
                async with session.get(f"{url}/leader") as answer:
                    status: int | None = answer.status
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = None
            self.probes.append(Probe(name, asked, datetime.now(UTC), status))
            await asyncio.sleep(PROBE_EVERY)
