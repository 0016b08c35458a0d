"""Faults of time: one replica's clock steps, or runs wrong, and a machine that is suspended; see faults.py.

A clock of one process: the replica is started with wrong_clock.c before its own calls, and a file says by how much its wall
clock is wrong. (libfaketime would do the same; its 0.9.10 makes time.sleep() fail after a step.) The clocks that count from the
boot go on.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.faults import DidNotBite, now
from tests.chaos.operators import hand_over, leads
from tests.chaos.preload import NO_COMPILER, library
from tests.chaos.trees import awake, signalled, tree

_LIMIT = aiohttp.ClientTimeout(total=1.0)


async def clock_of(on: Cluster, replica: str) -> float | None:
    """How many seconds this replica's clock is ahead, by the header of its answers (of whole seconds); None without one."""
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with (
            aiohttp.ClientSession(timeout=_LIMIT, trust_env=False) as session,
            session.get(f"{on.urls[replica]}/livez") as answer,
        ):
            said = parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
            return (said - datetime.now(UTC)).total_seconds() + 0.5
    return None


@dataclass(frozen=True, slots=True)
class WrongClock:
    """One replica's clock steps by so many seconds, or gains `rate` seconds a second, and is right again later; `leading`
    = whether it is the leader's. The replica is started for it, and again afterwards."""

    step: float
    seconds: float
    leading: bool = True
    rate: float = 1.0

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        found = library("wrong_clock", on.directory)
        if found is None:
            raise DidNotBite(NO_COMPILER)
        leader = await on.led()  # the standby is started again in any case
        wrong = on.other(leader)
        offset = on.directory / f"clock-{wrong}"
        offset.write_text("0 1\n")
        settings = {"LD_PRELOAD": str(found), "WRONG_CLOCK": str(offset)}
        await on.renew([wrong], {}, settings)
        try:
            if self.leading:
                await hand_over(on, leader)
                await leads(on, wrong)
                await on.paired()
            at = now()
            offset.write_text(f"{self.step} {self.rate}\n")
            ahead = await self._watched(on, wrong)
            ended = now()
        finally:
            offset.write_text("0 1\n")
            with suppress(LookupError):
                await on.pair.kill(wrong, signal.SIGKILL)  # its successor has the machine's clock
        if abs(ahead) < max(1.0, abs(self.step) - 1.5):
            raise DidNotBite(f"{wrong}'s clock was {ahead:+.1f} s ahead at most")
        whose = "leader's" if self.leading else "standby's"
        what = f"{whose} clock {self.step:+g} s" + ("" if self.rate == 1.0 else f", at {self.rate:g} times its rate")
        return Bite(
            f"{what} for {self.seconds:g} s", at, f"{wrong}'s answers were dated {ahead:+.1f} s ahead", None, ended
        )

    async def _watched(self, on: Cluster, replica: str) -> float:
        """The most that its clock was wrong by, while the time lasts."""
        most, end = 0.0, asyncio.get_running_loop().time() + self.seconds
        while asyncio.get_running_loop().time() < end:
            if (ahead := await clock_of(on, replica)) is not None:
                most = max(most, ahead, key=abs)
            await asyncio.sleep(0.2)
        return most


@dataclass(frozen=True, slots=True)
class Suspend:
    """Everything stands still for so many seconds, as on a machine that is suspended: every part, with all its processes."""

    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        await on.paired()
        pids = tree(child.pid for child in on.pair.supervisor.children())
        at = now()
        try:
            signalled(pids, signal.SIGSTOP)
            for pause in (0.05, self.seconds - 0.05):
                await asyncio.sleep(pause)
                if left := awake(pids):
                    raise DidNotBite(f"processes {left} were not stopped")
        finally:
            ended = now()
            signalled(reversed(pids), signal.SIGCONT)
        return Bite(
            f"everything suspended for {self.seconds:g} s", at, f"{len(pids)} processes were stopped", None, ended
        )
