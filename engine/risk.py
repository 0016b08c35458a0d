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


def check(request: OrderRequest, book: Book, limits: Limits) -> None:
    """Raises Problem 422 that names the field and the limit."""
    errors = list(_violations(request, book, limits))
    if errors:
        raise Problem(422, "risk-limit", "Refused by a risk limit", "; ".join(e.message for e in errors), errors)


def _violations(request: OrderRequest, book: Book, limits: Limits) -> list[FieldError]:
    found = []
    if limits.symbols is not None and request.symbol not in limits.symbols:
        found.append(FieldError("symbol", f"{request.symbol} is not among the allowed symbols (ALLOWED_SYMBOLS)"))
    if limits.max_quantity is not None and request.quantity > limits.max_quantity:
        found.append(FieldError("quantity", f"{request.quantity} is above MAX_ORDER_QUANTITY {limits.max_quantity}"))
    price = request.limit_price or request.stop_price
    if limits.max_value is not None and price is not None and request.quantity * price > limits.max_value:
        found.append(FieldError("quantity", f"{request.quantity * price} is above MAX_ORDER_VALUE {limits.max_value}"))
    ours = len(book.open_ids) - len(book.open_externals)  # what somebody else has at the broker uses up nothing of ours
    if limits.max_open_orders is not None and ours >= limits.max_open_orders:
        found.append(FieldError("body", f"{ours} orders are open, MAX_OPEN_ORDERS is {limits.max_open_orders}"))
    return found
