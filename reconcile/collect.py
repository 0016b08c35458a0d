"""Ask the broker for everything, one request after another, under one deadline. Thin shell around `reconcile.snapshot`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import TypeVar

from loguru import logger

from engine.book import Book
from engine.broker import Broker, ExecutionFact, Known, RequestFailed
from engine.clock import Clock, boottime, utcnow
from engine.position import Execution, execution_root
from reconcile.snapshot import (
    COMPLETED_ORDERS,
    DECODED,
    EXECUTIONS,
    LINK,
    OPEN_ORDERS,
    POSITIONS,
    ROUND_TRIP,
    Snapshot,
    unexplained,
)

T = TypeVar("T")
Request = Callable[[float], Awaitable[T]]

LEAST = 0.05
"""Seconds that a request gets at least, however little is left."""


IB_ANSWERS_WITHIN = 2.0
"""Seconds after which IB's own servers count as out of reach: a lost link may be told by silence only."""


def no_losses() -> int:
    """The count of decoder losses where nobody counts."""
    return 0


OVERLAP = timedelta(seconds=10)
"""A recent snapshot asks for executions from so long before the last known one: they are not booked in the order of their times."""


async def collect(
    broker: Broker,
    *,
    deadline: float,
    lists: float = 0.0,
    at_most: float = inf,
    book: Book,
    session: int,
    recent: bool = False,
    prove_link: bool = False,
    losses: Callable[[], int] = no_losses,
    link_up: Callable[[], bool] = lambda: True,
    clock: Clock = boottime,
) -> Snapshot:
    """One snapshot, within about `deadline` seconds; never raises for what the broker does not answer.

    `lists`: seconds more for what comes once the gateway has answered the round trip; `at_most`: seconds after which nothing is
    waited for any more, not even a list that is coming.

    A round trip comes first. Open orders are asked for before completed ones, those before executions, executions before
    positions: what moves on meanwhile shows in a later part. A part that fails is named in `missing`; one that never ends costs
    at most half of the time that was left, so that the others still come. `losses` counts messages that could not be decoded:
    when it moved, the snapshot is missing something and does not know what (R23). `link_up` says whether the gateway has a link to
    IB: without one, before or after, what is not shown may be on its way. It learns of a lost link late; so `prove_link` asks IB's
    own servers for something before and after (R6), which costs about a second. Without it nothing is proven absent.

    `recent`: ask for what happened since the ledger's last execution. Where that leaves an order without an explanation, ask for
    the completed orders that have not ended here, and for the executions since that order was accepted: nothing older is about
    it. Where the broker does not show that very execution (its filter means something else than we do), ask for the whole day.
    """
    asking = _Asking(broker, clock, deadline, at_most)
    started, first, lost, up = utcnow(), book.seq + 1, losses(), link_up()
    await asking.part(ROUND_TRIP, asking.round_trip)
    if not asking.missing:
        asking.ends = min(asking.ends + lists, asking.latest)
    if prove_link and not asking.missing:
        await asking.part(LINK, asking.ask_ib)
    open_orders = await asking.part(OPEN_ORDERS, broker.open_orders)
    known = next(reversed(book.executions.values()), None) if recent else None
    snapshot = Snapshot(session, first, started, started, open_orders)
    if known is not None:
        executions = await asking.part(EXECUTIONS, lambda limit: broker.executions(limit, known.at - OVERLAP))
        snapshot = replace(snapshot, executions=executions, recent=_shows(executions, known))
    unclear = unexplained(book, snapshot)
    if known is not None and snapshot.recent and not asking.lists_missing and unclear:
        since = min(known.at, *(book.orders[oid].created_at for oid in unclear)) - OVERLAP
        completed = await asking.part(COMPLETED_ORDERS, lambda limit: broker.completed_orders(limit, _ended_here(book)))
        executions = await asking.part(EXECUTIONS, lambda limit: broker.executions(limit, since))
        snapshot = replace(snapshot, completed_orders=completed, executions=executions, recent=False)
    elif not snapshot.recent or asking.lists_missing:
        asking.forget(EXECUTIONS)
        completed = await asking.part(COMPLETED_ORDERS, lambda limit: broker.completed_orders(limit, _left(book)))
        executions = await asking.part(EXECUTIONS, broker.executions)
        snapshot = replace(snapshot, completed_orders=completed, executions=executions, recent=False)
    positions = await asking.part(POSITIONS, broker.positions, is_last=not prove_link)
    if prove_link and LINK not in asking.missing:
        await asking.part(LINK, asking.ask_ib, is_last=True)
    if losses() != lost:
        asking.missing.append(DECODED)
    if (not up or not link_up()) and LINK not in asking.missing:
        asking.missing.append(LINK)
    snapshot = replace(
        snapshot, positions=positions, missing=tuple(asking.missing), ended_at=utcnow(), linked=prove_link
    )
    logger.debug("collected: {}", snapshot)
    return snapshot


def _ended_here(book: Book) -> Known:
    """Whether the order with a permId has ended in the ledger too."""

    def known(perm_id: int) -> bool:
        order = book.orders.get(book.by_perm_id.get(perm_id, ""))
        return order.final if order is not None else perm_id in book.evicted.perm_ids

    return known


def _left(book: Book) -> Known | None:
    """Whether the order with a permId ended so long ago that it has left memory: a day's list brings it each time."""
    if not book.evicted.orders:
        return None
    return lambda perm_id: perm_id not in book.by_perm_id and perm_id in book.evicted.perm_ids


class _Asking:
    """One request after another, until `ends`; `missing` names those that failed."""

    def __init__(self, broker: Broker, clock: Clock, deadline: float, at_most: float) -> None:
        self._broker, self._clock = broker, clock
        self.latest = clock() + at_most
        self.ends = min(clock() + deadline, self.latest)
        self.missing: list[str] = []

    @property
    def lists_missing(self) -> bool:
        """Whether something that was asked of the gateway itself did not come."""
        return bool(set(self.missing) - {LINK})

    async def part(self, name: str, request: Request[list[T]], *, is_last: bool = False) -> tuple[T, ...]:
        """What the broker answers; nothing, and the name in `missing`, when it does not."""
        began, left = self._clock(), max(self.ends - self._clock(), LEAST)
        limit = left if is_last else left / 2
        try:
            async with asyncio.timeout(None if self.latest == inf else max(self.latest - began, limit)):
                return tuple(await request(limit))
        except (RequestFailed, TimeoutError) as failed:
            why = str(failed) or "it was coming, and there was no more time for it"
            logger.warning("the broker's {} did not come: {}", name.replace("_", " "), why)
            self.missing.append(name)
            return ()
        finally:  # a list that was coming had more time than that, and does not take it from the others
            self.ends = min(self.ends + max(0.0, self._clock() - began - limit), self.latest)

    async def round_trip(self, limit: float) -> list[int]:
        """The proof of life."""
        return [await self._broker.current_time(limit)]

    async def ask_ib(self, limit: float) -> list[int]:
        """The proof that the gateway's link is up, which the gateway alone cannot give (R6)."""
        await self._broker.ask_ib(min(limit, IB_ANSWERS_WITHIN))
        return []

    def forget(self, name: str) -> None:
        """The part is asked for once more."""
        if name in self.missing:
            self.missing.remove(name)


def _shows(executions: tuple[ExecutionFact, ...], known: Execution) -> bool:
    return any((fact.account, execution_root(fact.exec_id)[0]) == (known.account, known.root) for fact in executions)
