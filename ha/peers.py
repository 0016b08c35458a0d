"""Who else is there: the replicas that joined, and what each said of itself when it was last asked.

Each replica writes its name and address beside the leader key; everybody asks everybody for `/health` every two seconds. The
answers are shown, and one thing is decided by them: a replica does not start under a name that a living one has (R34).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from loguru import logger

from engine.clock import Clock, boottime
from ha.lease import LeaderRecord, LeasePort, StateSeen, Stored

ASK_EVERY = 2.0
ANSWERS_WITHIN = 1.0
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
        self._said: set[str] = set()  # sentences that were logged already

    async def namesake(self) -> str | None:
        """A sentence when a living replica has this one's name already; None also when etcd does not say who there is."""
        seen = await self._lease.get_state(_KEY)
        url = _addresses(seen.value).get(self._me.name) if isinstance(seen, StateSeen) else None
        if url is None:
            return None
        async with _session() as session:
            health = await _health_of(session, url)
        if health is None or health.get("name") != self._me.name or health.get("instance") == self._me.instance:
            return None
        return (
            f"REPLICA_NAME={self._me.name} is the name of a replica that runs at {url} (pid {health.get('pid')}): give this one "
            "another name, or stop that one first."
        )

    def start(self) -> None:
        """Join, and begin to ask."""
        self._task = asyncio.create_task(self._ask_for_ever(), name="peers")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _ask_for_ever(self) -> None:
        async with _session() as session:
            while True:
                await self._join()
                await asyncio.gather(*(self._ask(session, peer) for peer in self.others.values()))
                await asyncio.sleep(ASK_EVERY)

    async def _join(self) -> None:
        seen = await self._lease.get_state(_KEY)
        if not isinstance(seen, StateSeen):
            return
        known = _addresses(seen.value)
        if (before := known.get(self._me.name)) != self._me.url:
            if before is not None and (sentence := await self.namesake()) is not None:
                self._say(sentence)  # etcd was away when this one started; the first one keeps the name
                return
            known[self._me.name] = self._me.url
            stored = await self._lease.put_state(_KEY, json.dumps(known), expect=seen.revision, fenced=False)
            if not isinstance(stored, Stored):
                return  # somebody wrote in between: the next round reads it
        for name, url in known.items():
            if name != self._me.name and (name not in self.others or self.others[name].url != url):
                self.others[name] = Peer(name, url)

    async def _ask(self, session: aiohttp.ClientSession, peer: Peer) -> None:
        peer.health, peer.status = None, 0
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError, OSError):
            async with session.get(f"{peer.url}/health") as answer:
                said = await answer.json()
                peer.health, peer.status = (said, answer.status) if isinstance(said, dict) else (None, 0)
        peer.asked_at = self._clock()
        if peer.health is not None:
            self._compare(peer, peer.health)

    def _compare(self, peer: Peer, said: dict[str, Any]) -> None:
        """Say once what is odd about the other one; nothing is done about it."""
        me = self._me
        if said.get("instance") == me.instance:
            self._say(
                f"replica {peer.name} advertises {peer.url}, which is this replica's own address: set ADVERTISE_URL there"
            )
        elif said.get("version") != me.version:
            self._say(f"replica {peer.name} runs version {said.get('version')}, this one {me.version}: end the rollout")

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            logger.warning("{}", sentence)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWERS_WITHIN))


async def _health_of(session: aiohttp.ClientSession, url: str) -> dict[str, Any] | None:
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError, OSError):
        async with session.get(f"{url}/health") as answer:
            said = await answer.json()
            return said if isinstance(said, dict) else None
    return None


def _addresses(stored: str | None) -> dict[str, str]:
    """Names and addresses as they stand in etcd; somebody else's text there counts as nothing, and ours replaces it."""
    try:
        known = json.loads(stored or "{}")
    except ValueError:
        return {}
    return {str(name): str(url) for name, url in known.items()} if isinstance(known, dict) else {}
