"""The replicas' own connection without a network: what `ha.link` needs of aiohttp's client, and the sockets at both ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from enum import Enum
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.simulation.server import make_request

if TYPE_CHECKING:
    from tests.simulation.replica import Process

LAG = 0.0005
_DIAL_WITHIN = 1.0


class ClientError(Exception):
    """The connection cannot be made, or is gone."""


class WSMsgType(Enum):
    """The one type of message that there is here."""

    TEXT = 1


class _End:
    """One end of a connection."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.other: _End | None = None
        self.closed = False
        self._came: asyncio.Queue[str | None] = asyncio.Queue()
        process.peer_ends.append(self)

    def write(self, text: str | None) -> None:
        """Send a message, or None for the end; it goes through both replicas' links."""
        other, mine = self.other, self.process
        assert other is not None
        theirs = other.process
        mine.replica.peer_link.there.send(
            lambda: theirs.replica.peer_link.back.send(lambda: other.arrive(text), 0.0), LAG
        )

    def arrive(self, text: str | None) -> None:
        """Put it into the process, when that runs."""
        loop, context = self.process.world.loop, self.process.owner.context
        loop.call_soon(self._came.put_nowait, text, context=context)

    async def read(self) -> str:
        """The next message. Raises StopAsyncIteration at the end."""
        text = None if self.closed else await self._came.get()
        if text is None:
            self.closed = True
            raise StopAsyncIteration
        return text

    async def say(self, value: Any) -> None:
        """Send a JSON value. Raises ConnectionError when the connection is gone."""
        if self.closed:
            raise ConnectionError("closed")
        self.write(json.dumps(value))

    def close_now(self) -> None:
        """This end is over; the other one is told."""
        if not self.closed and self.other is not None:
            self.write(None)
        self.closed = True


class _ServerSocket:
    """`engine.http.Socket`."""

    def __init__(self, end: _End) -> None:
        self._end = end

    async def send(self, value: Any) -> None:
        """See Socket."""
        await self._end.say(value)

    def received(self) -> AsyncIterator[Any]:
        """See Socket."""
        return _Values(self._end, plain=True)


class _Values(AsyncIterator[Any]):
    def __init__(self, end: _End, *, plain: bool) -> None:
        self._end, self._plain = end, plain

    async def __anext__(self) -> Any:
        text = await self._end.read()
        return json.loads(text) if self._plain else SimpleNamespace(type=WSMsgType.TEXT, data=text)


class _ClientSocket(_Values):
    """aiohttp's ClientWebSocketResponse."""

    def __init__(self, end: _End) -> None:
        super().__init__(end, plain=False)

    async def send_json(self, value: Any) -> None:
        """Send a JSON value."""
        await self._end.say(value)


class _Dialling:
    """`async with session.ws_connect(url)`."""

    def __init__(self, process: Process, url: str) -> None:
        self._process, self._url, self._end = process, urlsplit(url), _End(process)

    async def __aenter__(self) -> _ClientSocket:
        process, world = self._process, self._process.world
        theirs = world.replicas[str(self._url.hostname)]
        answered: asyncio.Future[bool] = world.loop.create_future()

        def answer(accepted: bool) -> None:
            theirs.peer_link.there.send(
                lambda: process.replica.peer_link.back.send(
                    lambda: answered.done() or answered.set_result(accepted), 0.0
                ),
                LAG,
            )

        def arrive() -> None:
            if not theirs.host_is_gone:
                answer(self._accepted_by(theirs.running))

        process.replica.peer_link.there.send(lambda: theirs.peer_link.back.send(arrive, 0.0), LAG)
        try:
            async with asyncio.timeout(_DIAL_WITHIN):
                accepted = await answered
        except TimeoutError:
            raise ClientError("no answer") from None
        if not accepted:
            raise ClientError("refused")
        return _ClientSocket(self._end)

    def _accepted_by(self, process: Process | None) -> bool:
        if process is None or process.state is None or self._url.path not in process.server.sockets:
            return False
        _, talk = process.server.sockets[self._url.path]
        end = _End(process)
        end.other, self._end.other = self._end, end

        async def serve() -> None:
            try:
                await talk(make_request("GET", self._url.path), _ServerSocket(end))
            except ConnectionError:
                pass
            finally:
                end.close_now()

        process.world.loop.create_task(serve(), name="peer", context=process.owner.context.copy())
        return True

    async def __aexit__(self, *_: object) -> None:
        self._end.close_now()


class SimAiohttp:
    """The names that `ha.link` takes from aiohttp."""

    ClientError = ClientError
    WSMsgType = WSMsgType

    def __init__(self, here: Any) -> None:
        self._here = here

    @staticmethod
    def ClientTimeout(**_: Any) -> None:
        """Not needed: the simulated dial has its own."""

    def ClientSession(self, **_: Any) -> _Session:
        """A session of whoever asks."""
        return _Session(self._here())


class _Session:
    def __init__(self, process: Process) -> None:
        self._process = process

    async def __aenter__(self) -> _Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def ws_connect(self, url: str, **_: Any) -> _Dialling:
        """Dial."""
        return _Dialling(self._process, url)
