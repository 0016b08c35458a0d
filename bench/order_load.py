"""Orders from several connections at once, at a rate or as fast as they are answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.order_pair import Pair, body
from bench.wire import Wire


@dataclass(slots=True)
class Load:
    """What was asked and answered. Times are of the monotonic clock, in seconds; latencies in milliseconds."""

    statuses: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)  # one for each order, not for each request
    latencies: list[float] = field(default_factory=list)  # one for each request, from when it was due
    began: float = 0.0
    orders: int = 0

    @property
    def accepted_per_second(self) -> float:
        """Orders that were answered 201, over the time from the first request to the last answer."""
        return round(len(self.answered) / max(max(self.answered, default=self.began) - self.began, 1e-9), 1)


async def offered(
    pair: Pair, url: str, name: str, *, rate: float, seconds: float, connections: int, batch: int = 1, **fields: Any
) -> Load:
    """Offer `rate` orders a second for so long, in batches of `batch`, from so many connections.

    An open loop: who is late sends at once, and its latency counts from when the request was due. Nothing is asked after that
    time: what was due by then and found no connection free is missing from the load's orders.
    """
    load, due = Load(began=time.monotonic()), iter(range(max(1, int(rate * seconds / batch))))

    async def work(wire: Wire) -> None:
        for number in due:
            at = load.began + number * batch / rate
            if time.monotonic() > load.began + seconds:
                return
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            await _ask(wire, load, [body(name, number * batch + n, **fields) for n in range(batch)], at)

    await _together(pair, url, connections, work)
    return load


async def as_fast_as_answered(
    pair: Pair, url: str, name: str, count: int, *, connections: int, batch: int = 50, **fields: Any
) -> Load:
    """So many orders, each connection's next request after its last answer."""
    load, starts = Load(began=time.monotonic()), iter(range(0, count, batch))

    async def work(wire: Wire) -> None:
        for start in starts:
            orders = [body(name, n, **fields) for n in range(start, min(start + batch, count))]
            await _ask(wire, load, orders, time.monotonic())

    await _together(pair, url, connections, work)
    return load


async def _together(pair: Pair, url: str, connections: int, work: Callable[[Wire], Any]) -> None:
    wires = [await pair.wire(url) for _ in range(connections)]
    try:
        async with asyncio.TaskGroup() as group:
            for wire in wires:
                group.create_task(work(wire))
    finally:
        for wire in wires:
            await wire.__aexit__()


async def _ask(wire: Wire, load: Load, orders: list[dict[str, Any]], due: float) -> None:
    load.orders += len(orders)
    if len(orders) == 1:
        status, answer = await wire.ask("POST", "/api/v1/orders", orders[0])
    else:
        status, answer = await wire.ask("POST", "/api/v1/orders/batch", {"orders": orders})
    now = time.monotonic()
    load.statuses[str(status)] += 1
    load.latencies.append((now - due) * 1000)
    if status == 201:
        load.answered += [now] * len(orders)
        for state in ("QUEUED", "SENDING", "WORKING", "FILLED"):
            load.states[state] += answer.count(f'"state": "{state}"'.encode()) + answer.count(
                f'"state":"{state}"'.encode()
            )
    elif status != 200:
        load.states[answer[:200].decode(errors="replace")] += 1
