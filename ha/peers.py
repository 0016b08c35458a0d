"""Who else is there: the replicas that joined, and what each said of itself when it was last asked.

Each replica writes its name and address beside the leader key; everybody asks everybody for `/health` once a second. The answers
are shown, nothing is decided by them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from engine.clock import Clock, boottime
from ha.lease import LeaderRecord, LeasePort, StateSeen, Stored

ASK_EVERY = 1.0
_KEY = "replicas"


@dataclass(slots=True)
class Peer:
    """Another replica, and its last word."""

    name: str
    url: str
    health: dict[str, Any] | None = None
    status: int = 0
    asked_at: float = float("-inf")


class Peers:
    """Keeps `others` fresh while it runs."""

    def __init__(self, lease: LeasePort, me: LeaderRecord, clock: Clock = boottime) -> None:
        self._lease, self._me, self._clock = lease, me, clock
        self.others: dict[str, Peer] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Join, and begin to ask."""
        self._task = asyncio.create_task(self._ask_for_ever(), name="peers")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _ask_for_ever(self) -> None:
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await self._join()
                await asyncio.gather(*(self._ask(session, peer) for peer in self.others.values()))
                await asyncio.sleep(ASK_EVERY)

    async def _join(self) -> None:
        seen = await self._lease.get_state(_KEY)
        if not isinstance(seen, StateSeen):
            return
        known: dict[str, str] = {}
        with contextlib.suppress(ValueError):  # somebody else's text there is overwritten by ours
            known = dict(json.loads(seen.value or "{}"))
        if known.get(self._me.name) != self._me.url:
            known[self._me.name] = self._me.url
            stored = await self._lease.put_state(_KEY, json.dumps(known), expect=seen.revision, fenced=False)
            if not isinstance(stored, Stored):
                return  # somebody wrote in between: the next round reads it
        for name, url in known.items():
            if name != self._me.name and (name not in self.others or self.others[name].url != url):
                self.others[name] = Peer(name, url)

    async def _ask(self, session: aiohttp.ClientSession, peer: Peer) -> None:
        try:
            async with session.get(f"{peer.url}/health") as answer:
                peer.health, peer.status = await answer.json(), answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
            peer.health, peer.status = None, 0
        peer.asked_at = self._clock()
