"""Fields of IB's messages, written and read as ib_async does it, at a part of the cost. Pure: it knows the objects' names only.

ib_async makes a table of converters for each message that it writes, and looks at all of an order's 130 fields, with their types,
for each one that it reads. A test compares every byte and every field with its own way.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

UNSET_INTEGER = 2**31 - 1
UNSET_DOUBLE = sys.float_info.max

_AMOUNTS = ("lmtPrice", "auxPrice", "filledQuantity")
READ: Mapping[str, frozenset[str]] = {
    "Contract": frozenset({"conId"}),
    "Order": frozenset({"orderId", "clientId", "permId", "parentId", "ocaType", "totalQuantity", *_AMOUNTS}),
    "OrderState": frozenset(),
}
"""Numbers that `engine.ib_facts` reads of these; the others stay the text that came."""

_CONTRACT = (
    "conId", "symbol", "secType", "lastTradeDateOrContractMonth", "strike", "right", "multiplier", "exchange", "primaryExchange",
    "currency", "localSymbol", "tradingClass",
)  # fmt: skip

_COMMON = (None, True, False, 0, 1, UNSET_DOUBLE)
_TEXTS = dict(zip(map(id, _COMMON), ("", "1", "0", "0", "1", ""), strict=True))
"""What most fields of an order are, by the very object: by value True, 1 and 1.0 would be the same."""

T = TypeVar("T")


def hasten(client: Any, contract: type) -> None:
    """Let ib_async's client write and read so. `contract`: the class of its contracts."""
    hasten_writing(client, contract)
    client.decoder.parse = parse


def hasten_writing(client: Any, contract: type) -> None:
    """Let it write so, by its own `sendMsg`: a copy of a client needs this anew."""

    def send(*values: object, makeEmpty: bool = True) -> None:
        if not client.isConnected():
            raise ConnectionError("Not connected")
        client.sendMsg(message(values, contract, make_empty=makeEmpty))

    client.send = send


def message(values: tuple[object, ...], contract: type, *, make_empty: bool = True) -> str:
    """One message's fields as IB reads them, each with a zero byte behind it. `contract`: the class of IB's contracts."""
    known = _TEXTS if make_empty else {}
    texts = [
        value if type(value) is str
        else text if (text := known.get(id(value))) is not None
        else _text(value, contract, make_empty)
        for value in values
    ]  # fmt: skip
    return "\0".join([*texts, ""])


def _text(value: object, contract: type, make_empty: bool) -> str:
    kind = type(value)
    if value is None or (make_empty and value == (UNSET_INTEGER if kind is int else UNSET_DOUBLE)):
        return ""
    if kind is bool:
        return "1" if value else "0"
    if kind is float:
        return "Infinite" if value == math.inf else str(value)
    if kind is list:
        return "".join([f"{one.tag}={one.value};" for one in value])  # type: ignore[attr-defined]
    if isinstance(value, contract):
        return "\0".join([str(getattr(value, name)) for name in _CONTRACT])
    return str(value)


def parse(found: Any) -> None:
    """Turn the text of an object's fields into what their defaults are: numbers, booleans. Raises ValueError."""
    for name, convert, default in _numbers(type(found)):
        value = getattr(found, name)
        if value is not default:
            setattr(found, name, convert(value) if value else default)


_KNOWN: dict[type, list[tuple[str, Callable[[Any], Any], Any]]] = {}


def _numbers(kind: type) -> list[tuple[str, Callable[[Any], Any], Any]]:
    if kind not in _KNOWN:
        wanted = READ.get(kind.__name__)
        converters: dict[type, Callable[[Any], Any]] = {int: int, float: float, bool: lambda value: bool(int(value))}
        _KNOWN[kind] = [
            (item.name, converters[type(item.default)], item.default)
            for item in fields(kind)
            if type(item.default) in converters and (wanted is None or item.name in wanted)
        ]
    return _KNOWN[kind]


def like(blank: T, values: Mapping[str, Any]) -> T:
    """An object like `blank` but for these fields, without the run through all of its class's fields. What they hold is shared."""
    made = object.__new__(type(blank))
    made.__dict__.update(blank.__dict__)
    made.__dict__.update(values)
    return made
