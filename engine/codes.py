"""IB's error codes, each with what it means for a new order, for a cancel, and for the session. Pure.

An error on a cancel or a modify never ends an order (only openOrder, orderStatus, completedOrder and executions do).
Codes are IB's own, from the TWS API's "Message Codes" page; where a live gateway behaves differently, the comment says so.
"""

from __future__ import annotations

from enum import Enum


class Meaning(Enum):
    """What a code says of a *new* order that nothing else is known of."""

    REJECTED = "rejected"  # the gateway or IB refused it; it does not exist
    ID_USED = "id used"  # 103: the orderId was used before; nothing of this order exists
    SAYS_NOTHING = "says nothing"  # a warning, or a reason to ask


NEW_ORDER: dict[int, Meaning] = {
    103: Meaning.ID_USED,
    109: Meaning.REJECTED,  # price out of the precautionary range
    110: Meaning.REJECTED,  # price does not conform to the minimum variation
    111: Meaning.REJECTED,  # tif and order type are incompatible
    113: Meaning.REJECTED,  # tif should be DAY for MOC and LOC
    116: Meaning.REJECTED,  # order cannot be sent to a dead exchange
    117: Meaning.REJECTED,  # block order size
    122: Meaning.REJECTED,  # no warrants are short-able
    131: Meaning.REJECTED,  # size does not conform to the market rule
    132: Meaning.REJECTED,  # size does not conform to smallest portion
    135: Meaning.REJECTED,  # can't find order with id: of a new one, its parent is not there
    152: Meaning.REJECTED,  # hidden order attributes
    157: Meaning.REJECTED,  # order can be either one-cancels-all or...
    200: Meaning.REJECTED,  # no security definition
    201: Meaning.REJECTED,  # order rejected, reason follows
    203: Meaning.REJECTED,  # the security is not available or allowed for this account
    321: Meaning.REJECTED,  # server error when validating an API request
    387: Meaning.REJECTED,  # unsupported order type for this exchange
    388: Meaning.REJECTED,  # order size is smaller than the minimum
    434: Meaning.REJECTED,  # order size cannot be zero
    435: Meaning.REJECTED,  # must specify an account
    436: Meaning.REJECTED,  # must specify an allocation
    10006: Meaning.REJECTED,  # missing parent order
    10052: Meaning.REJECTED,  # invalid time in force
    10268: Meaning.REJECTED,  # the eTradeOnly order attribute is not supported
    10289: Meaning.REJECTED,  # cash quantity
}

MODIFY_REFUSED = frozenset({104, 105}) | {code for code, meaning in NEW_ORDER.items() if meaning is Meaning.REJECTED}
"""What refuses a change; the order goes on as it was. 104: a filled order; 105: a change of what cannot be changed."""

NO_CONTRACT = 200
CLIENT_ID_IN_USE = 326
LINK_LOST = 1100
LINK_RESTORED = frozenset({1101, 1102})  # data lost / data kept: the same to a ledger, it reconciles after both


def for_new_order(code: int) -> Meaning:
    """What `code` says of an order of which nothing else is known."""
    return NEW_ORDER.get(code, Meaning.SAYS_NOTHING)
