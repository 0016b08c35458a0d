"""The judge: what clients were answered, compared with what the broker took. Pure; asks nobody.

Its facts are the clients' record, the broker's journal and positions, and the ledger as its API reads. What happened
at the broker is never taken from the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from ha.demo.booking import Misbooked, PositionRow, compare_positions, misbooked
from ha.demo.broker_record import Taken, read_journal
from ha.demo.findings import (
    EpochFall,
    Finding,
    InDoubt,
    Twin,
    contradictions,
    doubts,
    duplicates,
    epoch_falls,
    losses,
    phantoms,
    sent_while_held,
    twins,
    unsent,
)
from ha.demo.history import History, Outcome
from ha.demo.ledger import Ledger
from ha.demo.silence import Kill, Silence, measure

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the judge looks at. `journal` is complete; the ledger's lists are complete, all pages.

    `ids` may name order ids that the caller derived from client_order_ids, for orders that were never answered. What
    the broker took up to journal entry `since` was asked for before this history began.
    """

    history: History
    journal: Rows
    broker_positions: Rows
    orders: Rows
    executions: Rows
    positions: Rows
    breaks: Rows
    kills: Sequence[Kill] = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    since: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found. Counts are of orders and executions; every list names its cases, and is empty when all is well,
    but for `in_doubt`, which is no error, and `epoch_falls`, which asks for a look. `unsent` counts the orders answered
    2xx that the broker never took, by their state in the ledger."""

    asked: int
    answered: int
    refused: int
    not_accepted: int
    unknown: int
    taken: int
    unsent: dict[str, int]
    lost: list[Finding]
    duplicated: list[Finding]
    phantom: list[Finding]
    contradicted: list[Finding]
    sent_while_held: list[Finding]
    twins: list[Twin]
    executions_made: int
    executions_booked: int
    unbooked: list[Misbooked]
    positions: list[PositionRow]
    in_doubt: list[InDoubt]
    epochs: dict[int, int]
    epoch_falls: list[EpochFall]
    silences: list[Silence]

    @property
    def positions_differ(self) -> list[PositionRow]:
        """The symbols on which journal, broker and ledger do not agree."""
        return [row for row in self.positions if not row.agree]

    @property
    def twins_missed(self) -> list[Twin]:
        """Twins of the broker's making that were not reported, or not cancelled although there was something to cancel."""
        return [twin for twin in self.twins if not (twin.reported and (twin.cancelled or twin.filled))]

    @property
    def ok(self) -> bool:
        """True when nothing is lost, doubled, made up, misbooked or told wrongly, and the positions agree."""
        return not self.problems()

    @property
    def may_be_late(self) -> bool:
        """Whether something is wrong that may be on its way still. What was sent twice, or while a break held it, stays so."""
        later = replace(self, duplicated=[], sent_while_held=[])
        return not later.ok

    def problems(self) -> list[str]:
        """One sentence per kind of defect that was found."""
        counted: dict[str, Sequence[object]] = {
            "lost: answered 2xx, and neither at the broker nor in a state that explains it": self.lost,
            "duplicated: a second order at the broker under one id": self.duplicated,
            "phantom: at the broker, but no client asked for it or was told no": self.phantom,
            "contradicted: the ledger says what the broker's journal denies": self.contradicted,
            "sent for a contract that an open break holds": self.sent_while_held,
            "twins of the broker's making, not cancelled and reported": self.twins_missed,
            "executions not booked exactly once": self.unbooked,
            "positions differ": self.positions_differ,
        }
        return [f"{len(cases)} {sentence}" for sentence, cases in counted.items() if cases]

    def as_json(self) -> dict[str, Any]:
        """The verdict as JSON values: decimals and times as strings."""
        plain: dict[str, Any] = _plain(asdict(self))
        for row, position in zip(plain["positions"], self.positions, strict=True):
            row["agree"] = position.agree
        return {"ok": self.ok, "problems": self.problems()} | plain


def judge(evidence: Evidence) -> Verdict:
    """Raises IncompleteJournal when the journal has a hole; then nothing can be said."""
    record = read_journal(evidence.journal)
    ledger = Ledger.read(evidence.orders, evidence.breaks)
    history = evidence.history
    new = [order for order in record.taken if order.reference is not None and order.seq > evidence.since]
    return Verdict(
        asked=len(history.orders),
        answered=history.count(Outcome.ANSWERED),
        refused=history.count(Outcome.REFUSED),
        not_accepted=history.count(Outcome.NOT_ACCEPTED),
        unknown=history.count(Outcome.UNKNOWN),
        taken=sum(1 for order in new if not order.twin),
        unsent=unsent(history, record, ledger),
        lost=losses(history, record, ledger),
        duplicated=duplicates(record, ledger),
        phantom=phantoms(history, record, ledger, evidence.ids, evidence.since),
        contradicted=contradictions(history, record, ledger),
        sent_while_held=sent_while_held(record, ledger),
        twins=twins(record, ledger),
        executions_made=len(record.made),
        executions_booked=len(evidence.executions),
        unbooked=misbooked(record, evidence.executions),
        positions=compare_positions(record, evidence.broker_positions, evidence.positions, evidence.breaks),
        in_doubt=doubts(record, ledger),
        epochs=_epochs(new),
        epoch_falls=epoch_falls(record),
        silences=[measure(kill, new, history.accepted) for kill in evidence.kills],
    )


def _epochs(taken: Sequence[Taken]) -> dict[int, int]:
    """How many orders the broker took under each epoch."""
    return dict(sorted(Counter(order.reference.epoch for order in taken if order.reference).items()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value
