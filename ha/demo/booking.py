"""Were the broker's executions booked once each, and do the three positions agree? Pure (G5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ha.demo.broker_record import OUR_PREFIX, ZERO, BrokerRecord, Made, parse_reference, split_exec_id


@dataclass(frozen=True, slots=True)
class Misbooked:
    """One execution on which the two ledgers do not agree, and how."""

    exec_id: str
    symbol: str
    why: str


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One symbol: the sum of the journal's executions, the broker's own figure, the ledger's figure."""

    symbol: str
    journal: Decimal
    broker: Decimal
    ledger: Decimal
    break_ids: tuple[str, ...] = ()

    @property
    def agree(self) -> bool:
        """True when all three are the same number."""
        return self.journal == self.broker == self.ledger


def misbooked(record: BrokerRecord, executions: Sequence[Mapping[str, Any]]) -> list[Misbooked]:
    """Executions missing, booked twice, booked differently, booked on another order, or never made."""
    booked: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in executions:
        booked[split_exec_id(str(row["exec_id"]))[0]].append(row)
    found = []
    for root, made in record.made.items():
        rows = booked.get(root, [])
        # somebody else's executions show in the positions; only ours must be booked one by one
        if not rows and made.order_ref.startswith(OUR_PREFIX):
            found.append(Misbooked(root, made.symbol, "missing in the ledger"))
        if len(rows) > 1:
            found.append(Misbooked(root, made.symbol, f"booked {len(rows)} times"))
        elif rows:
            found += [Misbooked(root, made.symbol, why) for why in _differences(made, rows[0])]
    for root, rows in booked.items():
        if root not in record.made:
            found.append(Misbooked(root, str(rows[0].get("symbol")), "booked, but never made at the broker"))
    return found


def _differences(made: Made, row: Mapping[str, Any]) -> Iterable[str]:
    for name, there in (("quantity", made.quantity), ("price", made.price)):
        here = Decimal(str(row[name]))
        if here != there:
            yield f"{name} {here} booked, {there} made"
    for name, word in (("side", made.side), ("symbol", made.symbol)):
        if row[name] != word:
            yield f"{name} {row[name]} booked, {word} made"
    reference = parse_reference(made.order_ref)
    if reference is not None and row.get("order_id") != reference.id:
        yield f"booked on order {row.get('order_id')}, made for {reference.id}"


def compare_positions(
    record: BrokerRecord,
    broker: Sequence[Mapping[str, Any]],
    ledger: Sequence[Mapping[str, Any]],
    breaks: Sequence[Mapping[str, Any]],
) -> list[PositionRow]:
    """One row per symbol that any of the three has, in alphabetical order; a side that lacks it holds zero."""
    journal: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for made in record.made.values():
        journal[made.symbol] += made.signed
    theirs, ours = _sums(broker), _sums(ledger)
    open_breaks: dict[str, list[str]] = defaultdict(list)
    for entry in breaks:
        if entry.get("resolved_at") is None and entry.get("symbol"):
            open_breaks[str(entry["symbol"])].append(str(entry["id"]))
    return [
        PositionRow(
            symbol, journal[symbol], theirs.get(symbol, ZERO), ours.get(symbol, ZERO), tuple(open_breaks[symbol])
        )
        for symbol in sorted({*journal, *theirs, *ours})
    ]


def _sums(positions: Sequence[Mapping[str, Any]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for row in positions:
        sums[str(row["symbol"])] += Decimal(str(row["quantity"]))
    return sums
