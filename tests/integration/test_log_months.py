"""The log in months, on a real PostgreSQL: fenced, append-only, dense and repeatable as before, whichever month an event is in."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from engine.book import Book
from engine.migrate import migrate
from engine.store import Connection, Refused
from ha.tail import Tail
from tests.integration.pg_fixture import IDENTITY, Postgres, Urls
from tests.integration.test_fence import claim, opened, rows

pytestmark = pytest.mark.timeout(60)
VERSIONS = Path(__file__).parents[2] / "engine" / "migrations" / "versions"
SECOND, THIRD = date(2097, 2, 1), date(2097, 3, 1)


def close_month(owner_url: str, epoch: int, month: date, most: int = 1_000_000) -> str | None:
    """Close the open part as its owner and begin this month; the name of what was closed."""
    with psycopg.connect(owner_url) as owner:
        [[closed]] = owner.execute("SELECT ledger.close_part(%s, %s, %s)", (epoch, month, most)).fetchall()
        return None if closed is None else str(closed)


def parts(owner_url: str) -> list[tuple[str, int, int | None]]:
    """Name, first and last event of each part that the log has, oldest first."""
    with psycopg.connect(owner_url) as owner:
        names = owner.execute(
            "SELECT m.part, m.from_seq, m.last_seq FROM ledger.log_part m JOIN pg_class c ON c.relname = m.part "
            "JOIN pg_inherits i ON i.inhrelid = c.oid ORDER BY m.from_seq"
        ).fetchall()
        return [(name, first, last) for name, first, last in names]


async def append(connection: Connection, *seqs: int, epoch: int = 1) -> str:
    group = rows(*seqs)
    await connection.run("append", {"epoch": epoch, "events": group})
    return group


@pytest.fixture
async def keeper(urls: Urls) -> Connection:
    connection = await opened(urls.adapter)
    await claim(connection, 0)
    return connection


async def test_a_month_is_cut_at_the_next_event_and_the_log_reads_on(urls: Urls, keeper: Connection) -> None:
    await append(keeper, 1, 2, 3)
    first = close_month(urls.owner, 1, SECOND)
    await append(keeper, 4, 5)
    assert close_month(urls.owner, 1, THIRD) == "event_2097_02"
    await append(keeper, 6)
    assert parts(urls.owner) == [(first, 1, 3), ("event_2097_02", 4, 5), ("event_2097_03", 6, None)]
    tail = Tail(Book(), urls.adapter, "b")
    await tail.connection.open()
    await tail.catch_up()
    assert tail._book.seq == 6
    await tail.close()
    await keeper.close()


async def test_a_month_of_many_events_has_several_parts(urls: Urls, keeper: Connection) -> None:
    close_month(urls.owner, 1, SECOND)
    await append(keeper, 1, 2, 3)
    assert close_month(urls.owner, 1, SECOND, most=4) is None
    assert close_month(urls.owner, 1, SECOND, most=3) == "event_2097_02"
    await append(keeper, 4, 5)
    assert close_month(urls.owner, 1, SECOND, most=2) == "event_2097_02_2"
    assert parts(urls.owner) == [("event_2097_02", 1, 3), ("event_2097_02_2", 4, 5), ("event_2097_02_3", 6, None)]
    await keeper.close()


async def test_nothing_is_closed_twice_and_a_month_without_an_event_goes_on_under_its_new_name(
    urls: Urls, keeper: Connection
) -> None:
    assert close_month(urls.owner, 1, SECOND) is None
    assert parts(urls.owner) == [("event_2097_02", 1, None)]
    await append(keeper, 1)
    assert close_month(urls.owner, 1, SECOND) is None
    assert close_month(urls.owner, 1, date(2097, 1, 1)) is None
    assert close_month(urls.owner, 1, THIRD) == "event_2097_02"
    await keeper.close()


@pytest.mark.rule(10)
@pytest.mark.guarantee(1)
async def test_closing_a_month_is_fenced_and_the_adapters_role_may_do_nothing_else(
    urls: Urls, keeper: Connection
) -> None:
    await append(keeper, 1)
    assert await claim(keeper, 1) == 2
    for epoch in (1, 3):
        with pytest.raises(psycopg.Error) as refused:
            close_month(urls.owner, epoch, SECOND)
        assert refused.value.sqlstate == "PA001"
    assert len(parts(urls.owner)) == 1
    [row] = await keeper.run("close_part", {"epoch": 2, "most": 100})  # the adapter's role; this month goes on
    assert row["closed"] is None
    for statement in (
        "SELECT ledger.guard_part('event')",
        "SELECT ledger.always('event')",
        "SELECT ledger.drop_part(2, 'event_2097_02', '', '')",
        "UPDATE ledger.log_part SET last_seq = 1",
        "INSERT INTO ledger.checkpoint VALUES (1, '', 1, '', '')",
    ):
        with psycopg.connect(urls.adapter) as adapter, pytest.raises(psycopg.errors.InsufficientPrivilege):
            adapter.execute(statement)  # type: ignore[call-overload]
    await keeper.close()


INSERT = sql.SQL(
    'INSERT INTO ledger.{} (seq, epoch, event_id, event_type, "timestamp", payload) '
    "VALUES ({}, {}, gen_random_uuid(), 'session_closed', now(), '{{}}')"
)


@pytest.mark.rule(10)
@pytest.mark.rule(21)
async def test_a_direct_insert_into_a_part_is_fenced_too_and_leaves_no_hole(urls: Urls, keeper: Connection) -> None:
    await append(keeper, 1)
    close_month(urls.owner, 1, SECOND)
    await append(keeper, 2)
    assert await claim(keeper, 1) == 2
    for named, seq, epoch, state in ((1, 3, 1, "PA001"), (2, 3, 1, "PA001"), (2, 4, 2, "PA003"), (2, 3, 2, None)):
        with psycopg.connect(urls.owner) as owner:
            owner.execute("SELECT set_config('adapter.epoch', %s, true)", (str(named),))
            try:
                owner.execute(INSERT.format(sql.Identifier("event_2097_02"), seq, epoch))
                met = None
            except psycopg.Error as error:
                met = error.sqlstate
            owner.rollback()
        assert met == state, (named, seq, epoch)
    await keeper.close()


async def test_every_part_is_append_only_even_for_its_owner(urls: Urls, keeper: Connection) -> None:
    await append(keeper, 1)
    close_month(urls.owner, 1, SECOND)
    await append(keeper, 2)
    for part, _, _ in [*parts(urls.owner), ("event", 0, None)]:
        for statement in ("UPDATE ledger.{} SET payload = '{{}}'", "DELETE FROM ledger.{}", "TRUNCATE ledger.{}"):
            with psycopg.connect(urls.owner) as owner:
                owner.execute("SELECT set_config('adapter.epoch', '1', true)")
                with pytest.raises(psycopg.Error) as refused:
                    owner.execute(sql.SQL(statement).format(sql.Identifier(part)))
                assert refused.value.sqlstate == "PA004", (part, statement)
    await keeper.close()


@pytest.mark.rule(10)
async def test_every_trigger_of_the_log_and_its_parts_fires_always(urls: Urls, keeper: Connection) -> None:
    await append(keeper, 1)
    close_month(urls.owner, 1, SECOND)
    with psycopg.connect(urls.owner) as owner:
        found = owner.execute(
            "SELECT c.relname, t.tgname, t.tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE c.relname LIKE 'event%' AND NOT t.tgisinternal"
        ).fetchall()
    assert {(name, trigger) for name, trigger, _ in found} == {
        (name, trigger)
        for name in ["event", *(name for name, _, _ in parts(urls.owner))]
        for trigger in ("a_fence", "forever", "in_place", "keys")
    }
    assert {enabled for _, _, enabled in found} == {"A"}
    await keeper.close()


@pytest.mark.rule(20)
async def test_a_repeat_finds_its_rows_in_a_month_that_was_closed_meanwhile(urls: Urls, keeper: Connection) -> None:
    group = await append(keeper, 1, 2)
    close_month(urls.owner, 1, SECOND)
    assert (await keeper.run("append", {"epoch": 1, "events": group}))[0]["added"] == 0
    with pytest.raises(Refused) as refused:
        await append(keeper, 1, 2)
    assert refused.value.sqlstate == "PA005"
    await append(keeper, 3)
    with pytest.raises(Refused) as refused:
        await append(keeper, 5)
    assert refused.value.sqlstate == "PA003"
    await keeper.close()


async def test_an_event_id_is_used_once_in_a_month(urls: Urls, keeper: Connection) -> None:
    await append(keeper, 1)
    close_month(urls.owner, 1, SECOND)
    [row] = json.loads(await append(keeper, 2))
    with pytest.raises(Refused) as refused:
        await keeper.run("append", {"epoch": 1, "events": json.dumps([row | {"seq": 3}])})
    assert refused.value.sqlstate == "23505"
    await keeper.close()


@pytest.mark.rule(21)
async def test_months_are_closed_while_a_writer_writes_and_no_event_is_lost_or_refused(
    urls: Urls, keeper: Connection
) -> None:
    written, slowest, stop = 0, 0.0, False

    async def write() -> None:
        nonlocal written, slowest
        while not stop:
            began = time.monotonic()
            await append(keeper, written + 1)
            slowest = max(slowest, time.monotonic() - began)
            written += 1

    writer = asyncio.create_task(write())
    months = iter(date(2100 + i // 12, i % 12 + 1, 1) for i in range(120))
    for _ in range(10):
        goal = written + 20
        while written < goal:
            assert not writer.done(), writer.result()
            await asyncio.sleep(0.002)
        month = next(months)
        while True:
            try:
                assert await asyncio.to_thread(close_month, urls.owner, 1, month) is not None
                break
            except psycopg.errors.LockNotAvailable:
                continue  # the writer went first
    stop = True
    await writer
    with psycopg.connect(urls.owner) as owner:
        [[head, count]] = owner.execute("SELECT max(seq), count(*) FROM ledger.event").fetchall()
    assert head == count == written
    assert len(parts(urls.owner)) == 11
    assert slowest < 1.0
    await keeper.close()


@pytest.mark.rule(22)
async def test_a_log_from_before_the_months_is_taken_over_with_its_rows_and_keys(postgres_server: Postgres) -> None:
    urls = postgres_server.fresh(migrated=False)
    with psycopg.connect(urls.owner) as owner:
        owner.execute("CREATE SCHEMA ledger")
        owner.execute("CREATE TABLE ledger.alembic_version (version_num varchar(32) PRIMARY KEY)")
        for step in ("0001_pre_ledger.sql", "0002_pre_new_gateway.sql"):
            owner.execute((VERSIONS / step).read_text())  # type: ignore[call-overload]
        owner.execute("INSERT INTO ledger.alembic_version VALUES ('0002')")
        owner.execute("SELECT ledger.claim(0, 0, %s)", (json.dumps({**TERM_ROW}),))
        owner.execute("SELECT ledger.append(1, %s)", (json.dumps(_orders(1, 2, 3)),))
    assert migrate(urls.owner, urls.adapter, IDENTITY).version == "0006"
    keeper = await opened(urls.adapter)
    await keeper.run("append", {"epoch": 1, "events": json.dumps(_orders(4))})
    with pytest.raises(Refused) as refused:
        await keeper.run("append", {"epoch": 1, "events": json.dumps(_orders(6))})
    assert refused.value.sqlstate == "PA003"
    with psycopg.connect(urls.owner) as owner:
        assert owner.execute("SELECT count(*), max(seq) FROM ledger.event").fetchall() == [(4, 4)]
        assert owner.execute("SELECT count(*) FROM ledger.order_key").fetchall() == [(4,)]
        assert owner.execute("SELECT version_num FROM ledger.alembic_version").fetchall() == [("0002",)]
    assert migrate(urls.owner, urls.adapter, IDENTITY, post=True).version == "0009"
    with psycopg.connect(urls.owner) as owner:
        assert owner.execute("SELECT version_num FROM ledger.alembic_version").fetchall() == [("0009",)]
        [sums] = zip(*owner.execute("SELECT body_md5 FROM ledger.order_key ORDER BY order_id").fetchall(), strict=True)
    assert len(set(sums)) == 1
    assert sums[0] is not None
    assert close_month(urls.owner, 1, SECOND) is not None
    await keeper.close()


TERM_ROW = {
    "kind": "start", "reason": "test", "from_name": None, "to_name": "a", "instance": "i", "url": "http://a", "version": "0",
    "etcd_cluster_id": None,
}  # fmt: skip


def _orders(*seqs: int) -> list[dict[str, object]]:
    return [
        {"seq": seq, "event_id": str(uuid.uuid4()), "event_type": "order_accepted", "correlation_id": None,
         "order_id": f"ORDER{seq}", "user_id": "local", "timestamp": datetime.now(UTC).isoformat(),
         "payload": {"client_order_id": f"k-{seq}", "body": {"symbol": "AAPL", "quantity": "1"}}}
        for seq in seqs
    ]  # fmt: skip
