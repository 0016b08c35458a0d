"""What becomes of orders that a killed leader had licensed and not seen answered: counted from what was recorded. Pure.

An order is *open* while neither the ledger nor anybody else knows what the broker did with it, and *in doubt* once the new leader
has said so and opened its break. It belongs to the kill that ended the epoch of its licence, whatever leads later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from engine.events import Kind
from engine.order import OPERATOR_DEAD
from ha.demo.broker_record import parse_reference
from ha.demo.history import time_of
from tests.chaos.check import Row

MOMENTS = (1.0, 10.0, 60.0)  # seconds after a takeover
FELT_BY = 10  # orders accepted in the second before a kill, without which it shows nothing
_LICENCES = {Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED, Kind.ORDER_REPEATED}
_EVIDENCE = {Kind.ORDER_WORKING, Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED, Kind.EXECUTION}


@dataclass(frozen=True, slots=True)
class Kill:
    """A leader killed at `at`, whose epoch it was, and when the next one first said that it leads."""

    at: datetime
    epoch: int
    led_at: datetime
    felt: bool = True
    """Whether orders were there to feel it."""


@dataclass(slots=True)
class Open:
    """An order whose session died before it was answered. `kill` is its place among the kills, None = none of them did it."""

    order_id: str
    epoch: int
    licensed_at: datetime
    kill: int | None = None
    doubted_at: datetime | None = None
    answered_at: datetime | None = None
    taken_at: datetime | None = None
    """When the broker took it."""
    written: str = "not known"

    def is_open(self, at: datetime) -> bool:
        """Whether nobody knew of it then."""
        return self.answered_at is None or self.answered_at > at

    def in_doubt(self, at: datetime) -> bool:
        """Whether it was IN_DOUBT then."""
        return self.doubted_at is not None and self.doubted_at <= at and self.is_open(at)

    @property
    def died(self) -> str:
        """How far it came before its leader died."""
        if self.taken_at is not None:
            return "taken by the broker"
        return {
            "no": "committed, not written", "begun": "in the middle of the write", "yes": "written, lost on the way",
        }.get(self.written, "not taken, writes not recorded")  # fmt: skip


def unanswered(log: Sequence[Row], journal: Iterable[Mapping[str, Any]], kills: Sequence[Kill]) -> list[Open]:
    """Every order that lost its session before it was answered. An operator's word is no answer."""
    waiting: dict[str, Open] = {}
    found: list[Open] = []
    for row in log:
        if row.order_id is None:
            continue
        order = waiting.get(row.order_id)
        if row.kind in _LICENCES and row.payload.get("session") is not None:
            waiting[row.order_id] = Open(row.order_id, row.epoch, row.at)
        elif row.kind == Kind.ORDER_UNLICENSED:
            waiting.pop(row.order_id, None)
        elif order is None:
            continue
        elif row.kind == Kind.ORDER_IN_DOUBT:
            order.doubted_at = row.at
        elif row.kind in _EVIDENCE:
            del waiting[row.order_id]
            order.answered_at = None if row.payload.get("reason") == OPERATOR_DEAD else row.at
            if order.doubted_at is not None or row.epoch > order.epoch:
                found.append(order)
    last = log[-1].epoch if log else 0
    found += [order for order in waiting.values() if order.doubted_at is not None or order.epoch < last]
    _taken(found, journal)
    by_epoch = {kill.epoch: number for number, kill in enumerate(kills)}
    for order in found:
        order.kill = by_epoch.get(order.epoch)
    return sorted(found, key=lambda order: order.licensed_at)


def _taken(found: Iterable[Open], journal: Iterable[Mapping[str, Any]]) -> None:
    at: dict[str, datetime] = {}
    for entry in journal:
        if entry["kind"] == "order" and (reference := parse_reference(entry.get("order_ref"))) is not None:
            at.setdefault(reference.id, time_of(entry))
    for order in found:
        order.taken_at = at.get(order.order_id)


@dataclass(frozen=True, slots=True)
class Note:
    """One line of `bench.written`: `=` a commit was answered, `<` an order is about to be written, `>` it was."""

    mark: str
    at_ns: int
    order_id: str | None

    @classmethod
    def read(cls, line: str) -> Note | None:
        """None for a line that a kill cut off."""
        mark, _, rest = line.strip().partition(" ")
        at, _, text = rest.partition(" ")
        reference = parse_reference(text)
        if not at.isdigit() or (reference is None and mark != "="):
            return None
        return cls(mark, int(at), reference.id if reference is not None else None)


def felt(kills: Sequence[Kill], log: Sequence[Row]) -> list[Kill]:
    """The kills, each with whether enough orders were accepted in the second before it."""
    accepted = [row.at for row in log if row.kind == Kind.ORDER_ACCEPTED]
    second = timedelta(seconds=1)
    return [replace(k, felt=sum(k.at - second <= at <= k.at for at in accepted) >= FELT_BY) for k in kills]


def note_writes(found: Iterable[Open], notes: Iterable[Note]) -> None:
    """Put in how far each order's write came."""
    reached = {note.order_id: "yes" if note.mark == ">" else "begun" for note in notes if note.order_id is not None}
    for order in found:
        order.written = reached.get(order.order_id, "no")


def windows(notes: Iterable[Note]) -> tuple[list[float], list[float]]:
    """Of one process, ms: from a commit's answer to the order's write behind it, and what of that was the write."""
    whole, write = [], []
    answered = began = None
    for note in notes:
        if note.mark == "=":
            answered = note.at_ns
        elif note.mark == "<":
            began = note.at_ns
        elif answered is not None and began is not None:
            whole.append((note.at_ns - answered) / 1e6)
            write.append((note.at_ns - began) / 1e6)
    return whole, write


def counted(
    found: Sequence[Open], kills: Sequence[Kill], until: datetime, moments: Sequence[float] = MOMENTS
) -> dict[str, Any]:
    """Per moment after the takeovers: how many of the orders were open, how many in doubt, and how many that is of 1,000 kills.

    A takeover that was not watched for so long (`until` is the end of the run) does not count for that moment, nor does a kill that
    no order was there to feel.
    """
    rows: dict[str, Any] = {}
    for moment in moments:
        after = {n: k.led_at + timedelta(seconds=moment) for n, k in enumerate(kills) if k.felt}
        seen = {number: at for number, at in after.items() if at <= until}
        here = [(order, seen[order.kill]) for order in found if order.kill in seen]
        doubts = [order for order, at in here if order.in_doubt(at)]
        rows[f"after_{moment:g}_s"] = {
            "kills": len(seen),
            "open": sum(order.is_open(at) for order, at in here),
            "in_doubt": len(doubts),
            "in_doubt_per_1000_kills": round(1000 * len(doubts) / len(seen), 1) if seen else None,
            "of_these_taken_by_the_broker": sum(order.taken_at is not None for order in doubts),
        }
    return rows


def summary(found: Sequence[Open], kills: Sequence[Kill], until: datetime) -> dict[str, Any]:
    """The figures of one run."""
    killed = [order for order in found if order.kill is not None]
    doubted = [order for order in found if order.doubted_at is not None]
    return {
        "kills": len(kills),
        "kills_that_no_order_felt": sum(not kill.felt for kill in kills),
        "unanswered_at_the_kill": len(killed),
        "answered_without_a_doubt": sum(o.answered_at is not None and o.doubted_at is None for o in killed),
        "ever_in_doubt": dict(Counter(order.died for order in doubted)),
        "taken_and_still_open": [o.order_id for o in found if o.taken_at is not None and o.is_open(until)],
        "in_doubt_without_a_kill": sum(order.kill is None for order in doubted),
        **counted(found, kills, until),
    }
