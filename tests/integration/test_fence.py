"""Fence 2 and the log, on a real PostgreSQL: what the database itself refuses."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from engine.book import Book
from engine.commit import Committer, Outcome
from engine.events import Draft, Kind
from engine.store import Connection, Refused
from tests.integration.pg_fixture import Urls
from tests.integration.sim_fixture import until
from tests.integration.test_operate import go_back

pytestmark = pytest.mark.timeout(60)
TERM = {
    "kind": "start", "reason": "test", "from_name": None, "to_name": "a", "instance": "i", "url": "http://a", "version": "0",
    "etcd_cluster_id": None,
}  # fmt: skip


async def opened(url: str, name: str = "test") -> Connection:
    connection = Connection(url, name)
    await connection.open()
    return connection


async def claim(connection: Connection, expected: int, at_least: int = 0) -> int:
    [row] = await connection.run("claim", {"expected": expected, "at_least": at_least, "term": json.dumps(TERM)})
    return int(row["epoch"])


def rows(*seqs: int) -> str:
    return json.dumps(
        [
            {"seq": seq, "event_id": str(uuid.uuid4()), "event_type": Kind.SESSION_CLOSED, "correlation_id": None,
             "order_id": None, "user_id": None, "timestamp": datetime.now(UTC).isoformat(), "payload": {}}
            for seq in seqs
        ]
    )  # fmt: skip


def session_closed() -> Draft:
    return Draft(Kind.SESSION_CLOSED, {}, datetime.now(UTC))


@pytest.mark.rule(10)
@pytest.mark.guarantee(1)
@pytest.mark.parametrize(
    "statement",
    [
        'INSERT INTO ledger.event (seq, epoch, event_id, event_type, "timestamp", payload) '
        "VALUES (1, {epoch}, gen_random_uuid(), 'session_closed', now(), '{{}}')",
        "UPDATE ledger.proof SET beat = beat + 1",
        "UPDATE ledger.term SET reason = 'x'",
        "DELETE FROM ledger.orders",
        "UPDATE ledger.projection SET seq = 7",
    ],
)
async def test_a_psql_session_under_an_old_epoch_cannot_write(urls: Urls, statement: str) -> None:
    keeper = await opened(urls.adapter)
    assert await claim(keeper, 0) == 1
    assert await claim(keeper, 1) == 2
    with psycopg.connect(urls.adapter) as old:
        old.execute("SELECT set_config('adapter.epoch', '1', true)")
        with pytest.raises(psycopg.Error) as refused:
            old.execute(statement.format(epoch=1))
        assert refused.value.sqlstate == "PA001"
    with psycopg.connect(urls.adapter) as unnamed:  # naming no epoch is refused as well
        with pytest.raises(psycopg.Error) as refused:
            unnamed.execute(statement.format(epoch=2))
        assert refused.value.sqlstate == "PA001"
    with psycopg.connect(urls.adapter) as present:  # and the present one may: the test can fail
        present.execute("SELECT set_config('adapter.epoch', '2', true)")
        present.execute(statement.format(epoch=2))
    await keeper.close()


@pytest.mark.rule(10)
def test_the_adapters_role_cannot_take_the_fence_away(urls: Urls) -> None:
    for statement in (
        "ALTER TABLE ledger.event DISABLE TRIGGER a_fence",
        "DROP TRIGGER a_fence ON ledger.event",
        "TRUNCATE ledger.event",
        "UPDATE ledger.epoch SET epoch = 99",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION ledger.fence() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    ):
        with psycopg.connect(urls.adapter) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.rule(10)
@pytest.mark.rule(37)
@pytest.mark.parametrize("function", ["take_keys", "event_in_place", "fence", "event_is_forever"])
def test_the_adapters_role_cannot_hang_what_writes_as_the_owner_on_a_table_of_its_own(
    urls: Urls, function: str
) -> None:
    with psycopg.connect(urls.adapter) as connection:
        connection.execute("CREATE TEMP TABLE mine (event_type text, order_id text, user_id text, payload jsonb)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                sql.SQL("CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION ledger.{}()").format(
                    sql.Identifier(function)
                )
            )


async def test_the_log_is_append_only_even_for_its_owner(urls: Urls) -> None:
    keeper = await opened(urls.adapter)
    await claim(keeper, 0)
    await keeper.run("append", {"epoch": 1, "events": rows(1)})
    for statement in ("UPDATE ledger.event SET payload = '{}'", "DELETE FROM ledger.event"):
        with psycopg.connect(urls.owner) as owner:
            owner.execute("SELECT set_config('adapter.epoch', '1', true)")
            with pytest.raises(psycopg.Error) as refused:
                owner.execute(statement)
            assert refused.value.sqlstate == "PA004"
    await keeper.close()


@pytest.mark.rule(21)
async def test_an_event_that_would_leave_a_hole_is_refused(urls: Urls) -> None:
    keeper = await opened(urls.adapter)
    await claim(keeper, 0)
    with pytest.raises(Refused) as refused:
        await keeper.run("append", {"epoch": 1, "events": rows(2)})
    assert refused.value.sqlstate == "PA003"
    assert (await keeper.run("append", {"epoch": 1, "events": rows(1, 2)}))[0]["added"] == 2
    await keeper.close()


@pytest.mark.rule(20)
async def test_the_same_insert_repeated_finds_its_rows_and_other_events_there_are_refused(urls: Urls) -> None:
    keeper = await opened(urls.adapter)
    await claim(keeper, 0)
    group = rows(1, 2)
    assert (await keeper.run("append", {"epoch": 1, "events": group}))[0]["added"] == 2
    assert (await keeper.run("append", {"epoch": 1, "events": group}))[0]["added"] == 0
    with pytest.raises(Refused) as refused:
        await keeper.run("append", {"epoch": 1, "events": rows(1, 2)})
    assert refused.value.sqlstate == "PA005"
    await keeper.close()


@pytest.mark.rule(31)
async def test_a_claim_under_an_epoch_that_moved_is_refused(urls: Urls) -> None:
    keeper = await opened(urls.adapter)
    assert await claim(keeper, 0) == 1
    with pytest.raises(Refused) as refused:
        await claim(keeper, 0)
    assert refused.value.sqlstate == "PA002"
    assert await claim(keeper, 1, at_least=41) == 42  # above what etcd has seen
    await keeper.close()


@pytest.mark.rule(10)
@pytest.mark.guarantee(1)
async def test_no_commit_of_the_old_epoch_lands_after_a_claim(urls: Urls) -> None:
    """Writers hammer under epoch 1 while epoch 2 is claimed: what they were told is written must lie before the claim."""
    keeper = await opened(urls.adapter)
    await claim(keeper, 0)
    written = 0
    refusals: list[Refused] = []
    proofs: list[Refused] = []
    lock = asyncio.Lock()

    async def write(connection: Connection) -> None:
        nonlocal written
        while True:
            async with lock:
                seq = written + 1
                try:
                    await connection.run("append", {"epoch": 1, "events": rows(seq)})
                except Refused as error:
                    refusals.append(error)
                    return
                written = seq
            await asyncio.sleep(0)

    async def prove(connection: Connection) -> None:
        parameters: dict[str, Any] = {"epoch": 1, "instance": "i", "seq": 0, "digest": "0", "state": "", "noted": 0}
        while True:
            try:
                await connection.run("prove", parameters)
            except Refused as error:
                proofs.append(error)
                return

    connections = [await opened(urls.adapter, f"w{i}") for i in range(4)]
    tasks = [asyncio.create_task(write(connections[0])), *(asyncio.create_task(prove(c)) for c in connections[1:])]
    while written < 50:
        await asyncio.sleep(0.005)
    assert await claim(keeper, 1) == 2
    with psycopg.connect(urls.owner) as owner:
        [[at_claim]] = owner.execute("SELECT seq FROM ledger.term WHERE epoch = 2").fetchall()
    await asyncio.gather(*tasks)
    assert [refusal.fenced for refusal in refusals] == [True]
    assert [refusal.fenced for refusal in proofs] == [True] * 3
    with psycopg.connect(urls.owner) as owner:
        [[head]] = owner.execute("SELECT max(seq) FROM ledger.event").fetchall()
    assert head == at_claim == written
    for connection in [keeper, *connections]:
        await connection.close()


@pytest.mark.rule(10)
@pytest.mark.guarantee(1)
async def test_a_claim_waits_for_a_write_in_flight(urls: Urls) -> None:
    """A trigger that only reads the epoch would let this row commit behind the claim."""
    keeper = await opened(urls.adapter)
    await claim(keeper, 0)
    with psycopg.connect(urls.adapter) as slow:
        slow.execute("SELECT ledger.append(1, %s::jsonb)", (rows(1),))
        with pytest.raises(Refused) as waited:
            await claim(keeper, 1)
        assert waited.value.sqlstate == "55P03"
        slow.commit()
        assert await claim(keeper, 1) == 2
    with psycopg.connect(urls.owner) as owner:
        assert owner.execute("SELECT seq FROM ledger.term WHERE epoch = 2").fetchall() == [(1,)]
    await keeper.close()


@pytest.mark.rule(11)
async def test_a_frozen_transaction_of_the_old_leader_holds_the_claim_up_for_no_longer_than_its_end(urls: Urls) -> None:
    keeper = await opened(urls.adapter)
    await claim(keeper, 0)
    with psycopg.connect(urls.adapter, application_name="adapter-writer:1:old") as frozen:
        frozen.execute("SELECT set_config('adapter.epoch', '1', true)")
        frozen.execute("UPDATE ledger.proof SET beat = beat + 1")  # in a transaction that nobody ends
        with pytest.raises(Refused) as waited:
            await claim(keeper, 1)
        assert waited.value.sqlstate == "55P03"
        await keeper.run("end_older_writers", {"epoch": 1})
        assert await claim(keeper, 1) == 2
        with pytest.raises(psycopg.OperationalError):
            frozen.execute("SELECT 1")
    await keeper.close()


@pytest.mark.rule(10)
async def test_the_fence_is_proven_by_each_new_leader(urls: Urls) -> None:
    keeper = await opened(urls.adapter)
    await claim(keeper, 0)
    assert (await keeper.run("fence_holds", {"other": 0}))[0]["holds"] is True
    assert (await keeper.run("fence_holds", {"other": 1}))[0]["holds"] is False  # what a missing trigger looks like
    await keeper.close()


# ---- the committer


async def committer(urls: Urls, book: Book, fenced: list[str] | None = None) -> Committer:
    connection = await opened(urls.adapter)
    epoch = await claim(connection, (await connection.run("epoch"))[0]["epoch"])
    made = Committer(
        connection,
        "a",
        "i",
        epoch,
        book,
        on_fenced=(fenced if fenced is not None else []).append,
        on_proof=lambda _: None,
    )
    await made.open()
    return made


@pytest.mark.rule(18)
@pytest.mark.guarantee(9)
async def test_a_log_that_became_shorter_under_its_leader_ends_the_term_with_the_next_proof(urls: Urls) -> None:
    """Restored in place: server, timeline and epoch are what they were, and nothing is written that would hit the hole."""
    fenced = list[str]()
    writer = await committer(urls, Book(), fenced)
    await writer.commit([session_closed()])
    await writer.commit([session_closed()])
    await asyncio.to_thread(go_back, urls.owner, to_seq=1, epoch_too=False)
    await until(lambda: fenced, "the term ends")
    assert "the log ends at event 1, this term has written 2" in fenced[0]
    await writer.close()


@pytest.mark.rule(18)
@pytest.mark.guarantee(1)
async def test_a_writer_that_comes_back_to_another_server_writes_nothing_there(urls: Urls) -> None:
    """A copy that took over may call an old epoch the present one: the place is compared before anything is repeated."""
    connection, fenced = await opened(urls.adapter), list[str]()
    epoch = await claim(connection, 0)
    writer = Committer(
        connection, "a", "i", epoch, Book(), on_fenced=fenced.append, on_proof=lambda _: None, proof_every=60.0,
        place=("7000000000000000000", "00000001"),  # where it claimed: a server that is not this one
    )  # fmt: skip
    writer._proof_due = float("inf")  # none is due: the first one is what the new connection brings
    await writer.open()
    with psycopg.connect(urls.adapter, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (connection.backend_pid,))
    outcome, _, why = await writer.commit([session_closed()])
    assert (outcome, len(fenced)) == (Outcome.UNKNOWN, 1), why
    assert "the database changed under this term" in fenced[0]
    with psycopg.connect(urls.owner) as owner:
        [[written]] = owner.execute("SELECT count(*) FROM ledger.event").fetchall()
    assert written == 0
    await writer.close()


async def test_groups_that_arrive_together_share_a_commit_and_keep_their_order(urls: Urls) -> None:
    book = Book()
    writer = await committer(urls, book)
    answers = await asyncio.gather(*(writer.commit([session_closed()]) for _ in range(50)))
    assert [events[0].seq for _, events, _ in answers] == list(range(1, 51))
    assert book.seq == 50
    with psycopg.connect(urls.owner) as owner:
        [[transactions]] = owner.execute("SELECT count(DISTINCT xmin::text) FROM ledger.event").fetchall()
    assert transactions < 10
    await writer.close()


@pytest.mark.rule(9)
async def test_one_bad_group_does_not_take_the_others_with_it(urls: Urls) -> None:
    book = Book()
    writer = await committer(urls, book)
    bad = Draft(Kind.SESSION_CLOSED, {}, datetime.now(UTC), event_id="not a uuid")
    answers = await asyncio.gather(
        writer.commit([session_closed()]), writer.commit([bad]), writer.commit([session_closed()])
    )
    assert [a[0] for a in answers] == [Outcome.COMMITTED, Outcome.REFUSED, Outcome.COMMITTED]
    assert book.seq == 2
    await writer.close()


@pytest.mark.rule(20)
async def test_a_commit_whose_answer_was_lost_is_repeated_and_written_once(urls: Urls) -> None:
    book = Book()
    writer = await committer(urls, book)
    await writer.commit([session_closed()])
    connection = writer._connection
    original = connection._execute

    async def lose_the_answer(*args: Any) -> Any:
        await original(*args)  # committed
        connection._execute = original  # type: ignore[method-assign]
        raise psycopg.OperationalError("the connection was cut during COMMIT")

    connection._execute = lose_the_answer  # type: ignore[method-assign]
    outcome, events, _ = await writer.commit([session_closed()])
    assert outcome is Outcome.COMMITTED
    assert events[0].seq == book.seq == 2
    with psycopg.connect(urls.owner) as owner:
        assert owner.execute("SELECT count(*) FROM ledger.event").fetchall() == [(2,)]
    await writer.close()


@pytest.mark.rule(20)
async def test_a_commit_that_is_fenced_after_its_answer_was_lost_is_unknown(urls: Urls) -> None:
    book, fenced = Book(), list[str]()
    writer = await committer(urls, book, fenced)
    other = await opened(urls.adapter)
    connection = writer._connection
    original = connection._execute

    async def lose_the_answer(*args: Any) -> Any:
        await original(*args)
        connection._execute = original  # type: ignore[method-assign]
        await claim(other, writer.epoch)
        raise psycopg.OperationalError("the connection was cut during COMMIT")

    connection._execute = lose_the_answer  # type: ignore[method-assign]
    outcome, _, _ = await writer.commit([session_closed()])
    assert outcome is Outcome.UNKNOWN
    assert fenced
    await writer.close()
    await other.close()


@pytest.mark.rule(12)
async def test_a_fenced_leader_learns_it_from_its_next_proof(urls: Urls) -> None:
    fenced: list[str] = []
    writer = await committer(urls, Book(), fenced)
    other = await opened(urls.adapter)
    await claim(other, writer.epoch)
    async with asyncio.timeout(5):
        while not fenced:
            await asyncio.sleep(0.01)
    assert writer.closed
    assert (await writer.commit([session_closed()]))[0] is Outcome.REFUSED
    await writer.close()
    await other.close()
