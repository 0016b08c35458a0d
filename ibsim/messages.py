"""The one table of messages: what clients send (by message id) and what the gateway answers (by name). Pure.

Names are those of the API's own methods and callbacks. `version` is the message's own version field, a relic that the
text protocol still carries where the table shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ibsim.codec import read, write
from ibsim.layout import Layout, LayoutError, Repeat, layout
from ibsim.order_layout import (
    COMPLETED_ORDER,
    CONTRACT,
    MARKET_DATA,
    OPEN_ORDER,
    PLACE_ORDER,
    PLACE_ORDER_170,
    SHORT_CONTRACT,
)
from ibsim.unserved import UNSERVED
from ibsim.wire import MAX_FIELD, WireError, fields_of, integer, message

__all__ = ["ANSWERS", "REQUESTS", "UNSERVED", "Request", "decode", "decode_answer", "encode", "encode_request"]


@dataclass(frozen=True, slots=True)
class Request:
    """One decoded request: its API name and its fields as strings."""

    name: str
    fields: Mapping[str, Any]


REQUESTS: dict[int, tuple[str, Layout]] = {
    1: ("reqMktData", MARKET_DATA),
    2: ("cancelMktData", layout("version reqId")),
    3: ("placeOrder", PLACE_ORDER),
    4: ("cancelOrder", layout("version orderId manualCancelOrderTime@169")),
    5: ("reqOpenOrders", layout("version")),
    6: ("reqAccountUpdates", layout("version subscribe account")),
    7: ("reqExecutions", layout("version reqId clientId account time symbol secType exchange side")),
    8: ("reqIds", layout("version numIds")),
    9: (
        "reqContractDetails",
        layout("version reqId", CONTRACT, "includeExpired secIdType secId issuerId@176"),
    ),
    14: ("setServerLogLevel", layout("version logLevel")),
    15: ("reqAutoOpenOrders", layout("version autoBind")),
    16: ("reqAllOpenOrders", layout("version")),
    17: ("reqManagedAccts", layout("version")),
    49: ("reqCurrentTime", layout("version")),
    58: ("reqGlobalCancel", layout("version")),
    59: ("reqMarketDataType", layout("version marketDataType")),
    61: ("reqPositions", layout("version")),
    62: ("reqAccountSummary", layout("version reqId group tags")),
    63: ("cancelAccountSummary", layout("version reqId")),
    64: ("cancelPositions", layout("version")),
    71: ("startApi", layout("version clientId optionalCapabilities")),
    74: ("reqPositionsMulti", layout("version reqId account modelCode")),
    75: ("cancelPositionsMulti", layout("version reqId")),
    76: ("reqAccountUpdatesMulti", layout("version reqId account modelCode ledgerAndNLV")),
    77: ("cancelAccountUpdatesMulti", layout("version reqId")),
    81: ("reqMatchingSymbols", layout("reqId pattern")),
    91: ("reqMarketRule", layout("marketRuleId")),
    99: ("reqCompletedOrders", layout("apiOnly")),
}

ANSWERS: dict[str, tuple[int, Layout]] = {
    "tickPrice": (1, layout("version=6 reqId tickType price size attribMask=0")),
    "tickSize": (2, layout("version=6 reqId tickType size")),
    "orderStatus": (
        3,
        layout(
            "orderId status filled remaining avgFillPrice=0 permId parentId=0 lastFillPrice=0 clientId whyHeld"
            " mktCapPrice=0"
        ),
    ),
    "error": (4, layout("version=2 id=-1 code text advancedOrderReject@166")),
    "openOrder": (5, OPEN_ORDER),
    "updateAccountValue": (6, layout("version=2 key value currency account")),
    "updatePortfolio": (
        7,
        layout(
            "version=8 conId=0 symbol secType lastTradeDateOrContractMonth strike=0 right=0 multiplier primaryExchange"
            " currency localSymbol tradingClass position marketPrice marketValue averageCost unrealizedPNL realizedPNL"
            " account"
        ),
    ),
    "updateAccountTime": (8, layout("version=1 time")),
    "nextValidId": (9, layout("version=1 orderId")),
    "contractDetails": (
        10,
        layout(
            "version=8@<164 reqId symbol secType lastTradeDateOrContractMonth strike=0 right exchange currency"
            " localSymbol marketName tradingClass conId minTick mdSizeMultiplier=100@<164 multiplier orderTypes"
            " validExchanges priceMagnifier=1 underConId=0 longName primaryExchange contractMonth industry category"
            " subcategory timeZoneId tradingHours liquidHours evRule evMultiplier",
            Repeat("secIdList", ("tag value",)),
            "aggGroup=1 underSymbol underSecType marketRuleIds realExpirationDate stockType"
            " sizeMinTick=1@163-163 minSize=0.0001@164 sizeIncrement=0.0001@164 suggestedSizeIncrement=100@164",
        ),
    ),
    "execDetails": (
        11,
        layout(
            "reqId=-1 orderId",
            SHORT_CONTRACT,
            "execId time account executionExchange side shares price permId clientId liquidation=0 cumQty avgPrice"
            " orderRef evRule evMultiplier modelCode lastLiquidity=2 pendingPriceRevision=0@178",
        ),
    ),
    "managedAccounts": (15, layout("version=1 accounts")),
    "currentTime": (49, layout("version=1 time")),
    "contractDetailsEnd": (52, layout("version=1 reqId")),
    "openOrderEnd": (53, layout("version=1")),
    "accountDownloadEnd": (54, layout("version=1 account")),
    "execDetailsEnd": (55, layout("version=1 reqId")),
    "tickSnapshotEnd": (57, layout("version=1 reqId")),
    "marketDataType": (58, layout("version=1 reqId marketDataType")),
    "commissionReport": (
        59,
        layout(
            "version=1 execId commission currency=USD realizedPNL=1.7976931348623157E308"
            " yield=1.7976931348623157E308 yieldRedemptionDate"
        ),
    ),
    "position": (61, layout("version=3 account", SHORT_CONTRACT, "position avgCost")),
    "positionEnd": (62, layout("version=1")),
    "accountSummary": (63, layout("version=1 reqId account tag value currency")),
    "accountSummaryEnd": (64, layout("version=1 reqId")),
    "positionMulti": (71, layout("version=1 reqId account", SHORT_CONTRACT, "position avgCost modelCode")),
    "positionMultiEnd": (72, layout("version=1 reqId")),
    "accountUpdateMulti": (73, layout("version=1 reqId account modelCode key value currency")),
    "accountUpdateMultiEnd": (74, layout("version=1 reqId")),
    "symbolSamples": (
        79,
        layout(
            "reqId",
            Repeat(
                "contracts",
                (
                    "conId symbol secType primaryExchange currency",
                    Repeat("derivativeSecTypes", ("type",)),
                    "description@176 issuerId@176",
                ),
            ),
        ),
    ),
    "tickReqParams": (81, layout("reqId minTick bboExchange snapshotPermissions")),
    "marketRule": (93, layout("marketRuleId", Repeat("priceIncrements", ("lowEdge increment",)))),
    "orderBound": (100, layout("permId clientId orderId")),
    "completedOrder": (101, COMPLETED_ORDER),
    "completedOrdersEnd": (102, layout("")),
}


def decode(payload: bytes, version: int) -> Request:
    """The request in a frame's payload.

    A request that the table knows and the gateway does not serve comes back under its name with `unserved` = "1" and,
    where it carries one, its `reqId`. Raises WireError on anything that is no request of the protocol.
    """
    fields = fields_of(payload)
    number = integer(fields[0] if fields else "")
    if number in UNSERVED:
        name, at = UNSERVED[number]
        served = fields[at] if at is not None and at < len(fields) else "-1"
        return Request(name, {"unserved": "1", "reqId": str(integer(served))})
    if number not in REQUESTS:
        raise WireError(f"message id {number} is none of the protocol's")
    name, described = REQUESTS[number]
    if described is PLACE_ORDER and version >= 170:
        described = PLACE_ORDER_170
    if len(payload) > MAX_FIELD and max(map(len, fields)) > MAX_FIELD:
        raise WireError(f"{name}: a field of more than {MAX_FIELD} characters")
    try:
        return Request(name, read(described, version, fields[1:]))
    except LayoutError as error:
        raise WireError(f"{name}: {error}") from None


def encode(name: str, version: int, values: Mapping[str, Any]) -> bytes:
    """One framed answer. Raises KeyError for a name that the table lacks."""
    number, described = ANSWERS[name]
    return message([str(number), *write(described, version, values)])


_BY_NAME = {name: (number, described) for number, (name, described) in REQUESTS.items()}
_BY_NUMBER = {number: (name, described) for name, (number, described) in ANSWERS.items()}


def encode_request(name: str, version: int, values: Mapping[str, Any]) -> bytes:
    """One framed request, as a client would send it. Raises KeyError for a name that the table lacks."""
    number, described = _BY_NAME[name]
    if described is PLACE_ORDER and version >= 170:
        described = PLACE_ORDER_170
    return message([str(number), *write(described, version, values)])


def decode_answer(fields: Sequence[str], version: int) -> Request:
    """An answer's name and fields, for a client. Raises WireError if the table does not know it."""
    number = integer(fields[0] if fields else "")
    if number not in _BY_NUMBER:
        raise WireError(f"answer id {number} is not in the table")
    name, described = _BY_NUMBER[number]
    try:
        return Request(name, read(described, version, fields[1:]))
    except LayoutError as error:
        raise WireError(f"{name}: {error}") from None
