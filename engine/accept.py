"""Whether an intent can be accepted, beside what the permit says: its account, its limits, its contract's hold. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from engine import intent, risk
from engine.book import Book
from engine.contracts import Meant
from engine.errors import FieldError, Problem, invalid, unavailable
from engine.events import FAMILY_LEVEL
from engine.order import Order, State
from engine.request import OrderRequest, conflict


@dataclass(frozen=True, slots=True)
class Parent:
    """What a child must have in common with the order on which it hangs, as IB demands it."""

    account: str
    symbol: str
    sec_type: str
    con_id: int


def check(
    request: OrderRequest,
    contract: Meant,
    book: Book,
    limits: risk.Limits,
    now: datetime,
    more: int = 0,
    parent: Parent | None = None,
) -> str:
    """The account that the order is for. Raises Problem 422 or 503; nothing was written then.

    `now` by the database's clock; `more` new orders stand before this one in its batch; `parent`: of its parent, where it has one.
    """
    if request.valid_until is not None and request.valid_until <= now:  # R8: never sent late
        raise invalid(FieldError("valid_until", "has passed already"))
    if request.good_till is not None and request.good_till <= now:
        raise invalid(FieldError("good_till", "has passed already"))
    risk.check(request, contract.symbol, book, limits, more)
    account = account_for(request, book, None if parent is None else parent.account)
    if parent is not None:
        _check_same(request, contract, account, parent)
    hold = book.holding(account, contract.symbol)
    if request.break_id is not None and (hold is None or hold.id != request.break_id):
        raise invalid(FieldError("break_id", f"no such break holds {contract.symbol}; leave it out"))
    if hold is not None and (hold.id != request.break_id or not reduces(request, contract, account, book)):
        raise unavailable(
            "held",
            f"{contract.symbol} is held by break {hold.id} ({hold.kind}) until it is resolved. An order that only reduces the "
            "position passes when it names the break in `break_id`.",
        )
    return account


def reduces(request: OrderRequest, contract: Meant, account: str, book: Book) -> bool:
    """Whether the order only reduces the position, together with what is open on its side of the contract (R29)."""
    con_id = contract.con_id or request.con_id or 0
    held = sum(
        (p.quantity for (where, which), p in book.positions.items()
         if where == account and (which == con_id if con_id else p.symbol == contract.symbol)), Decimal(0),
    )  # fmt: skip
    if held == 0 or (held > 0) is not (request.side == "SELL"):
        return False
    open_there = sum(
        (o.remaining for o in book.open_orders()
         if (*o.contract_key, o.side) == (account, contract.symbol, request.side)), Decimal(0),
    )  # fmt: skip
    return request.quantity + open_there <= abs(held)


def check_level(level: int) -> None:
    """R22: a child is accepted only where every version that may lead sends it as one. Raises Problem 422."""
    if level < FAMILY_LEVEL:
        said = (
            f"not before the ledger is at level {FAMILY_LEVEL}, it is at {level}: run `adapter migrate --raise-level`"
        )
        raise invalid(FieldError("parent_client_order_id", said))


def _check_same(request: OrderRequest, contract: Meant, account: str, parent: Parent) -> None:
    """Raises Problem 422 where the child is of another account or contract than its parent."""
    if account != parent.account:
        raise invalid(FieldError("account", f"its parent is for {parent.account}, and a bracket is in one account"))
    con_id = contract.con_id or request.con_id or 0
    other_id = bool(con_id and parent.con_id and con_id != parent.con_id)
    if other_id or (contract.symbol, request.sec_type) != (parent.symbol, parent.sec_type):
        named = f"{parent.symbol} {parent.sec_type}" + (f", con_id {parent.con_id}" if parent.con_id else "")
        field = "symbol" if request.symbol is not None else "con_id"
        raise invalid(FieldError(field, f"its parent is an order in {named}, and a bracket is in one contract"))


def _parent(
    oid: str,
    request: OrderRequest,
    wanted: Mapping[str, OrderRequest],
    new: Mapping[str, Meant],
    book: Book,
    accounts: Mapping[str, str],
) -> Parent:
    """What is known of the order `oid`, the parent of this request. Raises Problem 409 or 422."""
    if oid in accounts:  # before it in this batch
        asked, meant = wanted[oid], new[oid]
        return Parent(accounts[oid], meant.symbol, asked.sec_type, meant.con_id or asked.con_id or 0)
    known, key = book.orders.get(oid), request.parent_client_order_id
    if known is None:
        said = f"you have no order {key!r}: place the parent first, or before this one in the same batch"
        raise invalid(FieldError("parent_client_order_id", said))
    now = "is being cancelled" if known.cancel_requested and not known.final else f"is {known.state}"
    if known.state not in (State.QUEUED, State.SENDING, State.WORKING) or known.cancel_requested:
        raise Problem(
            409, "parent-not-open", "The parent takes no child", f"Order {key!r} {now}: nothing can be hung on it any more.",
            [FieldError("parent_client_order_id", f"{now}; leave it out for an order of its own")],
        )  # fmt: skip
    return Parent(known.account, known.symbol, known.sec_type, known.con_id)


def check_all(
    wanted: Mapping[str, OrderRequest],
    new: Mapping[str, Meant],
    parents: Mapping[str, str],
    book: Book,
    limits: risk.Limits,
    now: datetime,
    *,
    coming: int,
) -> dict[str, str]:
    """`check` for those of the orders that are new, by id; `coming` orders are on their way to the log.

    `parents`: a child's id -> its parent's. Raises as `check` does, and Problem 409 for a parent that has ended.
    """
    accounts: dict[str, str] = {}
    for place, (oid, request) in enumerate(wanted.items()):
        if oid in new:
            with naming(place, of=len(wanted)):
                above = parents.get(oid)
                parent = None if above is None else _parent(above, request, wanted, new, book, accounts)
                accounts[oid] = check(request, new[oid], book, limits, now, coming + len(accounts), parent)
    return accounts


def account_for(request: OrderRequest, book: Book, default: str | None = None) -> str:
    """Named, or `default`, or the gateway's first. A hold is found by it, so it is never left open. Raises Problem 422 or 503."""
    if not book.accounts:
        raise unavailable("no-account", "No gateway has named its accounts yet; the first session is being opened.")
    if request.account is not None and request.account not in book.accounts:
        raise invalid(FieldError("account", f"the gateway manages {', '.join(book.accounts)}"))
    return request.account or default or book.accounts[0]


def same(known: Order, request: OrderRequest) -> Order:
    """The order that was accepted under the request's key. Raises Problem 409 when the request is another one (R37)."""
    if not intent.repeats(known, request):
        raise conflict(request.client_order_id)
    return known


def open_one(oid: str, book: Book) -> Order:
    """An order of ours that has not ended. Raises Problem 404 or 409."""
    order = book.orders.get(oid)
    if order is None:
        raise Problem(404, "no-such-order", "No such order", f"There is no order {oid}.")
    if order.external:
        detail = f"Order {oid} was placed by somebody else; only the session that placed it can change or cancel it."
        raise Problem(409, "order-external", "The order is not ours", detail)
    if order.final:
        raise Problem(409, "order-final", "The order has ended", f"Order {oid} is {order.state}.")
    return order


@contextmanager
def naming(place: int, *, of: int) -> Iterator[None]:
    """Say of a refusal which order of a batch of so many it is about."""
    try:
        yield
    except Problem as problem:
        if of == 1:
            raise
        errors = [FieldError(f"orders[{place}].{e.field}", e.message) for e in problem.errors]
        raise dataclasses.replace(problem, detail=f"orders[{place}]: {problem.detail}", errors=errors) from problem
