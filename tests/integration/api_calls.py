"""Calls of the interface for tests: orders, tokens, waiting, and the shape of every body."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from itertools import count
from typing import Any

import jwt

from tests.integration.pair_fixture import Answer, ask, until

SECRET = "integration-" * 4
ORDERS = "/api/v1/orders"
RESTING = {"symbol": "IBM", "side": "BUY", "quantity": "10", "order_type": "LMT", "limit_price": "1.00"}
"""Far below the market: taken by the broker, never filled."""

_numbers = count(1)


def bearer(role: str = "trader", subject: str = "s1") -> dict[str, str]:
    claims = {"sub": subject, "role": role, "exp": 4_000_000_000}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


def call(url: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    return ask(url, method, path, body, bearer() if headers is None else headers)


def key(name: str = "k") -> str:
    return f"{name}-{next(_numbers):06d}"


def body(**fields: object) -> dict[str, object]:
    return {"client_order_id": key(), **RESTING, **fields}


def seq(url: str) -> int:
    return int(ask(url, "GET", "/health").json["database"]["seq"])


def quiet(url: str) -> int:
    """The ledger's seq, once nothing moves it any more."""

    def same() -> int:
        before = seq(url)
        time.sleep(0.15)
        return before if seq(url) == before else 0

    return until(same, "a ledger that stands still")


def one(url: str, oid: str) -> dict[str, Any]:
    answer = call(url, "GET", f"{ORDERS}/{oid}")
    assert answer.status == 200, answer
    return dict(answer.json)


def in_state(url: str, oid: str, state: str) -> dict[str, Any]:
    return until(lambda: (order := one(url, oid))["state"] == state and order, f"order {oid} {state}")


TEXT, WHOLE, FLAG = str, int, bool
DECIMAL = re.compile(r"-?\d+(\.\d{1,8})?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def shaped(found: Mapping[str, Any], shape: Mapping[str, object]) -> None:
    """Each field of the interface is there and of its kind: a type, a pattern of text, or a tuple of what may be."""
    for name, kind in shape.items():
        assert name in found, f"{name} is missing in {found}"
        kinds = kind if isinstance(kind, tuple) else (kind,)
        assert any(_is(found[name], k) for k in kinds), f"{name} is {found[name]!r}"


def _is(value: object, kind: object) -> bool:
    if kind is None:
        return value is None
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    return type(value) is kind


ORDER_SHAPE = {
    "id": re.compile("[A-Z2-7]{16}"), "client_order_id": TEXT, "state": TEXT, "reason": (TEXT, None), "symbol": TEXT, "side": TEXT,
    "quantity": DECIMAL, "filled": DECIMAL, "remaining": DECIMAL, "average_price": (DECIMAL, None), "order_type": TEXT,
    "limit_price": (DECIMAL, None), "tif": TEXT, "perm_id": (WHOLE, None), "broker_order_id": (WHOLE, None),
    "cancel_requested": FLAG, "revision": WHOLE, "epoch": WHOLE, "seq": WHOLE, "subject": TEXT, "correlation_id": TEXT,
    "sent_at": (TIME, None), "acknowledged_at": (TIME, None), "created_at": TIME, "updated_at": TIME,
}  # fmt: skip
