"""One whole pair for a module of tests, on an event loop of its own, and a plain HTTP client that follows nothing."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import pytest

from ha.local.pair import LocalPair
from ha.local.ports import Ports

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds that a test waits for a condition before it fails."""

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: header names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.content)

    @property
    def problem(self) -> str:
        """The kind of a refusal, whose form is checked here."""
        assert self.headers["content-type"] == "application/problem+json", self.content
        body = self.json
        assert body["status"] == self.status
        assert all(isinstance(body[name], str) and body[name] for name in ("type", "title", "detail"))
        assert body["correlation_id"] == self.headers["x-correlation-id"]
        assert body["type"].startswith("urn:adapter:")
        return str(body["type"]).removeprefix("urn:adapter:")

    @property
    def fields(self) -> set[str]:
        """The names of the fields that a refusal names."""
        errors = self.json.get("errors", [])
        assert all(isinstance(e["message"], str) and e["message"] for e in errors)
        return {e["field"] for e in errors}


def ask(
    url: str,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> Answer:
    """One request. `body`: bytes as they are, anything else as JSON, None for none."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        given = {"Content-Type": "application/json"} if content is not None else {}
        connection.request(method, path, content, {**given, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def until(condition: Callable[[], T | Literal[False] | None], what: str, patience: float = PATIENCE) -> T:
    """The condition's value once it is true; fails the test, naming it, when it does not become so in time."""
    end = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"in {patience:g} s it did not come to: {what}")
        time.sleep(0.02)
    return found


def _status(url: str, path: str) -> int | None:
    """The status of a replica's answer, None while it does not answer: killed, or not started again yet."""
    try:
        return ask(url, "GET", path).status
    except OSError:
        return None


class RunningPair:
    """A `LocalPair` on free ports in a thread of its own, for tests that are not asynchronous."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        env = {name: os.environ[name] for name in _KEPT if name in os.environ} | dict(settings)
        self.directory = directory
        self.pair = LocalPair(directory, ports=Ports.free(), env=env)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pair", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 90.0) -> T:
        """Run this on the pair's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def close(self) -> None:
        """End the pair and its loop."""
        try:
            self.run(self.pair.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()

    def urls(self) -> list[str]:
        """Both replicas' addresses."""
        return [replica.url for replica in self.pair.replicas]

    def with_status(self, path: str) -> str | None:
        """The address of the replica that answers 200 on `path`, if just one does."""
        found = [url for url in self.urls() if _status(url, path) == 200]
        return found[0] if len(found) == 1 else None

    def _ready(self, path: str) -> str | None:
        url = self.with_status(path)
        return url if url is not None and ask(url, "GET", "/readyz").status == 200 else None

    @property
    def leader(self) -> str:
        """The leader's address, once there is one with its gate open."""
        return until(lambda: self._ready("/leader"), "a leader with its gate open")

    @property
    def standby(self) -> str:
        """The standby's address, once it is ready."""
        return until(lambda: self._ready("/standby"), "a standby that is ready")

    def control(self, method: str, path: str, body: object = None) -> Any:
        """One call to the gateway's control port."""
        answer = ask(f"http://127.0.0.1:{self.pair.ports.control}", method, path, body)
        assert answer.status == 200, answer.content
        return answer.json

    def journal(self, order_ref_part: str) -> list[dict[str, Any]]:
        """What the gateway wrote of orders whose reference ends in this id."""
        entries = self.control("GET", "/journal?after=0")["entries"]
        return [entry for entry in entries if str(entry.get("order_ref", "")).endswith(order_ref_part)]


@contextmanager
def running_pair(**settings: str) -> Iterator[RunningPair]:
    """A pair with these settings, ready; ended and its files removed afterwards."""
    place = Path(tempfile.mkdtemp(prefix="pa-pair-"))
    try:
        pair = RunningPair(place / "pair", settings)
        try:
            pair.run(pair.pair.start())
            yield pair
        finally:
            pair.close()
    finally:
        shutil.rmtree(place)
