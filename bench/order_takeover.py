"""What the length of the log and the number of open orders cost a takeover; the leader is killed with -9 each time.

Past events are those of market orders that were filled on this pair, through the API, each with its execution and commission;
then the broker's midnight, so that it tells of none of their executions any more, as of another day's.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from typing import Any

from bench.failover import progress
from bench.figures import ratio, spread
from bench.order_load import as_fast_as_answered
from bench.order_pair import NO_PACE, Pair, running

FEW_OPEN = 10
TARGETS = {"many_past_over_few": 1.5, "ms_per_open_order": 1.0}
PHASES = ("detect_ms", "acquire_ms", "claim_ms", "fence_ms", "connect_ms", "reconcile_ms")
EVENTS_OF_ONE = 5  # about, of an order that is filled at once; what is lacking then is filled up


async def takeover(asked: argparse.Namespace) -> dict[str, Any]:
    """Few events and 10 open orders; many open orders; and, those cancelled, many past events and 10 open orders."""
    figures: dict[str, Any] = {"trials": asked.trials, "target": TARGETS}
    async with running(asked.keep, asked.ports, NO_PACE | asked.set) as pair:
        await _open(pair, "few", FEW_OPEN)
        figures["few_past"] = few = await _trials(pair, asked.trials)
        more = max(0, asked.open - FEW_OPEN)
        await _open(pair, "more", more)
        figures["many_open"] = many_open = await _trials(pair, asked.trials)
        await _cancel_but(pair, FEW_OPEN)
        await _past(pair, asked.past)
        figures["many_past"] = many = await _trials(pair, asked.trials)
    figures["many_past_over_few"] = ratio(many["total_ms"]["p50"], few["total_ms"]["p50"])
    added = many_open["total_ms"]["p50"] - few["total_ms"]["p50"]
    figures["ms_per_open_order"] = round(added / more, 3) if more else None
    return figures


async def _open(pair: Pair, name: str, count: int) -> None:
    leader, _ = await pair.whole()
    if count:
        await as_fast_as_answered(pair, leader, name, count, connections=1, batch=10)
    await _none(pair, leader, "QUEUED", "SENDING")


async def _none(pair: Pair, leader: str, *states: str) -> None:
    async def settled() -> bool:
        for state in states:
            if (await pair.get(f"{leader}/api/v1/orders?state={state}&limit=1"))["orders"]:
                return False
        return True

    await pair.until(settled, f"no order is {' or '.join(states)}")


async def _working(pair: Pair, leader: str) -> list[str]:
    orders = (await pair.get(f"{leader}/api/v1/orders?state=WORKING&limit=500"))["orders"]
    return [order["id"] for order in orders]


async def _cancel_but(pair: Pair, left: int) -> None:
    leader, _ = await pair.whole()
    async with await pair.wire(leader) as wire:
        while len(found := await _working(pair, leader)) > left:
            for oid in found[left:]:
                await wire.ask("DELETE", f"/api/v1/orders/{oid}")
            await asyncio.sleep(0.2)


async def _past(pair: Pair, events: int) -> None:
    """Fill orders until the log is so long, then let the broker's day end."""
    number = 0
    while True:
        leader, _ = await pair.whole()
        lacking = events - int((await pair.get(f"{leader}/health"))["tail"]["seq"])
        if lacking <= 0:
            break
        count = min(2000, max(50, lacking // EVENTS_OF_ONE))
        fields = {"order_type": "MKT", "limit_price": None, "tif": "DAY"}
        load = await as_fast_as_answered(pair, leader, f"past{number}", count, connections=2, **fields)
        if not load.answered:
            raise RuntimeError(f"no order was accepted: {dict(load.states)}")
        number += 1
        await _none(pair, leader, "QUEUED", "SENDING")
        progress(events - max(0, lacking), events)
    await pair.fault("midnight")


async def _took_over(pair: Pair, epoch: int) -> list[dict[str, Any]]:
    """The history's rows of the terms behind `epoch`, oldest first, once one leads, gate open, and its figures are there."""
    for url in (replica.url for replica in pair.local.replicas):
        if [await pair.status(url, path) for path in ("/leader", "/readyz")] == [200, 200]:
            terms = [t for t in (await pair.get(f"{url}/api/v1/history?limit=20"))["history"] if t["epoch"] > epoch]
            return terms[::-1] if terms and terms[0]["total_ms"] is not None else []
    return []


async def _takeover(pair: Pair) -> dict[str, Any] | None:
    """Kill the leader: the history's row of the takeover, None where more than one term was needed (a busy machine)."""
    leader, _ = await pair.whole()
    await asyncio.sleep(1.0)
    epoch = int((await pair.get(f"{leader}/health"))["epoch"])
    await pair.local.kill(next(r.name for r in pair.local.replicas if r.url == leader))
    terms = await pair.until(lambda: _took_over(pair, epoch), "a replica leads")
    return terms[0] if len(terms) == 1 else None


async def _trials(pair: Pair, trials: int) -> dict[str, Any]:
    """So many takeovers after a kill; their history's rows."""
    terms: list[dict[str, Any]] = []
    again = 0
    while len(terms) < trials:
        if (term := await _takeover(pair)) is not None:
            terms.append(term)
        elif (again := again + 1) > trials:
            raise RuntimeError("most takeovers need a second term: this machine is too busy to measure one")
        progress(len(terms), trials)
    leader, _ = await pair.whole()
    health = await pair.get(f"{leader}/health")
    totals = [float(term["total_ms"]) for term in terms]
    return {
        "total_ms": spread(totals), "events": health["tail"]["seq"], "open_orders": len(await _working(pair, leader)),
        "phases_p50_ms": {name: statistics.median(v) for name in PHASES if (v := [t[name] for t in terms if t[name] is not None])},
        "needed_more_terms": again, "reasons": sorted({str(term["reason"]) for term in terms}),
    }  # fmt: skip
