"""A real PostgreSQL for tests: the embedded server, started once a session, a fresh migrated database for each test.

TEST_POSTGRES_BIN=/usr/lib/postgresql/15/bin names the programs of another version to be tested with.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from engine.migrate import Identity, migrate
from ha.local import postgres, secret
from ha.local.ports import Ports
from ha.local.process import Child, spawn

OTHER = os.environ.get("TEST_POSTGRES_BIN")
IDENTITY = Identity("test1", "sim", 17)


@dataclass(frozen=True, slots=True)
class Urls:
    """One database: as its owner, and as the adapter's role."""

    owner: str
    adapter: str


class Postgres:
    """The server of one session, on an event loop of its own (its pidfd is watched there)."""

    def __init__(self, directory: Path) -> None:
        if OTHER:
            postgres.binaries = lambda: Path(OTHER)
            postgres._SETTINGS.pop("io_method", None)  # of version 18
        self.ports = Ports.free()
        self.secrets = secret.load(directory)
        self.server = postgres.Server(directory, self.ports, {"PATH": "/usr/bin:/bin"})
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.child: Child | None = None

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(90)

    async def _start(self) -> None:
        (self.server.data.parents[1] / "log").mkdir(exist_ok=True)
        await self.server.prepare(self.secrets)
        self.child = spawn(self.server.spec())
        while not await self.server.ready(self.child.pid):
            assert self.child.code is None, self.child.last_lines()
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        if self.child is not None:
            ended = self.child.stop((signal.SIGINT, 10.0))
            asyncio.run_coroutine_threadsafe(ended, self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def url(self, role: str, database: str) -> str:
        password = self.secrets.owner if role == postgres.OWNER else self.secrets.adapter
        return self.server.url(role, password).rsplit("/", 1)[0] + f"/{database}"

    def fresh(self, *, migrated: bool = True) -> Urls:
        """A schema of its own: the owner's database is emptied, because the owner may not create another."""
        urls = Urls(self.url(postgres.OWNER, postgres.DATABASE), self.url(postgres.ADAPTER, postgres.DATABASE))
        with psycopg.connect(urls.owner, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS ledger CASCADE"))
        if migrated:
            migrate(urls.owner, urls.adapter, IDENTITY)
        return urls


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="pa-pg-") as directory:
        server = Postgres(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()
