"""Faults of single links: lost one way, black, refused, reset, slow, sliced, and all of them clogged and cleared in random
order. What a link does is measured on the link itself; see faults.py and links.py."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.chaos.at_gateway import HANDSHAKE
from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.faults import DidNotBite, now
from tests.chaos.links import BOTH, Way
from tests.chaos.wiring import Loopback

_NO_ANSWER = 0.5
"""Seconds without an answer that count as none."""
_QUESTIONS = {  # what makes whoever is at the other end say something, and no more
    "postgres": struct.pack("!ii", 8, 80877103),  # SSLRequest
    "gateway": HANDSHAKE,
}
_DATA_SEGMENTS_IN = 152
"""Where Linux' struct tcp_info has tcpi_data_segs_in."""
_HTTP = b"GET /health HTTP/1.0\r\n\r\n"


async def round_trip(on: Cluster, link: str) -> float | None:
    """Seconds from a dial over this link to the first byte of an answer; None when none comes."""
    wiring = on.wiring
    assert isinstance(wiring, Loopback)
    host, _, port = wiring.way(link).rpartition(":")
    began = time.monotonic()
    writer = None
    try:
        async with asyncio.timeout(_NO_ANSWER * 4):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(_QUESTIONS.get(link.partition("-")[2], _HTTP))
            if not await asyncio.wait_for(reader.read(1), _NO_ANSWER * 3):
                return None
            return time.monotonic() - began
    except (OSError, TimeoutError):
        return None
    finally:
        if writer is not None:
            writer.close()


async def pieces(on: Cluster, link: str) -> int:
    """In how many pieces an answer comes over this link, by the kernel's count of segments with data: one or two over a whole
    one. (How often one reads tells of a busy machine: what has come meanwhile is read at once.)"""
    wiring = on.wiring
    assert isinstance(wiring, Loopback)
    host, _, port = wiring.way(link).rpartition(":")
    count = 0
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_NO_ANSWER * 4):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(_QUESTIONS.get(link.partition("-")[2], _HTTP))
            while await reader.read(1 << 16):
                told = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                (count,) = struct.unpack_from("=I", told, _DATA_SEGMENTS_IN)
            writer.close()
    return int(count)


@dataclass(frozen=True, slots=True)
class BadLinks:
    """Something is wrong with these links for so many seconds; `{leader}` and `{standby}` stand for the names.

    `how`: `black` loses what is sent these ways, `refuse` ends connections and takes none, `reset` answers with RST,
    `slow` makes everything take `milliseconds` longer each way, `slice` sends it in crumbs with pauses in between.
    """

    how: str
    names: tuple[str, ...]
    seconds: float
    ways: tuple[Way, ...] = BOTH
    milliseconds: int = 400

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        who = {"leader": leader, "standby": on.other(leader)}
        links = on.links.of(*(name.format_map(who) for name in self.names))
        at = now()
        end = asyncio.get_running_loop().time() + self.seconds
        try:
            await self._break(on, links)
            took = await asyncio.gather(*(self._measured(on, link) for link in links))
            await asyncio.sleep(max(0.0, end - asyncio.get_running_loop().time()))
        finally:
            ended = now()
            await on.links.mend(links)
        seen = {link: None if one is None else round(one, 2) for link, one in zip(links, took, strict=True)}
        if wrong := {link: one for link, one in seen.items() if not self._felt(one)}:
            raise DidNotBite(f"{self.how}: measured {wrong}")
        ways = "" if len(self.ways) > 1 else f" on the way {self.ways[0].name.lower()}"
        evidence = f"{'pieces' if self.how == 'slice' else 'round trips'}: {seen}"
        return Bite(f"{', '.join(self.names)} {self.how}{ways} for {self.seconds:g} s", at, evidence, None, ended)

    async def _break(self, on: Cluster, links: Sequence[str]) -> None:
        match self.how:
            case "black":
                await on.links.cut(links, self.ways)
            case "refuse":
                await on.links.refuse(links)
            case "reset":
                await on.links.toxic(links, "reset_peer", {"timeout": 0}, self.ways)
            case "slow":
                await on.links.slow(links, self.milliseconds, self.milliseconds // 4)
            case "slice":
                crumbs = {"average_size": 24, "size_variation": 12, "delay": self.milliseconds * 10}  # of microseconds
                await on.links.toxic(links, "slicer", crumbs, self.ways)
            case _:
                raise AssertionError(self.how)

    async def _measured(self, on: Cluster, link: str) -> float | None:
        return float(await pieces(on, link)) if self.how == "slice" else await round_trip(on, link)

    def _felt(self, took: float | None) -> bool:
        """Whether this is what such a link makes of a round trip."""
        match self.how:
            case "slow":
                return took is None or took > self.milliseconds * 2 * 0.7 / 1000
            case "slice":
                return took is not None and took > 2
        return took is None


@dataclass(frozen=True, slots=True)
class Swizzle:
    """Links are clogged one after the other, in random order, and cleared one after the other, in another one."""

    order: tuple[str, ...]
    back: tuple[str, ...]
    pause: float = 0.25

    @classmethod
    def of(cls, rng: random.Random, count: int) -> Swizzle:
        """So many of all links, drawn from `rng`."""
        every = [f"{{{who}}}-{to}" for who in ("leader", "standby") for to in ("e1", "e2", "e3", "postgres", "gateway")]
        chosen = rng.sample([*every, "peer-{leader}", "peer-{standby}"], count)
        return cls(tuple(chosen), tuple(rng.sample(chosen, count)), round(rng.uniform(0.1, 0.4), 2))

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        who = {"leader": leader, "standby": on.other(leader)}
        links = [name.format_map(who) for name in self.order]
        at = now()
        try:
            for link in links:
                await on.links.cut([link])
                await asyncio.sleep(self.pause)
            broken = sorted(await on.links.broken())
            for name in self.back:
                await on.links.mend([name.format_map(who)])
                await asyncio.sleep(self.pause)
        finally:
            ended = now()
            await on.links.mend(links)
        if broken != sorted(links):
            raise DidNotBite(f"{links} were to be clogged, {broken} were")
        return Bite(f"{len(links)} links swizzled", at, f"clogged {links}, cleared {list(self.back)}", None, ended)
