"""The replica's HTTP server without HTTP: the very handlers that are registered in production, called with a request."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from engine.errors import Problem
from engine.http import Request, Response, problem_response

Handler = Callable[[Request], Awaitable[Response]]


class SimServer:
    """`engine.http.Server`, as far as handlers see it."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self.sockets: dict[str, tuple[Any, Any]] = {}
        self.on_stop: list[Any] = []

    def route(self, method: str, path: str, handler: Handler) -> None:
        """See Server."""
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
        self._routes.append((method, re.compile(pattern), handler))

    def websocket(self, path: str, admit: Any, handler: Any) -> None:
        """See Server."""
        self.sockets[path] = (admit, handler)

    async def handle(self, request: Request) -> Response:
        """The answer to a request; a refusal as the real server renders it. Raises what a handler must not raise."""
        for method, pattern, handler in self._routes:
            if method == request.method and (match := pattern.fullmatch(request.path)) is not None:
                try:
                    return await handler(_with(request, match.groupdict()))
                except Problem as problem:
                    return problem_response(problem)
        raise LookupError(f"{request.method} {request.path}")


def make_request(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Request:
    """A request from its parts."""
    parts = urlsplit(url)
    content = b"" if body is None else json.dumps(body).encode()
    return Request(
        method, parts.path, dict(parse_qsl(parts.query)), dict(headers or {}), {}, content, "127.0.0.1", "sim"
    )


def _with(request: Request, params: Mapping[str, str]) -> Request:
    return Request(
        request.method, request.path, request.query, request.headers, params, request.body, request.remote,
        request.correlation_id,
    )  # fmt: skip
