"""What the demonstration's judge does not look at: the database's log beside the journal, both `/leader` answers seen
from outside, how much was asked when a fault struck, and that it struck. Pure; every check is a function of recorded
facts and returns sentences, none when all is well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from ha.demo.broker_record import Taken, parse_reference, read_taken
from ha.demo.findings import InDoubt
from ha.demo.history import History, time_of

LONGEST_OVERLAP_MS = 1000.0  # R12: two replicas that both say that they lead stop it within a second
LEAST_ASKED = 10
"""Orders that must be asked for in the second around a fault's strike; a fault in a quiet moment proves nothing."""

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question at one replica's `/leader`. `status` None: no answer came, refused and timed out alike."""

    replica: str
    asked: datetime
    answered: datetime
    status: int | None

    @property
    def leads(self) -> bool:
        """Whether the replica said at some moment between `asked` and `answered` that it leads."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class Row:
    """One event of the database's log."""

    seq: int
    epoch: int
    kind: str
    order_id: str | None
    payload: Mapping[str, Any]
    at: datetime
    """When PostgreSQL wrote it."""
    said: datetime
    """When its writer says that it happened."""


@dataclass(frozen=True, slots=True)
class Bite:
    """A fault that took effect. `replica` is the one that fell silent by it, None when none did."""

    fault: str
    at: datetime
    evidence: str
    replica: str | None = None
    ended: datetime | None = None
    """When it was over, for faults that last."""
    perm_ids: tuple[int, ...] = ()
    """The orders at the broker that it was about."""


@dataclass(frozen=True, slots=True)
class Licence:
    """What the log entitled to one write: R2."""

    order_id: str
    broker_order_id: int
    epoch: int
    session: int
    seq: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Both replicas said that they lead, for `certain_ms` at least (0: it may be the probes' own uncertainty) and
    `most_ms` at most."""

    began: datetime
    certain_ms: float
    most_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that is looked at. `journal` and `log` are complete, `since` is the journal's last entry before."""

    history: History
    journal: Sequence[Entry]
    log: Sequence[Row]
    probes: Sequence[Probe]
    bites: Sequence[Bite]
    client_id: int
    since: int = 0
    intent_age: float = 8.0
    """Seconds after which an order that was never sent may expire."""
    in_doubt: Sequence[InDoubt] = ()
    """What the ledger doubts when all had healed."""
    leaders: Sequence[str] = ()
    """Who answered 200 on `/leader` when all had healed."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found. `problems` is empty when all is well; `overlaps` are given whether or not they are too long."""

    problems: list[str]
    overlaps: list[Overlap] = field(default_factory=list)


def examine(facts: Facts) -> Examined:
    """All checks."""
    overlaps = leader_overlaps(facts.probes)
    taken = our_orders(facts.journal, facts.client_id)
    problems = [
        *log_in_order(facts.log),
        *unlicensed(taken, facts.log),
        *stale_sends(taken, facts.log),
        *written_again(facts.journal, facts.client_id),
        *rejected(facts.journal, facts.client_id, facts.since, {id_ for bite in facts.bites for id_ in bite.perm_ids}),
        *expired_early(facts.log, facts.intent_age),
        *doubted_yet_taken(facts.in_doubt),
        *too_long(overlaps),
        *not_one_leader(facts.leaders),
        *quiet_strikes(facts.bites, facts.history),
    ]
    return Examined(problems, overlaps)


# ---- the log


def log_in_order(log: Sequence[Row]) -> Iterator[str]:
    """G1, R21: `seq` is dense from 1 on, and no event was written under an older epoch than one before it."""
    expected, highest = 1, 0
    for row in log:
        if row.seq != expected:
            yield f"the log goes from event {expected - 1} to {row.seq}"
        if row.epoch < highest:
            yield f"event {row.seq} was written under epoch {row.epoch}, after one under {highest}"
        expected, highest = row.seq + 1, max(highest, row.epoch)


def licences(log: Sequence[Row]) -> dict[str, list[Licence]]:
    """Every licence that the log gave, by order id."""
    found: dict[str, list[Licence]] = {}
    for row in log:
        if row.kind in ("order_accepted", "order_licensed") and row.order_id and row.payload.get("session") is not None:
            number, session = int(row.payload["broker_order_id"]), int(row.payload["session"])
            found.setdefault(row.order_id, []).append(Licence(row.order_id, number, row.epoch, session, row.seq))
    return found


# ---- the broker, beside the log


@dataclass(frozen=True, slots=True)
class Sent:
    """An order of ours that the broker took, with the wire's own order id."""

    taken: Taken
    broker_order_id: int


def our_orders(journal: Sequence[Entry], client_id: int) -> list[Sent]:
    """What the broker took under our clientId and a reference of ours, twins of its own making left out."""
    found = []
    for entry in journal:
        if entry["kind"] == "order" and entry.get("client_id") == client_id:
            taken = read_taken(entry)
            if taken.reference is not None and not taken.twin:
                found.append(Sent(taken, int(entry["order_id"])))
    return found


def unlicensed(sent: Sequence[Sent], log: Sequence[Row]) -> Iterator[str]:
    """R2: every order at the broker was licensed by a commit that names the very order id that it was sent under."""
    given = licences(log)
    for one in sent:
        if _licence_of(one, given) is None:
            yield f"{one.taken.order_ref} was sent under order id {one.broker_order_id}, which no commit licensed"


def stale_sends(sent: Sequence[Sent], log: Sequence[Row]) -> Iterator[str]:
    """G2: at the broker epochs rise with the sessions and never fall, and one session carries one licence's session."""
    given = licences(log)
    highest, epochs, sessions = 0, dict[int, int](), dict[int, int]()
    for one in sent:
        licence, session = _licence_of(one, given), one.taken.session
        if licence is None or session is None:
            continue
        ref = one.taken.order_ref
        if licence.epoch < highest:
            yield f"{ref} was sent under epoch {licence.epoch}, after an order under {highest}"
        if epochs.setdefault(session, licence.epoch) != licence.epoch:
            yield f"{ref}: broker session {session} carries epochs {epochs[session]} and {licence.epoch}"
        if (meant := sessions.setdefault(licence.session, session)) != session:
            yield f"{ref}: its licence is for the broker's session {meant}, and it was sent on session {session}"
        highest = max(highest, licence.epoch)
    for earlier, later in pairwise(sorted(sessions)):
        if sessions[earlier] >= sessions[later]:
            yield f"session {later} of the ledger is older at the broker than session {earlier}"


def written_again(journal: Sequence[Entry], client_id: int) -> Iterator[str]:
    """R1, R7: nobody here asks for changes, so a `modify` of ours is an order that was sent a second time."""
    for entry in journal:
        ours = parse_reference(entry.get("order_ref")) is not None and entry.get("client_id") == client_id
        if entry["kind"] == "modify" and ours:
            yield f"{entry['order_ref']} was sent again under its order id {entry.get('order_id')}"


def rejected(journal: Sequence[Entry], client_id: int, since: int, meant: Collection[int] = ()) -> Iterator[str]:
    """The traffic asks for nothing that the broker would refuse, so a refusal that no fault meant (by permId) means that
    most of it was never tried."""
    ours = [e for e in journal if e["seq"] > since and e["kind"] == "rejected" and e.get("client_id") == client_id]
    found = [entry for entry in ours if entry.get("perm_id") not in meant]
    if found:
        yield f"the broker refused {len(found)} orders: {found[0].get('code')} {found[0].get('reason', '')}"


def expired_early(log: Sequence[Row], intent_age: float) -> Iterator[str]:
    """R8: an order that was never sent expires by its age and by nothing else."""
    accepted = {row.order_id: row.said for row in log if row.kind == "order_accepted"}
    for row in log:
        if row.kind == "order_expired":
            age = (row.at - accepted[row.order_id]).total_seconds()
            if age < intent_age:
                yield f"order {row.order_id} expired at the age of {age:.1f} s, {intent_age:g} s are allowed"


def doubted_yet_taken(in_doubt: Sequence[InDoubt]) -> Iterator[str]:
    """R1: what the broker shows is adopted, so that only what it never took stays in doubt."""
    for doubt in in_doubt:
        if doubt.at_broker != "never taken":
            yield f"order {doubt.order_id} is in doubt, and {doubt.at_broker} at the broker"


def _licence_of(one: Sent, given: Mapping[str, list[Licence]]) -> Licence | None:
    assert one.taken.reference is not None
    of_order = given.get(one.taken.reference.id, [])
    return next((licence for licence in of_order if licence.broker_order_id == one.broker_order_id), None)


def sent_on_old_session(journal: Sequence[Entry], session: int, after: datetime) -> list[Entry]:
    """What reached the broker on this session after that moment: orders, changes and cancels."""
    return [
        entry
        for entry in journal
        if entry.get("session") == session and entry["kind"] in ("order", "modify", "cancel") and time_of(entry) > after
    ]


def orders_between(journal: Sequence[Entry], client_id: int, begin: datetime, end: datetime) -> list[Taken]:
    """Orders of ours that the broker took in that time."""
    return [one.taken for one in our_orders(journal, client_id) if begin < one.taken.at < end]


# ---- who leads, seen from outside


def leader_overlaps(probes: Sequence[Probe]) -> list[Overlap]:
    """Every time for which two replicas, in unbroken rows of answers, may both have said that they lead (R12)."""
    names = sorted({probe.replica for probe in probes})
    runs = {name: _leading_runs([probe for probe in probes if probe.replica == name]) for name in names}
    found = []
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            for one in runs[name]:
                for two in runs[other]:
                    most = min(one[-1].answered, two[-1].answered) - max(one[0].asked, two[0].asked)
                    if most > timedelta(0):
                        certain = min(one[-1].asked, two[-1].asked) - max(one[0].answered, two[0].answered)
                        found.append(Overlap(max(one[0].asked, two[0].asked), max(0.0, _ms(certain)), _ms(most)))
    return found


def _leading_runs(probes: Sequence[Probe]) -> list[list[Probe]]:
    """Probes of one replica that say "I lead" without another answer, or none, in between."""
    runs: list[list[Probe]] = []
    unbroken = False
    for probe in sorted(probes, key=lambda one: one.asked):
        if probe.leads and unbroken:
            runs[-1].append(probe)
        elif probe.leads:
            runs.append([probe])
        unbroken = probe.leads
    return runs


def too_long(overlaps: Sequence[Overlap]) -> Iterator[str]:
    """R12: an overlap that lasts longer than the rule allows."""
    for overlap in overlaps:
        if overlap.most_ms > LONGEST_OVERLAP_MS:
            yield f"two replicas answered 200 on /leader for {overlap.certain_ms:.0f} to {overlap.most_ms:.0f} ms"


def not_one_leader(leaders: Sequence[str]) -> Iterator[str]:
    """After healing exactly one replica leads."""
    if len(leaders) != 1:
        yield f"after healing {len(leaders)} replicas answered 200 on /leader: {', '.join(leaders) or 'none'}"


def leading_between(probes: Sequence[Probe], begin: datetime, end: datetime) -> list[Probe]:
    """Answers 200 to questions that were asked and answered in that time."""
    return [probe for probe in probes if probe.leads and begin < probe.asked and probe.answered < end]


# ---- the faults


def quiet_strikes(bites: Sequence[Bite], history: History) -> Iterator[str]:
    """A fault that no order was there to feel does not count; neither does a run without a fault."""
    if not bites:
        yield "no fault took effect"
    half = timedelta(seconds=0.5)
    for bite in bites:
        asked = sum(1 for order in history.orders.values() if abs(order.invoked_at - bite.at) <= half)
        if asked < LEAST_ASKED:
            yield f"{bite.fault}: only {asked} orders were asked for in the second in which it struck"


def refusals(entries: Sequence[Entry]) -> list[str]:
    """Every answer that a client got instead of a 2xx, at whatever attempt: 4xx, 429, 503, 504. A redirect is none, and
    an attempt that got no answer in its time is none either: on a busy machine that says nothing about the pair."""
    return [
        f"{entry['client_order_id']}: {entry['kind']} {entry['status']} {entry.get('error') or ''}"
        for entry in entries
        if entry.get("op") == "place" and entry["kind"] not in ("ok", "redirect") and entry.get("status") is not None
    ]


def _ms(span: timedelta) -> float:
    return round(span.total_seconds() * 1000, 1)
