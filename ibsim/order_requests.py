"""The requests about orders and executions: what each does and what it answers."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ibsim import answers
from ibsim.accounts import commission
from ibsim.book import Fate
from ibsim.hours import order_time
from ibsim.orders import Execution, Order, happening
from ibsim.placing import Wish, refusal, wish
from ibsim.records import execution_of, order_of
from ibsim.session import Session
from ibsim.wire import integer

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

Fields = Mapping[str, Any]

MAX_ORDER_ID = (1 << 31) - 1
"""Ids are 32-bit integers at IB."""
WARNINGS = {10349: "Order TIF was set to DAY based on order preset."}
_SIDES = {"BUY": ("BUY", "BOT"), "SELL": ("SELL", "SLD", "SSHORT")}


def end(gateway: "Gateway", session: Session, request: str, name: str, values: Fields) -> None:
    """The End of a list, unless a fault keeps it back."""
    fault = gateway.faults.active.get("no_end")
    if fault is None or fault["request"] != request:
        session.send(name, values)
    else:
        gateway.faults.strikes("no_end")


def place_order(gateway: "Gateway", session: Session, fields: Fields) -> None:
    """placeOrder: a new order, or a change of an open one."""
    book, now = gateway.book, gateway.now()
    account = gateway.settings.accounts[0] if len(gateway.settings.accounts) == 1 else ""
    asked = wish(fields, book.universe, session.number, session.client_id, account, gateway.zone)
    if asked.what_if:
        _what_if(gateway, session, asked, now)
        return
    if gateway.held.joins(asked):
        return
    faults = gateway.faults
    if book.orders.find(session.client_id, asked.order_id) is not None:
        twin = not book.link.up and faults.of("twin", "changes") and faults.take("twin")
        book.place(asked, now, Fate(twin=bool(twin)))
        return
    if not 0 < asked.order_id <= MAX_ORDER_ID:
        session.error(321, "Error validating request.-'bN' : cause - Invalid order id", asked.order_id)
        return
    if not faults.active:
        book.place(asked, now)
        return
    if faults.take("lose_orders"):
        _inside(gateway, session, asked, "lose_orders")
        return
    reject = faults.take("reject")
    fate = Fate(
        reject=reject["code"] if reject else None,
        silent=faults.take("drop_acks") is not None,
        inactive=faults.take("inactive") is not None,
        twin=faults.of("twin", "orders") and faults.take("twin") is not None,
    )
    if not book.ids(session.client_id).used(asked.order_id) and (hold := faults.take("hold_inside")):
        _inside(gateway, session, asked, "hold_inside")
        gateway.held.hold(asked, fate, faults.drawn("hold_inside", hold))
        return
    order = book.place(asked, now, fate)
    warn = faults.take("warn") if order is not None else None
    if warn is not None:
        session.error(warn["code"], WARNINGS.get(warn["code"], "Warning"), asked.order_id)


def _inside(gateway: "Gateway", session: Session, asked: Wish, fault: str) -> None:
    """The order was read and is not taken now: the journal says so, nobody else does."""
    gateway.log("fault", fault=fault, session=session.number, client_id=session.client_id, order_id=asked.order_id,
                order_ref=asked.order_ref)  # fmt: skip


def _what_if(gateway: "Gateway", session: Session, asked: Wish, now: float) -> None:
    book = gateway.book
    why = refusal(asked, book.accounts.names, now)
    if why is not None:
        session.error(why.code, why.text, asked.order_id)
        return
    order = Order(
        0, asked.client_id, asked.order_id, asked.order_ref, asked.account, asked.instrument, asked.side, asked.quantity,
        asked.order_type, asked.limit_price, asked.aux_price, asked.tif, asked.session, asked.fields,
    )  # fmt: skip
    price = asked.limit_price or book.market.price(asked.instrument)
    fee = commission(asked.instrument, asked.quantity, price)
    session.send("openOrder", answers.what_if(order, price, fee, book.accounts))


def cancel_order(gateway: "Gateway", session: Session, fields: Fields) -> None:
    """cancelOrder: by this client's order id."""
    fault = gateway.faults.take("pending_cancel")
    delay, fill = (fault["ms"] / 1000, fault["fill"]) if fault else (0.0, False)
    gateway.book.cancel(session.client_id, integer(fields["orderId"]), gateway.now(), delay, fill)


def global_cancel(gateway: "Gateway", _session: Session, _fields: Fields) -> None:
    """reqGlobalCancel: every order of every client, orders by hand too."""
    gateway.book.cancel_all(gateway.now())


def open_orders(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    """reqOpenOrders: this client's; client 0 takes the orders that were placed by hand, too."""
    stale = gateway.faults.strikes("stale_orders")
    if session.client_id == 0 and not stale:
        for order in gateway.book.orders:
            if not order.order_id:
                bind(gateway, session, order)
    shown: Iterable[Order] = gateway.stale if stale else gateway.book.link.orders()
    _show(gateway, session, (order for order in shown if order.client_id == session.client_id and order.order_id))


def all_open_orders(gateway: "Gateway", session: Session, _fields: Fields) -> None:
    """reqAllOpenOrders: every client's, once."""
    _show(gateway, session, gateway.book.link.orders())


def _show(gateway: "Gateway", session: Session, orders: Iterable[Order]) -> None:
    for order in orders:
        status = order.status if order.transmit else "Inactive"
        session.send("openOrder", answers.open_order(order, status))
        session.send("orderStatus", answers.order_status(order, happening("status", order)._replace(status=status)))
    end(gateway, session, "open_orders", "openOrderEnd", {})


def bind(gateway: "Gateway", session: Session, order: Order) -> None:
    """Client 0 gets an id for an order that was placed by hand."""
    gateway.bound -= 1
    gateway.book.orders.bind(order, gateway.bound)
    tell_bound(session, order)


def tell_bound(session: Session, order: Order) -> None:
    """orderBound: the order has this id from now on."""
    session.send("orderBound", {"permId": str(order.perm_id), "clientId": "0", "orderId": str(order.order_id)})


def auto_open_orders(gateway: "Gateway", session: Session, fields: Fields) -> None:
    """reqAutoOpenOrders: orders placed by hand from now on are client 0's."""
    if session.client_id != 0:
        session.error(327, "Only the default client (i.e 0) can auto bind orders")
        return
    session.auto_bind = fields["autoBind"] == "1"
    open_orders(gateway, session, fields)


def completed_orders(gateway: "Gateway", session: Session, fields: Fields) -> None:
    """reqCompletedOrders: the day's."""
    book = gateway.book
    for record in gateway.days.done_orders(gateway.now()):
        by_hand = record["order_id"] <= 0
        if (by_hand and fields["apiOnly"] == "1") or not book.link.shows_end(record["perm_id"]):
            continue
        order = order_of(record, book.universe)
        session.send("completedOrder", answers.completed_order(order, record["done_at"], gateway.settings.zone))
    end(gateway, session, "completed", "completedOrdersEnd", {})


def executions(gateway: "Gateway", session: Session, fields: Fields) -> None:
    """reqExecutions: the day's that pass the filter, each with its commission report."""
    request = integer(fields["reqId"])
    since = order_time(fields["time"], gateway.zone) if fields["time"] else 0.0
    if since is None:
        session.error(320, "Error reading request: the filter's time cannot be read", request)
        return
    before = gateway.options.commission == "before"
    for record in gateway.days.executions(gateway.now()):
        execution = execution_of(record, gateway.book.universe)
        if execution.exec_id in gateway.book.link.unseen or not _asked_for(execution, fields, since):
            continue
        report = answers.commission_report(execution)
        if before:
            session.send("commissionReport", report)
        details = answers.execution_details(execution, gateway.settings.zone, gateway.time_form, request)
        session.send("execDetails", details)
        if not before:
            session.send("commissionReport", report)
    end(gateway, session, "executions", "execDetailsEnd", {"reqId": str(request)})


def _asked_for(execution: Execution, fields: Fields, since: float) -> bool:
    """Whether an execution passes the filter of reqExecutions."""
    instrument = execution.instrument
    return (
        fields["clientId"] in ("", "0", str(execution.client_id))
        and fields["account"] in ("", execution.account)
        and fields["symbol"] in ("", instrument.symbol)
        and fields["secType"] in ("", instrument.sec_type)
        and fields["exchange"] in ("", "SMART", *instrument.exchanges)
        and (not fields["side"] or fields["side"].upper() in _SIDES[execution.side])
        and int(execution.at) >= since
    )
