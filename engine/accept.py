"""Whether an intent can be accepted, beside what the permit says: its account, its limits, its contract's hold. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from engine import intent, risk
from engine.book import Book
from engine.contracts import Meant
from engine.errors import FieldError, Problem, invalid, unavailable
from engine.order import Order
from engine.request import OrderRequest, conflict


def check(request: OrderRequest, contract: Meant, book: Book, limits: risk.Limits, now: datetime, more: int = 0) -> str:
    """The account that the order is for. Raises Problem 422 or 503; nothing was written then.

    `now` by the database's clock; `more` new orders stand before this one in its batch.
    """
    if request.valid_until is not None and request.valid_until <= now:  # R8: never sent late
        raise invalid(FieldError("valid_until", "has passed already"))
    if request.good_till is not None and request.good_till <= now:
        raise invalid(FieldError("good_till", "has passed already"))
    risk.check(request, contract.symbol, book, limits, more)
    account = account_for(request, book)
    if (hold := book.holding(account, contract.symbol)) is not None:
        raise unavailable("held", f"{contract.symbol} is held by break {hold.id} ({hold.kind}) until it is resolved.")
    return account


def account_for(request: OrderRequest, book: Book) -> str:
    """Named, or the gateway's first. A hold is found by it, so it is never left open. Raises Problem 422 or 503."""
    if not book.accounts:
        raise unavailable("no-account", "No gateway has named its accounts yet; the first session is being opened.")
    if request.account is not None and request.account not in book.accounts:
        raise invalid(FieldError("account", f"the gateway manages {', '.join(book.accounts)}"))
    return request.account or book.accounts[0]


def same(known: Order, request: OrderRequest) -> Order:
    """The order that was accepted under the request's key. Raises Problem 409 when the request is another one (R37)."""
    if not intent.repeats(known, request):
        raise conflict(request.client_order_id)
    return known


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
