"""What a conformance scenario works with: connections, orders that are cancelled in the end, and a notebook."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ibsim.messages import Request
from ibsim.peer import Peer
from ibsim.wire import plain

Observed = dict[str, Any]

PAPER = "DU"
"""How the names of paper accounts begin."""


class LiveAccountError(Exception):
    """The gateway is not logged in to paper accounts only; nothing was sent to it but the login."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run may do, and how long it waits, in seconds."""

    symbol: str
    price: str
    client_id: int
    patience: float
    quiet: float
    trade: bool


class Lab:
    """One gateway under observation. `observed` has JSON values; None = it did not come in time."""

    def __init__(self, host: str, port: int, plan: Plan) -> None:
        self._address = host, port
        self._peers: list[Peer] = []
        self._placed: list[tuple[int, int]] = []
        self.plan = plan
        self.observed: Observed = {}
        self.account = ""
        self.con_id = "0"
        self.price = Decimal(1)
        self.first_id = 0
        """What the gateway called the next valid order id at the start."""
        self.next_id = 0

    def note(self, what: str, value: Any) -> None:
        """Writes an observation down."""
        self.observed[what] = value

    async def connect(self, versions: str = "v157..178") -> Peer:
        """A connection that has shaken hands. Raises OSError."""
        peer = await Peer.connect(*self._address, versions)
        self._peers.append(peer)
        await peer.until(lambda _one: True, self.plan.patience)
        return peer

    async def session(self, number: int = 0, versions: str = "v157..178") -> Peer:
        """An open session; `number` is added to the first clientId."""
        peer = await self.connect(versions)
        if peer.version:
            peer.start(self.plan.client_id + number)
            await peer.named("nextValidId", self.plan.patience)
            await peer.quiet(self.plan.quiet)
        return peer

    async def admit(self) -> None:
        """Makes sure that the accounts are paper ones, and learns what orders need. Raises LiveAccountError, OSError."""
        peer = await self.session()
        if not peer.version:
            raise ConnectionError("it does not answer the handshake of the TWS protocol")
        accounts = await peer.named("managedAccounts", self.plan.patience)
        if accounts is None:
            told = [f"{one.fields['code']} {one.fields['text']}" for one in peer.got if one.name == "error"]
            raise ConnectionError(f"it let client {self.plan.client_id} not in: {'; '.join(told) or 'no answer'}")
        names = accounts.fields["accounts"].strip(",").split(",")
        if not all(name.startswith(PAPER) for name in names):
            raise LiveAccountError(f"the accounts {', '.join(names)} are not all paper accounts ({PAPER}…)")
        self.account = names[0]
        first = await peer.named("nextValidId", self.plan.patience)
        self.next_id = self.first_id = int(first.fields["orderId"]) if first else 1
        await self._learn(peer)
        await peer.close()

    async def _learn(self, peer: Peer) -> None:
        """The contract, and a price far below the market."""
        stock = {"symbol": self.plan.symbol, "secType": "STK", "exchange": "SMART", "currency": "USD"}
        peer.send("reqContractDetails", version="8", reqId="9001", includeExpired="0", **stock)
        details = await peer.named("contractDetails", self.plan.patience)
        if details is not None:
            self.con_id = details.fields["conId"]
        if self.plan.price:
            self.price = Decimal(self.plan.price)
            return
        peer.send("reqMarketDataType", marketDataType="3")
        peer.send("reqMktData", version="11", reqId="9002", snapshot="1", regulatorySnapshot="0", **stock)
        quote = await peer.until(_has_price, self.plan.patience)
        if quote is not None:
            self.price = max(Decimal(quote.fields["price"]) / 2, Decimal(1)).quantize(Decimal("0.01"))

    def take_id(self) -> int:
        """An order id that nothing used."""
        self.next_id += 1
        return self.next_id - 1

    async def place(self, peer: Peer, number: int = 0, order_id: int | None = None, **values: str) -> int:
        """Places an order to buy one share far below the market, unless told otherwise; returns its id."""
        order_id = self.take_id() if order_id is None else order_id
        fields = {"symbol": self.plan.symbol, "conId": self.con_id, "account": self.account, "action": "BUY"}
        fields |= {"totalQuantity": "1", "lmtPrice": plain(self.price), "orderRef": f"conformance-{order_id}"}
        peer.order(order_id, **(fields | values))
        self._placed.append((number, order_id))
        await peer.until(about(order_id), self.plan.patience, len(peer.got))
        await peer.quiet(self.plan.quiet)
        return order_id

    async def clean_up(self) -> None:
        """Cancels what is still open, and closes every connection."""
        for peer in self._peers:
            await peer.close()
        strange = [one.fields for peer in self._peers for one in peer.got if one.name == "unknown"]
        self.note("messages that are not in the table, or read otherwise", sorted({one["why"] for one in strange}))
        try:
            for number in sorted({number for number, _ in self._placed}):
                await self._cancel_all(number)
        except OSError as error:
            self.note("orders left open, the gateway was gone", str(error))

    async def _cancel_all(self, number: int) -> None:
        peer = await self.session(number)
        start = len(peer.got)
        peer.send("reqOpenOrders")
        await peer.named("openOrderEnd", self.plan.patience, start)
        mine = {str(order_id) for owner, order_id in self._placed if owner == number}
        for one in [one for one in peer.got[start:] if one.name == "openOrder" and one.fields["orderId"] in mine]:
            peer.send("cancelOrder", orderId=one.fields["orderId"])
            await asyncio.sleep(0.05)
        await peer.quiet(self.plan.quiet)
        await peer.close()


def _has_price(one: Request) -> bool:
    return one.name == "tickPrice" and Decimal(one.fields["price"]) > 0


def about(order_id: int) -> Any:
    """A test for messages about this order or request id."""
    wanted = str(order_id)
    names = ("orderId", "reqId", "id")
    return lambda one: one.name != "nextValidId" and wanted in [one.fields.get(name) for name in names]


def story(messages: list[Request], order_id: int) -> list[str]:
    """The callbacks about one order, each as its name and what it says; what repeats at once is told once."""
    told: list[str] = []
    for one in filter(about(order_id), messages):
        says = one.fields.get("status") or one.fields.get("code") or ""
        text = f"{one.name} {says}".strip()
        if text not in told[-1:]:
            told.append(text)
    return told
