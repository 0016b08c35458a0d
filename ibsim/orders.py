"""An order, an execution, and what happens to them: the values that the book speaks in. Pure."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

from ibsim.contracts import Instrument

ZERO = Decimal(0)

LIMIT_TYPES = frozenset({"LMT", "STP LMT", "LOC"})
STOP_TYPES = frozenset({"STP", "STP LMT"})
CLOSE_TYPES = frozenset({"MOC", "LOC"})
SERVED_TYPES = frozenset({"MKT", "LMT", "STP", "STP LMT", "MOC", "LOC"})
SERVED_TIFS = frozenset({"DAY", "GTC", "IOC", "FOK", "GTD"})


class Stage(IntEnum):
    """How far an order has come."""

    GATEWAY = 0
    """The gateway keeps it: not transmitted, or the link to IB is down."""
    WAITING = 1
    """IB has it; it waits for its parent, its time, or the exchange to open."""
    WORKING = 2
    """It is in the market."""


@dataclass(slots=True, eq=False)
class Order:
    """One order at the broker. `status` is the API's word; `done` says whether it is over."""

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
    stage: Stage = Stage.GATEWAY
    done: bool = False
    transmit: bool = True
    triggered: bool = False
    inactive: bool = False
    """IB took it and will not work it until it is changed."""
    why_held: str = ""
    """What orderStatus says about a held order: `child`, `trigger`."""
    silent: bool = False
    """True while the session that placed it is told nothing about it."""
    taken_at: float = 0.0
    expires: float | None = None
    """Good till then, seconds since 1970."""
    starts: float | None = None
    """Good after then."""
    oca_group: str = ""
    oca_type: int = 0
    """1 = a fill cancels the others of the group; 2 and 3 = it reduces them."""
    parent: "Order | None" = None
    children: "list[Order]" = field(default_factory=list)
    place: int = 0
    """Its entry in the resting structure; an older entry is void."""

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def average(self) -> Decimal:
        return self.cost / self.filled if self.filled else ZERO

    @property
    def outside(self) -> bool:
        """Whether it may trade outside regular hours."""
        return self.fields.get("outsideRth") == "1" and self.order_type == "LMT"

    def marketable(self, price: Decimal) -> bool:
        """Whether it trades at this price now."""
        if self.order_type in STOP_TYPES and not self.triggered:
            return False
        if self.order_type not in LIMIT_TYPES or self.limit_price is None:
            return True
        return price <= self.limit_price if self.side == "BUY" else price >= self.limit_price

    def triggers(self, price: Decimal) -> bool:
        """Whether this price sets off its stop."""
        stop = self.aux_price or ZERO
        return price >= stop if self.side == "BUY" else price <= stop


class Execution(NamedTuple):
    """One fill. `exec_id` ends in the revision, `.01` for the first."""

    exec_id: str
    perm_id: int
    client_id: int
    order_id: int
    order_ref: str
    account: str
    instrument: Instrument
    side: str
    shares: Decimal
    price: Decimal
    cumulative: Decimal
    average: Decimal
    at: float
    """Seconds since 1970, UTC."""
    commission: Decimal
    realized_pnl: Decimal | None

    @property
    def signed(self) -> Decimal:
        """Shares, sold ones negative."""
        return self.shares if self.side == "BUY" else -self.shares


class Happening(NamedTuple):
    """One thing that happened, with the order's figures at that moment.

    `kind` is the journal's kind, or `refused` (an error to the sender; no order changed), `status` (news only) or
    `warning` (an error about an order that lives on). `unseen`: it happened at IB while the gateway had lost it.
    """

    kind: str
    order: Order | None
    status: str = ""
    filled: Decimal = ZERO
    average: Decimal = ZERO
    last_price: Decimal = ZERO
    code: int | str | None = None
    text: str = ""
    execution: Execution | None = None
    order_id: int = 0
    unseen: bool = False
    was: Execution | None = None
    """What a correction replaces."""


def happening(
    kind: str,
    order: Order,
    code: int | str | None = None,
    text: str = "",
    execution: Execution | None = None,
    unseen: bool = False,
    was: Execution | None = None,
) -> Happening:
    """What just happened to this order."""
    average = order.cost / order.filled if order.filled else ZERO
    return Happening(
        kind, order, order.status, order.filled, average, order.last_price, code, text, execution, order.order_id,
        unseen, was,
    )  # fmt: skip
