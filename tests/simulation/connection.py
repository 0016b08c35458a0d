"""`engine.store.Connection` over the simulated database: the same three outcomes, the same moments at which it counts as closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.store import QUERIES, Refused, Row, Unknown
from tests.simulation.database import Backend
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.replica import Process

PROOFS = frozenset({"claim", "prove", "append"})
_BROKEN = "server closed the connection unexpectedly"


class SimConnection:
    """One connection of one process. `name` is its application name."""

    def __init__(self, world: World, process: Process, name: str) -> None:
        self._world, self._process, self._name = world, process, name
        self._link, self._replica = process.replica.database_link, process.name
        self._backend: Backend | None = None
        self._broken = False  # the server ended it, and the client was told
        self._busy = asyncio.Lock()
        self._answer: asyncio.Future[list[Row] | Refused | Unknown] | None = None
        self._news: asyncio.Queue[str | None] = asyncio.Queue()
        self.backend_pid: int | None = None

    @property
    def is_open(self) -> bool:
        """See Connection."""
        return self._backend is not None

    async def open(self, deadline: float = 3.0) -> None:
        """See Connection."""
        await self.close()
        world, made = self._world, self._world.loop.create_future()

        def arrive() -> None:
            backend = world.database.connect(self._replica, self._name) if world.database.up else None
            self._link.back.send(lambda: answer(backend), self._lag())

        def answer(backend: Backend | None) -> None:
            if made.done():
                if backend is not None:
                    world.database.hung_up(backend)
                return
            made.set_result(backend)

        self._link.there.send(arrive, self._lag() * 2)
        try:
            async with asyncio.timeout(deadline):
                backend = await made
        except TimeoutError:
            raise Unknown(f"no connection to PostgreSQL: no answer within {deadline:g} s") from None
        if backend is None:
            raise Unknown("no connection to PostgreSQL: connection refused")
        self._backend, self._broken, self.backend_pid = backend, False, backend.pid
        backend.on_end.append(lambda: self._link.back.send(lambda: self._ended(backend), self._lag()))

    async def tag(self, application_name: str) -> None:
        """See Connection."""
        self.rename(application_name)
        await self.run("tag", {"name": application_name[:63]})

    def rename(self, application_name: str) -> None:
        """See Connection."""
        self._name = application_name[:63]

    async def close(self) -> None:
        """See Connection."""
        self.close_now()

    def close_now(self) -> None:
        """The client's end is gone, whatever the server's is; the server learns of it when the way is whole."""
        backend, self._backend = self._backend, None
        if backend is not None:
            self._link.there.send(lambda: self._world.database.hung_up(backend), self._lag())
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Unknown("the connection was closed"))
        self._news.put_nowait(None)

    async def run(self, name: str, parameters: Mapping[str, Any] | None = None, deadline: float = 3.0) -> list[Row]:
        """See Connection."""
        assert name in QUERIES, f"there is no statement {name!r}"
        async with self._busy:
            backend = self._backend
            if backend is None:
                raise Unknown("not connected to PostgreSQL")
            if self._broken:
                self.close_now()
                raise Unknown(_BROKEN)
            answer = self._answer = self._world.loop.create_future()
            started = self._world.loop.time()
            self._send(backend, name, dict(parameters or {}), answer)
            try:
                done, _ = await asyncio.wait({answer}, timeout=deadline)
            except asyncio.CancelledError:
                self.close_now()
                raise
            finally:
                self._answer = None
            if not done:
                self.close_now()
                raise Unknown(f"no answer to {name!r} within {deadline:g} s")
            result = answer.result()
            if isinstance(result, Unknown):
                self.close_now()
                raise result
            if isinstance(result, Refused):
                raise result
            if name in PROOFS:
                self._process.proved_at = max(self._process.proved_at, started)
                self._process.proofs += 1
            return result

    def _send(
        self, backend: Backend, name: str, p: dict[str, Any], answer: asyncio.Future[list[Row] | Refused | Unknown]
    ) -> None:
        world, database = self._world, self._world.database
        lost_on_the_way = world.maybe(world.fate.lost_request)
        lost_on_the_way_back = world.maybe(world.fate.lost_reply)

        def arrive() -> None:
            if not backend.alive:
                return
            if lost_on_the_way:
                database.end(backend)
            else:
                database.execute(backend, name, p, done)

        def done(result: list[Row] | Refused) -> None:
            if lost_on_the_way_back:
                world.say("pg", f"the answer to {name} of {self._replica} is lost")
                database.end(backend)
            else:
                self._link.back.send(lambda: reply(result), self._lag())

        def reply(result: list[Row] | Refused) -> None:
            if not answer.done():
                answer.set_result(result)

        self._link.there.send(arrive, self._lag())
        if name == "append" and world.maybe(world.fate.freeze_at_commit):
            self._process.freeze(world.chance.uniform(0.3, 5.0), "with a commit on its way")

    def _ended(self, backend: Backend) -> None:
        if self._backend is backend:
            self._broken = True
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(Unknown(_BROKEN))
            self._news.put_nowait(None)

    def _lag(self) -> float:
        return self._world.fate.database.draw(self._world.chance) / 2

    def notifications(self, channel: str) -> AsyncIterator[str]:
        """See Connection."""
        return _Notifications(self, channel)


class _Notifications(AsyncIterator[str]):
    """LISTEN: a hint for each commit, until the connection breaks."""

    def __init__(self, connection: SimConnection, channel: str) -> None:
        self._connection, self._backend = connection, connection._backend
        connection._news = asyncio.Queue()
        if self._backend is None:
            return
        database = connection._world.database

        def hint() -> None:
            connection._link.back.send(lambda: connection._news.put_nowait(channel), connection._lag(), keep=False)

        database.listeners.append(hint)
        self._backend.on_end.append(lambda: database.listeners.remove(hint))

    async def __anext__(self) -> str:
        if self._backend is None or self._connection._backend is not self._backend or self._connection._broken:
            await self._connection.close()
            raise Unknown("not connected to PostgreSQL")
        news = await self._connection._news.get()
        if news is None:
            await self._connection.close()
            raise Unknown(_BROKEN)
        return news
