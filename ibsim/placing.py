"""What a placeOrder asks for, and whether the gateway would take it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ibsim.contracts import TICK, Instrument, Universe
from ibsim.orders import LIMIT_TYPES, SERVED_TIFS, SERVED_TYPES, STOP_TYPES, Order
from ibsim.wire import number

KEPT_FIELDS = frozenset(
    name
    for line in (
        "ocaGroup openClose origin outsideRth hidden discretionaryAmt goodAfterTime goodTillDate faGroup faMethod",
        "faPercentage modelCode rule80A allOrNone minQty ocaType parentId triggerMethod algoStrategy algoParams",
        "blockOrder sweepToFill displaySize cashQty usePriceMgmtAlgo activeStartTime activeStopTime settlingFirm",
        "clearingAccount clearingIntent notHeld solicited randomizeSize randomizePrice",
    )
    for name in line.split()
)
"""Fields that come back in openOrder as they were sent."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A placeOrder in the book's terms. `instrument` is None if the contract is unknown."""

    session: int
    client_id: int
    order_id: int
    order_ref: str
    account: str
    instrument: Instrument | None
    side: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    aux_price: Decimal | None
    tif: str
    fields: dict[str, object]
    unserved: str = ""
    """What the order asks for that the stand-in does not do, in words."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order is not taken: the API's error code and text."""

    code: int
    text: str


def wish(values: Mapping[str, Any], universe: Universe, session: int, client_id: int, account: str) -> Wish:
    """A placeOrder request's fields as a wish. Raises WireError when a number is none.

    `account` stands in where the request names none.
    """
    kept = {
        key: value
        for key, value in values.items()
        if key in KEPT_FIELDS and value not in ("", "0", "0.0", "None", "2147483647")
    }
    side = values["action"]
    return Wish(
        session=session,
        client_id=client_id,
        order_id=int(values["orderId"] or 0),
        order_ref=values["orderRef"],
        account=values["account"] or account,
        instrument=universe.find(values),
        side="SELL" if side in ("SSHORT", "SLONG") else side,
        quantity=number(values["totalQuantity"]) or Decimal(0),
        order_type=values["orderType"],
        limit_price=number(values["lmtPrice"]),
        aux_price=number(values["auxPrice"]),
        tif=values["tif"] or "DAY",
        fields=kept,
        unserved=_unserved(values),
    )


def _unserved(values: Mapping[str, Any]) -> str:
    if values["transmit"] == "0":
        return "an order that waits for its transmission (transmit=False)"
    if values["whatIf"] == "1":
        return "a what-if order"
    return "order conditions" if values["conditions"] else ""


def refusal(asked: Wish, accounts: tuple[str, ...]) -> Refusal | None:
    """Why this order, new or changed, is not taken; None if it is fine."""
    if asked.instrument is None:
        return Refusal(200, "No security definition has been found for the request")
    if asked.unserved:
        return _invalid(f"{asked.unserved} is not served by this stand-in")
    if not asked.account:
        return Refusal(435, "You must specify an account.")
    if asked.account not in accounts:
        return _invalid("Invalid account code")
    return _type_refusal(asked) or _price_refusal(asked)


def _invalid(cause: str) -> Refusal:
    return Refusal(321, f"Error validating request.-'bN' : cause - {cause}")


def _type_refusal(asked: Wish) -> Refusal | None:
    if asked.side not in ("BUY", "SELL"):
        return _invalid("Invalid side")
    if asked.order_type not in SERVED_TYPES:
        return Refusal(387, "Unsupported order type for this exchange and security type.")
    if asked.tif not in SERVED_TIFS:
        return Refusal(328, f"Invalid time in force: {asked.tif}")
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
        if price % TICK:
            return Refusal(110, "The price does not conform to the minimum price variation for this contract.")
    return None


def mismatch(order: Order, asked: Wish) -> Refusal | None:
    """Why a placeOrder under an open order's id is no modification of it; None if it is one."""
    same = (
        asked.instrument is not None
        and asked.instrument.con_id == order.instrument.con_id
        and asked.side == order.side
        and asked.account == order.account
    )
    if not same:
        return Refusal(105, "Order being modified does not match original order")
    if asked.order_type != order.order_type:
        return Refusal(329, "Order modify failed. Cannot change to the new order type.")
    return None
