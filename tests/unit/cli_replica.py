"""Two replicas whose every answer the test decides, for the tests of the command line; and a way to call it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from typer.testing import CliRunner, Result

from ha.cli import app


class Replica:
    """A small HTTP server on an ephemeral port in its own thread. `answers` maps a path to (status, body)."""

    def __init__(self, name: str, role: str, seq: int = 1042) -> None:
        self.name, self.role, self.seq = name, role, seq
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[web.Request] = []
        self.asked: list[tuple[str, str, Any]] = []  # everything but GET, with its body
        self.after: list[Callable[[], None]] = []  # done in turn when such a request has come
        self.pages: Callable[[web.Request], Any] | None = None
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"replica-{name}")
        self._thread.start()
        assert self._up.wait(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = web.Application()
        server.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(server)
        self._loop.run_until_complete(self._runner.setup())
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        headers = {"Adapter-Role": self.role, "Adapter-Epoch": "5", "Adapter-Seq": str(self.seq)}
        if request.path == "/api/v1/orders" and self.pages:
            return web.json_response(self.pages(request), headers=headers)
        if request.method != "GET":
            self.asked.append((request.method, request.path, await request.json()))
            if self.after:
                self.after.pop(0)()
        key = request.path if request.method == "GET" else f"{request.method} {request.path}"
        status, body = self.answers.get(key, (404, {"title": "No such path", "detail": "There is none."}))
        if status == 0:
            await asyncio.sleep(2)  # longer than anybody in the tests waits
        if isinstance(body, str):
            return web.Response(status=status or 504, text=body, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()


def health(name: str, role: str, **other: Any) -> dict[str, Any]:
    """The body of `GET /health`, to the letter."""
    leads = role == "leader"
    return {
        "status": "ok",
        "role": role,
        "state": "LEADING" if leads else "STANDBY",
        "name": name,
        "instance": "i",
        "pid": 11,
        "cluster": "desk1",
        "epoch": 5,
        "term_started_at": "2026-03-04T11:00:00.000000Z",
        "lease_trust_ms": 1480 if leads else None,
        "gate": {"open": leads, "reasons": [] if leads else ["standby"]},
        "gateway": {"session": leads, "link": leads, "next_order_id": 18},
        "database": {"reachable": True, "seq": 1042},
        "etcd": {"reachable": True, "members": 3},
        "tail": {"seq": 1042, "lag_ms": 3, "digest": "ff"},
        "breaks": 0,
        "paused": False,
        "halted": False,
        "version": "0.1.0",
        "uptime_ms": 3_723_000,
        **other,
    }


def call(*arguments: str, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(app, list(arguments), env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def both(pair: tuple[Replica, Replica]) -> list[str]:
    return ["--url", pair[0].url, "--url", pair[1].url]


@contextmanager
def two_replicas() -> Iterator[tuple[Replica, Replica]]:
    """A leader a and a standby b."""
    a = Replica("a", "leader")
    try:
        b = Replica("b", "standby")
        try:
            yield a, b
        finally:
            b.stop()
    finally:
        a.stop()
