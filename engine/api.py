"""Orders and the ledger over HTTP. A replica that does not lead redirects at most once, or says 503; it never guesses (R36)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from engine import accept, views
from engine.archive import Archive
from engine.auth import Access
from engine.book import Book
from engine.clock import Clock, boottime
from engine.desk_settings import Asker
from engine.errors import FieldError, Problem, invalid, unavailable
from engine.events import Event
from engine.http import Request, Response, Server
from engine.inbound import Inbound
from engine.lists import Asked, Lists
from engine.order import Order, State
from engine.reference import order_id
from engine.repeat import Repeats
from engine.request import OrderRequest, parse_batch, parse_change, parse_order
from engine.submit import Desk

MAX_PAGE = 1000
PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where this replica stands, as the room that decides says it. `leader_url` is of a leader with an epoch known here."""

    role: str
    leads: bool
    epoch: int
    leader_url: str | None


class Api:
    """The handlers; `register` hangs them on a server."""

    def __init__(
        self,
        book: Book,
        desk: Desk,
        inbound: Inbound,
        access: Access,
        standing: Callable[[], Standing],
        archive: Archive,
        clock: Clock = boottime,
    ) -> None:
        self._book, self._desk, self._inbound = book, desk, inbound
        self._repeats, self._lists = Repeats(book, desk, archive), Lists(book, archive)
        self._access, self._standing, self._clock = access, standing, clock
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        book.observers.append(self._applied)

    def register(self, server: Server) -> None:
        """All paths of this room."""
        server.route("POST", f"{PREFIX}/orders", self.place)
        server.route("POST", f"{PREFIX}/orders/batch", self.place_batch)
        server.route("GET", f"{PREFIX}/orders", self.orders)
        server.route("GET", f"{PREFIX}/orders/{{id}}", self.one_order)
        server.route("DELETE", f"{PREFIX}/orders", self.cancel_all)
        server.route("DELETE", f"{PREFIX}/orders/{{id}}", self.cancel)
        server.route("PATCH", f"{PREFIX}/orders/{{id}}", self.modify)
        server.route("GET", f"{PREFIX}/executions", self.executions)
        server.route("GET", f"{PREFIX}/positions", self.positions)
        server.route("GET", f"{PREFIX}/breaks", self.breaks)

    # ---- orders

    async def place(self, request: Request) -> Response:
        """`POST /orders`."""
        asker = self._access.asker(request, "trader")
        wanted = parse_order(request.json())
        if not self._standing().leads:
            return self._elsewhere(request, self._repeated(wanted, asker))
        wait = _wait(request)
        [(status, order)] = await self._repeats.place_all([wanted], asker)
        if wait:
            order = await self._evidence(order, wait)
        return self._answer(
            status, views.order(order), {"Location": f"{PREFIX}/orders/{order.id}"} if status == 201 else {}
        )

    async def place_batch(self, request: Request) -> Response:
        """`POST /orders/batch`: one commit, all or none; 201 when one of them is new."""
        asker = self._access.asker(request, "trader")
        wanted = parse_batch(request.json())
        if not self._standing().leads:
            return self._elsewhere(request, None)
        answers = await self._repeats.place_all(wanted, asker)
        return self._answer(max(status for status, _ in answers), {"orders": [views.order(o) for _, o in answers]})

    def _repeated(self, wanted: OrderRequest, asker: Asker) -> Order | None:
        """R36: a standby answers 200 to a POST only if its book has the key and the same body, and leaves to the leader what it has
        no body of. Raises Problem 409."""
        known = self._book.orders.get(order_id(self._desk.settings.cluster, asker.subject, wanted.client_order_id))
        return None if known is None or known.body is None else accept.same(known, wanted)

    async def _evidence(self, order: Order, seconds: float) -> Order:
        """Wait for the broker's first evidence, or until the time is up."""
        deadline = self._clock() + seconds
        while order.state in (State.QUEUED, State.SENDING) and (left := deadline - self._clock()) > 0:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(order.id, []).append(waiter)
            await asyncio.wait({waiter}, timeout=left)
        return order

    def _applied(self, event: Event) -> None:
        for waiter in self._waiters.pop(event.order_id or "", ()):
            if not waiter.done():
                waiter.set_result(None)

    async def cancel(self, request: Request) -> Response:
        """`DELETE /orders/{id}`."""
        asker = self._access.asker(request, "trader")
        if not self._standing().leads:
            return self._elsewhere(request, None)
        oid = request.params["id"]
        return self._answer(202, views.order(await self._known(oid, self._desk.cancel(oid, asker))))

    async def cancel_all(self, request: Request) -> Response:
        """`DELETE /orders?symbol=`: every open order of this subject in the symbol; 202 with the list."""
        asker = self._access.asker(request, "trader")
        symbol = request.query.get("symbol")
        if not symbol:
            raise invalid(FieldError("symbol", "name the symbol whose orders are to be cancelled"))
        if not self._standing().leads:
            return self._elsewhere(request, None)
        mine = [
            o for o in self._book.open_orders() if (o.symbol, o.subject) == (symbol, asker.subject) and not o.external
        ]
        asked = await asyncio.gather(*(self._desk.cancel(o.id, asker) for o in mine), return_exceptions=True)
        for order, answer in zip(mine, asked, strict=True):
            if isinstance(answer, BaseException) and not order.final:  # one that ended meanwhile needs no cancel
                raise answer
        return self._answer(202, {"orders": [views.order(o) for o in mine]})

    async def modify(self, request: Request) -> Response:
        """`PATCH /orders/{id}`: 202 when the change is licensed; it is there when the order's figures are the new ones."""
        asker = self._access.asker(request, "trader")
        wanted = parse_change(request.json())
        if not self._standing().leads:
            return self._elsewhere(request, None)
        oid = request.params["id"]
        return self._answer(202, views.order(await self._known(oid, self._desk.modify(oid, wanted, asker))))

    async def _known(self, oid: str, call: Awaitable[Order]) -> Order:
        """What a call about an order answers; one that left memory has ended, and is not unknown."""
        try:
            return await call
        except Problem as refused:
            said = await self._repeats.said(refused, oid)
            raise said from refused

    async def orders(self, request: Request) -> Response:
        """`GET /orders`, oldest change first."""
        self._access.asker(request, "viewer")
        after, limit = _page(request)
        query = request.query
        state = _state(query.get("state") or None)
        symbol, key = query.get("symbol") or None, query.get("client_order_id") or None
        rows, following = await self._lists.orders(Asked(after, limit, state, symbol, key))
        if key is not None and not rows and not await self._leads_now():
            return self._elsewhere(request, None)  # R36: an empty list would read as "never accepted"
        return self._answer(200, {"orders": rows, "next": following})

    async def one_order(self, request: Request) -> Response:
        """`GET /orders/{id}`."""
        self._access.asker(request, "viewer")
        oid = request.params["id"]
        order = self._book.orders.get(oid) or await self._repeats.order(oid)
        if order is not None:
            return self._answer(200, views.order(order))
        if not await self._leads_now():
            return self._elsewhere(request, None)  # R36: a standby never answers 404
        raise Problem(404, "no-such-order", "No such order", f"There is no order {oid}.")

    async def _leads_now(self) -> bool:
        """Whether this replica led when it was asked: proven by a commit that began after the request came (R36)."""
        return self._standing().leads and await self._desk.proves_now()

    # ---- the rest of the ledger

    async def executions(self, request: Request) -> Response:
        """`GET /executions`, in the order in which they were booked."""
        self._access.asker(request, "viewer")
        after, limit = _page(request)
        rows, following = await self._lists.executions(after, limit)
        return self._answer(200, {"executions": rows, "next": following})

    async def positions(self, request: Request) -> Response:
        """`GET /positions`."""
        self._access.asker(request, "viewer")
        holds = {(b.account, b.symbol): b.id for b in self._book.open_breaks.values()}
        rows = []
        for where, p in sorted(self._book.positions.items()):
            break_id = holds.get((p.account, p.symbol)) or holds.get(("", p.symbol))
            rows.append(views.position(p, self._inbound.broker_positions.get(where), break_id))
        return self._answer(200, {"positions": rows})

    async def breaks(self, request: Request) -> Response:
        """`GET /breaks`, open ones first."""
        self._access.asker(request, "viewer")
        found = sorted(self._book.breaks.values(), key=lambda b: (b.resolved_at is not None, b.opened_at))
        return self._answer(200, {"breaks": [views.found_break(b) for b in found]})

    # ---- answers, for the rooms beside this one too

    @property
    def leads(self) -> bool:
        """Whether this replica leads now."""
        return self._standing().leads

    def elsewhere(self, request: Request) -> Response:
        """Where to ask instead (R35). Raises Problem 503 when no leader is known."""
        return self._elsewhere(request, None)

    def answer(self, body: Any) -> Response:
        """200 with this body, stamped as every read is."""
        return self._answer(200, body)

    def _elsewhere(self, request: Request, repeated: Order | None) -> Response:
        """R35: redirect only to a leader whose epoch is at least any I know, and at most one hop; else 503."""
        if repeated is not None:
            return self._answer(200, views.order(repeated))
        standing = self._standing()
        if standing.leader_url is None or "hop" in request.query:
            raise unavailable("not-leader", "This replica does not lead, and knows no leader now.")
        location = f"{standing.leader_url}{quote(request.path)}?{urlencode([*request.query.items(), ('hop', '1')])}"
        return self._answer(307, None, {"Location": location})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
        standing = self._standing()
        stamped = {
            "Adapter-Role": standing.role, "Adapter-Epoch": str(standing.epoch), "Adapter-Seq": str(self._book.seq),
        } | (headers or {})  # fmt: skip
        return Response(status, body, stamped)


def _page(request: Request) -> tuple[int, int]:
    return _whole(request, "after", 0, 0, 1 << 62), _whole(request, "limit", 100, 1, MAX_PAGE)


def _whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not least <= int(text) <= most:
        raise invalid(FieldError(name, f"a whole number from {least} to {most}"))
    return int(text)


def _state(text: str | None) -> State | None:
    if text is None:
        return None
    try:
        return State(text)
    except ValueError:
        raise invalid(FieldError("state", f"one of {', '.join(State)}")) from None


def _wait(request: Request) -> float:
    """Seconds to wait for evidence, 0 = not at all."""
    what = request.query.get("wait")
    if not what:
        return 0.0
    if what != "working":
        raise invalid(FieldError("wait", "the only thing to wait for is `working`"))
    return _whole(request, "timeout_ms", 500, 1, 30_000) / 1000
