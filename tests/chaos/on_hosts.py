"""Faults between hosts, by rules of nftables on one host: one direction lost, half of everything lost, a reset, a dead peer
whose connections nobody ends. The kernel's own counters say that packets were affected; see faults.py and namespaces.py."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.faults import DidNotBite, named, now
from tests.chaos.wiring import Hosts


class To(StrEnum):
    """Who is at the other end."""

    GATEWAY = "gateway"
    POSTGRES = "postgres"
    ETCD = "etcd"
    PEER = "peer"


class Does(StrEnum):
    """What becomes of a packet."""

    LOST = "drop"
    HALF_LOST = "numgen random mod 100 < 50 drop"
    RESET = "reject with tcp reset"


class Going(StrEnum):
    """Which packets, seen from the host that has the rule."""

    OUT = "out"
    IN = "in"


EACH_WAY = (Going.OUT, Going.IN)


def rules(on: Cluster, host: str, to: To, does: Does, going: tuple[Going, ...]) -> Iterator[tuple[Going, str]]:
    """Rules for this host: what it says to whom it dials, and what it hears from there."""
    assert isinstance(on.wiring, Hosts)
    for address, port in on.wiring.dialled(host)[to.value]:
        for way in going:
            end, side = ("daddr", "dport") if way is Going.OUT else ("saddr", "sport")
            chance, _, verdict = does.value.rpartition(" ") if does is Does.HALF_LOST else ("", "", does.value)
            yield way, " ".join(filter(None, (f"ip {end} {address} tcp {side} {port}", chance, f"counter {verdict}")))


@dataclass(frozen=True, slots=True)
class BadWay:
    """What a host and those whom it dials say to each other is lost, or reset, for so many seconds."""

    part: str
    to: To
    seconds: float
    does: Does = Does.LOST
    going: tuple[Going, ...] = EACH_WAY

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        host = await named(on, self.part)
        at = now()
        try:
            on.network.forbid(host, rules(on, host, self.to, self.does, self.going))
            await asyncio.sleep(self.seconds)
            counted = on.network.forbidden(host)
        finally:
            ended = now()
            on.network.allow(host)
        if not counted:
            raise DidNotBite(f"no packet between {host} and {self.to} met the rule")
        what = f"{self.part} to {self.to} {self.does.name.lower().replace('_', ' ')}, {' and '.join(self.going)}"
        silent = leader if host == leader and self.to is To.GATEWAY else None
        return Bite(f"{what}, for {self.seconds:g} s", at, f"{counted} packets met the rule", silent, ended)


@dataclass(frozen=True, slots=True)
class DeadPeer:
    """The leader's process is killed on a host whose last packets to the gateway are lost: its connection is half open, and
    nobody but the next leader's agent ends it. Over when that has happened."""

    within: float = 8.0

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader, before, at = await on.paired(), (await on.journal())[-1]["seq"], now()
        sessions = {one["session"] for one in (await on.broker("GET", "/sessions"))["sessions"]}
        try:
            on.network.forbid(leader, rules(on, leader, To.GATEWAY, Does.LOST, EACH_WAY))
            await on.pair.kill(leader, signal.SIGKILL)
            told = await self._told(on, before, sessions)
            counted = on.network.forbidden(leader)
        finally:
            ended = now()
            on.network.allow(leader)
        if told[:1] != ["session_refused"] or not counted:
            raise DidNotBite(f"sessions {sorted(sessions)}: {told}; {counted} packets were lost")
        evidence = f"session {sorted(sessions)} outlived {leader}: {told}; {counted} packets were lost"
        return Bite("the leader's host dies with its connection half open", at, evidence, leader, ended)

    async def _told(self, on: Cluster, before: int, sessions: set[int]) -> list[str]:
        """What the journal tells of sessions, until the last of these has ended: of one that stands, first a refusal."""
        told: list[str] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self.within):
                while "session_closed" not in told:
                    await asyncio.sleep(0.05)
                    entries = (await on.broker("GET", f"/journal?after={before}"))["entries"]
                    told = [
                        entry["kind"] for entry in entries
                        if entry["kind"] == "session_refused"
                        or (entry["kind"] == "session_closed" and entry["session"] in sessions)
                    ]  # fmt: skip
        return told
