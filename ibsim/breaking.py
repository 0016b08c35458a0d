"""What each fault does when it is switched on and when it is mended. Thin."""

import copy
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from ibsim.faults import FaultError, Parameters
from ibsim.orders import Execution, Order
from ibsim.records import execution_of, order_of
from ibsim.sessions import LINK_LOST
from ibsim.wire import WireError, number

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

LINK_BACK_LOST = (
    1101,
    "Connectivity between IBKR and Trader Workstation has been restored - data lost. All data requests must be"
    " resubmitted.",
)
LINK_BACK = (
    1102,
    "Connectivity between IBKR and Trader Workstation has been restored - data maintained. All data farms are connected.",
)
FARMS_DOWN = (
    (2103, "Market data farm connection is broken:usfarm"),
    (2105, "HMDS data farm connection is broken:ushmds"),
)
FARMS_UP = (
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
)


class Listener(Protocol):
    """Who accepts connections."""

    def down(self) -> None:
        """No connection is accepted any more; the port stays ours."""

    def up(self) -> None:
        """Connections are accepted again."""


def on(gateway: "Gateway", name: str, given: Mapping[str, Any]) -> Parameters:
    """Switches a fault on; returns its parameters. Raises FaultError."""
    was_on = name in gateway.faults
    parameters = gateway.faults.switch_on(name, given)
    prepared = _correction(gateway, parameters) if name == "correction" else None
    gateway.log("fault", fault=name, on=True, parameters=parameters)
    if prepared is not None:
        gateway.book.course.correct(*prepared, gateway.now())
    elif not was_on and name in _ON:
        _ON[name](gateway, parameters)
    gateway.flush()
    return parameters


def off(gateway: "Gateway", name: str) -> Parameters | None:
    """Mends a fault; returns its parameters, None if it was not on. Raises FaultError."""
    parameters = gateway.faults.switch_off(name)
    if parameters is not None:
        gateway.log("fault", fault=name, on=False)
        if name in _OFF:
            _OFF[name](gateway, parameters)
        gateway.flush()
    return parameters


def restart(gateway: "Gateway", parameters: Parameters) -> None:
    """The gateway goes down and comes up again; for the last `lose_ms` before that it takes no order."""
    lose = parameters["lose_ms"]
    if not lose:
        _go_down(gateway, parameters)
        return
    gateway.faults.active["lose_orders"] = {"next": 1 << 60}
    gateway.later(lose / 1000, lambda: _lost_and_down(gateway, parameters))


def _lost_and_down(gateway: "Gateway", parameters: Parameters) -> None:
    gateway.faults.active.pop("lose_orders", None)
    _go_down(gateway, parameters)


def _go_down(gateway: "Gateway", parameters: Parameters) -> None:
    if gateway.listener is not None:
        gateway.listener.down()
    gateway.sessions.drop_all("the gateway restarts")
    gateway.book.orders.roll_back(parameters["rollback_ids"])
    gateway.log("restart", reason="daily restart", rollback_ids=parameters["rollback_ids"])
    gateway.flush()
    gateway.later(parameters["down_ms"] / 1000, lambda: _come_up(gateway))


def _come_up(gateway: "Gateway") -> None:
    if gateway.listener is not None and "logout" not in gateway.faults:
        gateway.listener.up()


def _log_out(gateway: "Gateway", _parameters: Parameters) -> None:
    """The weekly logout: no session and no port until somebody logs in again."""
    if gateway.listener is not None:
        gateway.listener.down()
    gateway.sessions.drop_all("the gateway is logged out")


def _log_in(gateway: "Gateway", _parameters: Parameters) -> None:
    gateway.log("restart", reason="logged in again")
    _come_up(gateway)


def _link_down(gateway: "Gateway", parameters: Parameters) -> None:
    book = gateway.book
    book.link.resubmit = parameters["resubmit"]
    book.link.lose(book.accounts.positions())
    gateway.log("link_down")
    if parameters["notice_ms"]:
        gateway.later(parameters["notice_ms"] / 1000, lambda: _notice(gateway))
    else:
        _notice(gateway)


def _notice(gateway: "Gateway") -> None:
    """The gateway learns that it has lost IB, unless the link is back by now."""
    link = gateway.book.link
    if not link.up and not link.noticed:
        link.noticed = True
        gateway.sessions.tell_all(*LINK_LOST)
        gateway.flush()


def _link_up(gateway: "Gateway", parameters: Parameters) -> None:
    gateway.log("link_up")
    if gateway.book.link.noticed:
        gateway.sessions.tell_all(*(LINK_BACK_LOST if parameters["data_lost"] else LINK_BACK))
    gateway.book.link.restore(gateway.now())


def _regulate(gateway: "Gateway", _parameters: Parameters) -> None:
    for session in gateway.sessions.by_number.values():
        session.regulate()


def _drop_half_open(gateway: "Gateway", _parameters: Parameters) -> None:
    for session in list(gateway.sessions.by_number.values()):
        if session.state == "half_open":
            gateway.sessions.drop(session, "the dead peer was noticed")


def _close_sessions(gateway: "Gateway", parameters: Parameters) -> None:
    client_id, number = parameters["client_id"], parameters["session"]
    for session in list(gateway.sessions.by_number.values()):
        if client_id in (None, session.client_id) and number in (None, session.number):
            gateway.sessions.drop(session, "closed by a fault", parameters["torn"])


def _farms(messages: tuple[tuple[int, str], ...]) -> Callable[["Gateway", Parameters], None]:
    def told(gateway: "Gateway", _parameters: Parameters) -> None:
        for code, text in messages:
            gateway.sessions.tell_all(code, text)

    return told


def _go_stale(gateway: "Gateway", _parameters: Parameters) -> None:
    gateway.stale = [copy.copy(order) for order in gateway.book.link.orders()]


def _midnight(gateway: "Gateway", _parameters: Parameters) -> None:
    gateway.days.midnight()


def _correction(gateway: "Gateway", parameters: Parameters) -> tuple[Order, Execution, Decimal, Decimal]:
    """The order and the execution that a correction is about, and its new figures. Raises FaultError."""
    root = parameters["exec_id"].rpartition(".")[0]
    universe, found = gateway.book.universe, None
    for record in gateway.days.executions(gateway.now()):
        if root and record["exec_id"].rpartition(".")[0] == root:
            found = record
    if found is None:
        raise FaultError(f"there is no execution {parameters['exec_id']!r} today")
    was = execution_of(found, universe)
    order = gateway.book.orders.by_perm_id.get(was.perm_id)
    if order is None:
        done = (one for one in gateway.days.all_done_orders() if one["perm_id"] == was.perm_id)
        order = order_of(next(done), universe)
    shares = _figure(parameters["quantity"], "quantity", was.shares)
    price = _figure(parameters["price"], "price", was.price)
    return order, was, shares, price


def _figure(value: object, what: str, default: Decimal) -> Decimal:
    if value == "":
        return default
    try:
        figure = number(str(value))
    except WireError:
        figure = None
    if figure is None or figure <= 0:
        raise FaultError(f"correction: {what} must be a positive number")
    return figure


_ON: dict[str, Callable[["Gateway", Parameters], None]] = {
    "link_down": _link_down,
    "freeze": _regulate,
    "close_sessions": _close_sessions,
    "restart": restart,
    "logout": _log_out,
    "farm_down": _farms(FARMS_DOWN),
    "stale_orders": _go_stale,
    "midnight": _midnight,
}
_OFF: dict[str, Callable[["Gateway", Parameters], None]] = {
    "link_down": _link_up,
    "freeze": _regulate,
    "half_open": _drop_half_open,
    "logout": _log_in,
    "farm_down": _farms(FARMS_UP),
}
