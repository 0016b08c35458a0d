"""The broker as the rooms see it: facts that come in, requests that go out. Pure types; `engine.broker_ib` carries them.

Facts are what the gateway said, in our types, nothing concluded. Quantities and prices are decimals, times aware UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from engine.pace import DoorPace


@dataclass(frozen=True, slots=True)
class ContractFact:
    """The contract as the gateway names it."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    currency: str


@dataclass(frozen=True, slots=True)
class ContractQuery:
    """What somebody says of a contract; empty fields say nothing. Fields as IB's Contract has them."""

    symbol: str = ""
    sec_type: str = "STK"
    exchange: str = "SMART"
    currency: str = "USD"
    con_id: int = 0
    local_symbol: str = ""
    last_trade_date: str = ""
    strike: Decimal | None = None
    right: str = ""
    multiplier: str = ""
    trading_class: str = ""
    primary_exchange: str = ""

    def __str__(self) -> str:
        said = (
            self.con_id or "", self.symbol, self.local_symbol, self.sec_type, self.last_trade_date, self.strike or "",
            self.right, self.exchange, self.currency,
        )  # fmt: skip
        return " ".join(str(one) for one in said if one != "")


@dataclass(frozen=True, slots=True)
class ContractDetail:
    """contractDetails, as far as orders need it. `min_tick`: the smallest step of its prices, 0 = not said."""

    con_id: int
    symbol: str
    local_symbol: str
    sec_type: str
    exchange: str
    primary_exchange: str
    currency: str
    last_trade_date: str
    min_tick: Decimal

    def __str__(self) -> str:
        name, where = self.local_symbol or self.symbol, self.primary_exchange or self.exchange
        return " ".join(filter(None, (f"con_id {self.con_id}", name, self.last_trade_date, where, self.currency)))


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """openOrder or completedOrder. A completed one carries no orderId and no clientId: both are 0 there."""

    perm_id: int
    client_id: int
    broker_order_id: int
    reference: str
    account: str
    contract: ContractFact
    side: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    tif: str
    status: str
    filled: Decimal | None = None
    completed: bool = False
    text: str = ""
    parent_id: int = 0  # the orderId of the order on which it hangs, under the same clientId
    oca_group: str = ""
    oca_type: int = 0


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """orderStatus: repeated, skipped and reordered at will; carries no reference."""

    broker_order_id: int
    perm_id: int
    client_id: int
    status: str
    filled: Decimal
    remaining: Decimal


@dataclass(frozen=True, slots=True)
class ExecutionFact:
    """execDetails: the truth about fills."""

    exec_id: str
    perm_id: int
    client_id: int
    broker_order_id: int
    reference: str
    account: str
    contract: ContractFact
    side: str
    quantity: Decimal
    price: Decimal
    exchange: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CommissionFact:
    """commissionReport."""

    exec_id: str
    commission: Decimal
    currency: str
    realized_pnl: Decimal | None


@dataclass(frozen=True, slots=True)
class PositionFact:
    """One position as the broker has it."""

    account: str
    con_id: int
    symbol: str
    quantity: Decimal
    average_cost: Decimal


@dataclass(frozen=True, slots=True)
class AccountFact:
    """What the broker said of one account at `at`; a figure that it did not tell is None."""

    account: str
    currency: str
    at: datetime
    net_liquidation: Decimal | None
    cash: Decimal | None
    buying_power: Decimal | None
    maintenance_margin: Decimal | None


@dataclass(frozen=True, slots=True)
class BrokerError:
    """error(): `request_id` is an orderId, one of our request ids, or -1."""

    request_id: int
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The socket is gone; every licence of its session died with it (R2)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """ib_async queues instead of sending: the gate shuts until it ended."""

    on: bool


@dataclass(frozen=True, slots=True)
class DecoderLoss:
    """ib_async could not decode a message: something is lost, and only a reconciliation finds out what."""

    text: str


Fact = (
    OpenOrder
    | OrderStatus
    | ExecutionFact
    | CommissionFact
    | PositionFact
    | BrokerError
    | SessionClosed
    | Throttled
    | DecoderLoss
)
Sink = Callable[[Fact], None]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The gateway took us under our clientId: every earlier session under it is dead there (G2)."""

    next_valid_id: int
    accounts: tuple[str, ...]
    address: str = ""  # our own end of the connection, HOST:PORT


@dataclass(frozen=True, slots=True)
class InUse:
    """Error 326: another session holds the clientId."""

    message: str
    address: str = ""  # our own end of the refused connection, HOST:PORT


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No session, for another reason: refused, mute, timed out. Nothing was sent."""

    reason: str
    address: str = ""  # our own end of the connection, HOST:PORT; empty where there was none


class Paced(Exception):
    """The pace of the door is full: nothing of the order was written."""


class RequestFailed(Exception):
    """A request to the broker did not complete: its result is unknown, never empty (G6)."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Everything the broker needs of one order."""

    broker_order_id: int
    reference: str
    account: str
    symbol: str
    sec_type: str
    exchange: str
    currency: str
    con_id: int
    side: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    tif: str
    extra: dict[str, str]  # what few orders have: fields of the contract, good_till, oca_group, outside_rth
    parent_id: int = 0  # the orderId of the order on which this one hangs, while that one is open
    transmit: bool = True  # False: the gateway keeps it until a later one of its family is transmitted

    @property
    def contract(self) -> ContractQuery:
        """What is traded, as IB is told."""
        said = {name: self.extra.get(name, "") for name in _CONTRACT_TEXTS}
        strike = Decimal(self.extra["strike"]) if "strike" in self.extra else None
        return ContractQuery(
            self.symbol, self.sec_type, self.exchange, self.currency, self.con_id, strike=strike, **said
        )


_CONTRACT_TEXTS = ("local_symbol", "last_trade_date", "right", "multiplier", "trading_class", "primary_exchange")


Known = Callable[[int], bool]
"""Whether nothing is to be learned of the completed order with this permId. The gateway sends it; nobody need decode it."""


class Broker(Protocol):
    """One door to one gateway. Facts go to the sink given at construction, on the event loop, in the order they came.

    Every message that it writes counts in `pace`; requests wait for their turn there, within their deadline.
    """

    @property
    def pace(self) -> DoorPace:
        """The pace of all messages of this door."""
        ...

    async def connect(self, deadline: float) -> Admitted | InUse | Unreachable:
        """Open the session under our clientId, within `deadline` seconds."""
        ...

    def abort(self) -> None:
        """Destroy the session now: nothing buffered is flushed (fence 3)."""
        ...

    def place(self, order: Outgoing) -> None:
        """Write one new order. Raises ConnectionError without a session, Paced when the pace is full; nothing is written then."""
        ...

    def prepare(self, order: Outgoing) -> None:
        """Do now what can be done of `place` before it is entitled to write; nothing is written. A hint: never needed."""
        ...

    def cancel(self, broker_order_id: int) -> None:
        """Write one cancel, whatever the pace says: cancels overtake. Raises ConnectionError when there is no session."""
        ...

    async def current_time(self, deadline: float) -> int:
        """A round trip through the gateway; epoch seconds there. Raises RequestFailed."""
        ...

    async def ask_ib(self, deadline: float) -> None:
        """A round trip that IB's own servers must answer, not the gateway (R6); at most one a second. Raises RequestFailed."""
        ...

    async def open_orders(self, deadline: float) -> list[OpenOrder]:
        """Every client's open orders, complete up to the End. Raises RequestFailed."""
        ...

    async def completed_orders(self, deadline: float, known: Known | None = None) -> list[OpenOrder]:
        """Orders that ended, complete up to the End but for those whose permId is `known`. Raises RequestFailed."""
        ...

    async def executions(self, deadline: float, since: datetime | None = None) -> list[ExecutionFact]:
        """The day's executions (from the second of `since` on), complete up to the End. Raises RequestFailed."""
        ...

    async def positions(self, deadline: float) -> list[PositionFact]:
        """All positions, complete up to the End. Raises RequestFailed."""
        ...

    async def accounts(self, deadline: float) -> list[AccountFact]:
        """The figures of every account, complete up to the End. Raises RequestFailed."""
        ...

    async def contract_details(self, query: ContractQuery, deadline: float) -> list[ContractDetail]:
        """The contracts that IB knows under this description; none where it knows none. Raises RequestFailed."""
        ...

    @property
    def heard_at(self) -> float:
        """When bytes last came from the gateway (CLOCK_BOOTTIME seconds), whatever they say: a sign of life."""
        ...

    @property
    def listing_at(self) -> float:
        """When an item of a list that was asked for and has not ended came last; -inf while no list is under way.

        Whatever the gateway answers stands behind the list that it is sending (R5).
        """
        ...

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait in the transport's buffer (R5)."""
        ...
