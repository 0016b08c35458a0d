"""Prices that move a little while the demonstration runs, so that resting orders fill, also while nobody leads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from decimal import Decimal

from ha.demo.fetch import Fetch, FetchFailed

EVERY = 0.5
STEP = 0.003  # the largest relative move of one step
REACH = Decimal("0.02")  # how far a price may leave its start
CENT = Decimal("0.01")


def walk(start: Mapping[str, Decimal], rng: random.Random) -> Iterator[dict[str, Decimal]]:
    """Prices step by step, each within REACH of where it began."""
    now = dict(start)
    while True:
        for symbol, price in now.items():
            moved = price * Decimal(str(round(1 + rng.uniform(-STEP, STEP), 6)))
            low, high = start[symbol] * (1 - REACH), start[symbol] * (1 + REACH)
            now[symbol] = min(high, max(low, moved)).quantize(CENT)
        yield dict(now)


async def move(control: str, start: Mapping[str, Decimal], rng: random.Random) -> None:
    """Moves the stand-in's market until cancelled."""
    async with Fetch() as fetch:
        for prices in walk(start, rng):
            try:
                await fetch.post(f"{control}/prices", {symbol: str(price) for symbol, price in prices.items()})
            except FetchFailed:
                continue  # a stand-in that is away has no market either; the next step finds it again
            finally:
                await asyncio.sleep(EVERY)
