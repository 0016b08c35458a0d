"""Ask the broker for everything, one request after another, under one deadline. Thin shell around `reconcile.snapshot`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from loguru import logger

from engine.book import Book
from engine.broker import Broker, RequestFailed
from engine.clock import Clock, boottime, utcnow
from reconcile.snapshot import COMPLETED_ORDERS, DECODED, EXECUTIONS, OPEN_ORDERS, POSITIONS, ROUND_TRIP, Snapshot

T = TypeVar("T")
Request = Callable[[float], Awaitable[T]]

LEAST = 0.05
"""Seconds that a request gets at least, however little is left."""


def no_losses() -> int:
    """The count of decoder losses where nobody counts."""
    return 0


async def collect(
    broker: Broker,
    *,
    deadline: float,
    book: Book,
    session: int,
    losses: Callable[[], int] = no_losses,
    clock: Clock = boottime,
) -> Snapshot:
    """One snapshot, within about `deadline` seconds; never raises for what the broker does not answer.

    A round trip comes first. Open orders are asked for before completed ones, those before executions, executions before
    positions: what moves on meanwhile shows in a later part. A part that fails is named in `missing`; one that never ends costs
    at most half of the time that was left, so that the others still come. `losses` counts messages that could not be decoded:
    when it moved, the snapshot is missing something and does not know what (R23).
    """
    started, ends, first, lost = utcnow(), clock() + deadline, book.seq + 1, losses()
    missing: list[str] = []

    async def ask(name: str, request: Request[list[T]], *, is_last: bool = False) -> tuple[T, ...]:
        left = max(ends - clock(), LEAST)
        try:
            return tuple(await request(left if is_last else left / 2))
        except RequestFailed as failed:
            logger.warning("the broker's {} did not come: {}", name.replace("_", " "), failed)
            missing.append(name)
            return ()

    async def round_trip(limit: float) -> list[int]:
        return [await broker.current_time(limit)]

    await ask(ROUND_TRIP, round_trip)
    open_orders = await ask(OPEN_ORDERS, broker.open_orders)
    completed = await ask(COMPLETED_ORDERS, broker.completed_orders)
    executions = await ask(EXECUTIONS, broker.executions)
    positions = await ask(POSITIONS, broker.positions, is_last=True)
    if losses() != lost:
        missing.append(DECODED)
    return Snapshot(
        session, first, started, utcnow(), open_orders, completed, executions, positions, tuple(missing)
    )  # fmt: skip
