"""What a gateway says, under IB's own names, as facts and as the answers to our requests. Knows nothing of ib_async's client.

ib_async's decoder calls these methods; one that is missing here is not missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from engine import codes, ib_facts
from engine.broker import BrokerError, OpenOrder, OrderStatus, PositionFact, SessionClosed, Sink
from engine.clock import boottime
from engine.ib_again import Again
from engine.ib_socket import Collection

FIRST_REQUEST_ID = 1 << 30
"""Request ids and order ids share one number space in `error()`: requests take the upper half, order ids come from our floor."""

LISTS = frozenset({"open_orders", "completed_orders", "executions", "positions"})
"""Answers of many messages, behind which all others stand."""


class Callbacks:
    """One session's. `handlers`: ib_async's own, by the number of the message; two of them are replaced."""

    def __init__(self, sink: Sink, handlers: dict[int, Callable[[list[str]], None]]) -> None:
        self.sink: Sink | None = sink
        self.orders_again = handlers[5] = Again(handlers[5], self._open_order)
        self.status_again = handlers[3] = Again(handlers[3], self.tell)
        self.listed_at = float("-inf")  # when an item of some list came last
        self.next_valid_id = 0
        self.accounts: tuple[str, ...] = ()
        self.in_use: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.collecting: dict[str, Collection] = {}
        self.owed: set[str] = set()  # requests that were given up: what they asked for may still come

    def list_begins(self) -> None:
        """The open orders are asked for: what this list does not repeat need not be remembered."""
        self.orders_again.list_begins()
        self.status_again.list_begins()

    def tell(self, fact: Any) -> None:
        """Pass one fact on, as long as the session is ours."""
        if self.sink is not None:
            self.sink(fact)

    # callbacks, by IB's names

    def connectAck(self) -> None:
        """The handshake is done."""

    def setEventsDone(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        for collection in self.collecting.values():
            collection.fail("the session ended")

    def connectionClosed(self) -> None:
        self.tell(SessionClosed("the gateway closed the connection"))
        self.sink = None

    def nextValidId(self, order_id: int) -> None:
        self.next_valid_id = max(self.next_valid_id, order_id)

    def managedAccounts(self, accounts: str) -> None:
        self.accounts = tuple(a for a in accounts.split(",") if a)

    def error(self, request_id: int, code: int, message: str, _advanced: str = "") -> None:
        if code == codes.CLIENT_ID_IN_USE and not self.in_use.done():
            self.in_use.set_result(message)
        for what, collection in self.collecting.items():
            if collection.request_id == request_id and what == "contract_details" and code == codes.NO_CONTRACT:
                collection.end()  # an answer: there is none
            elif collection.request_id == request_id:
                collection.fail(f"{code}: {message}")
        self.tell(BrokerError(request_id, code, message))

    def symbolSamples(self, request_id: int, _contracts: Any) -> None:
        self._end("ask_ib", request_id)

    def openOrder(self, _order_id: int, contract: Any, order: Any, state: Any) -> None:
        self.orders_again.decoded(ib_facts.open_order(contract, order, state, completed=False))

    def _open_order(self, fact: OpenOrder) -> None:
        self._collect("open_orders", fact)
        self.tell(fact)

    def openOrderEnd(self) -> None:
        self._end("open_orders")

    def completedOrder(self, contract: Any, order: Any, state: Any) -> None:
        self._collect("completed_orders", ib_facts.open_order(contract, order, state, completed=True))

    def completedOrdersEnd(self) -> None:
        self._end("completed_orders")

    def orderStatus(
        self,
        order_id: int,
        status: str,
        filled: float,
        remaining: float,
        _average: float,
        perm_id: int,
        _parent: int,
        _last: float,
        client_id: int,
        *_rest: Any,
    ) -> None:
        amounts = ib_facts.number(filled), ib_facts.number(remaining)
        self.status_again.decoded(OrderStatus(order_id, perm_id, client_id, status, *amounts))

    def execDetails(self, request_id: int, contract: Any, execution: Any) -> None:
        fact = ib_facts.execution(contract, execution)
        if request_id >= FIRST_REQUEST_ID:
            self._collect("executions", fact, request_id)
        else:
            self.tell(fact)

    def execDetailsEnd(self, request_id: int) -> None:
        self._end("executions", request_id)

    def commissionReport(self, report: Any) -> None:
        self.tell(ib_facts.commission(report))

    def position(self, account: str, contract: Any, quantity: float, average_cost: float) -> None:
        fact = PositionFact(
            account, contract.conId, contract.symbol, ib_facts.number(quantity), ib_facts.number(average_cost)
        )
        self._collect("positions", fact)
        self.tell(fact)

    def accountSummary(self, request_id: int, *row: str) -> None:
        self._collect("accounts", row, request_id)

    def accountSummaryEnd(self, request_id: int) -> None:
        self._end("accounts", request_id)

    def contractDetails(self, request_id: int, details: Any) -> None:
        self._collect("contract_details", ib_facts.contract_detail(details), request_id)

    def contractDetailsEnd(self, request_id: int) -> None:
        self._end("contract_details", request_id)

    def positionEnd(self) -> None:
        self._end("positions")

    def currentTime(self, seconds: int) -> None:
        self._collect("current_time", seconds)
        self._end("current_time")

    def coming(self, what: str) -> None:
        """An item of a list that was asked for is there, wanted or not."""
        if what in LISTS and (what in self.collecting or what in self.owed):
            self.listed_at = boottime()

    def _collect(self, what: str, item: Any, request_id: int | None = None) -> None:
        self.coming(what)
        if (collection := self.collecting.get(what)) is not None and request_id in (None, collection.request_id):
            collection.items.append(item)

    def _end(self, what: str, request_id: int | None = None) -> None:
        """The answer is complete; what comes late for a request that was given up is nobody's."""
        if (collection := self.collecting.get(what)) is not None and request_id in (None, collection.request_id):
            collection.end()
