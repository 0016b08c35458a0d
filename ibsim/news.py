"""What a happening is in the journal, and which messages tell it to whom."""

from typing import TYPE_CHECKING

from ibsim import answers
from ibsim.orders import Happening, Order
from ibsim.records import Record, execution_record, key_record, order_record
from ibsim.session import Session

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

_WHOLE = frozenset({"order", "modify"})
_AT_IB = frozenset({"execution", "cancelled", "rejected", "working", "modify"})


def entry_of(what: Happening, asking: Session | None) -> Record | None:
    """The journal entry with its kind, None for news that the journal does not keep. `asking`: whose request it was."""
    order = what.order
    if what.kind in ("refused", "status"):
        return None
    if order is None:
        return {
            "kind": what.kind,
            "session": asking and asking.number,
            "client_id": asking and asking.client_id,
            "order_id": what.order_id,
            "code": what.code,
            "reason": what.text,
        }
    if what.execution is not None:
        return {"kind": what.kind, **execution_record(what.execution)}
    entry = {"kind": what.kind, **(order_record(order) if what.kind in _WHOLE else key_record(order))}
    if what.kind == "order":
        entry["session"] = order.session
    elif asking is not None:
        entry["session"] = asking.number
        if asking.client_id != order.client_id:
            entry["asked_by"] = asking.client_id
    if what.code is not None:
        entry["code"] = what.code
    if what.kind == "working":
        entry["status"] = what.status
    return entry


def tell(gateway: "Gateway", what: Happening) -> None:
    """Queues the messages of one happening to the sessions that get them."""
    order = what.order
    if order is None:
        if gateway.asking is not None and what.code is not None:
            gateway.asking.error(what.code, what.text, what.order_id)
        return
    if what.kind in ("order", "cancel") or (order.sent and not gateway.book.link_up and what.kind in _AT_IB):
        return
    for session in _listeners(gateway, order):
        _tell_order(gateway, session, order, what)
    if what.execution is not None:
        _tell_position(gateway, order)


def _listeners(gateway: "Gateway", order: Order) -> list[Session]:
    owner = gateway.by_client.get(order.client_id)
    if order.silent and owner is not None and owner.number == order.session:
        owner = None
    master = gateway.by_client.get(gateway.settings.master_client_id or -1)
    return [one for one in dict.fromkeys((owner, master)) if one is not None and one.state == "open"]


def _tell_order(gateway: "Gateway", session: Session, order: Order, what: Happening) -> None:
    settings = gateway.settings
    if what.execution is not None:
        details = answers.execution_details(what.execution, order.instrument, settings.zone, settings.time_form, -1)
        session.send("execDetails", details)
    if what.kind == "rejected" and what.code is not None:
        session.error(what.code, what.text, order.order_id)
    if what.kind != "cancelled":
        session.send("openOrder", answers.open_order(order, what.status))
    session.send("orderStatus", answers.order_status(order, what))
    if what.kind == "cancelled" and what.code is not None:
        session.error(what.code, what.text, order.order_id)
    if what.execution is not None:
        session.send("commissionReport", answers.commission_report(what.execution))


def _tell_position(gateway: "Gateway", order: Order) -> None:
    held = gateway.book.accounts.position(order.account, order.instrument.symbol)
    for session in gateway.by_client.values():
        if session.wants_positions:
            session.send("position", answers.position(held, order.instrument))
        if session.wants_account == order.account:
            price = gateway.book.prices[order.instrument.symbol]
            session.send("updatePortfolio", answers.portfolio(held, order.instrument, price))
