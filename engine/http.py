"""The one HTTP server (the only door to aiohttp's server). Rooms register plain handlers: a request in, a response out.

What every answer needs is done here once: problem+json, a correlation id, a limit on the body, a deadline on slow readers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from loguru import logger

from engine.clock import boottime
from engine.door import Door
from engine.errors import Problem, invalid
from engine.reference import random_id
from engine.utf8 import unwritable

MAX_BODY = 64 * 1024
BODY_DEADLINE = 10.0
"""Seconds within which a body must have come."""
SLOW_READER = 10.0
"""Seconds that a stream waits for somebody to take what is written; who takes nothing is dropped, nothing is kept for him."""

_CORRELATION = re.compile(r"^[A-Za-z0-9._:\-]{1,64}$")
_PART = re.compile(r"[^{}/]+")
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE", "PUT"})


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler sees of a request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    params: Mapping[str, str]
    body: bytes
    remote: str
    correlation_id: str

    def json(self) -> Any:
        """The body as JSON (RFC 8259: UTF-8, no NaN; a name twice in an object is refused).

        Raises Problem 400, or 422 with the fields whose text UTF-8 cannot say: nothing of that kind comes in anywhere.
        """
        try:
            found = _decode(self.body.decode("utf-8") or "null")
        except (ValueError, RecursionError) as error:
            raise Problem(400, "malformed", "The body is not JSON", str(error)) from None
        if b"\\u" in self.body and (wrong := unwritable(found)):  # UTF-8 itself carries none, only an escape can
            raise invalid(*wrong)
        return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # whoever reads the first one and whoever reads the last would see different orders
        raise ValueError("a name stands twice in one object")
    return found


# made once: `json.loads` and `json.dumps` make a new one for each call that asks for more than their defaults
_decode = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_each_once).decode
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True)
class Response:
    """What a handler answers: `body` a JSON value, text, or nothing."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    stream: AsyncGenerator[bytes, None] | None = None


Handler = Callable[[Request], Awaitable[Response]]


class Socket:
    """One open WebSocket, as a handler sees it."""

    def __init__(self, raw: web.WebSocketResponse) -> None:
        self._raw = raw

    async def send(self, value: Any) -> None:
        """Send one JSON value. Raises ConnectionError when the other end is gone."""
        try:
            await self._raw.send_str(_encode(value))
        except (ConnectionError, RuntimeError) as error:
            raise ConnectionError(str(error)) from error

    async def received(self) -> AsyncIterator[Any]:
        """What comes, as JSON values, until the other end is gone. What is not JSON ends the connection."""
        async for message in self._raw:
            if message.type is not WSMsgType.TEXT:
                return
            try:
                yield json.loads(message.data)
            except ValueError:
                return


SocketHandler = Callable[[Request, Socket], Awaitable[None]]
Observer = Callable[[str, str, int, float], None]


class PortBusy(Exception):
    """Another process listens there; the text names the port."""


def problem_response(problem: Problem, correlation_id: str | None = None) -> Response:
    """`application/problem+json` for a refusal."""
    body: dict[str, Any] = {
        "type": f"urn:adapter:{problem.kind}", "title": problem.title, "status": problem.status, "detail": problem.detail,
    }  # fmt: skip
    if problem.errors:
        body["errors"] = [{"field": e.field, "message": e.message} for e in problem.errors]
    if correlation_id is not None:
        body["correlation_id"] = correlation_id
    headers = {"Retry-After": str(problem.retry_after)} if problem.retry_after is not None else {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(problem.status, body, headers, "application/problem+json")


class Server:
    """Handlers by method and path; one port or several serve the same ones."""

    def __init__(self, observe: Observer = lambda *_: None, door: Door | None = None) -> None:
        self._observe, self._door = observe, door or Door()
        self._runner: web.AppRunner | None = None
        self._routes: list[tuple[str, str, Handler]] = []
        self._sockets: list[tuple[str, Callable[[Request], None], SocketHandler]] = []
        self.on_stop: list[Callable[[], Awaitable[None]]] = []  # what must end before the server can

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Serve `method` on `path` (`{name}` is a parameter). GET serves HEAD and OPTIONS too."""
        self._routes.append((method, path, handler))

    @property
    def served(self) -> list[tuple[str, str]]:
        """Method and path of every route."""
        return [(method, path) for method, path, _ in self._routes]

    def websocket(self, path: str, admit: Callable[[Request], None], handler: SocketHandler) -> None:
        """Serve a WebSocket on `path`. `admit` raises Problem for whom it does not know; `handler` runs until it is over."""
        self._sockets.append((path, admit, handler))

    async def start(self, host: str, ports: list[int]) -> None:
        """Listen. Raises PortBusy with a sentence that names the port."""
        app = web.Application(client_max_size=MAX_BODY)
        for method, path, handler in self._routes:
            for verb in (method, "HEAD", "OPTIONS") if method == "GET" else (method,):
                app.router.add_route(verb, path, self._wrap(path, handler))
        for path, admit, talk in self._sockets:
            app.router.add_route("GET", path, self._wrap_socket(admit, talk))
        app.router.add_route("*", r"/{anything:[\s\S]*}", self._wrap("", self._nothing_there))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=75)
        await self._runner.setup()
        for port in ports:
            try:
                await web.TCPSite(self._runner, host, port, backlog=1024).start()
            except OSError as error:
                await self.stop()
                raise PortBusy(
                    f"Port {port} on {host} cannot be listened on ({error.strerror or error}); set HTTP_PORT to a free one."
                ) from error

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        for end in self.on_stop:
            await end()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _wrap(self, path: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(raw: web.Request) -> web.StreamResponse:
            started = asyncio.get_running_loop().time()
            correlation_id = _correlation_id(raw)
            try:
                self._door.check(raw.method, raw.path, raw.remote or "", raw.headers, boottime())
                if raw.method == "OPTIONS" and (methods := self._served(raw.path)):
                    response = Response(204, headers={"Allow": ", ".join(methods)})
                else:
                    with logger.contextualize(correlation_id=correlation_id):
                        response = await handler(await _request(raw, correlation_id))
            except Problem as problem:
                response = problem_response(problem, correlation_id)
            except web.HTTPRequestEntityTooLarge:
                response = problem_response(_too_large(), correlation_id)
            except asyncio.CancelledError:
                raise
            except Exception:  # noqa: BLE001 - a defect of ours becomes a 500 with its correlation id, never a broken connection
                with logger.contextualize(correlation_id=correlation_id):
                    logger.exception("unhandled in {} {}", raw.method, raw.path)
                response = problem_response(_DEFECT, correlation_id)
            response.headers |= self._door.headers(raw.headers.get("Origin"))
            method = raw.method if raw.method in _METHODS else "other"
            self._observe(method, path, response.status, asyncio.get_running_loop().time() - started)
            return await _send(raw, response, correlation_id)

        return handle

    def _wrap_socket(
        self, admit: Callable[[Request], None], talk: SocketHandler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(raw: web.Request) -> web.StreamResponse:
            correlation_id = _correlation_id(raw)
            request = Request(
                raw.method, raw.path, raw.query, raw.headers, raw.match_info, b"", raw.remote or "", correlation_id
            )
            try:
                admit(request)
            except Problem as problem:
                return await _send(raw, problem_response(problem, correlation_id), correlation_id)
            socket = web.WebSocketResponse(max_msg_size=MAX_BODY, autoping=True)
            try:
                await socket.prepare(raw)
            except ConnectionError:  # the peer has gone already
                return web.Response(status=400)
            with contextlib.suppress(ConnectionError):
                await talk(request, Socket(socket))
            await socket.close()
            return socket

        return handle

    async def _nothing_there(self, request: Request) -> Response:
        if methods := self._served(request.path):
            problem = Problem(
                405, "method-not-allowed", "Method not allowed", f"{request.method} is not served on {request.path}."
            )
            refused = problem_response(problem, request.correlation_id)
            refused.headers["Allow"] = ", ".join(methods)
            return refused
        raise Problem(404, "no-such-path", "No such path", _why_absent(request.path))

    def _served(self, path: str) -> list[str]:
        """The methods that `path` answers to; empty where nothing is."""
        found = {method for method, pattern, _ in self._routes if _fits(pattern, path)}
        return sorted(found | ({"HEAD", "OPTIONS"} if "GET" in found else set()))


_DEFECT = Problem(500, "internal", "Internal error", "This is a defect; the log has it under the correlation id.")


def _fits(pattern: str, path: str) -> bool:
    parts, given = pattern.split("/"), path.split("/")
    return len(parts) == len(given) and all(
        p == g or (p.startswith("{") and _PART.fullmatch(g)) for p, g in zip(parts, given, strict=True)
    )


def _why_absent(path: str) -> str:
    if path.startswith("/api/v1/auth/token"):
        return "Tokens are issued by the command `adapter token`, not over HTTP."
    return f"There is nothing at {path[:200]}."


def _too_large() -> Problem:
    return Problem(413, "too-large", "The body is too large", f"A body may have {MAX_BODY} bytes.")


def _correlation_id(raw: web.Request) -> str:
    given = raw.headers.get("X-Correlation-ID", "")
    return given if _CORRELATION.match(given) else random_id()


async def _request(raw: web.Request, correlation_id: str) -> Request:
    if (raw.content_length or 0) > MAX_BODY:
        raise _too_large()
    try:
        if raw.content.is_eof():  # all of it is here, as with most orders: there is nothing to wait for
            body = await raw.read()
        else:
            async with asyncio.timeout(BODY_DEADLINE):
                body = await raw.read()
    except TimeoutError:
        why = f"The body must come within {BODY_DEADLINE:g} s."
        raise Problem(408, "slow-body", "The body did not come", why) from None
    except ConnectionError:  # no defect: nobody is left who could read the answer
        raise Problem(400, "no-body", "The body did not come", "The connection ended before the body did.") from None
    return Request(
        raw.method, raw.path, raw.query, raw.headers, raw.match_info, body, raw.remote or "", correlation_id
    )  # fmt: skip


async def _send(raw: web.Request, response: Response, correlation_id: str) -> web.StreamResponse:
    headers = {"X-Correlation-ID": correlation_id, **response.headers}
    if response.stream is not None:
        head = {**headers, "Content-Type": response.content_type}
        return await _stream(raw, web.StreamResponse(status=response.status, headers=head), response.stream)
    if isinstance(response.body, bytes):
        return web.Response(
            status=response.status, body=response.body, headers={**headers, "Content-Type": response.content_type}
        )
    if isinstance(response.body, str):
        return web.Response(
            status=response.status,
            text=response.body,
            headers=headers,
            content_type=response.content_type,
            charset="utf-8",
        )
    body = b"" if response.body is None else _encode(response.body).encode()
    return web.Response(status=response.status, body=body, headers=headers, content_type=response.content_type)


async def _stream(
    raw: web.Request, answer: web.StreamResponse, chunks: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Write what comes as long as somebody reads it. What is not taken in time is not kept: the connection is dropped."""
    async with contextlib.aclosing(chunks):
        with contextlib.suppress(ConnectionError):  # the reader has gone
            await answer.prepare(raw)
            async for chunk in chunks:
                try:
                    async with asyncio.timeout(SLOW_READER):
                        await answer.write(chunk)
                except TimeoutError:
                    logger.warning("a reader of {} takes nothing and is dropped", raw.path)
                    if raw.transport is not None:
                        raw.transport.abort()
                    break
    return answer
