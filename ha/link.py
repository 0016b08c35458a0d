"""The replicas' own connection: the standby dials the leader's `/internal/peer`, and both say again and again how they are.

The leader's words are its heartbeat (R30). The standby's words tell the leader whether it could take over: a leader without a
proof of epoch, or about to hand over on purpose, goes by them (R12, R17). Authenticated by a token signed with API_SECRET_KEY;
without one both replicas are on one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
from loguru import logger

from engine.clock import Clock, boottime
from engine.errors import Problem
from engine.http import Request, Socket

PATH = "/internal/peer"
_AUDIENCE = "adapter-peer"
_TOKEN_LIFE = 60
FIT_EVERY = 0.3
"""Pause between two words of a standby that could take over, in seconds: what hangs on them takes a second and more (R12, R17)."""


@dataclass(slots=True)
class Heard:
    """The other replica's last words, and when they came (CLOCK_BOOTTIME seconds)."""

    at: float = float("-inf")
    words: dict[str, Any] = field(default_factory=dict)

    def fresh(self, now: float, within: float = 1.0) -> bool:
        """Whether they are young enough to act on."""
        return now - self.at <= within


class Link:
    """Both ends of the connection. `speak()` gives this replica's words, `on_words(words)` hears the other's."""

    def __init__(
        self,
        name: str,
        instance: str,
        secret: str | None,
        every: float,
        speak: Callable[[], dict[str, Any]],
        on_words: Callable[[dict[str, Any]], None],
        clock: Clock = boottime,
    ) -> None:
        self._name, self._instance, self._secret, self._every = name, instance, secret, every
        self._fit_every = max(every, FIT_EVERY)
        self._speak, self._on_words, self._clock = speak, on_words, clock
        self.heard = Heard()
        self._leader_url: str | None = None
        self._redial = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sockets: set[Socket] = set()

    def start(self) -> None:
        """Begin to dial whenever `follow` names a leader."""
        self._task = asyncio.create_task(self._dial_for_ever(), name="link")

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def follow(self, leader_url: str | None) -> None:
        """Dial this leader from now on; None = there is none, or it is this replica."""
        if leader_url != self._leader_url:
            self._leader_url = leader_url
            self._redial.set()

    async def tell(self, words: dict[str, Any]) -> None:
        """Say something at once to whoever is connected here (the leader's side)."""
        for socket in list(self._sockets):
            with contextlib.suppress(ConnectionError):
                await socket.send(words)

    # ---- the leader's side

    def admit(self, request: Request) -> None:
        """Raises Problem 401 for whoever is not the other replica."""
        if self._secret is None:
            return
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=_AUDIENCE,
                options={"require": ["exp", "aud"]},
                leeway=30,
            )
        except jwt.PyJWTError:
            raise Problem(401, "unauthorized", "Not authenticated", "This path is for the other replica.") from None

    async def talk(self, _request: Request, socket: Socket) -> None:
        """Serve the standby that dialled."""
        self._sockets.add(socket)
        speaking = asyncio.create_task(self._speak_for_ever(socket.send))
        try:
            async for words in socket.received():
                self._hear(words)
        finally:
            self._sockets.discard(socket)
            speaking.cancel()
            await asyncio.wait({speaking})

    # ---- the standby's side

    async def _dial_for_ever(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=1.0, sock_connect=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                self._redial.clear()
                if self._leader_url is None:
                    await self._redial.wait()
                    continue
                talking = asyncio.create_task(self._talk_to(session, self._leader_url))
                changed = asyncio.create_task(self._redial.wait())
                try:
                    await asyncio.wait({talking, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (talking, changed):
                        task.cancel()
                    await asyncio.wait({talking, changed})
                if not self._redial.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await self._redial.wait()

    async def _talk_to(self, session: aiohttp.ClientSession, url: str) -> None:
        headers = {} if self._secret is None else {"Authorization": f"Bearer {self._token()}"}
        try:
            async with session.ws_connect(f"{url}{PATH}", headers=headers, max_msg_size=64 * 1024) as socket:
                speaking = asyncio.create_task(self._speak_for_ever(socket.send_json))
                try:
                    async for message in socket:
                        if message.type is aiohttp.WSMsgType.TEXT:
                            self._hear(json.loads(message.data))
                finally:
                    speaking.cancel()
                    await asyncio.wait({speaking})
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.debug("no link to {}: {}", url, error)

    def _token(self) -> str:
        claims = {"sub": self._name, "aud": _AUDIENCE, "exp": int(time.time()) + _TOKEN_LIFE}
        return jwt.encode(claims, self._secret or "", algorithm="HS256")

    # ---- both

    async def _speak_for_ever(self, send: Callable[[Any], Any]) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            while True:
                words = self._speak()
                await send({"name": self._name, "instance": self._instance, **words})
                await asyncio.sleep(self._fit_every if words.get("fit") else self._every)

    def _hear(self, words: Any) -> None:
        if isinstance(words, dict) and words.get("instance") != self._instance:
            self.heard = Heard(self._clock(), words)
            self._on_words(words)
