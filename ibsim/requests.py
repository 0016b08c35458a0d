"""Every request that is served, by its API name: what it does and what it answers."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ibsim import answers
from ibsim.orders import Execution, Order, happening
from ibsim.placing import wish
from ibsim.records import execution_of, order_of
from ibsim.session import Session
from ibsim.wire import integer

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

Fields = Mapping[str, Any]

NOT_CONNECTED = (504, "Not connected")


def _nothing(_gateway: "Gateway", _session: Session, _fields: Fields) -> None:
    """A request without an answer."""


def _place_order(gateway: "Gateway", session: Session, fields: Fields) -> None:
    order_id = integer(fields["orderId"])
    if order_id <= 0:
        session.error(321, "Error validating request.-'bN' : cause - Invalid order id", order_id)
        return
    book, now = gateway.book, gateway.now()
    account = gateway.settings.accounts[0] if len(gateway.settings.accounts) == 1 else ""
    asked = wish(fields, book.universe, session.number, session.client_id, account)
    if book.open_order(session.client_id, order_id) is not None:
        book.place(asked, now)
        return
    if gateway.faults.take("lose_orders"):
        gateway.log("fault", fault="lose_orders", session=session.number, client_id=session.client_id,
                    order_id=order_id, order_ref=asked.order_ref)  # fmt: skip
        return
    reject = gateway.faults.take("reject")
    silent = gateway.faults.take("drop_acks")
    book.place(asked, now, reject=reject["code"] if reject else None, silent=silent is not None)


def _cancel_order(gateway: "Gateway", session: Session, fields: Fields) -> None:
    gateway.book.cancel(session.client_id, integer(fields["orderId"]))


def _global_cancel(gateway: "Gateway", _session: Session, _fields: Fields) -> None:
    gateway.book.cancel_all()


def _open_orders(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    for order in gateway.book.shown_orders(session.client_id):
        _show_order(session, order)
    session.send("openOrderEnd", {})


def _all_open_orders(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    for order in gateway.book.shown_orders():
        _show_order(session, order)
    session.send("openOrderEnd", {})


def _show_order(session: Session, order: Order) -> None:
    session.send("openOrder", answers.open_order(order, order.status))
    session.send("orderStatus", answers.order_status(order, happening("status", order)))


def _auto_open_orders(gateway: "Gateway", session: Session, fields: Fields) -> None:
    if session.client_id != 0:
        session.error(327, "Only the default client (i.e 0) can auto bind orders")
        return
    session.auto_bind = fields["autoBind"] == "1"
    _open_orders(gateway, session, fields)


def _completed_orders(gateway: "Gateway", session: Session, fields: Fields) -> None:
    for record in gateway.days_done_orders():
        by_hand = not record["order_id"]
        if (by_hand and fields["apiOnly"] == "1") or not gateway.book.shows_end(record["perm_id"]):
            continue
        order = order_of(record, gateway.book.universe)
        session.send("completedOrder", answers.completed_order(order, record["done_at"], gateway.settings.zone))
    session.send("completedOrdersEnd", {})


def _executions(gateway: "Gateway", session: Session, fields: Fields) -> None:
    request = integer(fields["reqId"])
    settings, universe = gateway.settings, gateway.book.universe
    for record in gateway.days_executions().records():
        execution = execution_of(record)
        if execution.exec_id in gateway.book.unseen or not _asked_for(execution, fields, gateway):
            continue
        instrument = universe.by_symbol[execution.symbol]
        details = answers.execution_details(execution, instrument, settings.zone, settings.time_form, request)
        session.send("execDetails", details)
        session.send("commissionReport", answers.commission_report(execution))
    session.send("execDetailsEnd", {"reqId": str(request)})


def _asked_for(execution: Execution, fields: Fields, gateway: "Gateway") -> bool:
    """Whether an execution passes the filter of reqExecutions."""
    since = "".join(c for c in fields["time"][:17] if c.isdigit())
    local = datetime.fromtimestamp(execution.at, gateway.zone)
    side = {"BUY": ("BUY", "BOT"), "SELL": ("SELL", "SLD", "SSHORT")}[execution.side]
    return (
        fields["clientId"] in ("", "0", str(execution.client_id))
        and fields["account"] in ("", execution.account)
        and fields["symbol"] in ("", execution.symbol)
        and fields["secType"] in ("", "STK")
        and (not fields["side"] or fields["side"].upper() in side)
        and (not since or local.strftime("%Y%m%d%H%M%S") >= since.ljust(14, "0"))
    )


def _positions(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.wants_positions = True
    for held in gateway.book.shown_positions():
        session.send("position", answers.position(held, gateway.book.universe.by_symbol[held.symbol]))
    session.send("positionEnd", {})


def _cancel_positions(_gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.wants_positions = False


def _positions_multi(gateway: "Gateway", session: Session, fields: Fields) -> None:
    for held in gateway.book.shown_positions(fields["account"]):
        values = answers.position(held, gateway.book.universe.by_symbol[held.symbol])
        session.send("positionMulti", {**values, "reqId": fields["reqId"], "modelCode": fields["modelCode"]})
    session.send("positionMultiEnd", {"reqId": fields["reqId"]})


def _account(gateway: "Gateway", session: Session, name: str, about: int = -1) -> str | None:
    """The account that a request means; answers it with an error and returns None if there is no such account."""
    account = name or gateway.settings.accounts[0]
    if account in gateway.settings.accounts:
        return account
    session.error(321, "Error validating request.-'bN' : cause - Invalid account code", about)
    return None


def _account_updates(gateway: "Gateway", session: Session, fields: Fields) -> None:
    account = _account(gateway, session, fields["account"])
    if account is None or fields["subscribe"] != "1":
        session.wants_account = ""
        return
    session.wants_account = account
    book = gateway.book
    for key, value, currency in answers.account_values(book.accounts, account, book.prices):
        session.send("updateAccountValue", {"key": key, "value": value, "currency": currency, "account": account})
    for held in book.shown_positions(account):
        instrument = book.universe.by_symbol[held.symbol]
        session.send("updatePortfolio", answers.portfolio(held, instrument, book.prices[held.symbol]))
    session.send("updateAccountTime", {"time": datetime.now(gateway.zone).strftime("%H:%M")})
    session.send("accountDownloadEnd", {"account": account})


def _account_updates_multi(gateway: "Gateway", session: Session, fields: Fields) -> None:
    account = _account(gateway, session, fields["account"], integer(fields["reqId"]))
    if account is None:
        return
    about = {"reqId": fields["reqId"], "account": account, "modelCode": fields["modelCode"]}
    for key, value, currency in answers.account_values(gateway.book.accounts, account, gateway.book.prices):
        session.send("accountUpdateMulti", {**about, "key": key, "value": value, "currency": currency})
    session.send("accountUpdateMultiEnd", about)


def _account_summary(gateway: "Gateway", session: Session, fields: Fields) -> None:
    wanted = set(fields["tags"].split(","))
    for account in gateway.settings.accounts:
        for key, value, currency in answers.account_values(gateway.book.accounts, account, gateway.book.prices):
            if key in wanted and currency != "BASE":
                about = {"reqId": fields["reqId"], "account": account, "tag": key}
                session.send("accountSummary", {**about, "value": value, "currency": currency})
    session.send("accountSummaryEnd", {"reqId": fields["reqId"]})


def _managed_accounts(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.send("managedAccounts", {"accounts": ",".join(gateway.settings.accounts)})


def _ids(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.send("nextValidId", {"orderId": str(gateway.book.ids(session.client_id).next_valid)})


def _current_time(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    session.send("currentTime", {"time": str(int(gateway.now()))})


def _contract_details(gateway: "Gateway", session: Session, fields: Fields) -> None:
    instrument = gateway.book.universe.find(fields)
    request = fields["reqId"]
    if instrument is None:
        session.error(200, "No security definition has been found for the request", integer(request))
        return
    session.send("contractDetails", answers.contract_details(instrument, request))
    session.send("contractDetailsEnd", {"reqId": request})


def _matching_symbols(gateway: "Gateway", session: Session, fields: Fields) -> None:
    if not gateway.book.link_up:
        session.error(*NOT_CONNECTED, about=integer(fields["reqId"]))
        return
    found = gateway.book.universe.matching(fields["pattern"])
    session.send("symbolSamples", answers.symbol_samples(found, fields["reqId"]))


SERVED: dict[str, Callable[["Gateway", Session, Fields], None]] = {
    "placeOrder": _place_order,
    "cancelOrder": _cancel_order,
    "reqGlobalCancel": _global_cancel,
    "reqOpenOrders": _open_orders,
    "reqAllOpenOrders": _all_open_orders,
    "reqAutoOpenOrders": _auto_open_orders,
    "reqCompletedOrders": _completed_orders,
    "reqExecutions": _executions,
    "reqPositions": _positions,
    "cancelPositions": _cancel_positions,
    "reqPositionsMulti": _positions_multi,
    "cancelPositionsMulti": _nothing,
    "reqAccountUpdates": _account_updates,
    "reqAccountUpdatesMulti": _account_updates_multi,
    "cancelAccountUpdatesMulti": _nothing,
    "reqAccountSummary": _account_summary,
    "cancelAccountSummary": _nothing,
    "reqManagedAccts": _managed_accounts,
    "reqIds": _ids,
    "reqCurrentTime": _current_time,
    "reqContractDetails": _contract_details,
    "reqMatchingSymbols": _matching_symbols,
    "reqMarketDataType": _nothing,
    "setServerLogLevel": _nothing,
    "startApi": _nothing,
}
