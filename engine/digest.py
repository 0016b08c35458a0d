"""One number for one entity: 64 bits of BLAKE2 over its folded state, field by field. Pure.

Left out are the fields that say where in the log something happened (`seq`), so that the order of unrelated events does not
matter (G8), and what is derived from the others. Text is written in ASCII with escapes, decimals as their digits, times as
seconds since 1970: nothing depends on a time zone, on the order of a JSON object's keys, or on Python's version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.order import Order
from engine.position import Break, Execution, Position

DIGEST_VERSION = 6
"""Raised whenever the same state gives another number; digests of two versions are not compared (R22)."""


def written(digest: int) -> str:
    """How a digest is told to the other replica: with its version, as two versions' say nothing of each other (R22)."""
    return f"{DIGEST_VERSION}:{digest:016x}"


def differs(ours: int, told: str) -> bool:
    """Whether `told` is another digest of this version than `ours`."""
    version, _, _ = told.partition(":")
    return version == str(DIGEST_VERSION) and told != written(ours)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

Entity = Order | Execution | Position | Break


def fingerprint(entity: Entity) -> int:
    """The entity's share of the digest, as it stands now."""
    return _number(_FIELDS[type(entity)](entity))


def _number(fields: tuple[str | int | float | bool | None, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(ascii(fields).encode(), digest_size=8).digest(), "big")


def _order(o: Order) -> tuple[Any, ...]:
    if not o.constant:
        o.constant = _number(_constant(o))
    return (
        o.constant, str(o.quantity), _digits(o.limit_price), _digits(o.stop_price), o.con_id, o.updated_at.timestamp(),
        o.state.value, o.reason, str(o.filled), str(o.notional), o.perm_id, o.broker_order_id, o.licence_epoch, o.session,
        o.cancel_requested, o.cancel_session, o.revision, _json(o.asked), o.asked_session,
        _seconds(o.sent_at), _seconds(o.acknowledged_at), *((o.repeats,) if o.repeats else ()),
        *(("kept",) if o.kept else ()), *(("gateway_only",) if o.gateway_only else ()),
    )  # fmt: skip


def _constant(o: Order) -> tuple[Any, ...]:
    """What no event changes after the order's first one: hashed once, because every event of the order would pay for it."""
    return (
        "order", o.id, o.subject, o.client_order_id, _json(o.body), o.account, o.symbol, o.side, o.order_type, o.tif, o.sec_type,
        o.exchange, o.currency, o.created_at.timestamp(), o.epoch, o.correlation_id, _seconds(o.valid_until), o.external,
        _json(o.extra),
    )  # fmt: skip


def _execution(e: Execution) -> tuple[Any, ...]:
    return (
        "execution", e.exec_id, e.root, e.revision, e.order_id, e.account, e.con_id, e.symbol, e.side, str(e.quantity),
        str(e.price), e.exchange, e.perm_id, e.at.timestamp(), _digits(e.commission), e.commission_currency,
        _digits(e.realized_pnl),
    )  # fmt: skip


def _position(p: Position) -> tuple[Any, ...]:
    return "position", p.account, p.con_id, p.symbol, str(p.quantity), str(p.average_cost)


def _break(b: Break) -> tuple[Any, ...]:
    return (
        "break", b.id, b.kind, b.symbol, b.account, b.order_id, _json(b.ours), _json(b.broker), b.opened_at.timestamp(), b.holds,
        _seconds(b.resolved_at), b.resolution,
    )  # fmt: skip


_FIELDS: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    Order: _order, Execution: _execution, Position: _position, Break: _break,
}  # fmt: skip


def _digits(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _json(value: dict[str, Any] | None) -> str | None:
    return _encode(value) if value else None if value is None else "{}"
