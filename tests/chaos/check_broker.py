"""Checks on what reached the broker, beside the database's log. Pure; each yields a sentence for every case."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from ha.demo.broker_record import Taken, parse_reference, read_taken
from ha.demo.history import time_of
from tests.chaos.check_log import LATE, Licence, licences
from tests.chaos.facts import Entry, Facts, Row

_A_MOMENT = timedelta(seconds=3)
_A_COLLECTION = timedelta(seconds=1)
"""What the broker takes while a snapshot is collected may be missing in it."""


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


def unlicensed(facts: Facts) -> Iterator[str]:
    """R2: every order at the broker was licensed by a commit that names the very order id that it was sent under."""
    given = licences(facts.log)
    for one in our_orders(facts.journal, facts.client_id):
        if _licence_of(one, given) is None:
            yield f"{one.taken.order_ref} was sent under order id {one.broker_order_id}, which no commit licensed"


def stale_sends(facts: Facts) -> Iterator[str]:
    """G2: at the broker epochs rise with the sessions and never fall, and one session carries one licence's session."""
    given = licences(facts.log)
    highest, epochs, sessions = 0, dict[int, int](), dict[int, int]()
    for one in our_orders(facts.journal, facts.client_id):
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


def written_again(facts: Facts) -> Iterator[str]:
    """R1, R7: nobody here asks for changes, so a `modify` of ours is an order that was sent a second time."""
    for entry in facts.journal:
        ours = parse_reference(entry.get("order_ref")) is not None and entry.get("client_id") == facts.client_id
        if entry["kind"] == "modify" and ours:
            yield f"{entry['order_ref']} was sent again under its order id {entry.get('order_id')}"


def ids_fall(facts: Facts) -> Iterator[str]:
    """R4: on the wire of one session order ids rise."""
    highest: dict[int | None, int] = {}
    inside = _kept_inside(facts.journal)
    for one in our_orders(facts.journal, facts.client_id):
        session = one.taken.session
        if one.broker_order_id <= highest.get(session, 0) and one.broker_order_id not in inside:
            yield f"{one.taken.order_ref} was sent under order id {one.broker_order_id}, after {highest[session]}"
        highest[session] = max(highest.get(session, 0), one.broker_order_id)


def overtaken(facts: Facts) -> Iterator[str]:
    """R9: on one session, orders in one contract reach the broker in the order in which they were accepted.

    Not those whose licence was taken back (R4), and not what the gateway kept inside; nor one that waited and whose licence
    the database refused, as a full disk does, while it took the next one: then an id below is nobody's.
    """
    waited = {row.order_id: int(row.payload["session"]) for row in facts.log if row.kind == "order_licensed"}
    named = _ids_named(facts.log)
    accepted = {row.order_id: row.seq for row in facts.log if row.kind == "order_accepted"}
    taken_back = {row.order_id for row in facts.log if row.kind == "order_unlicensed"}
    inside, last = _kept_inside(facts.journal), dict[tuple[int | None, str], tuple[int, str, int]]()
    for one in our_orders(facts.journal, facts.client_id):
        assert one.taken.reference is not None
        oid, place = one.taken.reference.id, (one.taken.session, one.taken.symbol)
        if oid not in accepted or oid in taken_back or one.broker_order_id in inside:
            continue
        before = last.get(place, (0, "", 0))
        excused = oid in waited and _leaves_out(named[waited[oid]], before[2])
        if accepted[oid] < before[0] and not excused:
            yield f"{one.taken.order_ref} reached the broker behind {before[1]}, which was accepted later"
        last[place] = max(before, (accepted[oid], one.taken.order_ref, one.broker_order_id))


def _ids_named(log: Sequence[Row]) -> dict[int, list[int]]:
    """The order ids that each session's licences named, in rising order. One that is left out was refused its commit."""
    named: dict[int, list[int]] = {}
    for row in log:
        if row.licenses:
            named.setdefault(int(row.payload["session"]), []).append(int(row.payload["broker_order_id"]))
    return {session: sorted(ids) for session, ids in named.items()}


def _leaves_out(ids: Sequence[int], below: int) -> bool:
    """Whether one below this id is missing."""
    place = bisect_left(ids, below)
    return 0 < place < below - ids[0]


def absent_yet_there(facts: Facts) -> Iterator[str]:
    """R23: what a complete snapshot did not show was not at the broker, unless the gateway restarted and forgot it."""
    taken = {
        one.taken.reference.id: one.taken.at
        for one in our_orders(facts.journal, facts.client_id)
        if one.taken.reference
    }
    restarts = [time_of(entry) for entry in facts.journal if entry["kind"] == "restart"]
    for row in facts.log:
        if row.kind == "order_in_doubt" and "(complete snapshot)" in str(row.payload.get("reason")):
            since = taken.get(row.order_id or "")
            if since is None or since > row.at - _A_COLLECTION or any(since < at < row.at for at in restarts):
                continue
            yield f"order {row.order_id} was called absent by a complete snapshot, and the broker had it since {since:%H:%M:%S}"


def ended_yet_alive(facts: Facts) -> Iterator[str]:
    """R25: an order that the broker took is called cancelled or rejected only when the broker has ended it."""
    taken: dict[str, set[int]] = {}
    for one in our_orders(facts.journal, facts.client_id):
        assert one.taken.reference is not None
        taken.setdefault(one.taken.reference.id, set()).add(one.taken.perm_id)
    ended: dict[int, datetime] = {}
    for entry in facts.journal:
        if entry["kind"] in ("cancelled", "rejected") and entry.get("perm_id") is not None:
            ended.setdefault(int(entry["perm_id"]), time_of(entry))
    for row in facts.log:
        if row.kind not in ("order_cancelled", "order_rejected") or row.order_id not in taken:
            continue
        if not any(perm_id in ended and ended[perm_id] <= row.at for perm_id in taken[row.order_id]):
            yield f"event {row.seq} ends order {row.order_id}, which the broker had not ended then"


def kept_too_long(facts: Facts) -> Iterator[str]:
    """R6: what the gateway kept while its link was lost and gave to IB beyond its age is cancelled.

    What traded within a moment could not be. An order's age counts from its acceptance, by the database's clock.
    """
    accepted = {row.order_id: row.at for row in facts.log if row.kind == "order_accepted"}
    given: dict[object, datetime] = {}
    over: set[object] = set()
    for entry in facts.journal:
        perm_id = entry.get("perm_id")
        if entry["kind"] == "working":
            given.setdefault(perm_id, time_of(entry))
        elif entry["kind"] == "cancel" or (
            entry["kind"] in ("execution", "cancelled", "rejected")
            and perm_id in given
            and time_of(entry) - given[perm_id] < _A_MOMENT
        ):
            over.add(perm_id)
    for one in our_orders(facts.journal, facts.client_id):
        assert one.taken.reference is not None
        since, perm_id = accepted.get(one.taken.reference.id), one.taken.perm_id
        if since is not None and perm_id in given and perm_id not in over:
            age = (given[perm_id] - since).total_seconds()
            if age > facts.intent_age + LATE:
                yield f"{one.taken.order_ref} was given to IB at the age of {age:.1f} s and nobody cancelled it"


def rejected(facts: Facts) -> Iterator[str]:
    """The traffic asks for nothing that the broker would refuse, so a refusal that no fault meant (by permId) means that
    most of it was never tried.
    """
    meant = {perm_id for bite in facts.bites for perm_id in bite.perm_ids}
    found = [
        e
        for e in facts.journal
        if e["seq"] > facts.since
        and e["kind"] == "rejected"
        and e.get("client_id") == facts.client_id
        and e.get("perm_id") not in meant
    ]
    if found:
        yield f"the broker refused {len(found)} orders: {found[0].get('code')} {found[0].get('reason', '')}"


def doubted_yet_taken(facts: Facts) -> Iterator[str]:
    """R1: what the broker shows is adopted, so that only what it never took stays in doubt."""
    for doubt in facts.in_doubt:
        if doubt.at_broker != "never taken":
            yield f"order {doubt.order_id} is in doubt, and {doubt.at_broker} at the broker"


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


def _licence_of(one: Sent, given: Mapping[str, list[Licence]]) -> Licence | None:
    assert one.taken.reference is not None
    of_order = given.get(one.taken.reference.id, [])
    return next((licence for licence in of_order if licence.broker_order_id == one.broker_order_id), None)


def _kept_inside(journal: Sequence[Entry]) -> set[int]:
    """Order ids that the gateway kept to itself for a while: it took them later than they were sent."""
    return {
        int(entry["order_id"])
        for entry in journal
        if entry["kind"] == "fault" and entry.get("fault") == "hold_inside" and entry.get("order_id") is not None
    }
