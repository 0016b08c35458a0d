"""What an accepted order is compared with: one commit of one row, and one round trip to an HTTP server that does nothing.

`python -m bench.bare PORT` is that server: it reads a body of JSON and answers 201 with an order's worth of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from aiohttp import web

from bench.wire import Wire

ANSWER = {"id": "A" * 16, "state": "QUEUED", "padding": "x" * 700}
STARTS_WITHIN = 20.0  # seconds


class Commit:
    """One row, one commit, on one connection with the server's own settings; the statement is prepared."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def once(self) -> None:
        """Write a row; durable when this returns, as far as the server's settings say so."""
        await self._connection.execute("INSERT INTO bench_scratch (body) VALUES (%s)", ("x" * 500,))


@contextlib.asynccontextmanager
async def committing(owner_url: str) -> AsyncIterator[Commit]:
    """A scratch table of the owner's, gone afterwards."""
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True, prepare_threshold=2) as connection:
        await connection.execute("CREATE SCHEMA IF NOT EXISTS bench_room")
        await connection.execute("SET search_path TO bench_room")
        await connection.execute("CREATE TABLE bench_scratch (id bigserial PRIMARY KEY, body text NOT NULL)")
        try:
            yield Commit(connection)
        finally:
            await connection.execute("DROP SCHEMA bench_room CASCADE")


@contextlib.asynccontextmanager
async def serving(port: int) -> AsyncIterator[Wire]:
    """The trivial server in a process of its own, and a connection to it."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.bare", str(port))
    try:
        async with asyncio.timeout(STARTS_WITHIN):
            while (wire := await _dialled(port)) is None:  # noqa: ASYNC110 - another process's start has no event here
                await asyncio.sleep(0.05)
        async with wire:
            yield wire
    finally:
        child.terminate()
        await child.wait()


async def _dialled(port: int) -> Wire | None:
    try:
        return await Wire.open(f"http://127.0.0.1:{port}")
    except OSError:
        return None


async def _post(request: web.Request) -> web.Response:
    await request.json()
    return web.json_response(ANSWER, status=201)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/", _post)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
