"""Death and standstill at the named points of an order's way and of a takeover (engine/failpoint.py); see faults.py.

Unlike `Dies` and `Stalls`, which wait for replicas that were armed before, these arm the standby themselves and bring it
to its point: it takes over from a leader that is killed, or that hands over to it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum

from engine.failpoint import POINTS
from ha.local.process import Child
from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.evidence import moment
from tests.chaos.faults import DidNotBite, now, process_state
from tests.chaos.operators import hand_over, leads
from tests.chaos.whole import WATCHED

WITHIN = 20.0
"""Seconds in which the armed replica must come to its point."""


class Act(StrEnum):
    """What becomes of a replica at the point."""

    KILL = "kill"
    STOP = "stop"  # the whole process stands still: SIGSTOP, until SIGCONT
    HANG = "sleep"  # the event loop stands still, the renewing thread does not


@dataclass(frozen=True, slots=True)
class AtPoint:
    """The standby is started again with one point armed, comes to lead, and dies or stands still at the N-th passage."""

    point: str
    act: Act
    passage: int = 1
    seconds: float = 2.5
    """How long it stands still."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        assert self.point in POINTS
        leader = await on.led()  # the standby is started again in any case
        armed = on.other(leader)
        action = f"sleep:{self.seconds}" if self.act is Act.HANG else self.act.value
        await on.renew([armed], {armed: f"{self.point}={action}@{self.passage}"})
        child, told = on.child(armed), len(on.events)
        coming = asyncio.create_task(self._come_there(on, leader, armed))
        bit = False
        try:
            bite = await (self._dies(on, child, told) if self.act is Act.KILL else self._stands(on, child))
            bit = True
            return bite
        finally:
            # one that did not come there in time must not do so later, when nobody waits for it: its successor is not armed
            child.send(signal.SIGCONT if bit else signal.SIGKILL)
            await _ended(coming)

    async def _come_there(self, on: Cluster, leader: str, armed: str) -> None:
        if self.point.startswith("takeover."):
            if self.point == "takeover.repaired":  # else both may agree, and nothing is repaired
                await _taken_in_silence(on)
            await on.pair.kill(leader, signal.SIGKILL)
            return
        await hand_over(on, leader)
        if self.point.startswith("stepdown."):
            await leads(on, armed)
            await on.paired()
            await hand_over(on, armed)

    async def _dies(self, on: Cluster, child: Child, told: int) -> Bite:
        try:
            event = await on.death([child.name], WITHIN, since=told)
        except TimeoutError:
            raise DidNotBite(f"{child.name} did not end at {self.point}") from None
        if event.detail != "killed by SIGKILL":
            raise DidNotBite(f"{child.name} ended otherwise: {event.detail}")
        return Bite(f"death at {self.point}", moment(event.at), f"{child.name} (pid {child.pid}) has ended", child.name)

    async def _stands(self, on: Cluster, child: Child) -> Bite:
        try:
            async with asyncio.timeout(WITHIN):
                while not await self._is_still(on, child):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise DidNotBite(f"{child.name} did not stand still at {self.point}") from None
        at = now()
        if self.act is Act.STOP:
            await asyncio.sleep(self.seconds)
            if process_state(child.pid) != "T":
                raise DidNotBite(f"{child.name} did not stay stopped")
            child.send(signal.SIGCONT)
        else:
            await on.until(lambda: on.scene.glimpses.get(child.name), WITHIN)
        still = (now() - at).total_seconds()
        if still < self.seconds * 0.6:
            raise DidNotBite(f"{child.name} stood still for {still:.1f} s only")
        what = "whole process" if self.act is Act.STOP else "event loop"
        return Bite(
            f"{what} still at {self.point}", at, f"{child.name} stood still for {still:.1f} s", child.name, now()
        )

    async def _is_still(self, on: Cluster, child: Child) -> bool:
        if child.code is not None:
            raise DidNotBite(f"{child.name} has ended: {child.how_it_ended()}")
        if self.act is Act.STOP:
            return process_state(child.pid) == "T"
        return on.scene.glimpses.get(child.name, "not looked at") is None


@dataclass(frozen=True, slots=True)
class RenewerDies:
    """The thread that renews the leader's lease ends, and nothing else of it: its supervisor's watchdog notices, and kills it."""

    renewals: int = 4

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.led()  # the standby is started again in any case
        armed = on.other(leader)
        points = {armed: f"lease.renew=raise@{self.renewals}"}
        await on.renew([armed], points, {WATCHED: "1"})
        child, told = on.child(armed), len(on.events)
        coming = asyncio.create_task(hand_over(on, leader))
        try:
            event = await on.death([armed], WITHIN, since=told)
        except TimeoutError:
            raise DidNotBite(f"{armed} lives on") from None
        finally:
            await _ended(coming)
        said = (on.directory / "log" / f"{armed}.log").read_text(errors="replace")
        by = [e.detail for e in on.events[told:] if e.kind == "failed" and e.pid == child.pid]
        if "the renewing thread did not come round" not in said or not by:
            raise DidNotBite(f"{armed} ended otherwise: {event.detail}")
        return Bite("the renewing thread dies", moment(event.at), f"{armed} (pid {child.pid}): {by[0]}", armed)


async def _taken_in_silence(on: Cluster, orders: int = 3) -> None:
    """Return at once when the gateway has taken so many orders and said nothing of them: the next leader has to adopt them."""
    await on.broker("POST", "/faults/drop_acks", {"next": orders})
    while "drop_acks" in (await on.broker("GET", "/faults"))["faults"]:
        await asyncio.sleep(0.01)


async def _ended(coming: Awaitable[None]) -> None:
    """The way to the point ends where the point is: what was asked of a dead replica has no answer."""
    task = asyncio.ensure_future(coming)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
