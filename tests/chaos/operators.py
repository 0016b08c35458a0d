"""What operators do, also two of them at once, also while something else is wrong; see faults.py."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.faults import DidNotBite, now

_LIMIT = aiohttp.ClientTimeout(total=5.0)


async def command(on: Cluster, replica: str, what: str, body: Mapping[str, Any]) -> tuple[int, str]:
    """`POST /api/v1/cluster/WHAT` at this replica; status and text. Raises aiohttp.ClientError, TimeoutError."""
    headers = {} if on.token is None else {"Authorization": f"Bearer {on.token}"}
    url = f"{on.urls[replica]}/api/v1/cluster/{what}"
    async with (
        aiohttp.ClientSession(timeout=_LIMIT, trust_env=False, headers=headers) as session,
        session.post(url, json=dict(body)) as answer,
    ):
        return answer.status, await answer.text()


async def hand_over(on: Cluster, leader: str, *, force: bool = True, within: float = 10.0) -> None:
    """Have this leader hand over, asked again while it says "not now" (412). Raises DidNotBite."""
    try:
        async with asyncio.timeout(within):
            while True:
                status, text = await command(on, leader, "switchover", {"force": force})
                if status == 202:
                    return
                if status != 412:
                    raise DidNotBite(f"switchover at {leader}: {status} {text}")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise DidNotBite(f"{leader} refused to hand over for {within:g} s") from None


async def leads(on: Cluster, replica: str, within: float = 20.0) -> None:
    """Return when this replica leads with an open gate. Raises DidNotBite."""
    try:
        await on.until(lambda: True if on.scene.leader() == replica else None, within)
    except TimeoutError:
        raise DidNotBite(f"{replica} does not lead after {within:g} s: {on.scene.disagreement()}") from None


@dataclass(frozen=True, slots=True)
class Switchover:
    """The leader hands over by name, `times` in a row."""

    times: int = 1

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        names = [await on.paired()]
        at = now()
        for _ in range(self.times):
            await hand_over(on, names[-1])
            names.append(on.other(names[-1]))
            await leads(on, names[-1])
            await on.paired()
        return Bite(f"{self.times} switchovers", at, f"leaders were {names}", None, now())


@dataclass(frozen=True, slots=True)
class TwoOperators:
    """Two operators in the same moment: both ask the leader to hand over, one of them the standby as well, and one
    pauses the pair. In the end it is resumed."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader, at = await on.paired(), now()
        standby = on.other(leader)
        asked = await asyncio.gather(
            command(on, leader, "switchover", {"force": True}),
            command(on, leader, "switchover", {"to": standby, "force": True}),
            command(on, standby, "switchover", {"force": True}),
            command(on, leader, "pause", {"reason": "the other operator"}),
            return_exceptions=True,
        )
        try:
            answers = [one if isinstance(one, BaseException) else one[0] for one in asked]
            if not any(answer in (202, 200) for answer in answers[:3]):
                raise DidNotBite(f"nobody was obeyed: {asked}")
            await leads(on, standby)
        finally:
            await resumed(on)
        return Bite("two operators at once", at, f"they were answered {answers}", None, now())


@dataclass(frozen=True, slots=True)
class PausedDeath:
    """The pair is paused, and its leader is killed: nobody takes over, the same replica leads again. Then it is resumed."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        status, text = await command(on, leader, "pause", {"reason": "a maintenance"})
        if status != 202:
            raise DidNotBite(f"pause at {leader}: {status} {text}")
        try:
            told, at = len(on.events), now()
            await on.pair.kill(leader, signal.SIGKILL)
            await leads(on, leader, 30.0)
        finally:
            await resumed(on)
        [death, *_] = [e for e in on.events[told:] if e.kind == "ended" and e.part == leader]
        return Bite(
            "leader killed in a pause", at, f"{leader} (pid {death.pid}) was killed and leads again", leader, now()
        )


@dataclass(frozen=True, slots=True)
class HaltAndOn:
    """An operator halts the pair for so many seconds: nothing new is accepted. Then trading goes on."""

    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader, at = await on.paired(), now()
        status, text = await command(on, leader, "halt", {"reason": "chaos"})
        try:
            if status != 202:
                raise DidNotBite(f"halt at {leader}: {status} {text}")
            await asyncio.sleep(self.seconds)
        finally:
            ended = now()
            await _obeyed(on, "unhalt")
        return Bite(f"halted for {self.seconds:g} s", at, f"{leader} answered {status}", None, ended)


async def resumed(on: Cluster) -> None:
    """The end of a pause, whoever leads by now. Raises DidNotBite."""
    await _obeyed(on, "resume")


async def _obeyed(on: Cluster, what: str, within: float = 20.0) -> None:
    try:
        async with asyncio.timeout(within):
            while True:
                for replica in on.urls:
                    with suppress(aiohttp.ClientError, TimeoutError, OSError):
                        if (await command(on, replica, what, {}))[0] == 202:
                            return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise DidNotBite(f"nobody obeyed {what} for {within:g} s") from None
