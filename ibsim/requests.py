"""Every request that is served, by its API name; here those about accounts, contracts and quotes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ibsim import order_requests as orders
from ibsim import statements
from ibsim.order_requests import Fields, end
from ibsim.session import Session
from ibsim.wire import integer

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

NOT_CONNECTED = (504, "Not connected")
MAX_SUMMARIES = 2
"""Account summaries that one session may have open."""
_NO_CONTRACT = (200, "No security definition has been found for the request")
_TOO_MANY_SUMMARIES = (
    322,
    "Error processing request.-'bN' : cause - Maximum number of account summary requests exceeded",
)


def _nothing(_gateway: "Gateway", _session: Session, _fields: Fields) -> None:
    """A request without an answer."""


# accounts


def _positions(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.wants_positions = True
    book = gateway.book
    for held in book.link.positions(book.accounts.positions()):
        session.send("position", statements.position(held))
    end(gateway, session, "positions", "positionEnd", {})


def _cancel_positions(_gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.wants_positions = False


def _positions_multi(gateway: "Gateway", session: Session, fields: Fields) -> None:
    book, account = gateway.book, fields["account"]
    about = {"reqId": fields["reqId"], "modelCode": fields["modelCode"]}
    for held in book.link.positions(book.accounts.positions()):
        if account in ("", held.account):
            session.send("positionMulti", {**statements.position(held), **about})
    end(gateway, session, "positions", "positionMultiEnd", {"reqId": fields["reqId"]})


def _account(gateway: "Gateway", session: Session, name: str, about: int = -1) -> str | None:
    """The account that a request means; answers it with an error and returns None if there is no such account."""
    account = name or gateway.settings.accounts[0]
    if account in gateway.settings.accounts:
        return account
    session.error(321, "Error validating request.-'bN' : cause - Invalid account code", about)
    return None


def _account_updates(gateway: "Gateway", session: Session, fields: Fields) -> None:
    account = _account(gateway, session, fields["account"])
    session.wants_account = ""
    if account is None or fields["subscribe"] != "1":
        return
    session.wants_account = account
    book = gateway.book
    for key, value, currency in statements.account_values(book.accounts, account, book.market.price):
        session.send("updateAccountValue", {"key": key, "value": value, "currency": currency, "account": account})
    for held in book.link.positions(book.accounts.positions()):
        if held.account == account:
            session.send("updatePortfolio", statements.portfolio(held, book.market.price(held.instrument)))
    session.send("updateAccountTime", {"time": datetime.now(gateway.zone).strftime("%H:%M")})
    session.send("accountDownloadEnd", {"account": account})


def _account_updates_multi(gateway: "Gateway", session: Session, fields: Fields) -> None:
    account = _account(gateway, session, fields["account"], integer(fields["reqId"]))
    if account is None:
        return
    about = {"reqId": fields["reqId"], "account": account, "modelCode": fields["modelCode"]}
    for key, value, currency in statements.account_values(gateway.book.accounts, account, gateway.book.market.price):
        session.send("accountUpdateMulti", {**about, "key": key, "value": value, "currency": currency})
    session.send("accountUpdateMultiEnd", about)


def _account_summary(gateway: "Gateway", session: Session, fields: Fields) -> None:
    request, wanted = fields["reqId"], set(fields["tags"].split(","))
    if len(session.summaries | {request}) > MAX_SUMMARIES:
        session.error(*_TOO_MANY_SUMMARIES, about=integer(request))
        return
    session.summaries.add(request)
    ledger = any(tag.startswith("$LEDGER") for tag in wanted)
    book = gateway.book
    for account in gateway.settings.accounts:
        for key, value, currency in statements.account_values(book.accounts, account, book.market.price):
            if ledger if currency == "BASE" else key in wanted:
                about = {"reqId": request, "account": account, "tag": key}
                session.send("accountSummary", {**about, "value": value, "currency": currency})
    end(gateway, session, "account_summary", "accountSummaryEnd", {"reqId": request})


def _cancel_account_summary(_gateway: "Gateway", session: Session, fields: Fields) -> None:
    session.summaries.discard(fields["reqId"])


def _managed_accounts(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.send("managedAccounts", {"accounts": ",".join(gateway.settings.accounts)})


def _ids(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.send("nextValidId", {"orderId": str(gateway.book.ids(session.client_id).next_valid)})


def _current_time(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.send("currentTime", {"time": str(int(gateway.now()))})


# contracts and quotes


def _contract_details(gateway: "Gateway", session: Session, fields: Fields) -> None:
    request = fields["reqId"]
    found = gateway.book.universe.find(fields)
    if not found:
        session.error(*_NO_CONTRACT, about=integer(request))
        return
    for instrument in found:
        hours = _hours(gateway, always=not gateway.book.opening.binds(instrument))
        details = statements.contract_details(instrument, request, hours, gateway.settings.zone)
        session.send("contractDetails", details)
    session.send("contractDetailsEnd", {"reqId": request})


def _hours(gateway: "Gateway", always: bool) -> str:
    """The trading hours of this day and the next five, as contract details show them."""
    hours = None if always else gateway.book.opening.hours
    today = datetime.fromtimestamp(gateway.now(), gateway.zone)
    days = [today + timedelta(days=number) for number in range(6)]
    if hours is not None:
        return ";".join(hours.day_text(day) for day in days)
    return ";".join(f"{day:%Y%m%d}:0000-{day:%Y%m%d}:2359" for day in days)


def _matching_symbols(gateway: "Gateway", session: Session, fields: Fields) -> None:
    if not gateway.book.link.up:
        session.error(*NOT_CONNECTED, about=integer(fields["reqId"]))
        return
    found = gateway.book.universe.matching(fields["pattern"])
    session.send("symbolSamples", statements.symbol_samples(found, fields["reqId"]))


def _market_rule(_gateway: "Gateway", session: Session, fields: Fields) -> None:
    steps = [{"lowEdge": "0", "increment": "0.01"}]
    session.send("marketRule", {"marketRuleId": fields["marketRuleId"], "priceIncrements": steps})


def _market_data_type(_gateway: "Gateway", session: Session, fields: Fields) -> None:
    kind = integer(fields["marketDataType"])
    session.data_type = kind if kind in (1, 2, 3, 4) else 1


def _market_data(gateway: "Gateway", session: Session, fields: Fields) -> None:
    request = integer(fields["reqId"])
    found = gateway.book.universe.find(fields)
    if len(found) != 1:
        session.error(*_NO_CONTRACT, about=request)
        return
    gateway.quotes.ask(session, request, found[0], "1" in (fields["snapshot"], fields["regulatorySnapshot"]))


def _cancel_market_data(gateway: "Gateway", session: Session, fields: Fields) -> None:
    gateway.quotes.cancel(session, integer(fields["reqId"]))


SERVED: dict[str, Callable[["Gateway", Session, Fields], None]] = {
    "placeOrder": orders.place_order,
    "cancelOrder": orders.cancel_order,
    "reqGlobalCancel": orders.global_cancel,
    "reqOpenOrders": orders.open_orders,
    "reqAllOpenOrders": orders.all_open_orders,
    "reqAutoOpenOrders": orders.auto_open_orders,
    "reqCompletedOrders": orders.completed_orders,
    "reqExecutions": orders.executions,
    "reqPositions": _positions,
    "cancelPositions": _cancel_positions,
    "reqPositionsMulti": _positions_multi,
    "cancelPositionsMulti": _nothing,
    "reqAccountUpdates": _account_updates,
    "reqAccountUpdatesMulti": _account_updates_multi,
    "cancelAccountUpdatesMulti": _nothing,
    "reqAccountSummary": _account_summary,
    "cancelAccountSummary": _cancel_account_summary,
    "reqManagedAccts": _managed_accounts,
    "reqIds": _ids,
    "reqCurrentTime": _current_time,
    "reqContractDetails": _contract_details,
    "reqMatchingSymbols": _matching_symbols,
    "reqMarketRule": _market_rule,
    "reqMktData": _market_data,
    "cancelMktData": _cancel_market_data,
    "reqMarketDataType": _market_data_type,
    "setServerLogLevel": _nothing,
    "startApi": _nothing,
}
