"""What a placeOrder asks for, and whether the gateway would take it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isnan
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ibsim.contracts import Instrument, Universe
from ibsim.hours import order_time
from ibsim.orders import CLOSE_TYPES, LIMIT_TYPES, SERVED_TIFS, SERVED_TYPES, STOP_TYPES, ZERO, Order
from ibsim.wire import EXACT_DECIMALS, decimals, integer, number

_KEPT = tuple(
    name
    for line in (
        "ocaGroup openClose origin outsideRth hidden discretionaryAmt goodAfterTime goodTillDate faGroup faMethod",
        "faPercentage modelCode rule80A allOrNone minQty ocaType parentId triggerMethod algoStrategy",
        "blockOrder sweepToFill displaySize cashQty usePriceMgmtAlgo settlingFirm clearingAccount clearingIntent",
        "notHeld solicited randomizeSize randomizePrice autoCancelParent",
    )
    for name in line.split()
)
"""Fields that come back in openOrder as they were sent."""
_UNSERVED = {
    "conditions": "an order with conditions",
    "hedgeType": "a hedging order",
    "deltaNeutralOrderType": "a delta-neutral order",
    "scaleInitLevelSize": "a scale order",
    "adjustedOrderType": "an order that is adjusted by itself",
}
"""What an order asks for in these fields is not done: it is refused in these words."""
_NONE = ("0", "None", "2147483647")
_UNSET = frozenset({"", "0", "0.0", "None", "2147483647"})


class Wish(NamedTuple):
    """A placeOrder in the book's terms."""

    session: int
    client_id: int
    order_id: int
    order_ref: str
    account: str
    instruments: Sequence[Instrument]
    """What the contract can mean: one, if it is good."""
    side: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    aux_price: Decimal | None
    tif: str
    fields: dict[str, object]
    transmit: bool = True
    what_if: bool = False
    parent_id: int = 0
    expires: float | None = None
    starts: float | None = None
    unserved: str = ""
    """What the order asks for that the stand-in does not do, in words."""

    @property
    def instrument(self) -> Instrument:
        """The contract, where there is exactly one."""
        return self.instruments[0]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order is not taken: the API's error code and text."""

    code: int
    text: str


def wish(
    values: Mapping[str, Any], universe: Universe, session: int, client_id: int, account: str, zone: ZoneInfo
) -> Wish:
    """A placeOrder request's fields as a wish. Raises WireError when a number is none.

    `account` stands in where the request names none; `zone` is that of times without one.
    """
    kept: dict[str, object] = {name: value for name in _KEPT if (value := values.get(name, "")) not in _UNSET}
    if "algoStrategy" in kept:
        kept["algoParams"] = values["algoParams"]
    if "ocaType" in kept:
        kept["ocaType"] = str(integer(values["ocaType"]))
    side = values["action"]
    instruments = universe.find(values)
    exchange = values["exchange"]
    if exchange and instruments and exchange != instruments[0].route:
        kept["exchange"] = exchange
    return Wish(
        session=session,
        client_id=client_id,
        order_id=integer(values["orderId"]),
        order_ref=values["orderRef"],
        account=values["account"] or account,
        instruments=instruments,
        side="SELL" if side in ("SSHORT", "SLONG") else side,
        quantity=number(values["totalQuantity"]) or ZERO,
        order_type=values["orderType"],
        limit_price=number(values["lmtPrice"]),
        aux_price=number(values["auxPrice"]),
        tif=values["tif"] or "DAY",
        fields=kept,
        transmit=values["transmit"] != "0",
        what_if=values["whatIf"] == "1",
        parent_id=integer(values["parentId"]),
        expires=_time(kept, "goodTillDate", zone),
        starts=_time(kept, "goodAfterTime", zone),
        unserved=_unserved(values),
    )


def _unserved(values: Mapping[str, Any]) -> str:
    for name, words in _UNSERVED.items():
        value = values.get(name)
        if value and value not in _NONE:
            return words
    return ""


def _time(kept: Mapping[str, object], name: str, zone: ZoneInfo) -> float | None:
    """A time among the fields: None if there is none, NaN if it cannot be read."""
    text = kept.get(name)
    if not text:
        return None
    at = order_time(str(text), zone)
    return float("nan") if at is None else at


def refusal(asked: Wish, accounts: Sequence[str], now: float) -> Refusal | None:
    """Why this order, new or changed, is not taken; None if it is fine."""
    if not asked.instruments:
        return Refusal(200, "No security definition has been found for the request")
    if len(asked.instruments) > 1:
        name = asked.instrument.symbol
        return Refusal(200, f"The contract description specified for {name} is ambiguous.")
    if asked.unserved:
        return _invalid(f"{asked.unserved} is not served by this stand-in")
    if not asked.account:
        return Refusal(435, "You must specify an account.")
    if asked.account not in accounts:
        return _invalid("Invalid account code")
    return _type_refusal(asked) or _price_refusal(asked) or _time_refusal(asked, now)


def _invalid(cause: str) -> Refusal:
    return Refusal(321, f"Error validating request.-'bN' : cause - {cause}")


def _type_refusal(asked: Wish) -> Refusal | None:
    if asked.side not in ("BUY", "SELL"):
        return _invalid("Invalid side")
    if asked.order_type not in SERVED_TYPES:
        return Refusal(387, "Unsupported order type for this exchange and security type.")
    if asked.tif not in SERVED_TIFS or (asked.order_type in CLOSE_TYPES and asked.tif not in ("DAY", "GTC")):
        return Refusal(328, f"Invalid time in force: {asked.tif}")
    if decimals(asked.quantity) > EXACT_DECIMALS:
        return _invalid("Invalid size")
    return Refusal(434, "The order size cannot be zero.") if asked.quantity <= 0 else None


def _price_refusal(asked: Wish) -> Refusal | None:
    needed = []
    if asked.order_type in LIMIT_TYPES:
        needed.append(asked.limit_price)
    if asked.order_type in STOP_TYPES:
        needed.append(asked.aux_price)
    for price in needed:
        if price is None or price <= 0:
            return _invalid("Missing or invalid price")
        if price % asked.instrument.tick:
            return Refusal(110, "The price does not conform to the minimum price variation for this contract.")
    return None


def _time_refusal(asked: Wish, now: float) -> Refusal | None:
    if asked.expires is None and asked.starts is None and asked.tif != "GTD":
        return None
    unread = any(at is not None and isnan(at) for at in (asked.expires, asked.starts))
    if unread or (asked.tif == "GTD" and asked.expires is None):
        return Refusal(391, "The time or time-zone entered is invalid. The correct format is hh:mm:ss xxx")
    if asked.tif == "GTD" and asked.expires is not None and asked.expires <= now:
        return Refusal(201, "Order rejected - reason:The good till date is in the past")
    return None


def mismatch(order: Order, asked: Wish) -> Refusal | None:
    """Why a placeOrder under an open order's id is no modification of it; None if it is one."""
    same = (
        len(asked.instruments) == 1
        and asked.instrument.con_id == order.instrument.con_id
        and asked.side == order.side
        and asked.account == order.account
    )
    if not same:
        return Refusal(105, "Order being modified does not match original order")
    if asked.order_type != order.order_type:
        return Refusal(329, "Order modify failed. Cannot change to the new order type.")
    group = asked.fields.get("ocaGroup")
    if group and group != order.oca_group:
        return Refusal(10326, "OCA group revision is not allowed.")
    if asked.quantity <= order.filled:
        return Refusal(104, "Cannot modify a filled order.")
    return None


def orphan(asked: Wish, parent: Order | None) -> Refusal | None:
    """Why a parentId is not good: it names no open order. So a child is answered that is changed after its parent was
    filled, too.
    """
    return Refusal(135, f"Can't find order with id = {asked.parent_id}") if asked.parent_id and parent is None else None
