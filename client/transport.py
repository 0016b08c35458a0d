"""One attempt over HTTP: send, follow at most one redirect, and say what it came to. Decides nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
from yarl import URL

from .outcome import Attempt, Kind, classify, read_retry_after

Observer = Callable[[Attempt], None]

# raised before a connection exists: not a byte of the request can have been read
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Transport:
    """Sends attempts over one connection pool and reports the start and the end of each to the observer."""

    def __init__(
        self, token: str | None, *, connect_timeout: float, connections: int, observer: Observer | None
    ) -> None:
        self._token = token
        self._connect_timeout = connect_timeout
        self._connections = connections
        self._observer = observer
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes every connection. The next attempt would open new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def attempt(
        self,
        base: str,
        path: str,
        *,
        method: str,
        op: str,
        key: str,
        number: int,
        timeout: float,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Attempt:
        """The end of one attempt, `url` being the replica that gave it. Takes at most twice `timeout` seconds.

        A redirect is followed once, with the same method, body and token. A second one, or one that would carry the
        token from https to http, counts as UNAVAILABLE: a replica that redirects has written nothing.
        """
        target = URL(base + path)
        if params:
            target = target.update_query(params)
        payload = None if body is None else json.dumps(body).encode()
        started = Attempt(op=op, key=key, number=number, url=origin_of(target), kind=Kind.INVOKE)
        answer = await self._observed(started, method, target, payload, timeout)
        if answer.kind is not Kind.REDIRECT:
            return answer
        onward = _onward(target, answer.location)
        if onward is None:
            return replace(answer, kind=Kind.UNAVAILABLE, error=f"cannot follow a redirect to {answer.location!r}")
        second = await self._observed(replace(started, url=origin_of(onward)), method, onward, payload, timeout)
        if second.kind is Kind.REDIRECT:
            return replace(second, kind=Kind.UNAVAILABLE, error="redirected twice")
        return second

    async def _observed(
        self, started: Attempt, method: str, target: URL, payload: bytes | None, timeout: float
    ) -> Attempt:
        self._tell(started)
        ended = await self._send(started, method, target, payload, timeout)
        self._tell(ended)
        return ended

    async def _send(self, started: Attempt, method: str, target: URL, payload: bytes | None, timeout: float) -> Attempt:
        limits = aiohttp.ClientTimeout(total=timeout, connect=min(timeout, self._connect_timeout))
        headers = {"Accept": "application/json"}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            async with self._pool().request(
                method, target, data=payload, headers=headers, timeout=limits, allow_redirects=False
            ) as response:
                raw = await response.read()
                return _judge(started, response.status, response.headers, raw)
        except _NEVER_SENT as error:
            return replace(started, kind=Kind.UNAVAILABLE, error=f"{type(error).__name__}: {error}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return replace(started, kind=Kind.UNKNOWN, error=f"{type(error).__name__}: {error}")

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=self._connections))
        return self._session

    def _tell(self, attempt: Attempt) -> None:
        if self._observer is not None:
            self._observer(attempt)


def origin_of(url: URL | str) -> str:
    """`scheme://host:port` of an address, which is how a replica is named here."""
    parsed = URL(url)
    return str(parsed.origin())


def _onward(target: URL, location: str | None) -> URL | None:
    """Where a redirect leads, or None when it leads nowhere that the token may go."""
    if not location:
        return None
    try:
        onward = target.join(URL(location))
        if onward.scheme not in {"http", "https"} or not onward.host:
            return None
    except ValueError:
        return None
    return None if (target.scheme, onward.scheme) == ("https", "http") else onward


def _judge(started: Attempt, status: int, headers: Mapping[str, str], raw: bytes) -> Attempt:
    """The attempt's end from a complete answer. A 2xx that cannot be read is unknown: it may have been written."""
    kind = classify(status)
    body = _json_object(raw)
    error = None
    if kind is Kind.OK and body is None:
        kind, error = Kind.UNKNOWN, f"{status} with a body that is no JSON object"
    return replace(
        started,
        kind=kind,
        status=status,
        body=body,
        error=error,
        retry_after=read_retry_after(headers.get("Retry-After"), datetime.now(UTC)),
        location=headers.get("Location"),
    )


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(raw)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
