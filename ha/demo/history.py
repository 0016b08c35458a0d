"""What the clients saw: a record of every attempt and every answer, folded into one outcome per order. Pure.

The record is written before a request leaves and after its answer came, so that an attempt without an end is
*unknown*, as is one that ended in 504 or a broken connection. Outcomes are kept apart as Jepsen keeps ok, fail and info.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What a client knows of its order in the end."""

    ANSWERED = "answered"  # 2xx at least once
    REFUSED = "refused"  # 4xx, and no attempt of unknown outcome
    NOT_ACCEPTED = "not_accepted"  # every attempt is known to have written nothing
    UNKNOWN = "unknown"


class BadHistory(ValueError):
    """A line that is no history, naming its number."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer to a placed order."""

    at: datetime
    url: str
    status: int
    id: str | None
    state: str | None


@dataclass(slots=True)
class ClientOrder:
    """One order as its client knows it. `refusals` are the 4xx statuses, `unsure` the attempts of unknown outcome."""

    client_order_id: str
    invoked_at: datetime
    request: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    ended: int = 0
    unsure: int = 0
    answers: list[Answer] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """Unknown unless something else is certain; an attempt that never ended is unknown too."""
        if self.answers:
            return Outcome.ANSWERED
        if self.unsure or self.ended < self.attempts:
            return Outcome.UNKNOWN
        return Outcome.REFUSED if self.refusals else Outcome.NOT_ACCEPTED

    @property
    def ids(self) -> frozenset[str]:
        """The order ids that answers named; more than one is a defect of the adapter."""
        return frozenset(answer.id for answer in self.answers if answer.id)


@dataclass(slots=True)
class History:
    """Every order that was asked for, by client_order_id, and every 201 in order of arrival."""

    orders: dict[str, ClientOrder] = field(default_factory=dict)
    accepted: list[Answer] = field(default_factory=list)
    cancels_asked: int = 0
    cancels_answered: int = 0

    def count(self, outcome: Outcome) -> int:
        """How many orders ended so."""
        return sum(1 for order in self.orders.values() if order.outcome is outcome)


def read_lines(text: str) -> list[dict[str, Any]]:
    """The entries of a history file. A last line without its end was cut by a kill and is left out.

    Raises BadHistory for any other line that is not a JSON object.
    """
    whole, _, _torn = text.rpartition("\n")
    entries = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise BadHistory(f"history line {number} is no JSON: {line[:80]!r}") from error
        if not isinstance(entry, dict):
            raise BadHistory(f"history line {number} is no object: {line[:80]!r}")
        entries.append(entry)
    return entries


def fold(entries: Iterable[Mapping[str, Any]]) -> History:
    """The history that these entries tell. Entries of other operations than place and cancel are passed over."""
    history = History()
    for entry in entries:
        fold_one(history, entry)
    history.accepted.sort(key=lambda answer: answer.at)
    return history


def fold_one(history: History, entry: Mapping[str, Any]) -> None:
    """Adds one entry to the history."""
    if entry.get("op") == "cancel":
        history.cancels_asked += entry["kind"] == "invoke" and entry.get("attempt") == 1
        history.cancels_answered += entry["kind"] == "ok"
    elif entry.get("op") == "place":
        _fold_place(history, entry)


def _fold_place(history: History, entry: Mapping[str, Any]) -> None:
    key, at, kind = str(entry["client_order_id"]), time_of(entry), entry["kind"]
    order = history.orders.setdefault(key, ClientOrder(key, at))
    if kind == "invoke":
        order.attempts += 1
        order.request = order.request or entry.get("order") or {}
        return
    order.ended += 1
    if kind == "ok":
        answer = Answer(at, str(entry.get("url")), int(entry["status"]), entry.get("id"), entry.get("state"))
        order.answers.append(answer)
        if answer.status == 201:
            history.accepted.append(answer)
    elif kind == "refused":
        order.refusals.append(int(entry["status"]))
    elif kind not in {"unavailable", "limited", "redirect"}:
        order.unsure += 1  # also a kind that this reader does not know: nobody said that nothing was written


def time_of(entry: Mapping[str, Any]) -> datetime:
    """The entry's `at`, as an aware time in UTC."""
    return datetime.fromisoformat(str(entry["at"])).astimezone(UTC)


def longest_wait_ms(history: History) -> float | None:
    """The longest time from an order's first attempt to its first answer, None when nothing was answered."""
    waits: Sequence[float] = [
        (order.answers[0].at - order.invoked_at).total_seconds() * 1000
        for order in history.orders.values()
        if order.answers
    ]
    return max(waits, default=None)
