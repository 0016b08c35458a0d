"""How long a cancel takes to the broker while a backlog of orders waits behind the pace."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from bench.figures import ratio, spread
from bench.order_load import as_fast_as_answered
from bench.order_pair import Pair, body, moment, running
from bench.wire import Wire

TARGET = 100.0  # ms at p99


async def cancels(asked: argparse.Namespace) -> dict[str, Any]:
    """One cancel after the other (`spaced`), and then as many again as fast as one connection asks for them (`at_once`)."""
    figures: dict[str, Any] = {"backlog": asked.backlog, "target_p99_ms": TARGET}
    async with running(asked.keep, asked.ports, asked.set) as pair:
        leader, _ = await pair.whole()
        for name, every in (("spaced", asked.every), ("at_once", 0.0)):
            async with await pair.wire(leader) as wire:
                working = await _working(pair, wire, f"{name}-working", asked.cancels)
                after = await pair.journal_seq()
                await as_fast_as_answered(pair, leader, f"{name}-backlog", asked.backlog, connections=2)
                asked_at, answers = await _cancel(wire, working, every)
                queued = await _queued(pair, leader)
            figures[name] = await _read(pair, after, asked_at, queued) | {"delete_answered_ms": spread(answers)}
            await _drained(pair, leader)
    return figures


async def _working(pair: Pair, wire: Wire, name: str, count: int) -> list[str]:
    """Ids of so many orders that rest at the broker."""
    import json

    ids: list[str] = []
    for number in range(count):
        status, answer = await wire.ask("POST", "/api/v1/orders", body(name, number))
        assert status == 201, answer
        ids.append(json.loads(answer)["id"])

    async def all_work() -> bool:
        for oid in ids[-1:] + ids[:1]:
            _, answer = await wire.ask("GET", f"/api/v1/orders/{oid}")
            if json.loads(answer)["state"] != "WORKING":
                return False
        return True

    await pair.until(all_work, "the orders rest at the broker")
    return ids


async def _cancel(wire: Wire, ids: list[str], every: float) -> tuple[dict[str, float], list[float]]:
    """When each cancel was asked for, and how long each answer took (ms)."""
    asked_at, took = dict[str, float](), list[float]()
    began = time.monotonic()
    for number, oid in enumerate(ids):
        await asyncio.sleep(max(0.0, began + number * every - time.monotonic()))
        asked_at[oid], start = time.time(), time.monotonic()
        status, answer = await wire.ask("DELETE", f"/api/v1/orders/{oid}")
        took.append((time.monotonic() - start) * 1000)
        assert status == 202, answer
    return asked_at, took


async def _read(pair: Pair, after: int, asked_at: dict[str, float], queued: int) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def all_came() -> bool:
        entries = await pair.journal(after)
        found[:] = entries
        return sum(1 for e in entries if e["kind"] == "cancel" and _id(e) in asked_at) >= len(asked_at)

    await pair.until(all_came, "every cancel is at the broker")
    came = {_id(e): moment(e) for e in reversed(found) if e["kind"] == "cancel"}
    took = [(came[oid] - at) * 1000 for oid, at in asked_at.items()]
    lasted = max(asked_at.values()) - min(asked_at.values())
    during = [e for e in found if e["kind"] == "order" and min(asked_at.values()) <= moment(e) <= max(came.values())]
    return {
        "asked_to_broker_ms": spread(took), "asked_within_s": round(lasted, 2),
        "of_target": ratio(spread(took)["p99"], TARGET),
        "orders_still_queued_after_the_last": queued, "orders_sent_meanwhile": len(during),
    }  # fmt: skip


def _id(entry: dict[str, Any]) -> str:
    return str(entry.get("order_ref", "")).rsplit(".", 1)[-1]


async def _queued(pair: Pair, leader: str) -> int:
    return len((await pair.get(f"{leader}/api/v1/orders?state=QUEUED&limit=500"))["orders"])


async def _drained(pair: Pair, leader: str) -> None:
    async def none() -> bool:
        return await _queued(pair, leader) == 0

    await pair.until(none, "the backlog is at the broker")
