"""How many orders a second get through: to the broker, and into the log while there is no broker."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from bench import cores
from bench.figures import per_second, ratio, spread
from bench.order_load import Load, offered
from bench.order_pair import NO_PACE, Pair, moment, running

LOOK_EVERY = 0.05
SETTLES = 10.0  # seconds for the last orders to reach the broker
AWAY = 3_600_000  # ms; longer than any measurement


class Lag:
    """The standby's distance from its leader, looked at again and again."""

    def __init__(self, pair: Pair, leader: str, standby: str) -> None:
        self._pair, self._leader, self._standby = pair, leader, standby
        self.told_ms: list[float] = []
        self.events: list[float] = []
        self.epochs: set[int] = set()

    async def watch(self) -> None:
        """Until it is cancelled. What the standby says of itself, and how many events it lacks of what the leader had before."""
        while True:
            leader = await self._pair.get(f"{self._leader}/health")
            standby = await self._pair.get(f"{self._standby}/health")
            if standby["tail"]["lag_ms"] is not None:
                self.told_ms.append(float(standby["tail"]["lag_ms"]))
            self.events.append(float(max(0, leader["tail"]["seq"] - standby["tail"]["seq"])))
            self.epochs.add(int(leader["epoch"]))
            await asyncio.sleep(LOOK_EVERY)

    def figures(self) -> dict[str, Any]:
        """What it saw."""
        return {
            "standby_lag_ms": spread(self.told_ms),
            "standby_events_behind": spread(self.events),
            "terms": len(self.epochs),
        }


async def sent(asked: argparse.Namespace) -> dict[str, Any]:
    """Resting limit orders at a rate, from several connections, without a pace; counted where the broker takes them."""
    rate = asked.rate or 300.0
    async with running(asked.keep, asked.ports, NO_PACE | asked.set) as pair:
        leader, standby = await pair.whole()
        lag, before, began = Lag(pair, leader, standby), pair.used(leader), time.monotonic()
        standby_before, cores_before = pair.used(standby), cores.used(pair.names(leader, standby))
        watching = asyncio.create_task(lag.watch())
        load = await offered(pair, leader, "sent", rate=rate, seconds=asked.seconds, connections=asked.connections)
        wanted = len(load.answered)
        taken = await _taken(pair, wanted)
        cpu, standby_cpu = pair.used(leader).cpu - before.cpu, pair.used(standby).cpu - standby_before.cpu
        lasted, all_cores = time.monotonic() - began, cores.used(pair.names(leader, standby))
        watching.cancel()
        await asyncio.wait({watching})
    moments = [moment(entry) for entry in taken]
    references = [entry["order_ref"] for entry in taken]
    return {
        "offered_per_second": rate, "seconds": asked.seconds, "connections": asked.connections,
        **told(load), "at_the_broker": len(taken), "at_the_broker_twice": len(references) - len(set(references)),
        "at_the_broker_per_second": per_second(moments),
        "reached_of_offered": ratio(per_second(moments), rate),
        "leader_cpu_ms_per_order": round(cpu * 1000 / max(1, len(taken)), 3),
        "leader_cpu_percent": round(100 * cpu / lasted, 1),
        "standby_cpu_ms_per_order": round(standby_cpu * 1000 / max(1, len(taken)), 3),
        "cpu_ms_per_order_of": cores.per_order(cores_before, all_cores, len(taken)),
        **lag.figures(),
    }  # fmt: skip


async def _taken(pair: Pair, wanted: int) -> list[dict[str, Any]]:
    """The orders that the broker took, once it has as many as were accepted, or as many as there will be."""
    end, taken = time.monotonic() + SETTLES, list[dict[str, Any]]()
    while True:
        taken = [entry for entry in await pair.journal() if entry["kind"] == "order"]
        if len(taken) >= wanted or time.monotonic() > end:
            return taken
        await asyncio.sleep(0.5)


def told(load: Load) -> dict[str, Any]:
    """What the clients saw."""
    return {
        "orders": load.orders, "accepted": len(load.answered), "accepted_per_second": load.accepted_per_second,
        "answers": dict(load.statuses), "states_when_accepted": {k: n for k, n in load.states.items() if n},
        "request_ms_from_due": spread(load.latencies),
    }  # fmt: skip


async def durable(asked: argparse.Namespace) -> dict[str, Any]:
    """Orders that are accepted while the gateway is away: they are durable, and wait. Singly, then in batches."""
    rate, figures = asked.rate or 1000.0, dict[str, Any]()
    for name, batch in (("single", 1), ("batches", asked.batch)):
        async with running(asked.keep and asked.keep / name, asked.ports, asked.set) as pair:
            leader, standby = await pair.whole()
            await pair.fault("restart", down_ms=AWAY)

            async def connecting() -> bool:
                return bool((await pair.get(f"{leader}/health"))["state"] == "CONNECTING")  # noqa: B023

            await pair.until(connecting, "the leader has no session")
            before, cores_before = pair.used(leader), cores.used(pair.names(leader, standby))
            load = await offered(
                pair, leader, name, rate=rate, seconds=asked.seconds, connections=asked.connections, batch=batch
            )
            cpu, all_cores = pair.used(leader).cpu - before.cpu, cores.used(pair.names(leader, standby))
            health = await pair.get(f"{leader}/health")
        figures[name] = {
            **told(load), "reached_of_offered": ratio(load.accepted_per_second, rate),
            "leader_cpu_ms_per_order": round(cpu * 1000 / max(1, len(load.answered)), 3),
            "cpu_ms_per_order_of": cores.per_order(cores_before, all_cores, len(load.answered)),
            "events_in_the_log": health["tail"]["seq"], "state_at_the_end": health["state"], "epoch_at_the_end": health["epoch"],
        }  # fmt: skip
    return {"offered_per_second": rate, "seconds": asked.seconds, "connections": asked.connections, **figures}
