"""The control port: the broker's truth to read, faults and prices to set. Thin."""

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from aiohttp import web

from ibsim.faults import FaultError
from ibsim.gateway import Gateway
from ibsim.orders import Order
from ibsim.placing import Wish, refusal
from ibsim.records import Record, moment
from ibsim.wire import plain

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadRequest(ValueError):
    """The caller's mistake, in a sentence."""


@web.middleware
async def _mistakes(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (BadRequest, FaultError) as error:
        return web.json_response({"error": str(error)}, status=400)


async def _body(request: web.Request) -> dict[str, Any]:
    text = await request.text()
    try:
        body = json.loads(text) if text.strip() else {}
    except ValueError:
        raise BadRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def _number(value: object, what: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise BadRequest(f"{what} must be a decimal number") from None
    if not number.is_finite() or number <= 0:
        raise BadRequest(f"{what} must be a positive number")
    return number


def _order(order: Order) -> Record:
    return {
        "perm_id": order.perm_id,
        "order_ref": order.order_ref,
        "client_id": order.client_id,
        "order_id": order.order_id,
        "symbol": order.instrument.symbol,
        "side": order.side,
        "quantity": plain(order.quantity),
        "filled": plain(order.filled),
        "state": order.status,
        "account": order.account,
        "order_type": order.order_type,
        "limit_price": None if order.limit_price is None else plain(order.limit_price),
        "tif": order.tif,
    }


_SHOWN = (
    "perm_id", "order_ref", "client_id", "order_id", "symbol", "side", "quantity", "filled", "account", "order_type",
    "limit_price", "tif",
)  # fmt: skip


class Control:
    """The handlers, on one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def app(self) -> web.Application:
        """The application with every route."""
        app = web.Application(middlewares=[_mistakes])
        app.add_routes(
            [
                web.get("/journal", self.journal),
                web.get("/orders", self.orders),
                web.post("/orders", self.place),
                web.delete("/orders/{perm_id}", self.cancel),
                web.get("/positions", self.positions),
                web.get("/sessions", self.sessions),
                web.get("/faults", self.faults),
                web.post("/faults/{name}", self.fault_on),
                web.delete("/faults/{name}", self.fault_off),
                web.get("/prices", self.prices),
                web.post("/prices", self.set_prices),
            ]
        )
        return app

    async def journal(self, request: web.Request) -> web.Response:
        """The entries above `after`, as they stand in the file."""
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit()):
            raise BadRequest("after must be a sequence number")
        journal = self.gateway.journal
        body = b'{"seq":%d,"entries":[%s]}' % (journal.seq, b",".join(journal.lines(int(after))))
        return web.Response(body=body, content_type="application/json")

    async def orders(self, _request: web.Request) -> web.Response:
        """Every order, done ones first."""
        done = [
            {key: record[key] for key in _SHOWN} | {"state": record["status"]}
            for record in self.gateway.done_orders.records()
        ]
        return web.json_response({"orders": done + [_order(order) for order in self.gateway.book.live.values()]})

    async def place(self, request: web.Request) -> web.Response:
        """An order by hand: another clientId, a reference only if the body names one."""
        gateway = self.gateway
        asked = self._wish(await _body(request))
        why = refusal(asked, gateway.settings.accounts)
        if why is not None:
            raise BadRequest(f"{why.code}: {why.text}")
        order = gateway.book.place(asked, gateway.now())
        gateway.flush()
        assert order is not None
        return web.json_response(_order(order), status=201)

    def _wish(self, body: Record) -> Wish:
        gateway = self.gateway
        client_id = body.get("client_id", 0)
        order_id = body.get("order_id", gateway.book.ids(client_id).next_valid if client_id else 0)
        if type(client_id) is not int or type(order_id) is not int:
            raise BadRequest("client_id and order_id must be integers")
        for name in ("symbol", "side", "quantity"):
            if name not in body:
                raise BadRequest(f"{name} is missing")
        limit, aux = body.get("limit_price"), body.get("stop_price")
        return Wish(
            session=0,
            client_id=client_id,
            order_id=order_id,
            order_ref=str(body.get("order_ref", "")),
            account=str(body.get("account") or gateway.settings.accounts[0]),
            instrument=gateway.book.universe.by_symbol.get(str(body["symbol"])),
            side=str(body["side"]),
            quantity=_number(body["quantity"], "quantity"),
            order_type=str(body.get("order_type", "MKT" if limit is None else "LMT")),
            limit_price=None if limit is None else _number(limit, "limit_price"),
            aux_price=None if aux is None else _number(aux, "stop_price"),
            tif=str(body.get("tif", "DAY")),
            fields={},
        )

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancels an open order by hand, whoever placed it."""
        perm_id = request.match_info["perm_id"]
        order = self.gateway.book.live.get(int(perm_id)) if perm_id.isascii() and perm_id.isdigit() else None
        if order is None:
            return web.json_response({"error": "no open order has this perm_id"}, status=404)
        self.gateway.book.cancel_order(order)
        self.gateway.flush()
        return web.json_response(_order(order))

    async def positions(self, _request: web.Request) -> web.Response:
        """The truth, also while the gateway has lost IB."""
        book = self.gateway.book
        held = [
            {
                "account": one.account,
                "symbol": one.symbol,
                "con_id": book.universe.by_symbol[one.symbol].con_id,
                "quantity": plain(one.quantity),
                "average_cost": plain(one.average_cost),
            }
            for one in book.accounts.positions()
        ]
        return web.json_response({"positions": held})

    async def sessions(self, _request: web.Request) -> web.Response:
        """Every connection, half-open ones too."""
        sessions = [
            {
                "session": one.number,
                "client_id": one.client_id,
                "peer": one.peer,
                "since": moment(one.since),
                "state": one.state,
            }
            for one in self.gateway.sessions.values()
        ]
        return web.json_response({"sessions": sessions})

    async def faults(self, _request: web.Request) -> web.Response:
        """What is broken."""
        return web.json_response({"faults": self.gateway.faults.active})

    async def fault_on(self, request: web.Request) -> web.Response:
        """Breaks something; the answer is its parameters."""
        name = request.match_info["name"]
        return web.json_response({"fault": name, "parameters": self.gateway.fault_on(name, await _body(request))})

    async def fault_off(self, request: web.Request) -> web.Response:
        """Mends it; mending what is whole is fine."""
        name = request.match_info["name"]
        return web.json_response({"fault": name, "parameters": self.gateway.fault_off(name)})

    async def prices(self, _request: web.Request) -> web.Response:
        """Where the market stands."""
        return web.json_response({symbol: plain(price) for symbol, price in self.gateway.book.prices.items()})

    async def set_prices(self, request: web.Request) -> web.Response:
        """Moves the market: `{"AAPL": "190.10"}`, or `{"AAPL": {"price": "190.10", "size": "4"}}` to fill no more."""
        prices: dict[str, Decimal] = {}
        sizes: dict[str, Decimal] = {}
        for symbol, value in (await _body(request)).items():
            if symbol not in self.gateway.book.prices:
                raise BadRequest(f"there is no symbol {symbol}")
            if isinstance(value, dict):
                prices[symbol] = _number(value.get("price"), f"{symbol}: price")
                sizes[symbol] = _number(value.get("size"), f"{symbol}: size")
            else:
                prices[symbol] = _number(value, symbol)
        self.gateway.set_prices(prices, sizes)
        return await self.prices(request)
