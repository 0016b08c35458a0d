"""An order, an execution, and what happens to them: the values that the book speaks in. Pure."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from ibsim.contracts import Instrument

ZERO = Decimal(0)

LIMIT_TYPES = frozenset({"LMT", "STP LMT"})
STOP_TYPES = frozenset({"STP", "STP LMT"})
SERVED_TYPES = frozenset({"MKT", "LMT", "STP", "STP LMT"})
SERVED_TIFS = frozenset({"DAY", "GTC", "IOC", "FOK"})
DONE = frozenset({"Filled", "Cancelled", "Inactive"})


@dataclass(slots=True, eq=False)
class Order:
    """One order at the broker. `status` is the API's word; an order whose status is in DONE is over."""

    perm_id: int
    client_id: int
    order_id: int
    order_ref: str
    account: str
    instrument: Instrument
    side: str
    """BUY or SELL."""
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    aux_price: Decimal | None
    tif: str
    session: int
    """The session that placed it; 0 = by hand."""
    fields: dict[str, object] = field(default_factory=dict)
    """Further fields of placeOrder that come back in openOrder, where they differ from the default."""
    status: str = "PendingSubmit"
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    """Sum of price times shares."""
    last_price: Decimal = ZERO
    triggered: bool = False
    sent: bool = False
    """True once it is out of the gateway: IB works it."""
    silent: bool = False
    """True while the session that placed it is told nothing about it."""
    place: int = 0
    """Its entry in the resting structure; an older entry is void."""

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def average(self) -> Decimal:
        return self.cost / self.filled if self.filled else ZERO

    @property
    def done(self) -> bool:
        return self.status in DONE

    def marketable(self, price: Decimal) -> bool:
        """Whether it trades at this price now."""
        if self.order_type in STOP_TYPES and not self.triggered:
            return False
        if self.order_type not in LIMIT_TYPES:
            return True
        limit = self.limit_price if self.limit_price is not None else price
        return price <= limit if self.side == "BUY" else price >= limit


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill. `exec_id` ends in the revision, `.01` for the first."""

    exec_id: str
    perm_id: int
    client_id: int
    order_id: int
    order_ref: str
    account: str
    symbol: str
    side: str
    shares: Decimal
    price: Decimal
    cumulative: Decimal
    average: Decimal
    at: float
    """Seconds since 1970, UTC."""
    commission: Decimal
    realized_pnl: Decimal | None


class Happening(NamedTuple):
    """One thing that happened, with the order's figures at that moment.

    `kind` is the journal's kind, or `refused` (an error to the sender; no order changed) or `status` (news only).
    """

    kind: str
    order: Order | None
    status: str = ""
    filled: Decimal = ZERO
    average: Decimal = ZERO
    last_price: Decimal = ZERO
    code: int | None = None
    text: str = ""
    execution: Execution | None = None
    order_id: int = 0


def happening(
    kind: str, order: Order, code: int | None = None, text: str = "", execution: Execution | None = None
) -> Happening:
    """What just happened to this order."""
    return Happening(
        kind, order, order.status, order.filled, order.average, order.last_price, code, text, execution, order.order_id
    )
