"""The figures of one run, or of several, for every kind of report. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.chaos.measure import COUNTED
from tests.chaos.record import Came, Record, Round, Struck

WRONG = {
    "lost": "lost", "duplicated": "sent twice", "phantom": "never asked for", "contradicted": "told wrongly",
    "sent_while_held": "sent while held", "twins_missed": "twins not reported", "unbooked": "executions not booked once",
    "positions_differ": "positions that differ",
}  # fmt: skip
assert set(WRONG) == set(COUNTED)


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are distributed; None where there is none."""

    count: int
    p50: float | None
    p90: float | None
    most: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The nearest rank of each share."""
        ranked = sorted(values)
        if not ranked:
            return cls(0, None, None, None)
        last = len(ranked) - 1
        return cls(len(ranked), ranked[round(last * 0.5)], ranked[round(last * 0.9)], ranked[-1])


@dataclass(frozen=True, slots=True)
class FaultRow:
    """What came of one fault, or of one kind of faults: `bit` is what counts. `no_end` of them, no order followed."""

    name: str
    kind: str
    injected: int
    bit: int
    quiet: int
    missed: int
    silence: Spread
    no_end: int


def by_name(struck: Sequence[Struck]) -> list[FaultRow]:
    """A row for each fault, by kind and name."""
    names = sorted({(one.kind, one.name) for one in struck})
    return [_row(name, kind, [one for one in struck if one.name == name]) for kind, name in names]


def by_kind(struck: Sequence[Struck]) -> list[FaultRow]:
    """A row for each kind."""
    return [_row(kind, kind, [one for one in struck if one.kind == kind]) for kind in sorted({s.kind for s in struck})]


def _row(name: str, kind: str, struck: Sequence[Struck]) -> FaultRow:
    came = Counter(one.came for one in struck)
    bit = [one for one in struck if one.came is Came.BIT]
    silence = Spread.of(one.silence_ms for one in bit if one.silence_ms is not None)
    no_end = sum(1 for one in bit if one.silence_ms is None)
    return FaultRow(name, kind, len(struck), came[Came.BIT], came[Came.QUIET], came[Came.MISSED], silence, no_end)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over rounds. `counts` by the names of Round.counts; `terms` by their kind; `takeover` is the pair's own time
    from noticing to the first order of each failover, `both_ms` the longest time with two replicas that said they lead."""

    rounds: int
    bad: int
    seconds: float
    faults: Counter[Came]
    two_at_once: int
    counts: Counter[str]
    terms: Counter[str]
    takeover: Spread
    silence: Spread
    both: int
    both_ms: float

    @property
    def wrong(self) -> dict[str, int]:
        """What must not happen and did, in words."""
        return {words: self.counts[name] for name, words in WRONG.items() if self.counts[name]}


def totals(records: Sequence[Record]) -> Totals:
    """Over all these runs."""
    rounds: list[Round] = [one for record in records for one in record.rounds]
    struck = [one for record in records for one in record.struck]
    terms = [term for one in rounds for term in one.terms]
    both = [overlap for one in rounds for overlap in one.both]
    counts: Counter[str] = Counter()
    for one in rounds:
        counts.update(one.counts)
    bit = [one for one in struck if one.came is Came.BIT]
    return Totals(
        rounds=len(rounds), bad=sum(1 for one in rounds if not one.ok), seconds=sum(record.seconds for record in records),
        faults=Counter(one.came for one in struck), two_at_once=sum(1 for one in bit if one.beside), counts=counts,
        terms=Counter(term.kind for term in terms),
        takeover=Spread.of(t.total_ms for t in terms if t.kind == "failover" and t.total_ms is not None),
        silence=Spread.of(ends - begins for one in rounds for begins, ends in one.silences),
        both=len(both), both_ms=max((one.most_ms for one in both), default=0.0),
    )  # fmt: skip


def verdict(record: Record) -> tuple[bool, str]:
    """Whether the run is fine, and why in a sentence."""
    if not record.rounds:
        return False, "no round was judged"
    found = totals([record])
    if found.bad:
        wrong = ", ".join(f"{count} {words}" for words, count in found.wrong.items())
        return False, f"{found.bad} of {found.rounds} rounds are bad" + (f": {wrong}" if wrong else "")
    if not found.faults[Came.BIT]:
        return False, "no fault took effect while orders flowed"
    return True, "no order lost, none sent twice, every execution booked once, every position the same"


def ms(value: float | None) -> str:
    """Milliseconds for a person: `340 ms`, `4.2 s`; `–` for none."""
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def clock(seconds: float) -> str:
    """`4:07`, `2:04:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
