"""Faults as values: what is broken, and the proof that it was. A fault that did not bite raises, and does not count."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tests.chaos.check import Bite
from tests.chaos.cluster import CLIENT_ID, Cluster
from tests.chaos.evidence import moment
from tests.chaos.members import etcd_leader, used_members

LEAST_STALL = 2.0  # seconds; longer than a lease lives without its owner


class DidNotBite(Exception):
    """The fault was asked for and did not take effect."""


class Fault(Protocol):
    """Something that goes wrong. `strike` returns when it has, or when it is over for one that lasts."""

    async def strike(self, on: Cluster) -> Bite:
        """Break it. Raises DidNotBite."""
        ...


def now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to the part of that name; `leader` and `standby` are who they are at that moment."""

    part: str

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        name = await named(on, self.part)
        child, at = on.child(name), now()
        await on.pair.kill(name, signal.SIGKILL)
        if child.code != -signal.SIGKILL:
            raise DidNotBite(f"{name} (pid {child.pid}): {child.how_it_ended()}")
        silent = name if self.part == "leader" else None
        return Bite(f"kill -9 {self.part}", at, f"{name} (pid {child.pid}): {child.how_it_ended()}", silent)


@dataclass(frozen=True, slots=True)
class KillBoth:
    """SIGKILL to both replicas in one turn of the loop."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader, told, at = await on.paired(), len(on.events), now()
        pids = [on.child(name).pid for name in on.urls]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for name in on.urls:
            await on.death([name], 2.0, since=told)
        return Bite("kill -9 of both replicas", at, f"pids {pids} have ended", leader)


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP to the leader for so many seconds, then SIGCONT."""

    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        name = await on.paired()
        pid, at = on.child(name).pid, now()
        await on.pair.kill(name, signal.SIGSTOP)
        await asyncio.sleep(0.05)
        if process_state(pid) != "T":
            raise DidNotBite(f"{name} (pid {pid}) is not stopped")
        await asyncio.sleep(self.seconds - 0.05)
        if process_state(pid) != "T":
            raise DidNotBite(f"{name} (pid {pid}) did not stay stopped")
        ended = now()
        await on.pair.kill(name, signal.SIGCONT)
        return Bite(f"leader frozen for {self.seconds:g} s", at, f"{name} (pid {pid}) was stopped", name, ended)


@dataclass(frozen=True, slots=True)
class Away:
    """SIGKILL to a part that is then kept away for so many seconds and started again; over when the start begins."""

    part: str
    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        supervisor, name = on.pair.supervisor, await named(on, self.part)
        supervisor.restart.discard(name)
        try:
            bite = await Kill(name).strike(on)
            await asyncio.sleep(self.seconds)
            ended = now()
            await supervisor.respawn(name)
        finally:
            supervisor.restart.add(name)
        return Bite(f"{self.part} away for {self.seconds:g} s", bite.at, bite.evidence, None, ended)


@dataclass(frozen=True, slots=True)
class Restart:
    """SIGKILL to a part, which its supervisor starts again; over when it is ready."""

    part: str
    within: float = 40.0

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        told, name = len(on.events), await named(on, self.part)
        bite = await Kill(name).strike(on)
        async with asyncio.timeout(self.within):
            while not (ready := [e for e in on.events[told:] if e.kind == "ready" and e.part == name]):
                await asyncio.sleep(0.02)
        return Bite(f"{self.part} killed and restarted", bite.at, bite.evidence, None, moment(ready[0].at))


@dataclass(frozen=True, slots=True)
class Together:
    """Two faults in the same moment; the bite is the first one's."""

    first: Fault
    second: Fault

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        one, two = await asyncio.gather(self.first.strike(on), self.second.strike(on))
        return replace(one, fault=f"{one.fault} and {two.fault}", evidence=f"{one.evidence}; {two.evidence}")


@dataclass(frozen=True, slots=True)
class CloseSessions:
    """The gateway drops its clients' sessions."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        sessions = {one["session"] for one in (await on.broker("GET", "/sessions"))["sessions"]}
        at = now()
        await on.broker("POST", "/faults/close_sessions", {})
        left = {one["session"] for one in (await on.broker("GET", "/sessions"))["sessions"]}
        if not sessions or sessions & left:
            raise DidNotBite(f"sessions before {sorted(sessions)}, after {sorted(left)}")
        return Bite("the gateway closes its sessions", at, f"sessions {sorted(sessions)} are gone")


@dataclass(frozen=True, slots=True)
class DropAcks:
    """The gateway takes the next orders and says nothing of them. Over when it has taken so many."""

    orders: int
    within: float = 2.0

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        before, at = (await on.journal())[-1]["seq"], now()
        await on.broker("POST", "/faults/drop_acks", {"next": self.orders})
        async with asyncio.timeout(self.within):
            while "drop_acks" in (await on.broker("GET", "/faults"))["faults"]:
                await asyncio.sleep(0.01)
        taken = [e for e in await on.journal() if e["seq"] > before and e["kind"] == "order"][: self.orders]
        if len(taken) < self.orders or any(e.get("client_id") != CLIENT_ID for e in taken):
            raise DidNotBite(f"{len(taken)} orders were taken in silence, {self.orders} were meant")
        perm_ids = tuple(entry["perm_id"] for entry in taken)
        return Bite(f"{self.orders} orders taken in silence", at, f"permIds {perm_ids}", perm_ids=perm_ids)


@dataclass(frozen=True, slots=True)
class Dies:
    """One of these replicas, armed before, ends at its failpoint."""

    points: dict[str, str]
    """Failpoint by replica."""
    within: float = 10.0

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        told = len(on.events)
        try:
            event = await on.death(list(self.points), self.within, since=told)
        except TimeoutError:
            raise DidNotBite(f"no replica ended at its failpoint: {self.points}") from None
        if event.detail != "killed by SIGKILL":
            raise DidNotBite(f"{event.part} ended otherwise: {event.detail}")
        evidence = f"{event.part} (pid {event.pid}) has ended"
        return Bite(f"death at {self.points[event.part]}", moment(event.at), evidence, event.part)


@dataclass(frozen=True, slots=True)
class Stalls:
    """A replica, armed before, stands still at its failpoint; over when it answers again."""

    replica: str
    point: str
    within: float = 20.0

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        seen = on.scene.glimpses
        try:
            await on.until(lambda: True if seen.get(self.replica) is None else None, self.within)
            at = now()
            await on.until(lambda: seen.get(self.replica), self.within)
        except TimeoutError:
            raise DidNotBite(f"{self.replica} did not stand still, or for ever") from None
        still = (now() - at).total_seconds()
        if still < LEAST_STALL:
            raise DidNotBite(f"{self.replica} gave no answer for {still:.1f} s only")
        return Bite(f"standstill at {self.point}", at, f"{self.replica} gave no answer for {still:.1f} s", None, now())


async def named(on: Cluster, part: str) -> str:
    """The part's own name: `leader` and `standby` are the replicas' roles now, `etcd-leader` is who leads etcd,
    `etcd-follower` a member that does not, `used-member` the member of etcd that the leader has a connection to."""
    match part:
        case "leader":
            return await on.paired()
        case "standby":
            return on.other(await on.paired())
        case "etcd-leader":
            return await etcd_leader(on)
        case "etcd-follower":
            first = await etcd_leader(on)
            return next(name for name in on.living() if name != first)
        case "used-member":
            [used, *_] = used_members(on, await on.paired())
            return used
        case _:
            return part


def process_state(pid: int) -> str:
    """`R`, `S`, `T`: the state as /proc has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
