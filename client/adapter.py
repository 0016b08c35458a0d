"""The client of a replicated adapter: it knows both addresses, keeps its keys, and never takes unknown for no.

A write is repeated, always under the same key, until a replica answers it or its deadline passes; a failover
is then a longer call and not an error. What a call may end with stands in `adapter_client.errors`.

    async with AdapterClient(["http://a:8080", "http://b:8080"], token) as adapter:
        order = await adapter.place(OrderRequest(symbol="AAPL", side="BUY", quantity=Decimal(10)))
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

from .errors import (
    NotAccepted,
    OutcomeUnknown,
    Problem,
    Unavailable,
    UnreadableAnswer,
    read_problem,
    refusal,
)
from .model import (
    Break,
    Execution,
    Order,
    OrderRequest,
    Position,
    read_break,
    read_execution,
    read_order,
    read_position,
)
from .outcome import Attempt, Backoff, Kind
from .transport import Observer, Transport, origin_of

Record = TypeVar("Record")

ORDERS = "/api/v1/orders"
PAGE = 500
SHORTEST_ATTEMPT = 0.2  # seconds; an attempt that is given less only makes an unknown outcome


class AdapterClient:
    """Calls on the pair. One client serves many concurrent calls; it belongs to one event loop.

    `timeout` is the deadline of a whole call in seconds, `attempt_timeout` that of one attempt: a replica that is
    silent for so long is left for the other one. `observer` sees the start and the end of every attempt at an order.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: str | None = None,
        timeout: float = 10.0,
        *,
        attempt_timeout: float = 2.0,
        connections: int = 256,
        observer: Observer | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if not urls:
            raise ValueError("an adapter client needs the address of at least one replica")
        self._replicas = [origin_of(url) for url in urls]
        self._leader = self._replicas[0]
        self._timeout = timeout
        self._attempt_timeout = attempt_timeout
        self._rng = rng or random.Random()
        connect_timeout = min(1.0, attempt_timeout)
        self._writing = Transport(token, observer=observer, connect_timeout=connect_timeout, connections=connections)
        self._reading = Transport(token, observer=None, connect_timeout=connect_timeout, connections=connections)

    async def __aenter__(self) -> AdapterClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. A call that is under way ends with an error."""
        await self._writing.close()
        await self._reading.close()

    @property
    def leader(self) -> str:
        """The replica that is asked first: the one that took a write last, unless it was not ready since then."""
        return self._leader

    async def place(self, request: OrderRequest, *, timeout: float | None = None) -> Order:
        """The order, durable (201) or met again under its key (200); durable does not mean sent.

        Raises Refused, NotAccepted or OutcomeUnknown (and UnreadableAnswer for an order that was accepted, by a server
        that breaks the interface). After OutcomeUnknown the same request with the error's `key`
        as client_order_id is the way to learn more. A cancelled call leaves the outcome unknown.
        """
        key = request.client_order_id or uuid.uuid4().hex
        body = replace(request, client_order_id=key).body()
        # 409 says that the key belongs to another body, which stays true whatever became of an earlier attempt
        answer = await self._write("POST", ORDERS, op="place", key=key, body=body, timeout=timeout, conclusive={409})
        return read_order(answer)

    async def cancel(self, order_id: str, *, timeout: float | None = None) -> Order:
        """Asks for a cancel and returns the order as it stood then; whether it is cancelled is for its state to say.

        Raises Conflict when the order is final, NotFound, and what `place` raises.
        """
        answer = await self._write(
            "DELETE", _path(order_id), op="cancel", key=order_id, timeout=timeout, conclusive={404, 409}
        )
        return read_order(answer) if "id" in answer else await self.order(order_id)

    async def modify(
        self,
        order_id: str,
        *,
        revision: int,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        timeout: float | None = None,
    ) -> Order:
        """Asks for a change of the given revision and returns the order as it stood then.

        Raises RevisionPassed when the order has a newer revision, Conflict when it is final, and what `place` raises.
        After an attempt of unknown outcome those two prove nothing (the newer revision may be this very change), and
        OutcomeUnknown is raised instead.
        """
        body: dict[str, Any] = {"revision": revision}
        if quantity is not None:
            body["quantity"] = format(quantity, "f")
        if limit_price is not None:
            body["limit_price"] = format(limit_price, "f")
        answer = await self._write(
            "PATCH", _path(order_id), op="modify", key=order_id, body=body, timeout=timeout, conclusive={404}
        )
        return read_order(answer) if "id" in answer else await self.order(order_id)

    async def order(self, order_id: str) -> Order:
        """One order. Raises NotFound (only a leader says so) or Unavailable."""
        return read_order(await self._read(_path(order_id)))

    async def orders(
        self,
        *,
        state: str | None = None,
        symbol: str | None = None,
        client_order_id: str | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[Order]:
        """The orders that match, in rising order of change; all pages, or one page when `limit` is given."""
        return await self._pages(
            ORDERS,
            "orders",
            read_order,
            after=after,
            limit=limit,
            state=state,
            symbol=symbol,
            client_order_id=client_order_id,
        )

    async def executions(self, *, after: int | None = None, limit: int | None = None) -> list[Execution]:
        """The booked executions; all pages, or one page when `limit` is given."""
        return await self._pages("/api/v1/executions", "executions", read_execution, after=after, limit=limit)

    async def positions(self) -> list[Position]:
        """The ledger's positions beside the broker's."""
        return _records(await self._read("/api/v1/positions"), "positions", read_position)

    async def breaks(self) -> list[Break]:
        """Every break, open or resolved."""
        return _records(await self._read("/api/v1/breaks"), "breaks", read_break)

    async def cluster(self) -> dict[str, Any]:
        """Leader, epoch and both replicas, as the replica that answers sees them."""
        return await self._read("/api/v1/cluster")

    async def history(self) -> list[dict[str, Any]]:
        """The failovers and switchovers with their phases in milliseconds, newest first."""
        return _records(await self._read("/api/v1/history"), "history", dict)

    async def health(self) -> dict[str, dict[str, Any] | None]:
        """What each replica says of itself, by address; None for one that did not answer in time."""
        bodies = await asyncio.gather(*(self._health_of(url) for url in self._replicas))
        return dict(zip(self._replicas, bodies, strict=True))

    async def _health_of(self, url: str) -> dict[str, Any] | None:
        attempt = await self._reading.attempt(
            url, "/health", method="GET", op="health", key="", number=1, timeout=self._attempt_timeout
        )
        # 200, 429 and 503 all carry the body: the code only says leader, standby or neither
        return dict(attempt.body) if attempt.status is not None and attempt.body is not None else None

    async def _write(
        self,
        method: str,
        path: str,
        *,
        op: str,
        key: str,
        timeout: float | None,
        conclusive: set[int],
        body: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """Repeats one write until it is answered. `conclusive`: refusals that hold even after an unknown attempt."""
        unknown = False
        last: Attempt | None = None
        seconds = self._timeout if timeout is None else timeout
        async for attempt in self._attempts(self._writing, method, path, op=op, key=key, body=body, seconds=seconds):
            last = attempt
            unknown = unknown or attempt.kind is Kind.UNKNOWN
            if attempt.kind is Kind.OK and attempt.body is not None:
                self._leader = attempt.url
                return attempt.body
            if attempt.kind is Kind.REFUSED:
                if unknown and attempt.status not in conclusive:
                    break  # this attempt was refused, an earlier one may have been written
                raise refusal(read_problem(attempt.status or 0, attempt.body))
        failure = OutcomeUnknown if unknown else NotAccepted
        raise failure(key=key, attempts=last.number if last else 0, last=_last(last))

    async def _read(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The body of a read; either replica may answer it. Raises Refused or Unavailable."""
        last: Attempt | None = None
        async for attempt in self._attempts(
            self._reading, "GET", path, op="read", key=path, params=params, seconds=self._timeout
        ):
            last = attempt
            if attempt.kind is Kind.OK and attempt.body is not None:
                return dict(attempt.body)
            if attempt.kind is Kind.REFUSED:
                raise refusal(read_problem(attempt.status or 0, attempt.body))
        raise Unavailable(f"GET {path}: not answered within {self._timeout:g} s, last: {_last(last) or 'none'}")

    async def _attempts(
        self,
        transport: Transport,
        method: str,
        path: str,
        *,
        op: str,
        key: str,
        seconds: float,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Attempt]:
        """Attempt after attempt, from one replica to the other, until the time is up; at least one.

        None is begun so late that it could not be answered: the last 0.2 s of the time may pass unused.
        """
        give_up_at = time.monotonic() + seconds
        backoff = Backoff(self._rng)
        target = self._leader
        for number in itertools.count(1):
            attempt = await transport.attempt(
                target,
                path,
                method=method,
                op=op,
                key=key,
                number=number,
                body=body,
                params=params,
                timeout=max(SHORTEST_ATTEMPT, min(self._attempt_timeout, give_up_at - time.monotonic())),
            )
            # whoever did not answer is not asked first again, by this call or by any other
            silent = attempt.kind in {Kind.UNAVAILABLE, Kind.UNKNOWN} and not attempt.wherever_asked
            if silent and self._leader == target:
                self._leader = self._other(target)
            yield attempt
            wait = backoff.after(attempt)
            if time.monotonic() + wait + SHORTEST_ATTEMPT > give_up_at:
                return
            await asyncio.sleep(wait)
            target = target if attempt.wherever_asked else self._other(target)

    async def _pages(
        self,
        path: str,
        name: str,
        read: Callable[[Mapping[str, Any]], Record],
        *,
        after: int | None,
        limit: int | None,
        **filters: str | None,
    ) -> list[Record]:
        params = {key: value for key, value in filters.items() if value is not None}
        params["limit"] = str(PAGE if limit is None else limit)
        found: list[Record] = []
        while True:
            if after is not None:
                params["after"] = str(after)
            body = await self._read(path, params)
            found += _records(body, name, read)
            onward = body.get("next")
            if limit is not None or onward is None:
                return found
            if not isinstance(onward, int) or (after is not None and onward <= after):
                raise UnreadableAnswer(f"{name}: the next page {onward!r} does not follow {after!r}")
            after = onward

    def _other(self, target: str) -> str:
        if target not in self._replicas:
            return self._replicas[0]
        return self._replicas[(self._replicas.index(target) + 1) % len(self._replicas)]


def _path(order_id: str) -> str:
    return f"{ORDERS}/{quote(order_id, safe='')}"


def _records(body: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any]], Record]) -> list[Record]:
    listed = body.get(name)
    if not isinstance(listed, list):
        raise UnreadableAnswer(f"an answer without the list {name!r}")
    return [read(entry) for entry in listed]


def _last(attempt: Attempt | None) -> Problem | str | None:
    if attempt is None:
        return None
    return attempt.error or read_problem(attempt.status or 0, attempt.body)
