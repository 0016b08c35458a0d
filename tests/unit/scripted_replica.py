"""A replica whose every answer the test decides: real HTTP on loopback, for the tests of the client and its traffic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

ORDER: dict[str, Any] = {
    "id": "ABCDEFGHIJKLMNOP",
    "client_order_id": "s1-000001",
    "state": "SENDING",
    "reason": None,
    "symbol": "AAPL",
    "side": "BUY",
    "quantity": "10",
    "filled": "4",
    "remaining": "6",
    "average_price": "190.48",
    "order_type": "LMT",
    "limit_price": "190.50",
    "tif": "DAY",
    "perm_id": 900000017,
    "broker_order_id": 17,
    "cancel_requested": False,
    "revision": 1,
    "epoch": 5,
    "seq": 1042,
    "subject": "local",
    "correlation_id": "c",
    "sent_at": "2026-01-02T03:04:05.000006+00:00",
    "acknowledged_at": None,
    "created_at": "2026-01-02T03:04:05.000001Z",
    "updated_at": "2026-01-02T03:04:05.000001Z",
}


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    async def reply(request: web.Request) -> web.StreamResponse:
        return web.json_response(body if body is not None else {}, status=status, headers=headers)

    return reply


def problem(status: int, urn: str = "urn:adapter:test", **more: Any) -> Answer:
    headers = {"Retry-After": more.pop("retry_after")} if "retry_after" in more else {}
    body = {"type": urn, "title": "no", "status": status, "detail": "because", **more}
    return answer(status, body, **headers)


def accepted(status: int = 201) -> Answer:
    async def reply(request: web.Request) -> web.StreamResponse:
        sent = json.loads(await request.read())
        return web.json_response(ORDER | {"client_order_id": sent["client_order_id"]}, status=status)

    return reply


def redirect(other: Replica) -> Answer:
    async def reply(request: web.Request) -> web.StreamResponse:
        location = f"{other.url}{request.path}?hop=1"
        return web.Response(status=307, headers={"Location": location})

    return reply


async def drop_after_reading(request: web.Request) -> web.StreamResponse:
    """The request arrives whole, and then the replica is gone."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def stay_silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


@dataclass
class Seen:
    method: str
    path: str
    query: dict[str, str]
    authorization: str | None
    body: Any


@dataclass
class Replica:
    """Gives its answers in turn, the last one for ever."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    async def saw(self, count: int, within: float = 20.0) -> None:
        """Returns when so many requests have come; raises TimeoutError when they do not."""
        async with asyncio.timeout(within):
            while len(self.seen) < count:
                self._came.clear()
                await self._came.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else None
        self.seen.append(
            Seen(request.method, request.path, dict(request.query), request.headers.get("Authorization"), body)
        )
        self._came.set()
        reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await reply(request)


@asynccontextmanager
async def listening(replica: Replica) -> AsyncIterator[Replica]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", replica.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        replica.url = f"http://127.0.0.1:{port}"
        yield replica
    finally:
        await runner.cleanup()


async def a_free_port() -> str:
    """An address where nobody listens."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}"
