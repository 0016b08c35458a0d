"""Contracts, asked of IB once and remembered: what a request means, and by which steps its prices move.

Unknown is no verdict: while there is no session, or no answer in time, an order that names its symbol is accepted as it is and IB
judges it; one that names a conId alone cannot be, because nobody knows what it is.

A contract that the ledger has traded is known after a failover too: the first order of a new leader waits for nobody, and IB is
asked for the steps of its prices behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal

from loguru import logger

from engine.book import Book
from engine.broker import Broker, ContractDetail, ContractQuery, RequestFailed
from engine.errors import FieldError, Problem, invalid, unavailable
from engine.events import Event, Kind
from engine.order import Order
from engine.request import OrderRequest

LOOK_UP_WITHIN = 2.0
"""Seconds that an order waits for IB's answer about a contract that nobody has asked for before."""
_QUERY = tuple(item.name for item in fields(ContractQuery))
PRICES = ("limit_price", "stop_price")
SHOWN = 5
"""Contracts that are named to whoever was ambiguous."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What a request is about. `con_id` 0 and `tick` None: nobody could say yet."""

    symbol: str
    con_id: int = 0
    tick: Decimal | None = None


class Contracts:
    """The memory, in front of one broker."""

    def __init__(self, broker: Broker, book: Book) -> None:
        self._broker, self._book = broker, book
        self._known: dict[ContractQuery, Meant] = {}
        self._traded: dict[ContractQuery, Meant] = {}  # from the ledger, without the steps of its prices
        self._asking: dict[ContractQuery, asyncio.Task[None]] = {}
        self._shared: dict[ContractQuery, asyncio.Future[Meant | None]] = {}
        book.observers.append(self._learn)

    def remembered(self, request: OrderRequest) -> Meant | None:
        """What is known of the request's contract without asking."""
        query = query_of(request)
        return self._known.get(query) or self._traded.get(query)

    def _learn(self, event: Event) -> None:
        """The broker showed an order: that is what its contract's description means."""
        if event.kind == Kind.ORDER_WORKING and (order := self._book.orders.get(event.order_id or "")) and order.con_id:
            asked = query_of_order(order)
            self._traded[asked] = Meant(order.symbol, order.con_id)

    async def meant(self, request: OrderRequest, *, session: bool) -> Meant:
        """What `request` is about; `session`: IB can be asked now.

        Raises Problem 422 with the field, or 503 for a conId alone that nobody can look up now.
        """
        query = query_of(request)
        if (meant := await self._look_up(query, session=session)) is not None:
            if wrong := between_steps({"limit_price": request.limit_price, "stop_price": request.stop_price}, meant):
                raise invalid(*wrong)
            return meant
        if query.symbol:
            return Meant(query.symbol)
        raise unavailable(
            "contract-unknown", f"Contract {query.con_id} cannot be looked up now; name its symbol, or try again."
        )

    async def of_order(self, order: Order, *, session: bool) -> Meant | None:
        """What an order of the ledger is about; None when nobody can say it now: IB took the order once, and judges."""
        if order.body is None:
            return None
        try:
            return await self._look_up(query_of_order(order), session=session)
        except Problem as problem:
            logger.warning("the contract of order {} was not looked up: {}", order.id, problem)
            return None

    async def _look_up(self, query: ContractQuery, *, session: bool) -> Meant | None:
        """From memory, or else from IB if it can be asked. Raises Problem 422 with IB's word."""
        if (meant := self._known.get(query)) is None and (meant := self._traded.get(query)) is not None and session:
            self._ask_behind(query)
        elif meant is None and session:
            meant = await self._ask_together(query)
        return meant

    async def _ask_together(self, query: ContractQuery) -> Meant | None:
        """One request for all who wait for the same answer."""
        if (asking := self._shared.get(query)) is None:
            asking = self._shared[query] = asyncio.ensure_future(self._ask(query))
            asking.add_done_callback(lambda _: self._shared.pop(query, None))
        return await asyncio.shield(asking)

    async def _ask(self, query: ContractQuery) -> Meant | None:
        """IB's word, None when it does not come. Raises Problem 422."""
        try:
            found = await self._broker.contract_details(query, LOOK_UP_WITHIN)
        except RequestFailed as failed:
            logger.warning("contract {} was not looked up: {}", query, failed)
            return None
        meant = self._known[query] = the_only_one(query, found)
        return meant

    def _ask_behind(self, query: ContractQuery) -> None:
        if query not in self._asking:
            self._asking[query] = asyncio.create_task(self._ask_later(query), name="look a contract up")

    async def _ask_later(self, query: ContractQuery) -> None:
        try:
            await self._ask(query)
        except Problem as problem:
            logger.warning("contract {} was traded, and now: {}", query, problem)
        finally:
            del self._asking[query]


def query_of_order(order: Order) -> ContractQuery:
    """The contract of an order of the ledger, as its client described it."""
    asked = order.body or {}
    said = {name: value for name, value in asked.items() if name in _QUERY and value is not None}
    if "strike" in said:
        said["strike"] = Decimal(said["strike"])
    return ContractQuery(**said)


def query_of(request: OrderRequest) -> ContractQuery:
    """The request's contract as IB is asked for it."""
    given = {name: value for name in _QUERY if (value := getattr(request, name)) is not None}
    return ContractQuery(**given)


def the_only_one(query: ContractQuery, found: Sequence[ContractDetail]) -> Meant:
    """The contract that IB found. Raises Problem 422 where it found none, or several."""
    field = "symbol" if query.symbol else "con_id"
    if not found:
        raise invalid(FieldError(field, f"IB knows no such contract: {query}"))
    if len(found) > 1:
        names = "; ".join(str(one) for one in found[:SHOWN])
        raise invalid(FieldError(field, f"{len(found)} contracts fit, name more of it or its con_id: {names}"))
    [one] = found
    return Meant(one.symbol, one.con_id, one.min_tick or None)


def between_steps(prices: Mapping[str, Decimal | None], meant: Meant | None) -> list[FieldError]:
    """Errors for what among these, by its field, is a price between two steps. IB names a contract's smallest step at any price."""
    if meant is None or meant.tick is None:
        return []
    return [
        FieldError(name, f"{price} is no multiple of {meant.tick}, the smallest step of {meant.symbol}")
        for name, price in prices.items()
        if name in PRICES and price is not None and price % meant.tick != 0
    ]
