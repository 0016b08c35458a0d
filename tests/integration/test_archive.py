"""Old parts of the log leave the database for files, and nothing that anybody may ask for leaves with them."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine import checkpoint
from engine.archive import Archive
from engine.auth import Access
from engine.book import Book
from engine.commit import _row
from engine.digest import DIGEST_VERSION, written
from engine.event_stream import EventStream, Place, _Reset
from engine.events import Event, Kind
from engine.http import Server
from engine.order import Order
from engine.store import Connection, Refused, StoreError
from ha import archive_files as files
from ha.claim import claim_epoch
from ha.ledger_archive import archive, due, month_before
from ha.ledger_log import LedgerProblem, Log
from ha.ledger_rebuild import Report, rewrite, verify, write_checkpoint
from ha.local.ports import Ports
from ha.tail import Tail
from tests.integration.event_reader import Reader, Told
from tests.integration.pair_fixture import until
from tests.integration.pg_fixture import Postgres, Urls
from tests.integration.test_fence import TERM, claim, opened
from tests.integration.test_log_months import close_month, parts
from tests.unit.book_factory import Ledger

pytestmark = pytest.mark.timeout(60)
MONTHS = [date(2097, 2, 1), date(2097, 3, 1)]
LAST = "2097-03"  # the open month: both before it are due


def ignore(_: str) -> None:
    """No progress is shown."""


@asynccontextmanager
async def owner_log(urls: Urls, directory: Path | None = None) -> AsyncIterator[Log]:
    connection = Connection(urls.owner, "test")
    await connection.open()
    try:
        yield Log(connection, directory)
    finally:
        await connection.close()


async def append(connection: Connection, events: list[Event], book: Book) -> None:
    """As the leader: written, and proven with the digest there."""
    await connection.run("append", {"epoch": 5, "events": json.dumps([_row(event) for event in events])})
    proof = {
        "epoch": 5,
        "instance": "i",
        "seq": book.seq,
        "digest": written(book.digest),
        "state": "LEADING",
        "noted": 0,
    }
    await connection.run("prove", proof)


def traffic(ledger: Ledger, name: str) -> Callable[[], list[Event]]:
    """Some orders with executions: filled, working, and one whose break is open."""

    def more() -> list[Event]:
        before = len(ledger.log)
        base = 1000 + 10 * len(ledger.log)
        filled = ledger.working(f"{name}-1", perm_id=base)
        ledger.fill(filled, f"{base}.01", perm_id=base, root=str(base), revision=1)
        ledger.add(Kind.COMMISSION, exec_id=f"{base}.01", commission="1.25", currency="USD", realized_pnl=None)
        ledger.working(f"{name}-2", perm_id=base + 1)
        ledger.fill(None, f"{base + 2}.01", root=str(base + 2), revision=1)
        ledger.add(
            Kind.BREAK_OPENED, id=f"b-{name}", kind="position", symbol="AAPL", account="DU1", ours={"quantity": "1"},
            broker={"quantity": "2", "a": None}, holds=False,
        )  # fmt: skip
        return ledger.log[before:]

    return more


@pytest.fixture
async def ledger(urls: Urls) -> Ledger:
    """A log in three parts; its tables stand at its end."""
    return await ledger_in(urls)


async def ledger_in(urls: Urls, names: str = "m") -> Ledger:
    """That log, with orders of these names."""
    made = Ledger(epoch=5)
    made.session()
    connection = await opened(urls.adapter)
    assert await claim(connection, 0, at_least=4) == 5
    await append(connection, made.log[:], made.book)
    for name, month in zip((f"{names}1", f"{names}2", f"{names}3"), [*MONTHS, None], strict=True):
        await append(connection, traffic(made, name)(), made.book)
        if month is not None:
            assert close_month(urls.owner, 5, month) is not None
    await connection.close()
    async with owner_log(urls) as log:
        await rewrite(log, ignore)
    return made


async def run(urls: Urls, directory: Path, before: str = LAST, *, dry_run: bool = False, **more: Any) -> Any:
    async with owner_log(urls, directory) as log:
        return await archive(log, directory, "test1", before, dry_run=dry_run, say=ignore, **more)


async def verified(urls: Urls, directory: Path | None = None) -> Report:
    async with owner_log(urls, directory) as log:
        return await verify(log, ignore)


async def test_a_rebuild_gives_what_the_leader_has_and_a_row_that_is_changed_is_named(
    urls: Urls, ledger: Ledger
) -> None:
    report = await verified(urls)
    assert report.differences == []
    assert (report.seq, report.digest) == (ledger.book.seq, written(ledger.book.digest))
    assert report.compared[:2] == ["tables", "keys"]
    assert f"the leader's proof at event {ledger.book.seq}" in report.compared
    assert report.rows == {"orders": 6, "executions": 6, "positions": 1, "breaks": 3}
    with psycopg.connect(urls.owner) as owner:
        owner.execute("SELECT set_config('adapter.epoch', '5', true)")
        owner.execute("UPDATE ledger.orders SET filled = 7 WHERE client_order_id = 'm1-2'")
        owner.execute("DELETE FROM ledger.executions WHERE root = '1010'")
        owner.execute("DELETE FROM ledger.order_key WHERE client_order_id = 'm2-1'")
        owner.execute("INSERT INTO ledger.positions VALUES ('DU1', 7, 'X', 1, 1)")
        owner.execute("UPDATE ledger.proof SET digest = %s", (written(1),))
    found = "\n".join((await verified(urls)).differences)
    for told in ("filled is 7 and should be 0", "executions: DU1/1010 is missing", "order key", "DU1/7", written(1)):
        assert told in found
    async with owner_log(urls) as log:
        await rewrite(log, ignore)
    left = (await verified(urls)).differences
    assert len(left) == 2, left  # the key and the proof are not the tables' matter


async def test_old_parts_leave_for_files_that_hold_every_event_and_the_log_goes_on(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    planned = await run(urls, tmp_path, dry_run=True)
    assert [p["part"] for p in planned.archived] == [name for name, _, _ in parts(urls.owner)][:2]
    assert os.listdir(tmp_path) == []
    report = await run(urls, tmp_path)
    assert [p["part"] for p in report.archived] == [p["part"] for p in planned.archived]
    assert [name for name, _, _ in parts(urls.owner)] == ["event_2097_03"]
    found = [
        event for p in report.archived for event in files.events(tmp_path, files.read_manifest(tmp_path, p["part"]))
    ]
    assert found == ledger.log[: len(found)]
    assert report.checkpoint["seq"] == ledger.book.seq
    with psycopg.connect(urls.owner) as owner:
        assert owner.execute("SELECT count(*) FROM ledger.order_key").fetchall() == [(6,)]
    connection = await opened(urls.adapter)
    await append(connection, traffic(ledger, "m4")(), ledger.book)
    tail = Tail(book := Book(), urls.adapter, "b")
    await tail.connection.open()
    await tail.catch_up()
    assert (book.seq, book.digest) == (ledger.book.seq, ledger.book.digest)
    assert book.orders == ledger.book.orders
    assert tail.digest_differs is None
    await tail.close()
    await connection.close()
    async with owner_log(urls) as log:
        with pytest.raises(LedgerProblem, match="--archive DIR"):
            await verify(log, ignore)
    async with owner_log(urls, tmp_path) as log:
        await rewrite(log, ignore)
    report = await verified(urls, tmp_path)
    assert report.differences == []
    assert sum("archived part" in what for what in report.compared) == 2
    assert any("a checkpoint at event" in what for what in report.compared)


@pytest.mark.rule(37)
@pytest.mark.guarantee(4)
async def test_a_key_of_an_archived_order_is_taken_for_ever_and_a_book_from_the_checkpoint_knows_its_body(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    await run(urls, tmp_path)
    tail = Tail(book := Book(), urls.adapter, "b")
    await tail.connection.open()
    await tail.catch_up()
    await tail.close()
    oid = book.keys["local", "m1-1"]
    assert book.orders[oid].body == ledger.book.orders[oid].body
    again = next(e for e in ledger.log if e.order_id == oid and e.kind == Kind.ORDER_ACCEPTED)
    connection = await opened(urls.adapter)
    row = _row(again) | {"seq": ledger.book.seq + 1, "event_id": "00000000-0000-0000-0000-000000000001"}
    for other in ({}, {"order_id": "ANOTHERID"}):  # the same order, or its key for another one
        with pytest.raises(Refused) as refused:
            await connection.run("append", {"epoch": 5, "events": json.dumps([row | other])})
        assert refused.value.sqlstate == "23505"
    await connection.close()
    with psycopg.connect(urls.owner) as owner:
        same = "SELECT body_md5 = md5((%s::jsonb)::text) FROM ledger.order_key WHERE order_id = %s"
        assert owner.execute(same, (json.dumps(again.payload["body"]), oid)).fetchall() == [(True,)]
        assert owner.execute(same, (json.dumps({"symbol": "IBM"}), oid)).fetchall() == [(False,)]


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "manifest"])
async def test_a_file_that_was_damaged_is_refused_with_its_name(
    urls: Urls, ledger: Ledger, tmp_path: Path, harm: str
) -> None:
    report = await run(urls, tmp_path)
    part = report.archived[1]["part"]
    path = files.data_path(tmp_path, part)
    if harm == "flip":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"AAPL", b"AAPM")))
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif harm == "gone":
        path.unlink()
    else:
        files.manifest_path(tmp_path, part).unlink()
    with pytest.raises(files.BadArchive, match=part):
        await verified(urls, tmp_path)


@pytest.mark.parametrize("cluster", ["test1", "other"])
@pytest.mark.guarantee(4)
async def test_the_months_of_another_log_are_never_written_over(
    urls: Urls, postgres_server: Postgres, ledger: Ledger, tmp_path: Path, cluster: str
) -> None:
    report = await run(urls, tmp_path)
    before = contents(tmp_path)
    other = await ledger_in(postgres_server.fresh(), "z")
    assert other.book.seq == ledger.book.seq
    async with owner_log(urls, tmp_path) as log:
        with pytest.raises(files.BadArchive, match="Each cluster needs a directory of its own"):
            await archive(log, tmp_path, cluster, LAST, dry_run=False, say=ignore)
    assert contents(tmp_path) == before
    assert len(before) == 2 * len(report.archived) == 4
    assert len(parts(urls.owner)) == 3


async def test_a_part_whose_file_was_written_by_an_interrupted_run_goes_the_next_time(
    urls: Urls, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Log, "keep_checkpoint", no_checkpoint)
        with pytest.raises(OSError, match="ended"):
            await run(urls, tmp_path)
    assert len(os.listdir(tmp_path)) == 4
    assert len((await run(urls, tmp_path)).archived) == 2


def contents(directory: Path) -> dict[str, bytes]:
    """Every file in it."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def no_checkpoint(*_: object) -> None:
    raise OSError("ended here")


async def test_a_log_that_gives_another_digest_than_the_leader_proved_is_not_archived(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    with psycopg.connect(urls.owner) as owner:
        owner.execute("SELECT set_config('adapter.epoch', '5', true)")
        owner.execute("UPDATE ledger.proof SET digest = %s", (written(ledger.book.digest ^ 1),))
    with pytest.raises(LedgerProblem, match="no checkpoint was"):
        await run(urls, tmp_path)
    assert len(parts(urls.owner)) == 3


async def test_a_part_is_dropped_only_when_closed_the_oldest_behind_a_checkpoint_and_not_the_last(
    urls: Urls, ledger: Ledger
) -> None:
    first, second, last = (name for name, _, _ in parts(urls.owner))
    async with owner_log(urls) as log:
        for part, why in ((last, "no closed part"), (second, "an older part"), (first, "no checkpoint")):
            with pytest.raises(Refused, match=why):
                await log.named("drop_part", {"part": part, "sha256": "", "digest": ""})
        await log.keep_checkpoint(Book())
    connection = await opened(urls.adapter)
    assert await claim(connection, 5) == 6
    await connection.close()
    with psycopg.connect(urls.owner) as owner, pytest.raises(psycopg.Error) as refused:
        owner.execute("SELECT ledger.drop_part(5, %s, '', '')", (first,))
    assert refused.value.sqlstate == "PA001"
    assert len(parts(urls.owner)) == 3


@pytest.mark.rule(22)
async def test_without_a_checkpoint_that_it_can_read_a_replica_says_what_to_run_and_goes_on_when_it_was_run(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    await run(urls, tmp_path)
    with psycopg.connect(urls.owner) as owner:  # as an older version left it
        owner.execute("SELECT set_config('adapter.epoch', '5', true)")
        owner.execute("UPDATE ledger.checkpoint SET form = 'older'")
    tail = Tail(book := Book(), urls.adapter, "b")
    tail.start()
    while tail.problem is None:
        await asyncio.sleep(0.01)
    assert "adapter rebuild --checkpoint --archive DIR" in tail.problem
    assert book.seq == 0
    async with owner_log(urls, tmp_path) as log:
        assert (await write_checkpoint(log, ignore) or {})["seq"] == ledger.book.seq
    while book.seq < ledger.book.seq or tail.problem is not None:
        await asyncio.sleep(0.01)
    assert book.digest == ledger.book.digest
    await tail.close()


@pytest.mark.rule(22)
async def test_a_checkpoint_from_before_the_logs_beginning_is_none_and_the_replica_says_so(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    async with owner_log(urls) as log:
        old = await log.book_before(6)
        kept = {
            "seq": 5, "form": checkpoint.form(), "digest_version": DIGEST_VERSION, "digest": written(old.digest),
            "state": checkpoint.dump(old),
        }  # fmt: skip
        await log.named("keep_checkpoint", kept)
    await run(urls, tmp_path)
    with psycopg.connect(urls.owner) as owner:  # the other version archived
        owner.execute("SELECT set_config('adapter.epoch', '5', true)")
        owner.execute("UPDATE ledger.checkpoint SET form = 'newer' WHERE seq > 5")
    tail = Tail(book := Book(), urls.adapter, "b")
    tail.start()
    while tail.problem is None:
        await asyncio.sleep(0.01)
    assert "adapter rebuild --checkpoint --archive DIR" in tail.problem
    assert book.seq == 0
    await tail.close()


async def checkpoint_at(urls: Urls, seq: int, form: str) -> None:
    """As a version of that form left it."""
    async with owner_log(urls) as log:
        book = await log.book_before(seq + 1)
        kept = {
            "seq": seq, "form": form, "digest_version": DIGEST_VERSION, "digest": written(book.digest),
            "state": checkpoint.dump(book),
        }  # fmt: skip
        await log.named("keep_checkpoint", kept)


@pytest.mark.rule(22)
async def test_no_month_goes_that_another_versions_latest_checkpoint_needs_unless_that_version_is_forgotten(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    await checkpoint_at(urls, 3, "older")
    await checkpoint_at(urls, 5, "older")
    planned = await run(urls, tmp_path, dry_run=True)
    assert [(b["form"], b["seq"]) for b in planned.behind] == [("older", 5)]
    with pytest.raises(LedgerProblem, match=r"older .*event 5.*could not start.*rebuild --checkpoint.*--forget-forms"):
        await run(urls, tmp_path)
    assert (len(parts(urls.owner)), os.listdir(tmp_path)) == (3, []), "nothing was done"
    report = await run(urls, tmp_path, forget_forms=True)
    assert (len(report.archived), [b["form"] for b in report.behind]) == (2, ["older"])
    async with owner_log(urls) as log:
        assert {row["form"] for row in await log.run("checkpoints")} == {checkpoint.form()}


@pytest.mark.rule(22)
async def test_a_month_goes_when_every_versions_checkpoint_is_beyond_it_or_was_of_no_use_before(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    await checkpoint_at(urls, 3, "older")
    assert (await run(urls, tmp_path, before="2026-11", forget_forms=True)).archived == []
    async with owner_log(urls) as log:
        assert "older" in {row["form"] for row in await log.run("checkpoints")}, "nothing is forgotten for nothing"
    assert len((await run(urls, tmp_path, before="2097-02", forget_forms=True)).archived) == 1
    await checkpoint_at(urls, ledger.book.seq, "useless")
    with psycopg.connect(urls.owner) as owner:
        owner.execute("SELECT set_config('adapter.epoch', '5', true)")
        owner.execute("UPDATE ledger.checkpoint SET seq = 3 WHERE form = 'useless'")
    await checkpoint_at(urls, ledger.book.seq, "newer")
    assert len((await run(urls, tmp_path)).archived) == 1


HARMS = ["digest_version = 3", "state = substr(state, 1, 40)"]


def harm_checkpoints(urls: Urls, what: str, *, latest: bool = False) -> None:
    """Change all of them, or the latest one."""
    with psycopg.connect(urls.owner) as owner:
        owner.execute("SELECT set_config('adapter.epoch', '5', true)")
        where = " WHERE seq = (SELECT max(seq) FROM ledger.checkpoint)" if latest else ""
        owner.execute(f"UPDATE ledger.checkpoint SET {what}{where}")  # type: ignore[call-overload]


@pytest.mark.parametrize("harm", HARMS)
async def test_a_checkpoint_that_cannot_be_read_is_written_anew(
    urls: Urls, ledger: Ledger, tmp_path: Path, harm: str
) -> None:
    await run(urls, tmp_path)
    harm_checkpoints(urls, harm)
    tail = Tail(book := Book(), urls.adapter, "b")
    tail.start()
    while tail.problem is None:
        await asyncio.sleep(0.01)
    async with owner_log(urls, tmp_path) as log:
        assert (await write_checkpoint(log, ignore) or {})["seq"] == ledger.book.seq
    while book.seq < ledger.book.seq or tail.problem is not None:
        await asyncio.sleep(0.01)
    assert book.digest == ledger.book.digest
    await tail.close()


@pytest.mark.parametrize("harm", HARMS)
async def test_no_month_is_dropped_behind_a_checkpoint_that_cannot_be_read(
    urls: Urls, ledger: Ledger, tmp_path: Path, harm: str
) -> None:
    async with owner_log(urls) as log:
        await log.keep_checkpoint(Book())
    harm_checkpoints(urls, harm)
    report = await run(urls, tmp_path)
    assert report.checkpoint["seq"] == ledger.book.seq
    tail = Tail(book := Book(), urls.adapter, "b")
    await tail.connection.open()
    await tail.catch_up()
    assert book.digest == ledger.book.digest
    await tail.close()


async def test_nothing_is_dropped_when_no_checkpoint_was_kept(
    urls: Urls, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with owner_log(urls) as log:
        await log.keep_checkpoint(Book())
    harm_checkpoints(urls, HARMS[1])

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(Log, "keep_checkpoint", nothing)
    with pytest.raises(LedgerProblem, match="nothing was dropped"):
        await run(urls, tmp_path)
    assert len(parts(urls.owner)) == 3


async def test_an_older_checkpoint_serves_when_the_latest_is_damaged(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    await run(urls, tmp_path)
    connection = await opened(urls.adapter)
    await append(connection, traffic(ledger, "m4")(), ledger.book)
    async with owner_log(urls, tmp_path) as log:
        await rewrite(log, ignore)
        assert await write_checkpoint(log, ignore) is not None
    harm_checkpoints(urls, HARMS[1], latest=True)
    tail = Tail(book := Book(), urls.adapter, "b")
    await tail.connection.open()
    await tail.catch_up()
    assert (book.seq, book.digest) == (ledger.book.seq, ledger.book.digest)
    await tail.close()
    await connection.close()


async def test_a_replica_whose_next_event_was_archived_meanwhile_begins_at_the_checkpoint(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    tail = Tail(book := Book(), urls.adapter, "b")
    for event in ledger.log[:3]:
        book.apply(event)
    await run(urls, tmp_path)
    tail.start()
    while book.seq < ledger.book.seq:
        await asyncio.sleep(0.01)
    assert book.digest == ledger.book.digest
    await tail.close()


async def test_a_checkpoint_that_is_damaged_is_passed_over_while_the_log_is_whole(urls: Urls, ledger: Ledger) -> None:
    async with owner_log(urls) as log:
        await log.keep_checkpoint(Book())
    with psycopg.connect(urls.owner) as owner:
        owner.execute("SELECT set_config('adapter.epoch', '5', true)")
        owner.execute("UPDATE ledger.checkpoint SET state = substr(state, 1, 40)")
    tail = Tail(book := Book(), urls.adapter, "b")
    await tail.connection.open()
    await tail.catch_up()
    assert (book.seq, book.digest) == (ledger.book.seq, ledger.book.digest)
    await tail.close()


async def test_the_last_three_checkpoints_of_a_form_stay(urls: Urls, ledger: Ledger) -> None:
    connection = await opened(urls.adapter)
    for name in ("n1", "n2", "n3", "n4"):
        await append(connection, traffic(ledger, name)(), ledger.book)
        async with owner_log(urls) as log:
            await rewrite(log, ignore)
            assert await log.keep_checkpoint(Book()) is not None
            assert await log.keep_checkpoint(Book()) is None
    async with owner_log(urls) as log:
        kept = await log.run("checkpoints")
    assert len(kept) == 3
    assert kept[-1]["seq"] == ledger.book.seq
    assert {row["form"] for row in kept} == {checkpoint.form()}
    await connection.close()


async def test_what_the_owner_does_with_the_log_is_noted_for_the_audit(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    await run(urls, tmp_path, before="2026-11")
    await run(urls, tmp_path)
    with psycopg.connect(urls.owner) as owner:
        rows = owner.execute("SELECT command, by, details FROM ledger.command ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ["rebuild", "archive"], "the tables of this ledger, and what was archived"
    assert all("as adapter_owner" in row[1] for row in rows)
    assert rows[1][2] == {"before": LAST, "parts": ["event_2026_11", "event_2097_02"], "forgotten": []}


def test_three_months_before_the_present_one_stay() -> None:
    assert month_before(datetime(2026, 11, 23, tzinfo=UTC).date()) == "2026-08"
    assert month_before(date(2026, 2, 1)) == "2025-11"
    assert due([], "2026-08") == []


@pytest.mark.rule(37)
async def test_an_order_that_left_memory_and_the_log_is_still_known_from_the_tables(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    await run(urls, tmp_path)
    connection = Connection(urls.adapter, "test")
    looked = Archive(Book(), connection)
    for was in ledger.book.orders.values():
        known = await looked.order(was.id)
        assert known is not None
        kept = [f.name for f in fields(Order) if f.name not in NOT_KEPT]
        assert [getattr(known, name) for name in kept] == [getattr(was, name) for name in kept]
        assert (known.body is not None) == str(was.client_order_id).startswith(
            "m3"
        )  # the month that is in the log still
        assert was.body is not None
        assert await looked.has_body(was.id, was.body)
        assert await looked.has_body(was.id, was.body | {"tif": "IOC"}) is False
    assert await looked.order("NOSUCHORDER") is None
    assert await looked.has_body("NOSUCHORDER", {}) is None
    await looked.close()


NOT_KEPT = {"body", "accepted_seq", "licence_epoch", "cancel_session", "constant", "fingerprint", "seq", "updated_at"}
"""Of an order whose events are in a file: what no table has, or what no longer matters. (A commission moves the table's time.)"""


@pytest.mark.rule(36)
async def test_a_reader_whose_next_event_was_archived_is_told_so_and_where_the_log_begins(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    report = await run(urls, tmp_path)
    last = report.archived[-1]["last_seq"]
    book = Book()
    async with owner_log(urls, tmp_path) as log:
        await log.fold(book, ledger.book.seq)
    stream = EventStream(book, urls.adapter, "a", Access())
    stream._newest.clear()  # as after a long time: what is asked for is in the database alone

    async def check(place: Place) -> str:
        try:
            await stream._check(place)
        except _Reset as reset:
            return str(reset)
        return ""

    async def first_told(place: Place) -> str:
        chunks = stream._stream(place, None)
        await anext(chunks)
        told = (await anext(chunks)).decode().split("\n")[1]
        await chunks.aclose()
        return told

    for place in (Place(0), Place(3), Place(3, 5, "00000001")):
        assert f"the log begins at event {last + 1}" in await check(place)
    for place in (Place(0), Place(3, 5, "00000001")):
        assert await first_told(place) == "event: reset"  # a reader that was connected when they left
    assert await check(Place(last)) == await check(Place(last + 1)) == ""
    assert "went back in time" in await check(Place(ledger.book.seq + 1))
    assert await first_told(Place(last)) == f"event: {ledger.log[last].kind}"
    await stream.close()


@asynccontextmanager
async def served(urls: Urls, book: Book) -> AsyncIterator[str]:
    """The stream of this book on a port of its own, as a replica that keeps nothing of it in memory has it."""
    stream, server, port = EventStream(book, urls.adapter, "a", Access(), keepalive=0.05), Server(), Ports.free().a
    stream.register(server)
    await server.start("127.0.0.1", [port])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


async def first_of(url: str, query: str = "", last: str | None = None) -> Told:
    """What a reader is told first."""
    reader = await asyncio.to_thread(Reader, url, query, {} if last is None else {"Last-Event-ID": last})
    await asyncio.to_thread(until, lambda: reader.events, "the first event")
    await asyncio.to_thread(reader.close)
    return reader.events[0]


@pytest.mark.rule(36)
async def test_a_reader_that_was_reset_over_archived_months_goes_on_by_itself_whatever_it_asked_for(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    """As a browser does: the same address, and the id of the last event."""
    begins = (await run(urls, tmp_path)).archived[-1]["last_seq"] + 1
    head = ledger.book.seq
    connection = await opened(urls.adapter)
    async with served(urls, ledger.book) as url:
        for query, last in (("?after=0", None), ("", "00000001-5-3"), ("?after=3", "00000001-5-3")):
            reset = await first_of(url, query, last)
            assert (reset.kind, reset.data["seq"], reset.data["begins"]) == ("reset", head, begins)
            reader = await asyncio.to_thread(Reader, url, query, {"Last-Event-ID": reset.id})
            await append(connection, traffic(ledger, f"after-{head}")(), ledger.book)
            await asyncio.to_thread(reader.until_seq, ledger.book.seq)
            await asyncio.to_thread(reader.close)
            assert reader.seqs() == list(range(head + 1, ledger.book.seq + 1)), "nothing is left out, no second reset"
            head = ledger.book.seq
        assert (await first_of(url, f"?after={begins - 1}")).data["seq"] == begins, "and what is left can be read"
    await connection.close()


@pytest.mark.rule(36)
async def test_a_reader_whose_last_event_was_the_last_archived_one_has_lost_nothing_and_is_not_reset(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    last = (await run(urls, tmp_path)).archived[-1]["last_seq"]
    with psycopg.connect(urls.owner) as owner:
        [[timeline]] = owner.execute("SELECT upper(timeline) FROM ledger.term WHERE epoch = 5").fetchall()
    async with served(urls, ledger.book) as url:
        assert (await first_of(url, last=f"{timeline}-5-{last}")).data["seq"] == last + 1
        for other in (f"{timeline}-4-{last}", f"000000FF-5-{last}"):
            assert (await first_of(url, last=other)).kind == "reset", "an id of another log"


@pytest.mark.rule(36)
async def test_a_replica_that_is_behind_the_logs_beginning_resets_a_reader_when_it_has_caught_up(
    urls: Urls, ledger: Ledger, tmp_path: Path
) -> None:
    begins = (await run(urls, tmp_path)).archived[-1]["last_seq"] + 1
    book = Book()
    for event in ledger.log[:3]:
        book.apply(event)
    async with served(urls, book) as url:
        reader = await asyncio.to_thread(Reader, url, "?after=1")
        await asyncio.to_thread(until, lambda: reader.comments > 3, "it waits")
        assert reader.events == []
        for event in ledger.log[3:]:
            book.apply(event)
        await asyncio.to_thread(until, lambda: reader.events, "the reset")
        await asyncio.to_thread(reader.close)
        assert (reader.events[0].kind, reader.events[0].data["begins"]) == ("reset", begins)
        assert int(reader.events[0].id.rsplit("-", 1)[1]) == ledger.book.seq


@pytest.mark.rule(11)
async def test_a_rebuild_that_stands_still_in_its_transaction_does_not_keep_a_claim_away(
    urls: Urls, ledger: Ledger
) -> None:
    frozen = Connection(urls.owner, "adapter-ledger")
    await frozen.open()
    await frozen.run("name_epoch", {"epoch": 5})
    for statement in ("begin", "hold_tables", "empty_tables"):
        await frozen.run(statement)
    connection = await opened(urls.adapter, "adapter-tail:b")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 5
    assert await claim_epoch(connection, expected=5, at_least=0, term=TERM, deadline=deadline, clock=loop.time) == 6
    with pytest.raises(StoreError):
        await frozen.run("commit")
    with psycopg.connect(urls.owner) as owner:
        assert owner.execute("SELECT count(*) FROM ledger.orders").fetchall() == [(6,)]
    await connection.close()
    await frozen.close()


async def test_a_claim_ends_nobody_of_the_owners_who_is_not_in_its_way(urls: Urls, ledger: Ledger) -> None:
    reading = Connection(urls.owner, "adapter-ledger")
    await reading.open()
    await reading.run("begin_snapshot")
    await reading.run("log_head")
    connection = await opened(urls.adapter)
    assert await connection.run("end_rebuild") == [{"ended": 0}]
    await reading.run("commit")
    await connection.close()
    await reading.close()


@pytest.mark.rule(11)
async def test_a_rebuild_that_stops_on_the_way_is_ended_and_undone(urls: Urls, ledger: Ledger) -> None:
    def stand_still(what: str) -> None:
        if what.startswith("writing row"):
            with psycopg.connect(urls.owner, autocommit=True) as owner:
                mine = (
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND usename = current_user"
                )
                while owner.execute(mine).fetchall() != [(0,)]:
                    time.sleep(0.02)

    async with owner_log(urls) as log:
        with pytest.raises(StoreError):
            await rewrite(log, stand_still)
    with psycopg.connect(urls.owner) as owner:
        assert owner.execute("SELECT count(*) FROM ledger.orders").fetchall() == [(6,)]
