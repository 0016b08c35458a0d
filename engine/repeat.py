"""A key is unique for ever (R37), also when its order has left memory.

Nothing is read on the way of a new order: its commit takes the key in the database, and is refused where the key was taken before.
Only a refusal is looked into: when the ledger has the order, it is answered as any repetition is.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine import accept
from engine.archive import Archive
from engine.book import Book
from engine.desk_settings import Asker
from engine.errors import Problem, unavailable
from engine.order import Order
from engine.reference import order_id
from engine.request import OrderRequest, conflict
from engine.store import StoreError
from engine.submit import Desk


class Repeats:
    """The desk, with a memory that reaches back to the first order."""

    def __init__(self, book: Book, desk: Desk, archive: Archive) -> None:
        self._book, self._desk, self._archive = book, desk, archive

    async def place_all(self, requests: Sequence[OrderRequest], asker: Asker) -> list[tuple[int, Order]]:
        """As `Desk.place_all`; 200 with an order that left memory, 409 for another body under its key. Raises Problem."""
        for request in requests:
            known = self._book.orders.get(self._id(request, asker))
            if known is not None and known.body is None:
                await self._same(known, request)
        try:
            return await self._desk.place_all(requests, asker)
        except Problem as refused:
            if refused.status == 504 or not self._book.evicted.orders:
                raise
            left = await self._left([self._id(request, asker) for request in requests])
            if not left:
                raise
        answers = {
            oid: (200, await self._same(left[oid], request))
            for request in requests
            if (oid := self._id(request, asker)) in left
        }
        if rest := [request for request in requests if self._id(request, asker) not in left]:
            fresh = await self._desk.place_all(rest, asker)
            answers |= dict(zip([self._id(request, asker) for request in rest], fresh, strict=True))
        return [answers[self._id(request, asker)] for request in requests]

    async def order(self, oid: str) -> Order | None:
        """An order that left memory, None where there is none. Raises Problem 503 when the database does not say."""
        return (await self._left([oid])).get(oid)

    async def said(self, refused: Problem, oid: str) -> Problem:
        """What to say of a call about an order: that it has ended, where it was called unknown because it left memory."""
        if refused.status != 404 or await self.order(oid) is None:
            return refused
        return Problem(409, "order-final", "The order has ended", f"Order {oid} has ended.")

    async def _same(self, known: Order, request: OrderRequest) -> Order:
        """`accept.same`; an order whose events were archived is compared with what its key keeps of the body (R37)."""
        if known.body is None:
            try:
                same = await self._archive.has_body(known.id, request.canonical())
            except StoreError as error:
                raise unavailable("database-away", "Older orders cannot be read from the database now.") from error
            if same is not None:
                if not same:
                    raise conflict(request.client_order_id)
                return known
        return accept.same(known, request)

    async def _left(self, ids: Sequence[str]) -> dict[str, Order]:
        wanted = [oid for oid in ids if oid not in self._book.orders] if self._book.evicted.orders else []
        try:
            found = await self._archive.orders(wanted)
        except StoreError as error:
            raise unavailable("database-away", "Older orders cannot be read from the database now.") from error
        return {oid: one.order for oid, one in found.items() if one.order is not None}

    def _id(self, request: OrderRequest, asker: Asker) -> str:
        return order_id(self._desk.settings.cluster, asker.subject, request.client_order_id)
