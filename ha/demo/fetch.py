"""Reading from outside: the replicas' API and the stand-in's control port, as JSON. Interprets nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import aiohttp

PAGE = 500


class FetchFailed(Exception):
    """An address that did not give the JSON it was asked for."""


class Fetch:
    """GET and POST with a deadline in seconds, and a bearer token where one is needed; an async context manager."""

    def __init__(self, timeout: float = 2.0, token: str | None = None) -> None:
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._limits = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetch:
        # straight to this machine's own ports, whatever proxy the environment names
        self._session = aiohttp.ClientSession(timeout=self._limits, headers=self._headers, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def any_status(self, url: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of a GET. Raises FetchFailed when there is no whole answer, or it is no object."""
        return await self._request("GET", url, None)

    async def get(self, url: str) -> dict[str, Any]:
        """The JSON object of a GET that must be answered 200. Raises FetchFailed."""
        status, body = await self._request("GET", url, None)
        if status != 200:
            raise FetchFailed(f"GET {url}: {status} {body.get('title') or ''} {body.get('detail') or ''}".rstrip())
        return body

    async def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object of a POST that must be answered 2xx. Raises FetchFailed."""
        status, answer = await self._request("POST", url, body)
        if not 200 <= status < 300:
            raise FetchFailed(f"POST {url}: {status} {answer}")
        return answer

    async def pages(self, url: str, name: str) -> list[dict[str, Any]]:
        """Every entry of a list that is read by `after` and `limit`. Raises FetchFailed."""
        found: list[dict[str, Any]] = []
        after: int | None = None
        while True:
            body = await self.get(f"{url}?limit={PAGE}" + ("" if after is None else f"&after={after}"))
            found += body[name]
            onward = body.get("next")
            if onward is None:
                return found
            if after is not None and onward <= after:
                raise FetchFailed(f"GET {url}: the next page {onward} does not follow {after}")
            after = onward

    async def _request(self, method: str, url: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        if self._session is None:
            raise RuntimeError("not entered")
        try:
            async with self._session.request(method, url, json=body, allow_redirects=False) as response:
                parsed = await response.json(content_type=None)
                status = response.status
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"{method} {url}: {type(error).__name__} {error}") from error
        if not isinstance(parsed, dict):
            raise FetchFailed(f"{method} {url}: {status}, and no JSON object")
        return status, parsed
