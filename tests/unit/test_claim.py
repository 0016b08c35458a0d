"""What a claim goes by: what the broker shows of a database that lost rows, and which etcd gave the lease."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.breaks import WENT_BACK, hold_everything, lost_rows
from engine.events import Draft, Kind
from engine.store import LOCK_TIMEOUT, Refused, Unknown
from ha.claim import claim_epoch, other_etcd_sentence
from ha.holding import until_resolved
from ha.phase import TermOver
from tests.unit.book_factory import NOON, Ledger


@pytest.mark.rule(18)
@pytest.mark.rule(19)
def test_an_order_that_had_to_be_restored_holds_everything_until_an_operator_has_looked() -> None:
    ledger = Ledger()
    assert lost_rows(ledger.book, 0) is None
    assert "one of epoch 3" in (lost_rows(ledger.book, 3) or "")
    hold = hold_everything(5, ledger.book.seq, f"the database: {WENT_BACK}", NOON)
    ledger.write(hold)
    assert lost_rows(ledger.book, 3) is not None
    ledger.write(Draft(Kind.BREAK_RESOLVED, {"id": hold.payload["id"], "resolution": "looked"}, NOON))
    assert lost_rows(ledger.book, 3) is None  # of the loss that was looked at: one more of its orders surfaced
    assert lost_rows(ledger.book, 5) is not None  # accepted after that, perhaps in the same term, and lost since


@pytest.mark.rule(18)
def test_a_hold_for_another_reason_answers_no_loss() -> None:
    ledger = Ledger()
    hold = hold_everything(7, ledger.book.seq, "the gateway was a and is b now", NOON)
    ledger.write(hold, Draft(Kind.BREAK_RESOLVED, {"id": hold.payload["id"], "resolution": "looked"}, NOON))
    assert lost_rows(ledger.book, 5) is not None


@pytest.mark.rule(32)
@pytest.mark.parametrize(
    ("last", "mine", "proven", "waits"),
    [("c1", "c1", True, False), (None, "c2", True, False), ("c1", "c2", False, False), ("c1", "c2", True, True)],
)
def test_a_lease_of_another_etcd_waits_while_the_present_leader_proves_its_epoch(
    last: str | None, mine: str | None, proven: bool, waits: bool
) -> None:
    assert (other_etcd_sentence(last, mine, proven_lately=proven) is not None) is waits


@pytest.mark.rule(18)
@pytest.mark.rule(14)
async def test_two_holds_of_everything_want_two_answers() -> None:
    ledger = Ledger()
    lost = hold_everything(7, ledger.book.seq, f"the database: {WENT_BACK}", NOON)
    ledger.write(lost)
    moved = hold_everything(7, ledger.book.seq, "the gateway was a and is b now", NOON)
    ledger.write(moved)
    answered = asyncio.create_task(until_resolved(ledger.book, moved.payload["id"]))
    await asyncio.sleep(0)
    ledger.write(Draft(Kind.BREAK_RESOLVED, {"id": moved.payload["id"], "resolution": "looked"}, NOON))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not answered.done()  # else the next failover would hold everything for the other one's reason
    ledger.write(Draft(Kind.BREAK_RESOLVED, {"id": lost.payload["id"], "resolution": "looked"}, NOON))
    await asyncio.wait_for(answered, 1)


class Busy:
    """A database in which a writer of an older epoch stands still; it claims when that has been ended."""

    def __init__(self, *answers: Exception) -> None:
        self.ran: list[tuple[str, object]] = []
        self._answers = list(answers)

    async def run(self, name: str, parameters: dict[str, Any] | None = None) -> list[dict[str, int]]:
        self.ran.append((name, (parameters or {}).get("epoch")))
        if name == "claim" and self._answers:
            raise self._answers.pop(0)
        return [{"epoch": 8}]


async def claimed(database: Busy, deadline: float = 1.0) -> int:
    connection: Any = database
    return await claim_epoch(connection, expected=6, at_least=0, term={}, deadline=deadline, clock=lambda: 0.5)


@pytest.mark.rule(11)
async def test_a_claim_that_had_to_wait_ends_the_writers_of_older_epochs_and_tries_again() -> None:
    database = Busy(Refused(LOCK_TIMEOUT, "waited"), Refused(LOCK_TIMEOUT, "waited"))
    assert await claimed(database) == 8
    assert database.ran == [("claim", None), ("end_older_writers", 6), ("end_rebuild", None)] * 2 + [("claim", None)]


@pytest.mark.rule(11)
@pytest.mark.rule(31)
@pytest.mark.parametrize(
    ("answer", "deadline", "why"),
    [
        (Refused(LOCK_TIMEOUT, "waited"), 0.0, "waited too long"),
        (Refused("PA002", "the epoch is no longer 6"), 1.0, "was refused"),
        (Unknown("cut off"), 1.0, "answer was lost"),
    ],
)
async def test_a_claim_that_cannot_be_made_or_is_not_known_ends_the_term(
    answer: Exception, deadline: float, why: str
) -> None:
    database = Busy(answer)
    with pytest.raises(TermOver, match=why):
        await claimed(database, deadline)
    assert database.ran == [("claim", None)]
