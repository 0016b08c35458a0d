"""Checks on what reached the broker, beside the database's log. Pure; each yields a sentence for every case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from ha.demo.broker_record import Taken, parse_reference, read_taken
from ha.demo.history import time_of
from tests.chaos.check_log import LATE, Licence, licences
from tests.chaos.facts import Entry, Facts, Row

_A_MOMENT = timedelta(seconds=3)


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

    Not those whose licence was taken back (R4), and not what the gateway kept inside. Nor need one keep its place that waited and
    whose licence the database refused, as a full disk does, while it took the next one's. R9 repeats each alone on a definite
    refusal, and R4 gives the refused one a new licence under a higher id: had those behind it to wait for that, one refused intent
    would stop its contract, which is the hole that R9 closes. Such a refusal shows in the log as an order id, above all that were
    named before the order's acceptance and below the overtaker's, that no licence names; each such id excuses one order.
    """
    named, spent = _ids_named(facts.log), set[tuple[int, int]]()
    waited = {row.order_id: int(row.payload["session"]) for row in facts.log if row.kind == "order_licensed"}
    accepted = {row.order_id: row.seq for row in facts.log if row.kind == "order_accepted"}
    taken_back = {row.order_id for row in facts.log if row.kind == "order_unlicensed"}
    inside, last = _kept_inside(facts.journal), dict[tuple[int | None, str], tuple[int, str, int]]()
    for one in our_orders(facts.journal, facts.client_id):
        assert one.taken.reference is not None
        oid, place = one.taken.reference.id, (one.taken.session, one.taken.symbol)
        if oid not in accepted or oid in taken_back or one.broker_order_id in inside:
            continue
        before = last.get(place, (0, "", 0))
        if accepted[oid] < before[0]:
            session = waited.get(oid, 0)
            refused = _left_out(named.get(session, []), accepted[oid], before[2])
            if (
                mine := next(((session, number) for number in refused if (session, number) not in spent), None)
            ) is None:
                yield f"{one.taken.order_ref} reached the broker behind {before[1]}, which was accepted later"
            else:
                spent.add(mine)
        last[place] = max(before, (accepted[oid], one.taken.order_ref, one.broker_order_id))


def _ids_named(log: Sequence[Row]) -> dict[int, list[tuple[int, int]]]:
    """For each session, by its number: the order ids that its licences name, in rising order, each with its event's number."""
    named: dict[int, list[tuple[int, int]]] = {}
    for row in log:
        if row.licenses:
            named.setdefault(int(row.payload["session"]), []).append((int(row.payload["broker_order_id"]), row.seq))
    return {session: sorted(ids) for session, ids in named.items()}


def _left_out(named: Sequence[tuple[int, int]], accepted: int, below: int) -> list[int]:
    """The ids below this one that no licence names, above those that were named before that event: they were refused."""
    lowest = max((number for number, seq in named if seq < accepted), default=named[0][0] if named else below)
    there = {number for number, _ in named}
    return [number for number in range(lowest + 1, below) if number not in there]


def sent_late(facts: Facts) -> Iterator[str]:
    """R8: what reached the broker was not older than its type may be when its licence was committed, by the database's clock alone.

    A licence that a slow commit made late is no finding as long as nothing was written under it: "EXPIRED, never sent late" is what
    the rule wants, and the age is measured beside the permit (R2), behind the commit. The broker's own time is not looked at:
    what a gateway that stands still reads late is R5's.
    """
    accepted = {row.order_id: row.at for row in facts.log if row.kind == "order_accepted"}
    ours = our_orders(facts.journal, facts.client_id)
    sent = {(one.taken.reference.id, one.broker_order_id) for one in ours if one.taken.reference}
    for row in facts.log:
        if row.licenses and row.order_id in accepted and (row.order_id, int(row.payload["broker_order_id"])) in sent:
            age = (row.at - accepted[row.order_id]).total_seconds()
            if age > facts.intent_age + LATE:
                yield f"order {row.order_id} was licensed at the age of {age:.1f} s and sent, {facts.intent_age:g} s are allowed"


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
