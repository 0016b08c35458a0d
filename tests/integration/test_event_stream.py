"""The stream of events on a server of its own: silence, slow readers, too many of them, a log that went back in time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from engine import http as room
from engine.auth import Access
from engine.book import Book
from engine.commit import Committer, Outcome
from engine.event_stream import MAX_READERS, EventStream
from engine.events import Draft, Kind
from engine.http import Server
from engine.store import Connection
from ha.claim import claim_epoch
from ha.local.ports import Ports
from tests.integration.event_reader import Reader
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import Urls
from tests.unit.book_factory import NOON

TERM = {
    "kind": "start", "reason": "a test", "from_name": None, "to_name": "a", "instance": "i", "url": "http://a", "version": "1",
    "etcd_cluster_id": None,
}  # fmt: skip


class Served:
    """A book, the committer that fills it, and the stream of both on a port."""

    def __init__(self, urls: Urls, keepalive: float) -> None:
        self.book, self.urls = Book(), urls
        self.stream = EventStream(self.book, urls.adapter, "a", Access(), keepalive=keepalive)
        self.server = Server()
        self.stream.register(self.server)
        self.port = Ports.free().a
        self.url = f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        connection = Connection(self.urls.adapter, "adapter-test")
        await connection.open()
        loop = asyncio.get_running_loop()
        epoch = await claim_epoch(
            connection, expected=0, at_least=0, term=TERM, deadline=loop.time() + 5, clock=loop.time
        )
        self.committer = Committer(connection, "a", "i", epoch, self.book, on_fenced=print, on_proof=lambda _: None)
        await self.committer.open()
        await self.server.start("127.0.0.1", [self.port])

    async def write(self, count: int, padding: int = 0) -> None:
        for _ in range(count):
            payload = {"session": self.book.session + 1, "next_valid_id": 1, "accounts": [], "padding": "x" * padding}
            outcome, _, why = await self.committer.commit([Draft(Kind.SESSION_OPENED, payload, NOON)])
            assert outcome is Outcome.COMMITTED, why


@asynccontextmanager
async def served(urls: Urls, keepalive: float = 10.0) -> AsyncIterator[Served]:
    made = Served(urls, keepalive)
    await made.start()
    try:
        yield made
    finally:
        await made.server.stop()
        await made.committer.close()


async def test_silence_is_filled_with_comments(urls: Urls) -> None:
    async with served(urls, keepalive=0.05) as made:
        reader = await asyncio.to_thread(Reader, made.url)
        await asyncio.to_thread(until, lambda: reader.comments > 3, "comments")
        assert reader.events == []
        await asyncio.to_thread(reader.close)
        await asyncio.to_thread(until, lambda: made.stream.readers == 0, "nobody reads")


async def test_reader_who_takes_nothing_is_dropped_and_finds_everything_when_it_comes_back(
    urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SLOW_READER", 0.3)
    async with served(urls) as made:
        with socket.create_connection(("127.0.0.1", made.port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.to_thread(until, lambda: made.stream.readers == 1, "it reads")
            reader = await asyncio.to_thread(Reader, made.url)
            await made.write(150, padding=50_000)
            await asyncio.to_thread(until, lambda: made.stream.readers == 1, "the slow one is dropped")
            await asyncio.to_thread(reader.until_seq, 150)
            assert reader.seqs() == list(range(1, 151)), "the other one misses nothing"
            await asyncio.to_thread(reader.close)
        back = await asyncio.to_thread(Reader, made.url, "", {"Last-Event-ID": reader.events[2].id})
        await asyncio.to_thread(back.until_seq, 150)
        assert back.seqs() == list(range(4, 151))
        await asyncio.to_thread(back.close)


async def test_streams_are_bounded_in_number(urls: Urls) -> None:
    async with served(urls, keepalive=0.05) as made:
        readers = [await asyncio.to_thread(Reader, made.url) for _ in range(MAX_READERS)]
        await asyncio.to_thread(until, lambda: made.stream.readers == MAX_READERS, "all read")
        answer = await asyncio.to_thread(ask, made.url, "GET", "/api/v1/events")
        assert (answer.status, answer.problem, answer.headers["retry-after"]) == (503, "too-many-streams", "5")
        for reader in readers:
            await asyncio.to_thread(reader.close)
        await asyncio.to_thread(until, lambda: made.stream.readers == 0, "nobody reads")


@pytest.mark.rule(36)
async def test_id_of_a_reset_in_an_empty_log_is_the_place_before_its_first_event(urls: Urls) -> None:
    async with served(urls) as made:
        reader = await asyncio.to_thread(Reader, made.url, "?after=7")
        await asyncio.to_thread(until, lambda: reader.events, "the reset")
        await asyncio.to_thread(reader.close)
        [reset] = reader.events
        assert (reset.kind, reset.data["seq"]) == ("reset", 0)
        back = await asyncio.to_thread(Reader, made.url, "?after=7", {"Last-Event-ID": reset.id})
        await made.write(2)
        await asyncio.to_thread(back.until_seq, 2)
        late = await asyncio.to_thread(Reader, made.url, "?after=7", {"Last-Event-ID": reset.id})
        await asyncio.to_thread(late.until_seq, 2)
        assert back.seqs() == late.seqs() == [1, 2]
        for one in (back, late):
            await asyncio.to_thread(one.close)


@pytest.mark.rule(36)
async def test_open_stream_is_reset_when_the_log_went_back_in_time(urls: Urls) -> None:
    """What the tail does then: the book is dropped, and folded anew from what the database still has (R18)."""
    async with served(urls) as made:
        await made.write(3)
        reader = await asyncio.to_thread(Reader, made.url, "?after=0")
        await asyncio.to_thread(reader.until_seq, 3)
        kept = list(made.stream._newest)[:2]
        with psycopg.connect(urls.owner, autocommit=True) as owner:
            owner.execute("ALTER TABLE ledger.event DISABLE TRIGGER ALL")
            owner.execute("DELETE FROM ledger.event WHERE seq = 3")
            owner.execute("ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER in_place")
        made.book.reset()
        for event in kept:
            made.book.apply(event)
        await asyncio.to_thread(until, lambda: reader.events[-1].kind == "reset", "the reset")
        assert (reader.events[-1].id, reader.events[-1].data["seq"]) == (reader.events[1].id, 2)
        assert "went back in time" in reader.events[-1].data["why"]
        await asyncio.to_thread(reader.close)
