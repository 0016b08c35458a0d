"""Faults of the ways between parts, of several parts in the same moment, and of members of etcd; see faults.py."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.faults import DidNotBite, named, now
from tests.chaos.links import BOTH, Way
from tests.chaos.members import used_members
from tests.chaos.parts import MEMBERS
from tests.chaos.trees import awake, signalled, tree


@dataclass(frozen=True, slots=True)
class KillTogether:
    """SIGKILL to all these parts in one turn of the loop; they stay away for so many seconds. Over when they begin to
    start again. With `release` among them nobody gives a dead replica's lease back."""

    parts: tuple[str, ...]
    away: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        supervisor, told = on.pair.supervisor, len(on.events)
        leader = await on.paired()
        names = [await named(on, part) for part in self.parts]
        children = [on.child(name) for name in names]
        supervisor.restart -= set(names)
        at = now()
        try:
            for child in children:
                child.send(signal.SIGKILL)
            for name in names:
                await on.death([name], 2.0, since=told)
            if wrong := [child for child in children if child.code != -signal.SIGKILL]:
                raise DidNotBite("; ".join(f"{child.name}: {child.how_it_ended()}" for child in wrong))
            await asyncio.sleep(self.away)
            ended = now()
            await asyncio.gather(*(supervisor.respawn(name) for name in names))
        finally:
            supervisor.restart |= set(names)
        what = f"kill -9 of {' and '.join(self.parts)}, away for {self.away:g} s"
        pids = ", ".join(f"{child.name} (pid {child.pid})" for child in children)
        return Bite(what, at, f"{pids} were killed", leader if leader in names else None, ended)


@dataclass(frozen=True, slots=True)
class FreezeParts:
    """SIGSTOP to all these parts, with all their processes, for so many seconds, then SIGCONT. Over with the thaw."""

    parts: tuple[str, ...]
    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        children = [on.child(await named(on, part)) for part in self.parts]
        pids = tree(child.pid for child in children)
        at = now()
        try:
            signalled(pids, signal.SIGSTOP)
            for look in (0.05, self.seconds - 0.05):
                await asyncio.sleep(look)
                if left := awake(pids):
                    raise DidNotBite(f"{left} were not stopped")
        finally:
            ended = now()
            signalled(reversed(pids), signal.SIGCONT)
        names = [child.name for child in children]
        what = f"{' and '.join(self.parts)} frozen for {self.seconds:g} s"
        return Bite(what, at, f"{names} were stopped", leader if leader in names else None, ended)


@dataclass(frozen=True, slots=True)
class CutLinks:
    """These links lose what is sent over them, for so many seconds; `{leader}` and `{standby}` stand for the names."""

    names: tuple[str, ...]
    seconds: float
    ways: tuple[Way, ...] = BOTH

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        who = {"leader": leader, "standby": on.other(leader)}
        links = on.links.of(*(name.format_map(who) for name in self.names))
        at = now()
        try:
            await on.links.cut(links, self.ways)
            broken = await on.links.broken()
            await asyncio.sleep(self.seconds)
        finally:
            ended = now()
            await on.links.mend(links)
        if set(broken) != set(links):
            raise DidNotBite(f"{links} were to be cut, {broken} were")
        return Bite(f"{', '.join(self.names)} cut for {self.seconds:g} s", at, f"{broken}", None, ended)


@dataclass(frozen=True, slots=True)
class CutHosts:
    """The cables of these parts' hosts are out for so many seconds. Over when they are back."""

    parts: tuple[str, ...]
    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        hosts = [await named(on, part) for part in self.parts]
        at = now()
        try:
            for host in hosts:
                on.network.cut(host)
            whole = [host for host in hosts if not on.network.is_cut(host)]
            await asyncio.sleep(self.seconds)
            answers = [host for host in hosts if on.scene.glimpses.get(host) is not None]
        finally:
            ended = now()
            for host in hosts:
                on.network.mend(host)
        if whole or answers:
            raise DidNotBite(f"cables still in: {whole}; still answering: {answers}")
        what = f"host of {' and of '.join(self.parts)} cut off for {self.seconds:g} s"
        return Bite(what, at, f"{hosts} had no cable and gave no answer", leader if leader in hosts else None, ended)


@dataclass(frozen=True, slots=True)
class Isolate:
    """The member of etcd that the leader uses sends nothing to the other members for so many seconds: a minority of
    one, which the replicas still reach."""

    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        member = await named(on, "used-member")
        others = [name for name in MEMBERS if name != member]
        at = now()
        try:
            for other in others:
                on.network.lose(member, on.network.address(other))
            await asyncio.sleep(self.seconds)
            left = used_members(on, await on.paired())
        finally:
            ended = now()
            for other in others:
                on.network.find(member, on.network.address(other))
        if left == [member]:
            raise DidNotBite(f"the leader still uses {member}, and nothing else")
        what = f"the leader's member of etcd in a minority for {self.seconds:g} s"
        return Bite(what, at, f"{member} could not reach {others}; the leader went on to {left}", None, ended)


def etcd_away(seconds: float) -> KillTogether:
    """All members killed, and away for so long."""
    return KillTogether(MEMBERS, seconds)
