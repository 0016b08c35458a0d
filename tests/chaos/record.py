"""What a run of random faults leaves: one JSON line about the run, then a plan and a result for each round. Pure.

Times within a round are seconds from its first order; moments are ISO 8601 in UTC. Everything that a report says is made
from these lines, and can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class BadRecord(ValueError):
    """A file that is no record of a run, or lacks what a report needs."""


class Came(StrEnum):
    """What came of a fault that was to strike."""

    BIT = "bit"
    QUIET = "quiet"  # it took effect, and too few orders were there to feel it: does not count
    MISSED = "missed"  # it did not take effect: does not count


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """One fault of the schedule. `silence_ms`: the longest time without an order at the broker between this strike and the
    next; None when it had no end, or the fault did not bite."""

    name: str
    kind: str
    came: Came
    words: str
    """The fault in words, or why it missed."""
    evidence: str = ""
    at: float | None = None
    ended: float | None = None
    replica: str | None = None
    """Who fell silent by it."""
    asked: int = 0
    silence_ms: float | None = None
    beside: bool = False
    """It struck while another one lasted, or in the same moment."""


@dataclass(frozen=True, slots=True)
class Lead:
    """A time in which one replica said that it leads."""

    replica: str
    begins: float
    ends: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A row of the pair's own history: an epoch that began in this round."""

    epoch: int
    kind: str
    replica: str | None
    at: float
    total_ms: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Both:
    """A time for which both replicas said that they lead."""

    at: float
    certain_ms: float
    most_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round. `asked`, `accepted` and `taken` count orders by second; `silences` are times without an order at the
    broker; `counts` has the judge's figures by name. A round with `problems` is bad."""

    number: int
    began: str
    seconds: float
    took: float
    """Seconds with healing and judging."""
    cluster: int
    """Which cluster of the run it was played on, from 1."""
    struck: list[Struck] = field(default_factory=list)
    leads: list[Lead] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    silences: list[tuple[float, float]] = field(default_factory=list)
    both: list[Both] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    replay: str = ""
    kept: str | None = None
    """Where the logs, the clients' record, the broker's journal and the database's log of a bad round lie."""

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was asked for."""

    seed: int
    minutes: float
    form: str
    rate: float
    began: str
    kinds: list[str] = field(default_factory=list)
    """Only these; empty = all."""
    source: str = ""
    """A recorded schedule that was played again, else nothing."""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A whole run. `end` says why it ended; empty = its own end is not recorded (it was killed)."""

    run: Run
    rounds: Sequence[Round]
    end: str = ""
    seconds: float = 0.0

    @property
    def bad(self) -> list[Round]:
        """The rounds with problems."""
        return [one for one in self.rounds if not one.ok]

    @property
    def struck(self) -> list[Struck]:
        """All faults of all rounds."""
        return [struck for one in self.rounds for struck in one.struck]

    @property
    def took_effect(self) -> list[Struck]:
        """The faults that count."""
        return [struck for struck in self.struck if struck.came is Came.BIT]


def line(op: str, about: Mapping[str, Any]) -> str:
    """One line of the file."""
    return json.dumps({"op": op} | dict(about)) + "\n"


def run_line(run: Run) -> str:
    """The first line."""
    return line("run", asdict(run))


def round_line(one: Round) -> str:
    """A round's result."""
    return line("round", asdict(one))


def end_line(why: str, seconds: float) -> str:
    """The last line."""
    return line("end", {"why": why, "seconds": round(seconds, 1)})


def read(text: str) -> Record:
    """A record from its lines; a last line that was cut by a kill is left out. Raises BadRecord."""
    run, rounds, end, seconds = None, list[Round](), "", 0.0
    for number, entry in _entries(text.rpartition("\n")[0].splitlines()):
        try:
            match entry.pop("op"):
                case "run":
                    run = Run(**entry)
                case "round":
                    rounds.append(_round(entry))
                case "end":
                    end, seconds = entry["why"], entry["seconds"]
        except (TypeError, KeyError, ValueError) as error:
            raise BadRecord(f"line {number}: {error}") from error
    if run is None:
        raise BadRecord("it does not say what was run")
    return Record(run, rounds, end, seconds or sum(one.took for one in rounds))


def _entries(lines: Iterable[str]) -> Iterable[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(lines, start=1):
        try:
            entry = json.loads(text)
        except ValueError as error:
            raise BadRecord(f"line {number} is no JSON: {error}") from error
        if not isinstance(entry, dict):
            raise BadRecord(f"line {number} is no object")
        yield number, entry


def _round(entry: dict[str, Any]) -> Round:
    made: dict[str, Any] = dict(entry)
    made["struck"] = [Struck(**{**one, "came": Came(one["came"])}) for one in entry["struck"]]
    for name, kind in (("leads", Lead), ("terms", Term), ("both", Both)):
        made[name] = [kind(**one) for one in entry[name]]
    made["silences"] = [(begins, ends) for begins, ends in entry["silences"]]
    return Round(**made)
