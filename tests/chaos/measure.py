"""From what a round left to what its record says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby, pairwise
from typing import Any

from ha.demo.history import History, time_of
from ha.demo.judge import Verdict
from tests.chaos.check import LEAST_ASKED, Bite, Entry, Overlap, Probe, asked_around, our_orders
from tests.chaos.record import Both, Came, Lead, Struck, Term

LEAST_SILENCE = 0.5  # seconds without an order at the broker that a timeline shows
COUNTED = (
    "lost", "duplicated", "phantom", "contradicted", "sent_while_held", "twins_missed", "unbooked", "positions_differ",
)  # fmt: skip


def began(history: History) -> datetime | None:
    """The first order's moment; None when there was none."""
    return min((order.invoked_at for order in history.orders.values()), default=None)


def taken_at(journal: Sequence[Entry], client_id: int, since: int) -> list[datetime]:
    """When the broker took each order of this round, twins of its own making left out."""
    return sorted(one.taken.at for one in our_orders(journal, client_id) if one.taken.seq > since)


def by_second(moments: Iterable[datetime], start: datetime) -> list[int]:
    """How many of them lie in each second since `start`; what lies before it counts in the first."""
    seconds = [max(0, int((moment - start).total_seconds())) for moment in moments]
    return [seconds.count(number) for number in range(max(seconds, default=-1) + 1)]


def silences(taken: Sequence[datetime], start: datetime, stop: datetime) -> list[tuple[float, float]]:
    """Times of at least LEAST_SILENCE between `start` and `stop` in which no order reached the broker."""
    marks = [start, *(moment for moment in taken if start < moment < stop), stop]
    return [
        (since(start, one), since(start, two))
        for one, two in pairwise(marks)
        if (two - one).total_seconds() >= LEAST_SILENCE
    ]


def silence_of(at: datetime, until: datetime | None, taken: Sequence[datetime]) -> float | None:
    """Milliseconds of the longest time without an order at the broker that ends after `at` and begins before `until`
    (the next strike; None = there is none). None when no order followed."""
    gaps = [two - one for one, two in pairwise(taken) if two > at and (until is None or one < until)]
    return round(max(gaps).total_seconds() * 1000, 1) if gaps else None


def strikes(
    bites: Sequence[tuple[str, str, Bite]], history: History, taken: Sequence[datetime], start: datetime
) -> Iterator[Struck]:
    """What became of the faults that took effect: (name, kind, bite) each. A quiet one does not count."""
    bites = sorted(bites, key=lambda one: one[2].at)
    for place, (name, kind, bite) in enumerate(bites):
        asked = asked_around(bite.at, history)
        later = next((other.at for _, _, other in bites[place + 1 :] if other.at > bite.at), None)
        yield Struck(
            name=name, kind=kind, came=Came.BIT if asked >= LEAST_ASKED else Came.QUIET, words=plain(bite.fault),
            evidence=bite.evidence, at=since(start, bite.at),
            ended=None if bite.ended is None else since(start, bite.ended), replica=bite.replica, asked=asked,
            silence_ms=silence_of(bite.at, later, taken), beside=_beside(bite, [other for _, _, other in bites]),
        )  # fmt: skip


def plain(words: str) -> str:
    """A fault's words without the marks for who is meant: `peer-{leader} cut`."""
    return words.replace("{", "").replace("}", "")


def _beside(bite: Bite, all_: Sequence[Bite]) -> bool:
    """Whether another one lasted, or struck, while this one did."""
    return any(
        other is not bite and other.at <= (bite.ended or bite.at) and bite.at <= (other.ended or other.at)
        for other in all_
    )


def leads(probes: Sequence[Probe], start: datetime) -> list[Lead]:
    """Times in which a replica said, answer after answer, that it leads."""
    found = []
    for name in sorted({probe.replica for probe in probes}):
        own = sorted((probe for probe in probes if probe.replica == name), key=lambda probe: probe.asked)
        for leading, row in groupby(own, key=lambda probe: probe.leads):
            answers = list(row)
            if leading:
                found.append(Lead(name, since(start, answers[0].asked), since(start, answers[-1].answered)))
    return found


def terms(rows: Sequence[Mapping[str, Any]], after: int, start: datetime) -> list[Term]:
    """The epochs of the pair's history above `after`, oldest first."""
    found = (
        Term(
            epoch=int(row["epoch"]), kind=str(row["kind"]), replica=row.get("to"), at=since(start, time_of(row)),
            total_ms=row.get("total_ms"), reason=row.get("reason"),
        )
        for row in rows
        if int(row["epoch"]) > after
    )  # fmt: skip
    return sorted(found, key=lambda term: term.epoch)


def overlaps(found: Sequence[Overlap], start: datetime) -> list[Both]:
    """The times for which both replicas said that they lead."""
    return [Both(since(start, one.began), one.certain_ms, one.most_ms) for one in found]


def counts(verdict: Verdict, in_doubt: int) -> dict[str, int]:
    """The judge's figures by name. Executions count the cluster's whole life, the rest this round."""
    figures = {
        "asked": verdict.asked, "answered": verdict.answered, "refused": verdict.refused,
        "not_accepted": verdict.not_accepted, "unknown": verdict.unknown, "taken": verdict.taken,
        "unsent": sum(verdict.unsent.values()), "in_doubt": in_doubt,
    }  # fmt: skip
    return figures | {name: len(getattr(verdict, name)) for name in COUNTED}


def since(start: datetime, moment: datetime) -> float:
    """Seconds from one to the other."""
    return round((moment - start).total_seconds(), 3)
