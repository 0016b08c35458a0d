"""The traffic's memory: one JSON line for every attempt's start and every answer, on disk before the next step.

A line has `at` (UTC), `mono_ns` (the writer's monotonic clock), `op` (run, place, cancel), `kind` (invoke, ok,
redirect, unavailable, limited, refused, unknown; for a run start, end), and for an order `client_order_id`, `attempt`,
`url`, `status`, `id`, `state`, `error`. The first invoke of an order has the request itself as `order`.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from .model import OrderRequest
from .outcome import Attempt, Kind


class Record:
    """Appends to one file, which several runs may share one after the other; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._requests: dict[str, OrderRequest] = {}
        self._keys: dict[str, str] = {}

    def __enter__(self) -> Record:
        # line buffered: each line is handed to the kernel whole, and outlives a kill of this process
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(self, *_unused: object) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def expect(self, request: OrderRequest) -> None:
        """Names an order before its first attempt, so that its invoke can carry it."""
        self._requests[request.client_order_id or ""] = request

    def name(self, order_id: str, client_order_id: str) -> None:
        """Which client_order_id stands for this id, for the cancels to come."""
        self._keys[order_id] = client_order_id

    def attempt(self, attempt: Attempt) -> None:
        """Writes one step of an order's way: an observer of `AdapterClient`."""
        entry: dict[str, Any] = {
            "op": attempt.op,
            "client_order_id": self._keys.get(attempt.key, attempt.key),
            "kind": attempt.kind.value,
            "attempt": attempt.number,
            "url": attempt.url,
        }
        if attempt.kind is Kind.INVOKE:
            request = self._requests.pop(attempt.key, None)
            if request is not None:
                entry["order"] = request.body()
        else:
            entry |= {"status": attempt.status, "error": attempt.error or _detail(attempt)}
            body = attempt.body or {}
            entry |= {name: body[name] for name in ("id", "state", "epoch") if name in body}
        self.write(entry)

    def write(self, entry: dict[str, Any]) -> None:
        """Appends one line, stamped with both clocks. Raises RuntimeError when the record is not open."""
        if self._file is None:
            raise RuntimeError(f"the record {self._path} is not open")
        stamp = {"at": datetime.now(UTC).isoformat(timespec="microseconds"), "mono_ns": time.monotonic_ns()}
        self._file.write(json.dumps(stamp | {key: value for key, value in entry.items() if value is not None}) + "\n")


def _detail(attempt: Attempt) -> str | None:
    """A refusal's own words."""
    if attempt.kind is Kind.OK or attempt.body is None:
        return None
    words = [str(attempt.body[name]) for name in ("type", "detail") if attempt.body.get(name)]
    return " ".join(words) or None
