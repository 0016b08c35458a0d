"""A TCP relay in front of one member of etcd that loses what a test wants lost, at the very call it wants.

gRPC names a call's path in the clear the first time that a connection makes it, so the relay can wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """`swallow`: from the next call of this name on, its connection brings no answers any more, requests still pass.
    `hold`: the same, and the request itself is kept back until `let_go` is set. Each acts once. `cut`: no connection
    passes at all."""

    target: str
    port: int = 0
    swallow: bytes | None = None
    hold: bytes | None = None
    cut: bool = False
    accepted: int = 0
    acted: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    delivered: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def drop_all(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        host, _, port = self.target.rpartition(":")
        try:
            if self.cut:
                return
            self.accepted += 1
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            self._writers.add(far_writer)
            mute = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, far_writer, mute))
                group.create_task(self._answers(far_reader, writer, mute))
            self._writers.discard(far_writer)
        except* (OSError, asyncio.CancelledError):
            pass  # a connection that broke, or the end of the test
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if self.swallow is not None and self.swallow in data:
                self.swallow = None
                mute.set()
                self.acted.set()
            if self.hold is not None and self.hold in data:
                self.hold = None
                mute.set()
                self.acted.set()
                await self.let_go.wait()
                writer.write(data)
                await writer.drain()
                self.delivered.set()
                await reader.read()  # what came after the call (its cancellation) never arrives
                return
            writer.write(data)
            await writer.drain()
        if not mute.is_set():
            writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if not mute.is_set():
                writer.write(data)
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        self.drop_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def proxy(target: str) -> AsyncIterator[Proxy]:
    """A relay to `target` on a port of its own."""
    relay = Proxy(target)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
