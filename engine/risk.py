"""Limits on an order before anything is written. Pure; each refusal names its limit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from engine.book import Book
from engine.errors import FieldError, Problem
from engine.request import OrderRequest


@dataclass(frozen=True, slots=True)
class Limits:
    """None = no limit."""

    max_quantity: Decimal | None = None
    max_value: Decimal | None = None
    max_open_orders: int | None = None
    symbols: frozenset[str] | None = None


NO_LIMITS = Limits()


def check(request: OrderRequest, symbol: str, book: Book, limits: Limits, more: int = 0) -> None:
    """Raises Problem 422 that names the field and the limit. `more` new orders come before this one in its batch."""
    _refuse(_violations(request, symbol, book, limits, more))


def check_figures(limits: Limits, symbol: str, quantity: Decimal, price: Decimal | None) -> None:
    """For figures that a live order is to have. Raises Problem 422 as `check` does."""
    _refuse(_of_one_order(limits, symbol, quantity, price))


def excesses(limits: Limits, symbol: str, quantity: Decimal, price: Decimal | None) -> list[str]:
    """Sentences for each limit that an order at the broker breaks, whoever made it so (R28)."""
    return [error.message for error in _of_one_order(limits, symbol, quantity, price)]


def _refuse(errors: list[FieldError]) -> None:
    if errors:
        raise Problem(422, "risk-limit", "Refused by a risk limit", "; ".join(e.message for e in errors), errors)


def _violations(request: OrderRequest, symbol: str, book: Book, limits: Limits, more: int) -> list[FieldError]:
    found = _of_one_order(limits, symbol, request.quantity, request.limit_price or request.stop_price)
    ours = (
        len(book.open_ids) - len(book.open_externals) + more
    )  # what somebody else has at the broker uses up nothing of ours
    if limits.max_open_orders is not None and ours >= limits.max_open_orders:
        found.append(FieldError("body", f"{ours} orders are open, MAX_OPEN_ORDERS is {limits.max_open_orders}"))
    return found


def _of_one_order(limits: Limits, symbol: str, quantity: Decimal, price: Decimal | None) -> list[FieldError]:
    found = []
    if limits.symbols is not None and symbol not in limits.symbols:
        found.append(FieldError("symbol", f"{symbol} is not among the allowed symbols (ALLOWED_SYMBOLS)"))
    if limits.max_quantity is not None and quantity > limits.max_quantity:
        found.append(FieldError("quantity", f"{quantity} is above MAX_ORDER_QUANTITY {limits.max_quantity}"))
    if limits.max_value is not None and price is not None and quantity * price > limits.max_value:
        found.append(FieldError("quantity", f"{quantity * price} is above MAX_ORDER_VALUE {limits.max_value}"))
    return found
