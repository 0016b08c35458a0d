"""What flows while a fault strikes: recorded orders, a moving market, and the question "do you lead?" at both replicas.

The traffic is the client's own (`adapter_client.traffic`): it knows two addresses and nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import aiohttp
from adapter_client.schedule import Mix
from adapter_client.traffic import Summary, Traffic

from ha.demo import market
from tests.chaos.check import Probe

PROBE_EVERY = 0.025
_PROBE_LIMIT = aiohttp.ClientTimeout(total=0.25)


@dataclass(frozen=True, slots=True)
class Load:
    """Orders a second for so many seconds, then up to `settle` seconds for those that were not answered."""

    rate: float = 20.0
    seconds: float = 7.0
    settle: float = 8.0
    cancel_share: float = 0.15


async def flow(
    load: Load, urls: Sequence[str], symbols: Sequence[str], prices: Mapping[str, Decimal], history: Path, seed: int
) -> Summary:
    """Places the orders of `seed` and follows each to its answer; every step is in `history`."""
    mix = Mix(
        rate=load.rate, seconds=load.seconds, symbols=tuple(symbols), prices=prices, cancel_share=load.cancel_share
    )
    return await Traffic(urls, mix, history, seed=seed, settle=load.settle).run()


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
