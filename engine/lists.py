"""Pages of orders and executions: what memory holds, and from the tables what has left it. Memory's word goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, TypeVar

from engine import views
from engine.archive import Archive
from engine.book import Book
from engine.errors import unavailable
from engine.order import FINAL, Order, State
from engine.position import Execution
from engine.recall import execution_of
from engine.store import Row, StoreError

Page = tuple[list[dict[str, Any]], int | None]
"""Rows in order of `seq`, and the seq after which the next page begins, None when this was the last one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list of orders is asked for."""

    after: int
    limit: int
    state: State | None = None
    symbol: str | None = None
    client_order_id: str | None = None

    def fits(self, order: Order) -> bool:
        """Whether the order belongs there."""
        return (
            order.seq > self.after
            and (self.state is None or order.state is self.state)
            and (self.symbol is None or order.symbol == self.symbol)
            and (self.client_order_id is None or order.client_order_id == self.client_order_id)
        )


class Lists:
    """The two lists."""

    def __init__(self, book: Book, archive: Archive) -> None:
        self._book, self._archive = book, archive

    async def orders(self, asked: Asked) -> Page:
        """Orders, oldest change first. Raises Problem 503 when older ones are wanted and the database does not answer."""
        book = self._book
        here = {e.id: e for e in book.leaving.values() if isinstance(e, Order)} | book.orders
        rows = {o.seq: views.order(o) for o in _first(filter(asked.fits, here.values()), asked.limit)}
        if book.evicted.orders and (asked.state is None or asked.state in FINAL):
            state = asked.state.value if asked.state is not None else None
            filters = {"state": state, "symbol": asked.symbol, "client_order_id": asked.client_order_id}
            last, known = book.evicted.last_order_seq, here.keys()
            for row in await self._older("orders_page", filters, asked, last, lambda row: row["id"] in known):
                rows[row["seq"]] = views.order_row(row)
        return _page(rows, asked.limit)

    async def executions(self, after: int, limit: int) -> Page:
        """Executions in the order in which they were booked. Raises Problem 503 as `orders` does."""
        book, asked = self._book, Asked(after, limit)
        here = {(e.account, e.root): e for e in book.leaving.values() if isinstance(e, Execution)} | book.executions
        first = _first((e for e in here.values() if e.seq > after), limit)
        rows = {e.seq: views.execution(e, self._client_order_id(e)) for e in first}
        if book.evicted.executions:
            last, known = book.evicted.last_execution_seq, here.keys()
            for row in await self._older(
                "executions_page", {}, asked, last, lambda row: (row["account"], row["root"]) in known
            ):
                rows[row["seq"]] = views.execution(execution_of(row), row["client_order_id"])
        return _page(rows, limit)

    def _client_order_id(self, execution: Execution) -> str | None:
        oid = execution.order_id or ""
        order = self._book.orders.get(oid) or self._book.leaving.get(("order", oid))
        return order.client_order_id if isinstance(order, Order) else None

    async def _older(
        self, query: str, filters: dict[str, Any], asked: Asked, last: int, is_here: Callable[[Row], bool]
    ) -> list[Row]:
        """Rows of what is not in memory, up to one more than the page holds. `last`: nothing later has left memory."""
        found: list[Row] = []
        after, at_once = asked.after, asked.limit + 1
        while after < last and len(found) < at_once:
            try:
                rows = await self._archive.page(query, filters | {"after": after, "last": last, "limit": at_once})
            except StoreError as error:
                raise unavailable("database-away", "Older rows cannot be read from the database now.") from error
            found += [row for row in rows if not is_here(row)]
            if len(rows) < at_once:
                break
            after = rows[-1]["seq"]
        return found


Entity = TypeVar("Entity", Order, Execution)


def _first(entities: Iterable[Entity], limit: int) -> list[Entity]:
    """Those of the page, and one more."""
    return nsmallest(limit + 1, entities, key=lambda entity: entity.seq)


def _page(rows: dict[int, dict[str, Any]], limit: int) -> Page:
    seqs = sorted(rows)
    return [rows[seq] for seq in seqs[:limit]], seqs[limit - 1] if len(seqs) > limit else None
