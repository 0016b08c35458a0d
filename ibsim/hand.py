"""What a person does at the control port: orders by hand, prices, hours, settings. Thin."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

from ibsim.answers import TIME_FORMS
from ibsim.book import Fate
from ibsim.gateway import Gateway
from ibsim.order_requests import tell_bound
from ibsim.orders import Order
from ibsim.placing import Wish, refusal
from ibsim.records import Record
from ibsim.wire import MAX_FIELD, WireError, number, plain

OPTIONS = {"time_form": TIME_FORMS, "commission": ("after", "before")}


class BadRequest(ValueError):
    """The caller's mistake, in a sentence."""


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent, empty if nothing was. Raises BadRequest."""
    try:
        text = await request.text()
        body = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def number_of(value: object, what: str) -> Decimal:
    """A positive decimal number. Raises BadRequest."""
    try:
        read = number(str(value))
    except WireError:
        read = None
    if read is None or read <= 0:
        raise BadRequest(f"{what} must be a positive number")
    return read


def text_of(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """A text of the body, one that a message can carry. Raises BadRequest."""
    text = str(body.get(name) or default)
    if "\0" in text or len(text) > MAX_FIELD or not text.isascii():
        raise BadRequest(f"{name} must be plain ASCII of at most {MAX_FIELD} characters")
    return text


def shown(order: Order) -> Record:
    """An order as the control port shows it."""
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
        "con_id": order.instrument.con_id,
        "order_type": order.order_type,
        "limit_price": None if order.limit_price is None else plain(order.limit_price),
        "tif": order.tif,
    }


class Hand:
    """The handlers, on one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """What it answers."""
        return [
            web.post("/orders", self.place),
            web.delete("/orders/{perm_id}", self.cancel),
            web.get("/prices", self.prices),
            web.post("/prices", self.set_prices),
            web.get("/market", self.market),
            web.post("/market", self.set_market),
            web.get("/settings", self.settings),
            web.post("/settings", self.set_settings),
        ]

    # orders

    async def place(self, request: web.Request) -> web.Response:
        """An order by hand: another clientId, a reference only if the body names one."""
        gateway = self.gateway
        asked = self._wish(await body_of(request))
        why = refusal(asked, gateway.settings.accounts, gateway.now())
        if why is not None:
            raise BadRequest(f"{why.code}: {why.text}")
        order = gateway.book.place(asked, gateway.now(), Fate(admitted=asked.order_id <= 0))
        if order is None:
            raise BadRequest(f"the order id {asked.order_id} of client {asked.client_id} is used")
        owner = gateway.sessions.by_client.get(0)
        if order.order_id < 0 and owner is not None:
            tell_bound(owner, order)
        gateway.flush()
        return web.json_response(shown(order), status=201)

    def _wish(self, body: Record) -> Wish:
        gateway = self.gateway
        client_id = body.get("client_id", 0)
        if type(client_id) is not int or type(body.get("order_id", 0)) is not int:
            raise BadRequest("client_id and order_id must be integers")
        if "order_id" in body:
            order_id = body["order_id"]
        else:
            order_id = gateway.book.ids(client_id).next_valid if client_id else self._bound_id()
        for name in ("symbol", "side", "quantity"):
            if name not in body:
                raise BadRequest(f"{name} is missing")
        limit, aux = body.get("limit_price"), body.get("stop_price")
        instrument = gateway.book.universe.by_key.get(str(body["symbol"]))
        return Wish(
            session=0,
            client_id=client_id,
            order_id=order_id,
            order_ref=text_of(body, "order_ref"),
            account=text_of(body, "account", gateway.settings.accounts[0]),
            instruments=() if instrument is None else (instrument,),
            side=text_of(body, "side"),
            quantity=number_of(body["quantity"], "quantity"),
            order_type=text_of(body, "order_type", "MKT" if limit is None else "LMT"),
            limit_price=None if limit is None else number_of(limit, "limit_price"),
            aux_price=None if aux is None else number_of(aux, "stop_price"),
            tif=text_of(body, "tif", "DAY"),
            fields={},
        )

    def _bound_id(self) -> int:
        """The id of an order by hand: 0, but that client 0 binds such orders while it says so."""
        owner = self.gateway.sessions.by_client.get(0)
        if owner is None or not owner.auto_bind:
            return 0
        self.gateway.bound -= 1
        return self.gateway.bound

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancels an open order by hand, whoever placed it."""
        perm_id = request.match_info["perm_id"]
        known = self.gateway.book.orders.by_perm_id
        order = known.get(int(perm_id)) if perm_id.isascii() and perm_id.isdigit() else None
        if order is None:
            return web.json_response({"error": "no open order has this perm_id"}, status=404)
        self.gateway.book.cancel_order(order, self.gateway.now())
        self.gateway.flush()
        return web.json_response(shown(order))

    # the market

    async def prices(self, _request: web.Request) -> web.Response:
        """Where the market stands."""
        book = self.gateway.book
        return web.json_response({key: plain(book.market.price(one)) for key, one in book.universe.by_key.items()})

    async def set_prices(self, request: web.Request) -> web.Response:
        """Moves the market: `{"AAPL": "190.10"}`, or `{"AAPL": {"price": "190.10", "size": "4"}}` to fill no more."""
        prices: dict[int, Decimal] = {}
        sizes: dict[int, Decimal] = {}
        for key, value in (await body_of(request)).items():
            instrument = self.gateway.book.universe.by_key.get(key)
            if instrument is None:
                raise BadRequest(f"there is no symbol {key}")
            con_id = instrument.con_id
            if isinstance(value, dict):
                prices[con_id] = number_of(value.get("price"), f"{key}: price")
                sizes[con_id] = number_of(value.get("size"), f"{key}: size")
            else:
                prices[con_id] = number_of(value, key)
        self.gateway.set_prices(prices, sizes)
        return await self.prices(request)

    async def market(self, _request: web.Request) -> web.Response:
        """Whether the exchange is open."""
        opening = self.gateway.book.opening
        is_open = opening.is_open(self.gateway.now())
        return web.json_response({"open": is_open, "by_hand": opening.by_hand, "hours": self.gateway.settings.hours})

    async def set_market(self, request: web.Request) -> web.Response:
        """`{"open": true}`, `false` (with the closing auction), or `null` = by the clock again."""
        body = await body_of(request)
        if set(body) != {"open"} or body["open"] not in (True, False, None):
            raise BadRequest("say whether it is open: true, false or null, and nothing else")
        self.gateway.book.opening.set_by_hand(body["open"])
        self.gateway.flush()
        return await self.market(request)

    # settings

    async def settings(self, _request: web.Request) -> web.Response:
        """What may be changed while it runs."""
        options = self.gateway.options
        return web.json_response({name: getattr(options, name) for name in OPTIONS})

    async def set_settings(self, request: web.Request) -> web.Response:
        """Changes some of it."""
        body = await body_of(request)
        for name, value in body.items():
            if value not in OPTIONS.get(name, ()):
                known = "; ".join(f"{one}: {', '.join(values)}" for one, values in OPTIONS.items())
                raise BadRequest(f"{name} = {value!r} is none of: {known}")
        for name, value in body.items():
            setattr(self.gateway.options, name, value)
        return await self.settings(request)
