"""Asks both replicas the same thing over HTTP and says which answers there were. For the command line.

An answer that did not come is a value with its reason, never an exception: half of a pair that is being looked at may
well be dead, and that is what the person wants to see.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

DEFAULT_URL = "http://127.0.0.1:8080"
_MOST_BYTES = 64 * 1024 * 1024


class UsageError(Exception):
    """The replicas cannot be asked at all, because of how this was called. The text is for the person who did."""


class NoPair(Exception):
    """There is no pair where the person said that one is."""


@dataclass(frozen=True)
class Answer:
    """What one replica said: its status and JSON body, or (status None) the reason why there is no answer."""

    url: str
    status: int | None = None
    body: Any = None
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it answered 200 with an object."""
        return self.status == 200 and isinstance(self.body, dict)

    @property
    def leads(self) -> bool:
        """Whether the replica that answered called itself the leader."""
        return self.headers.get("adapter-role") == "leader"

    @property
    def position(self) -> tuple[bool, int]:
        """Orders answers by how much they know: the leader's first, then the one with the higher seq."""
        seq = self.headers.get("adapter-seq", "")
        return self.leads, int(seq) if seq.isascii() and seq.isdigit() else -1

    def why(self) -> str:
        """One sentence for an answer that is not a good one."""
        if self.status is None:
            return f"no answer: {self.reason}"
        detail = self.body.get("detail") or self.body.get("title") if isinstance(self.body, dict) else None
        return f"{self.status}: {detail or http.client.responses.get(self.status, 'unknown status')}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Both replicas are asked anyhow, and a token does not travel to an address that nobody named."""

    def redirect_request(self, *_: Any) -> None:
        return None


class PairClient:
    """Asks the replicas at `urls` (each `http(s)://HOST:PORT`), each within `timeout` seconds, all at once."""

    def __init__(self, urls: Sequence[str], token: str | None = None, timeout: float = 2.0) -> None:
        self.urls = tuple(urls)
        self.timeout = timeout
        self._headers = {"Accept": "application/json", "User-Agent": "adapter-cli"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        # no proxy: a replica is asked, not whatever stands between this shell and the internet
        self._opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))

    def also(self, urls: Sequence[str]) -> PairClient:
        """The same, for these replicas too."""
        made = PairClient(tuple(dict.fromkeys((*self.urls, *urls))), None, self.timeout)
        made._headers = self._headers
        return made

    def each(self, path: str, parameters: Mapping[str, Any] | None = None) -> list[Answer]:
        """`GET path` from every replica, in the order of `urls`."""
        if not self.urls:
            return []
        with ThreadPoolExecutor(len(self.urls)) as pool:
            return list(pool.map(lambda url: self.one(url, path, parameters), self.urls))

    def best(self, path: str, parameters: Mapping[str, Any] | None = None) -> tuple[Answer | None, list[Answer]]:
        """The good answer that knows most (None if there is none), and all of them."""
        answers = self.each(path, parameters)
        return max((a for a in answers if a.ok), key=lambda a: a.position, default=None), answers

    def one(self, url: str, path: str, parameters: Mapping[str, Any] | None = None) -> Answer:
        """`GET path` from one replica."""
        given = {key: value for key, value in (parameters or {}).items() if value is not None}
        query = f"?{urlencode(given)}" if given else ""
        return self._ask(urllib.request.Request(f"{url}{path}{query}", headers=self._headers), url, self.timeout)

    def post(self, url: str, path: str, body: Mapping[str, Any], timeout: float) -> Answer:
        """`POST path` to one replica, once. Status None = what became of it is not known."""
        headers = {**self._headers, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), headers, method="POST")
        return self._ask(request, url, timeout)

    def _ask(self, request: urllib.request.Request, url: str, timeout: float) -> Answer:
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return _answer(url, response.status, response.read(_MOST_BYTES), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(url, error.code, error.read(_MOST_BYTES), error.headers)
        except (OSError, http.client.HTTPException) as error:
            return Answer(url, reason=_reason(error, timeout))


def _answer(url: str, status: int, content: bytes, headers: Any) -> Answer:
    lower = {str(name).lower(): str(value) for name, value in headers.items()}
    try:
        body = json.loads(content) if content else None
    except ValueError:
        if status == 200:
            return Answer(url, reason="what answers there is not an adapter (its answer is not JSON)")
        body = None
    return Answer(url, status, body, headers=lower)


def _reason(error: Exception, timeout: float) -> str:
    cause: Any = error
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        cause = error.reason
    known: tuple[tuple[type[Exception], str], ...] = (
        (TimeoutError, f"nothing within {timeout:g} s"),
        (ConnectionRefusedError, "connection refused, nothing listens there"),
        (socket.gaierror, "the host's name is not known"),
        (ssl.SSLError, "the TLS handshake failed"),
        (http.client.RemoteDisconnected, "the connection was closed before an answer"),
        (ConnectionResetError, "the connection was reset before an answer"),
    )
    for kind, said in known:
        if isinstance(cause, kind):
            return said
    return str(getattr(cause, "strerror", None) or cause) or type(cause).__name__


def find_urls(
    given: Sequence[str], environment: Mapping[str, str], directory: Path, *, named: bool = False
) -> list[str]:
    """The replicas' addresses: those given, else ADAPTER_URL (commas between), else DIR/pair.json, else the default.

    A DIR that the person `named` comes before the environment and the default. Raises NoPair if no pair is up there,
    UsageError for an address that is none, or a pair.json that cannot be read.
    """
    urls = list(given)
    if named and not urls and not (urls := _from_pair(directory / "pair.json")):
        raise NoPair(f"no pair is up in {directory}")
    urls = urls or [url for url in environment.get("ADAPTER_URL", "").split(",") if url.strip()]
    urls = urls or _from_pair(directory / "pair.json") or [DEFAULT_URL]
    return list(dict.fromkeys(_checked(url.strip()) for url in urls))


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        port_ok, parts = False, urlsplit("")
    if not port_ok or parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise UsageError(f"{url!r} is not an address of a replica: write http://HOST:PORT")
    return url.rstrip("/")


def _from_pair(path: Path) -> list[str]:
    try:
        pair = json.loads(path.read_text(encoding="utf-8"))
        return [str(replica["url"]) for replica in pair["replicas"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): name the replicas with --url") from error
