"""The control port: the broker's truth to read, faults to switch; the rest is in `hand`. Thin."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from ibsim.faults import FaultError
from ibsim.gateway import Gateway
from ibsim.hand import BadRequest, Hand, body_of, shown
from ibsim.records import moment
from ibsim.wire import plain

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _mistakes(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (BadRequest, FaultError) as error:
        return web.json_response({"error": str(error)}, status=400)
    except web.HTTPException as error:
        return web.json_response({"error": f"{request.method} {request.path}: {error.reason}"}, status=error.status)


_SHOWN = (
    "perm_id", "order_ref", "client_id", "order_id", "symbol", "side", "quantity", "filled", "account", "con_id",
    "order_type", "limit_price", "tif",
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
                web.get("/positions", self.positions),
                web.get("/contracts", self.contracts),
                web.get("/sessions", self.sessions),
                web.get("/faults", self.faults),
                web.post("/faults/{name}", self.fault_on),
                web.delete("/faults/{name}", self.fault_off),
                *Hand(self.gateway).routes(),
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
            for record in self.gateway.days.all_done_orders()
        ]
        return web.json_response({"orders": done + [shown(order) for order in self.gateway.book.orders]})

    async def positions(self, _request: web.Request) -> web.Response:
        """The truth, also while the gateway has lost IB."""
        held = [
            {
                "account": one.account,
                "symbol": one.instrument.symbol,
                "con_id": one.instrument.con_id,
                "quantity": plain(one.quantity),
                "average_cost": plain(one.average_cost),
                "sec_type": one.instrument.sec_type,
                "local_symbol": one.instrument.local_symbol,
            }
            for one in self.gateway.book.accounts.positions()
        ]
        return web.json_response({"positions": held})

    async def contracts(self, _request: web.Request) -> web.Response:
        """Everything that is listed; `key` is its name in the prices."""
        listed = self.gateway.book.universe.by_key.items()
        return web.json_response(
            {"contracts": [{"key": key, "tick": plain(one.tick), **one.values} for key, one in listed]}
        )

    async def sessions(self, _request: web.Request) -> web.Response:
        """Every connection, half-open ones too."""
        sessions = [
            {
                "session": one.number,
                "client_id": one.client_id,
                "peer": one.peer,
                "since": moment(one.since),
                "state": one.state,
                "server_version": one.version,
            }
            for one in self.gateway.sessions.by_number.values()
        ]
        return web.json_response({"sessions": sessions})

    async def faults(self, _request: web.Request) -> web.Response:
        """What is broken."""
        return web.json_response({"faults": self.gateway.faults.active, "struck": self.gateway.faults.struck})

    async def fault_on(self, request: web.Request) -> web.Response:
        """Breaks something; the answer is its parameters."""
        name = request.match_info["name"]
        return web.json_response({"fault": name, "parameters": self.gateway.fault_on(name, await body_of(request))})

    async def fault_off(self, request: web.Request) -> web.Response:
        """Mends it; mending what is whole is fine."""
        name = request.match_info["name"]
        return web.json_response({"fault": name, "parameters": self.gateway.fault_off(name)})
