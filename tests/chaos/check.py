"""The judge's other half: what `ha/demo/judge.py` does not look at, as a table of checks, each with the guarantees and rules
that it holds. Pure; a check is a function of recorded facts and yields sentences, none when all is well.

The log alone is in `check_log.py`, the broker beside it in `check_broker.py` and `check_absent.py`, who leads in
`check_leaders.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ha.demo.history import History
from tests.chaos import check_absent as absent
from tests.chaos import check_broker as broker
from tests.chaos import check_leaders as roles
from tests.chaos import check_log as log
from tests.chaos.check_broker import orders_between, our_orders, sent_on_old_session
from tests.chaos.check_leaders import LONGEST_OVERLAP_MS, Overlap, leader_overlaps, leading_between
from tests.chaos.check_log import Licence, licences
from tests.chaos.facts import Bite, Entry, Facts, Probe, Row

__all__ = [
    "CHECKS", "LEAST_ASKED", "LONGEST_OVERLAP_MS", "OF_THE_VERDICT", "Bite", "Check", "Entry", "Examined", "Facts", "Licence",
    "Overlap", "Probe", "Row", "VerdictCheck", "asked_around", "examine",
    "in_a_quiet_moment", "leader_overlaps", "leading_between", "licences", "orders_between",
    "our_orders", "refusals", "sent_on_old_session", "table",
]  # fmt: skip

LEAST_ASKED = 20
"""Orders that must be asked for within a second of a fault's strike; a fault in a quiet moment proves nothing."""
_NEAR = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found. `problems` is empty when all is well; `overlaps` are given whether or not they are too long."""

    problems: list[str]
    overlaps: list[Overlap] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at. `holds`: the guarantees and rules that would be broken, by their numbers."""

    name: str
    holds: str
    finds: Callable[[Facts], Iterable[str]]
    says: str


@dataclass(frozen=True, slots=True)
class VerdictCheck:
    """One of those that `ha/demo/judge.py` makes: the field of its verdict that must be empty."""

    name: str
    holds: str
    says: str


def quiet_strikes(facts: Facts) -> Iterator[str]:
    """See `in_a_quiet_moment`; neither does a run without a fault count."""
    if not facts.bites:
        yield "no fault took effect"
    yield from in_a_quiet_moment(facts.bites, facts.history)


def asked_around(at: datetime, history: History) -> int:
    """Orders that were first asked for within a second of this moment."""
    return sum(1 for order in history.orders.values() if abs(order.invoked_at - at) <= _NEAR)


def in_a_quiet_moment(bites: Iterable[Bite], history: History) -> Iterator[str]:
    """A fault that no order was there to feel does not count."""
    for bite in bites:
        asked = asked_around(bite.at, history)
        if asked < LEAST_ASKED:
            yield f"{bite.fault}: only {asked} orders were asked for within a second of its strike"


CHECKS = (
    Check("epoch_falls", "G1 R10", log.epoch_falls, "the epochs of the log never fall"),
    Check("written_behind_a_claim", "G1 R10", log.written_behind_a_claim, "behind a claim nothing carries an older epoch"),
    Check("unlicensed", "G2 R2", broker.unlicensed, "each order at the broker was licensed under the order id that it has"),
    Check("stale_sends", "G2 R2 R13", broker.stale_sends, "at the broker epochs rise with sessions; a licence is of one session"),
    Check("two_leaders", "G2 R12", roles.two_leaders, "two answers 200 on `/leader` overlap for a second at most"),
    Check("not_in_the_log", "G3 R20", log.not_in_the_log, "what was answered 2xx stands in the log"),
    Check("written_again", "G4 R1 R7", broker.written_again, "nothing is sent a second time under its order id"),
    Check("licensed_again", "G4 R1 R4", log.licensed_again, "no term takes back what another term licensed"),
    Check("ids_fall", "G4 R4", broker.ids_fall, "on the wire of a session order ids rise"),
    Check("overtaken", "R9", broker.overtaken, "orders in one contract reach the broker as they were accepted"),
    Check("booked_twice", "G5 R27", log.booked_twice, "an execution stands in the log once for each revision"),
    Check("judged_too_soon", "G6 R3", log.judged_too_soon, "no order of the present session is called absent"),
    Check("absent_yet_there", "G6 R23", absent.absent_yet_there, "what a complete snapshot did not show was not at the broker"),
    Check("vanished_yet_there", "G6 R23", absent.vanished_yet_there, "what is called vanished is not alive at the broker"),
    Check("ended_yet_alive", "G6 R25", absent.ended_yet_alive, "no order is ended here that the broker had not ended"),
    Check("licensed_while_held", "G6 R1", log.licensed_while_held, "nothing is licensed for a contract that a break holds"),
    Check("doubted_yet_taken", "G6 R1", absent.doubted_yet_taken, "nothing that the broker took stays in doubt"),
    Check("expired_early", "G6 R8", log.expired_early, "what was never sent expires by its age and nothing else"),
    Check("sent_late", "R8", broker.sent_late, "what is too old is not sent any more"),
    Check("kept_too_long", "R6 R8", broker.kept_too_long, "what the gateway kept beyond its age is cancelled"),
    Check("not_one_leader", "G7", roles.not_one_leader, "after healing one replica answers 200 on `/leader`"),
    Check("not_whole", "G7 R24", roles.not_whole, "after healing the gate is open and the standby healthy"),
    Check("silence_without_end", "G7", roles.silence_without_end, "each silence is measured and ends within the budget"),
    Check("books_differ", "G8", roles.books_differ, "at the same event both books have the same digest"),
    Check("holes", "G8 R21", log.holes, "the numbers of the log are dense"),
    Check("unnoticed_loss", "G9 R18", log.unnoticed_loss, "a log that lost events holds everything"),
    Check("licensed_while_all_is_held", "G9 R18", log.licensed_while_all_is_held, "while all is held nothing is licensed"),
    Check("rejected", "", broker.rejected, "the broker refused nothing: most of what it refuses was never tried"),
    Check("quiet_strikes", "", quiet_strikes, f"{LEAST_ASKED} orders were asked for within a second of each strike"),
)  # fmt: skip
"""In the order of the guarantees."""

OF_THE_VERDICT = (
    VerdictCheck("lost", "G3 R5 R20", "what was answered 2xx is at the broker, or in a state that explains it"),
    VerdictCheck("duplicated", "G4 R1 R19", "one id is one order at the broker"),
    VerdictCheck("phantom", "G4 R20", "nothing is at the broker that no client asked for or whose client was told no"),
    VerdictCheck("twins_missed", "G4 R26", "what the broker doubled by itself was cancelled and reported"),
    VerdictCheck("unbooked", "G5 R27", "each execution is booked once, as it was made"),
    VerdictCheck("positions_differ", "G5", "journal, broker and ledger have the same positions"),
    VerdictCheck("contradicted", "G6 R25", "the ledger says nothing of an order that the journal denies"),
    VerdictCheck("sent_while_held", "G6 R1", "nothing is sent for a contract that an open break holds"),
)
"""What `ha/demo/judge.py` looks at."""


def examine(facts: Facts) -> Examined:
    """All checks."""
    return Examined([problem for check in CHECKS for problem in check.finds(facts)], leader_overlaps(facts.probes))


def table() -> str:
    """The checks as a table for the page."""
    lines = ["| check | what must be true | holds |", "|---|---|---|"]
    rows: list[Check | VerdictCheck] = [*OF_THE_VERDICT, *CHECKS]
    rows.sort(key=lambda one: one.holds or "R99")
    lines += [
        f"| `{one.name}` | {one.says} | {', '.join(one.holds.split()) or 'that the run counts'} |" for one in rows
    ]
    return "\n".join(lines)


def refusals(entries: Sequence[Entry]) -> list[str]:
    """Every answer that a client got instead of a 2xx, at whatever attempt: 4xx, 429, 503, 504. A redirect is none, and
    an attempt that got no answer in its time is none either: on a busy machine that says nothing about the pair."""
    return [
        f"{entry['client_order_id']}: {entry['kind']} {entry['status']} {entry.get('error') or ''}"
        for entry in entries
        if entry.get("op") == "place" and entry["kind"] not in ("ok", "redirect") and entry.get("status") is not None
    ]
