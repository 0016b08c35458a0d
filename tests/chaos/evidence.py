"""What is left of a run: the database's log, and the last words of the replicas, for the judge and for a person."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from engine.clock import boottime
from ha.local.supervise import Event
from tests.chaos.check import Row


def database_log(url: str) -> list[Row]:
    """Every event of the log. Raises psycopg.Error."""
    query = "SELECT seq, epoch, event_type, order_id, payload, created_at, timestamp FROM ledger.event ORDER BY seq"
    with psycopg.connect(url, row_factory=dict_row, connect_timeout=5) as db:
        return [
            Row(
                row["seq"], row["epoch"], row["event_type"], row["order_id"], row["payload"],
                row["created_at"].astimezone(UTC), row["timestamp"].astimezone(UTC),
            )
            for row in db.execute(query)
        ]  # fmt: skip


def claims(url: str) -> dict[int, int]:
    """The log's last event at each claim, by epoch. Raises psycopg.Error."""
    with psycopg.connect(url, connect_timeout=5) as db:
        return dict(db.execute("SELECT epoch, seq FROM ledger.term").fetchall())


def last_words(logs: Path, replicas: Sequence[str], events: Sequence[Event], lines: int) -> str:
    """The end of the replicas' logs and of what the launcher told."""
    shown = []
    for name in replicas:
        path = logs / f"{name}.log"
        text = path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else ["(no log)"]
        shown.append("\n".join([f"---- {name}.log", *text]))
    told = [f"{moment(event.at):%H:%M:%S.%f} {event.part} {event.kind} {event.detail}" for event in events]
    return "\n".join([*shown, "---- launcher", *told[-lines:]])


def moment(at: float) -> datetime:
    """A moment of CLOCK_BOOTTIME as a time in UTC."""
    return datetime.now(UTC) - timedelta(seconds=boottime() - at)


def stopwatch() -> Callable[[], float]:
    """Seconds since now."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
