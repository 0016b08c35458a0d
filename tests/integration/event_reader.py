"""A reader of server-sent events for tests: a plain connection and the lines that come over it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.integration.pair_fixture import until


@dataclass(frozen=True, slots=True)
class Told:
    """One event."""

    id: str
    kind: str
    data: dict[str, Any]


class Reader:
    """Reads from `url` in a thread until the stream ends. `events` is all that came, `comments` how many comments."""

    def __init__(self, url: str, query: str = "", headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        self._connection.request("GET", f"/api/v1/events{query}", headers=dict(headers or {}))
        self._socket = self._connection.sock
        self._response = self._connection.getresponse()
        self.status, self.headers = self._response.status, {k.lower(): v for k, v in self._response.getheaders()}
        self.events: list[Told] = []
        self.comments = 0
        self.ended: str | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            found: dict[str, str] = {}
            for raw in self._response:
                line = raw.decode().rstrip("\n")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    found[name] = value
                elif found:
                    self.events.append(Told(found["id"], found["event"], json.loads(found["data"])))
                    found = {}
            self.ended = "cleanly"
        except (OSError, http.client.HTTPException) as error:
            self.ended = f"{type(error).__name__}: {error}"

    def seqs(self) -> list[int]:
        return [told.data["seq"] for told in self.events]

    def until_seq(self, seq: int) -> None:
        until(lambda: self.events and self.events[-1].data["seq"] >= seq, f"event {seq} on the stream")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it has ended by itself
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
