"""What the broker did, read from its journal alone: orders taken, executions with their corrections, last states. Pure.

References are parsed here and not with the adapter's own code, so that a defect there cannot hide itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from ha.demo.history import time_of

OUR_PREFIX = "pa."
_REFERENCE = re.compile(r"pa\.([A-Z2-7]{4})\.(\d+)\.([A-Z2-7]{16})")
ZERO = Decimal(0)


class IncompleteJournal(ValueError):
    """A journal with a hole: nothing can be judged by it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`pa.TAG.EPOCH.ID`, EPOCH being that of the order's acceptance."""

    tag: str
    epoch: int
    id: str


def parse_reference(text: str | None) -> Reference | None:
    """The reference, or None for anything that is not exactly of our form."""
    match = _REFERENCE.fullmatch(text or "")
    return Reference(match[1], int(match[2]), match[3]) if match else None


@dataclass(frozen=True, slots=True)
class Taken:
    """A new order that the broker took; `twin` when the broker itself doubled it."""

    seq: int
    at: datetime
    session: int | None
    perm_id: int
    order_ref: str
    reference: Reference | None
    symbol: str
    side: str
    quantity: Decimal
    twin: bool


@dataclass(frozen=True, slots=True)
class Made:
    """An execution as it stands after its corrections. `root` is the part of its id that corrections keep."""

    root: str
    revision: int
    perm_id: int | None
    order_ref: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal

    @property
    def signed(self) -> Decimal:
        """What it adds to the position."""
        return self.quantity if self.side == "BUY" else -self.quantity


@dataclass(slots=True)
class BrokerRecord:
    """The journal, folded. `ended` has the last word on a permId that was cancelled or rejected; `refused` the order ids
    (the API's, and ours where the entry has a reference) that were rejected without ever being taken."""

    taken: list[Taken] = field(default_factory=list)
    made: dict[str, Made] = field(default_factory=dict)
    ended: dict[int, str] = field(default_factory=dict)
    refused: set[int | str] = field(default_factory=set)
    quantities: dict[int, Decimal] = field(default_factory=dict)
    references: dict[int, str] = field(default_factory=dict)
    by_order: dict[str, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    executed: dict[int, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))

    def of_order(self, order_id: str) -> list[Taken]:
        """Everything that was taken under this order id."""
        return self.by_order.get(order_id, [])

    def state(self, perm_id: int) -> str:
        """`filled`, `rejected`, `cancelled` or `live`; executions outweigh what was said about the order."""
        if self.executed.get(perm_id, ZERO) >= self.quantities.get(perm_id, ZERO) > 0:
            return "filled"
        return self.ended.get(perm_id, "live")


def split_exec_id(exec_id: str) -> tuple[str, int]:
    """Root and revision: `0001.2.01` is revision 1 of `0001.2`. An id without a dotted number is its own root."""
    root, dot, last = exec_id.rpartition(".")
    return (root, int(last)) if dot and last.isdigit() else (exec_id, 0)


def read_journal(entries: Iterable[Mapping[str, Any]]) -> BrokerRecord:
    """Raises IncompleteJournal when the sequence numbers are not dense and rising."""
    record = BrokerRecord()
    previous: int | None = None
    for entry in entries:
        seq = int(entry["seq"])
        if previous is not None and seq != previous + 1:
            raise IncompleteJournal(f"journal entry {seq} follows {previous}")
        previous = seq
        kind = entry["kind"]
        if kind == "order":
            _take(record, read_taken(entry))
        elif kind == "modify" and entry.get("quantity") is not None and entry.get("perm_id") is not None:
            record.quantities[int(entry["perm_id"])] = Decimal(str(entry["quantity"]))
        elif kind in {"execution", "correction"}:
            _book(record, entry)
        elif kind in {"cancelled", "rejected"} and entry.get("perm_id") is not None:
            record.ended[int(entry["perm_id"])] = kind
        elif kind == "rejected":
            reference = parse_reference(entry.get("order_ref"))
            names = (entry.get("order_id"), None if reference is None else reference.id)
            record.refused |= {name for name in names if name is not None}
    for made in record.made.values():
        if made.perm_id is not None:
            record.executed[made.perm_id] += made.quantity
    return record


def read_taken(entry: Mapping[str, Any]) -> Taken:
    """What an `order` entry says."""
    order_ref = str(entry.get("order_ref") or "")
    return Taken(
        seq=int(entry["seq"]),
        at=time_of(entry),
        session=entry.get("session"),
        perm_id=int(entry["perm_id"]),
        order_ref=order_ref,
        reference=parse_reference(order_ref),
        symbol=str(entry.get("symbol")),
        side=str(entry.get("side")),
        quantity=Decimal(str(entry.get("quantity", 0))),
        twin=entry.get("code") == "twin",
    )


def _take(record: BrokerRecord, taken: Taken) -> None:
    record.taken.append(taken)
    record.quantities[taken.perm_id] = taken.quantity
    record.references[taken.perm_id] = taken.order_ref
    if taken.reference is not None:
        record.by_order[taken.reference.id].append(taken)


def _book(record: BrokerRecord, entry: Mapping[str, Any]) -> None:
    """Adds an execution or lets a correction replace it; a correction inherits what it does not repeat."""
    root, revision = split_exec_id(str(entry["exec_id"]))
    known = record.made.get(root)
    if known is not None and revision < known.revision:
        return
    amounts = {name: Decimal(str(entry[name])) for name in ("quantity", "price") if entry.get(name) is not None}
    if known is not None:
        record.made[root] = replace(known, revision=revision, **amounts)  # type: ignore[arg-type]
        return
    perm_id = None if entry.get("perm_id") is None else int(entry["perm_id"])
    record.made[root] = Made(
        root=root,
        revision=revision,
        perm_id=perm_id,
        order_ref=str(entry.get("order_ref") or record.references.get(perm_id or 0, "")),
        symbol=str(entry["symbol"]),
        side=str(entry["side"]),
        quantity=amounts["quantity"],
        price=amounts["price"],
    )
