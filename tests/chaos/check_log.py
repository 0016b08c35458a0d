"""Checks on the database's log alone. Pure; each yields a sentence for every case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.chaos.facts import Facts, Row

LATE = 1.0
"""Seconds by which what was written may seem older than it may be (R8). Its age is looked at beside the permit, when its licence is
committed, so that no commit's length counts. What counts is how well a writer knows the database's clock: its own, which dates
the acceptance, may be off by half a second, and so may be what a proof says of the other one."""

_ON_ITS_WAY = 1.0
"""Seconds for which what was decided before a break was in the log may come into it behind the break."""

_REPEATED = "sent again under the same order id"
"""How the reason of a repetition that came to nothing begins: its session lives, and the doubt is the one from before."""


@dataclass(frozen=True, slots=True)
class Licence:
    """What the log entitled to one write: R2."""

    order_id: str
    broker_order_id: int
    epoch: int
    session: int
    seq: int


def licences(log: Sequence[Row]) -> dict[str, list[Licence]]:
    """Every licence that the log gave, by order id."""
    found: dict[str, list[Licence]] = {}
    for row in log:
        if row.licenses and row.order_id:
            number, session = int(row.payload["broker_order_id"]), int(row.payload["session"])
            found.setdefault(row.order_id, []).append(Licence(row.order_id, number, row.epoch, session, row.seq))
    return found


def epoch_falls(facts: Facts) -> Iterator[str]:
    """G1: no event was written under an older epoch than one before it."""
    highest = 0
    for row in facts.log:
        if row.epoch < highest:
            yield f"event {row.seq} was written under epoch {row.epoch}, after one under {highest}"
        highest = max(highest, row.epoch)


def written_behind_a_claim(facts: Facts) -> Iterator[str]:
    """G1: behind a claim nothing is written under an epoch before it, also where the new leader has not written yet."""
    claims, claimed = sorted((seq, epoch) for epoch, seq in facts.claims.items()), 0
    for row in facts.log:
        while claims and claims[0][0] < row.seq:
            claimed = max(claimed, claims.pop(0)[1])
        if row.epoch < claimed:
            yield f"event {row.seq} was written under epoch {row.epoch}, when epoch {claimed} was claimed"


def holes(facts: Facts) -> Iterator[str]:
    """R21: `seq` is dense from 1 on."""
    expected = 1
    for row in facts.log:
        if row.seq != expected:
            yield f"the log goes from event {expected - 1} to {row.seq}"
        expected = row.seq + 1


def expired_early(facts: Facts) -> Iterator[str]:
    """R8: an order that was never sent expires by its age and by nothing else, unless everything was held while it waited: then an
    operator's word ends it, because it may have been sent before the database went back (R18)."""
    said: dict[str | None, datetime] = {}
    held: set[str | None] = set()
    for row in facts.log:
        if row.kind == "order_accepted":
            said[row.order_id] = row.said
        elif _holds_everything(row):
            held |= said.keys()
        elif row.kind == "order_expired" and row.order_id not in held:
            age = (row.at - said[row.order_id]).total_seconds()
            if age < facts.intent_age:
                yield f"order {row.order_id} expired at the age of {age:.1f} s, {facts.intent_age:g} s are allowed"


def licensed_again(facts: Facts) -> Iterator[str]:
    """R1, R4: what was licensed is licensed anew only by the process that says that it wrote nothing, in the same term."""
    last: dict[str, int] = {}
    for row in facts.log:
        if row.licenses and row.order_id:
            last[row.order_id] = row.epoch
        elif row.kind == "order_unlicensed" and row.order_id in last and last[row.order_id] != row.epoch:
            yield (
                f"order {row.order_id} was licensed under epoch {last[row.order_id]}, and epoch {row.epoch} took the licence "
                "back: nobody there knows that nothing was written"
            )


def judged_too_soon(facts: Facts) -> Iterator[str]:
    """R3: an order of the session that is the present one is not called absent."""
    licensed: dict[str | None, int] = {}
    present = 0
    for row in facts.log:
        if row.kind == "session_opened":
            present = int(row.payload["session"])
        elif row.licenses:
            licensed[row.order_id] = int(row.payload["session"])
        elif row.kind == "order_in_doubt" and licensed.get(row.order_id) == present and not _was_repeated(row):
            yield f"order {row.order_id} is in doubt, and its session {present} is the present one"


def licensed_while_held(facts: Facts) -> Iterator[str]:
    """R1: no order is licensed for a contract while a break holds it, but for one that names the break.

    What was decided before the break was in the log may come into it behind the break.
    """
    held: dict[str, tuple[str, str, datetime]] = {}
    orders: dict[str | None, Row] = {}
    for row in facts.log:
        if row.kind == "order_accepted":
            orders[row.order_id] = row
        if row.kind == "break_opened" and row.payload.get("holds"):
            held[str(row.payload["id"])] = str(row.payload.get("account", "")), str(row.payload.get("symbol")), row.at
        elif row.kind == "break_resolved":
            held.pop(str(row.payload["id"]), None)
        elif row.licenses and row.order_id in orders:
            asked = orders[row.order_id].payload
            for found, (account, symbol, since) in held.items():
                named = (asked.get("extra") or {}).get("break_id") == found
                late = row.at - since > timedelta(seconds=_ON_ITS_WAY)
                if late and symbol == asked.get("symbol") and account in ("", asked.get("account")) and not named:
                    yield f"event {row.seq} licenses order {row.order_id} for {symbol}, which break {found} holds"


def booked_twice(facts: Facts) -> Iterator[str]:
    """R27: an execution stands in the log once for each of its revisions."""
    seen: set[tuple[object, ...]] = set()
    for row in facts.log:
        if row.kind == "execution":
            named = tuple(row.payload.get(name) for name in ("account", "root", "revision"))
            if named in seen:
                yield f"event {row.seq} books execution {row.payload.get('exec_id')} once more"
            seen.add(named)


def not_in_the_log(facts: Facts) -> Iterator[str]:
    """G3: what was answered 2xx was committed before: an event of the log accepts it."""
    there = {row.order_id for row in facts.log if row.kind in ("order_accepted", "order_restored")}
    for order in facts.history.orders.values():
        for missing in sorted(order.ids - there):
            yield f"order {missing} ({order.client_order_id}) was answered 2xx, and no event of the log accepts it"


def unnoticed_loss(facts: Facts) -> Iterator[str]:
    """G9: a log that lacks what was in it holds everything until an operator looks."""
    there = {_named(row) for row in facts.log}
    lost = [row.seq for row in facts.before if _named(row) not in there]
    if lost and not any(_holds_everything(row) for row in facts.log):
        yield f"the log lost {len(lost)} events, {lost[0]} the first of them, and nothing holds everything"


def licensed_while_all_is_held(facts: Facts) -> Iterator[str]:
    """G9: between a break that holds everything and its resolution nothing is licensed."""
    holding: set[object] = set()
    for row in facts.log:
        if _holds_everything(row):
            holding.add(row.payload["id"])
        elif row.kind == "break_resolved":
            holding.discard(row.payload["id"])
        elif holding and row.licenses:
            yield f"event {row.seq} licenses order {row.order_id} while break {sorted(map(str, holding))[0]} holds everything"


def _holds_everything(row: Row) -> bool:
    return row.kind == "break_opened" and row.payload.get("kind") == "everything"


def _was_repeated(row: Row) -> bool:
    return str(row.payload.get("reason")).startswith(_REPEATED)


def _named(row: Row) -> tuple[object, ...]:
    return row.seq, row.epoch, row.kind, row.order_id, row.said
