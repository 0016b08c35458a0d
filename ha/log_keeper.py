"""What the leader does for the log's storage, once a minute: close a part that is over, and now and then measure and forecast.

On a connection of its own, under its epoch, so that no order waits for it but for the moment of the cut, and a claim can end it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from engine.metrics import Metrics
from engine.store import LOCK_TIMEOUT, Connection, Refused, Row, StoreError, writer_name
from ha.ledger_archive import LARGEST_PART

EVERY = 60.0
MEASURED_EVERY = 10
"""Looks between two measurements."""

_A_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes in the database, and how many come each day at the pace of the last week; NaN = not measured here."""

    log: float = math.nan
    tables: float = math.nan
    per_day: float = math.nan

    def in_days(self, days: float) -> float:
        """What log and tables will take then, if nothing is archived."""
        return self.log + self.tables + days * self.per_day


def measured(row: Row) -> Size:
    """From `log_size`. A log younger than a day is taken as one day's."""
    log, tables = float(row["log_bytes"]), float(row["other_bytes"])
    each = log / max(row["events"], 1) + tables / max(row["head"], 1)
    days = max(float(row["seconds"] or 0.0), _A_DAY) / _A_DAY
    return Size(log, tables, each * float(row["events_of_the_week"] or 0) / days)


class LogKeeper:
    """Runs in every replica and acts in the leader. `leads` is its epoch while it leads, else None."""

    def __init__(self, url: str, replica: str, leads: Callable[[], int | None], metrics: Metrics) -> None:
        self._url, self._replica, self._leads = url, replica, leads
        self._task: asyncio.Task[None] | None = None
        self._looks = 0
        self.size = Size()
        metrics.gauge("adapter_log_bytes", "The event log in the database, with its indexes.", lambda: self.size.log)
        metrics.gauge(
            "adapter_tables_bytes", "Keys, checkpoints and the tables that people query.", lambda: self.size.tables
        )
        metrics.gauge(
            "adapter_ledger_growth_bytes_per_day", "Growth at the last week's pace.", lambda: self.size.per_day
        )
        metrics.gauge(
            "adapter_ledger_forecast_bytes",
            "Log and tables in 30 days, if nothing is archived.",
            lambda: self.size.in_days(30),
        )

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._keep_for_ever(), name="log keeper")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _keep_for_ever(self) -> None:
        while True:
            if (epoch := self._leads()) is None:
                self.size, self._looks = Size(), 0
                await asyncio.sleep(1.0)
                continue
            try:
                await self.look(epoch)
            except StoreError as error:
                logger.warning("the log's parts were not looked after, trying again in {:g} s: {}", EVERY, error)
            await asyncio.sleep(EVERY)

    async def look(self, epoch: int) -> None:
        """Close the open part if it is over, and measure if it is time. Raises StoreError; what was refused is tried again."""
        connection = Connection(self._url, writer_name(epoch, self._replica))
        await connection.open()
        try:
            await self._close_part(connection, epoch)
            if self._looks % MEASURED_EVERY == 0:
                [row] = await connection.run("log_size")
                self.size = measured(row)
            self._looks += 1
        finally:
            await connection.close()

    async def _close_part(self, connection: Connection, epoch: int) -> None:
        try:
            [row] = await connection.run("close_part", {"epoch": epoch, "most": LARGEST_PART})
        except Refused as refused:
            if refused.sqlstate != LOCK_TIMEOUT:
                logger.warning("the log's part was not closed: {}", refused)
            return
        if row["closed"]:
            logger.info("the log goes on in a new part; {} is closed", row["closed"])
