"""`GET /api/v1/events`: the log as server-sent events, resumed at any place of it, by both replicas.

No reader has a queue. The newest events lie once in memory for all of them, older ones are read from the database, and a reader
is only the place at which it stands: a slow one costs nothing but its connection, and `engine.http` drops that when it takes
nothing any more. An id is `timeline-epoch-seq`: the timeline is that of the term that wrote the event, so that an id never comes
to mean another event, whatever the database has forgotten (R36). Who names one that the log does not hold is told so by an event
`reset`, and goes on from the present; its id is a place like any other, so that a reader that comes back with it goes on behind it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from engine.auth import Access
from engine.book import Book
from engine.clock import iso
from engine.errors import FieldError, Problem, invalid, unavailable
from engine.events import Event, event_of
from engine.http import Request, Response, Server
from engine.store import Connection, Row, StoreError

PATH = "/api/v1/events"
KEPT = 4096
"""Events kept in memory for readers who keep up."""
MAX_READERS = 64
KEEPALIVE = 10.0
"""Seconds of silence after which a comment says that the stream lives."""
BEGINNING = "0", 0
"""Timeline and epoch of the place before the first event."""
_BATCH = 100
_ID = re.compile(r"([0-9A-Fa-f]{1,16})-([0-9]{1,18})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader stands: behind event `seq`. `epoch` and `timeline` are that event's, where the reader named them."""

    seq: int
    epoch: int | None = None
    timeline: str | None = None


def event_id(timeline: str, epoch: int, seq: int) -> str:
    """The id of an event, the same for ever."""
    return f"{timeline}-{epoch}-{seq}"


def place_of(text: str) -> Place:
    """The place that an id names. Raises Problem 400 for what is none."""
    found = _ID.fullmatch(text)
    if found is None:
        raise Problem(
            400,
            "bad-event-id",
            "Last-Event-ID is no id of an event",
            "An id is timeline-epoch-seq, as it was received.",
        )
    return Place(int(found[3]), int(found[2]), found[1].upper())


def framed(kind: str, identity: str | None, data: dict[str, Any]) -> bytes:
    """One event in the form of server-sent events. JSON has no line breaks outside its strings, and none inside unescaped."""
    head = f"id: {identity}\n" if identity is not None else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def said(event: Event) -> dict[str, Any]:
    """One event as the stream and the audit tell it."""
    return {
        "seq": event.seq, "epoch": event.epoch, "kind": str(event.kind), "at": iso(event.at), "order_id": event.order_id,
        "subject": event.subject, "correlation_id": event.correlation_id, "event_id": event.event_id,
        "payload": event.payload,
    }  # fmt: skip


def _archived(place: int, first: int) -> str:
    gone = min(place + 1, first - 1)
    return f"event {gone} has been archived: the log begins at event {first}, `after={first - 1}` reads from there"


class _Reset(Exception):
    """The reader's place is not in this log; the text says why."""


class EventStream:
    """The newest events, and the readers. `register` hangs the one path on a server; `close` ends every stream."""

    def __init__(self, book: Book, url: str, replica: str, access: Access, *, keepalive: float = KEEPALIVE) -> None:
        self._book, self._access, self._keepalive = book, access, keepalive
        self._connection = Connection(url, f"adapter-events:{replica}")
        self._newest: deque[Event] = deque(maxlen=KEPT)
        self._readings = 0  # of the log from its beginning: another one may be of another log (R18)
        self._terms: dict[int, tuple[str, int]] = {}  # by epoch: the timeline, and the last event before the term
        self._waiting: set[asyncio.Future[None]] = set()
        self._readers = 0
        self._closed = False
        book.observers.append(self._applied)

    def register(self, server: Server) -> None:
        """The one path; the server's end ends the streams."""
        server.route("GET", PATH, self.events)
        server.on_stop.append(self.close)

    async def close(self) -> None:
        """End every stream, and give the connection back."""
        self._closed = True
        self._wake()
        await self._connection.close()

    @property
    def readers(self) -> int:
        """How many streams are open."""
        return self._readers

    def _applied(self, event: Event) -> None:
        if self._newest and event.seq != self._newest[-1].seq + 1:
            self._newest.clear()
            self._readings += 1
        self._newest.append(event)
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # ---- the handler

    async def events(self, request: Request) -> Response:
        """`GET /events`: from `Last-Event-ID` or `after` on, else what comes from now on."""
        self._access.asker(request, "viewer")
        asked = self._asked(request)
        if request.method == "HEAD":
            return Response(200, content_type="text/event-stream")
        if self._closed or self._readers >= MAX_READERS:
            raise unavailable("too-many-streams", f"A replica serves {MAX_READERS} streams at once.", retry_after=5)
        place = asked or Place(self._book.seq)
        why = None
        try:
            await self._check(place)
        except _Reset as reset:
            why, place = str(reset), Place(self._book.seq)
        except StoreError as error:
            raise unavailable("database-away", f"Where to go on is in PostgreSQL, which is away: {error}") from error
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Adapter-Seq": str(place.seq)}
        return Response(200, None, headers, "text/event-stream", stream=self._stream(place, why))

    @staticmethod
    def _asked(request: Request) -> Place | None:
        given = request.headers.get("Last-Event-ID")
        if given:
            return place_of(given)
        after = request.query.get("after")
        if not after:
            return None
        if not after.isascii() or not after.isdigit() or len(after) > 18:
            raise invalid(FieldError("after", "a whole number: the last event that you have"))
        return Place(int(after))

    # ---- one reader

    async def _stream(self, place: Place, why: str | None) -> AsyncGenerator[bytes, None]:
        self._readers += 1
        try:
            yield b": the log of the adapter\n\n"
            reading = self._readings
            while not self._closed:
                try:
                    if why is not None:
                        place = Place(self._book.seq)
                        told = await self._reset(why, place)
                        yield told or b": this replica is behind the log's beginning, and reads on\n\n"
                        if told is None:
                            await self._sleep()
                            continue
                        why = None
                    if reading != self._readings:
                        reading = self._readings
                        await self._check(place)
                    events = await self._after(place.seq)
                    if chunk := [await self._told(event) for event in events]:
                        place = Place(events[-1].seq, events[-1].epoch, await self._timeline(events[-1].epoch))
                        yield b"".join(chunk)
                except _Reset as reset:
                    why, events = str(reset), []
                    continue
                except StoreError:
                    yield b": the database is away\n\n"
                    events = []
                if not events and not await self._news(place.seq):
                    yield b": nothing new\n\n"
        finally:
            self._readers -= 1

    async def _told(self, event: Event) -> bytes:
        """Raises StoreError."""
        return framed(str(event.kind), event_id(await self._timeline(event.epoch), event.epoch, event.seq), said(event))

    async def _reset(self, why: str, place: Place) -> bytes | None:
        """What a reader is told whose events are not those of this log: read the state anew, the stream goes on behind it.

        None while nothing goes on behind this place: the log lacks it, or what comes next. Raises StoreError.
        """
        here = await self._identity(place.seq)
        if here is None:
            return None
        [begins] = await self._run("log_begins", {})
        return framed("reset", event_id(*here, place.seq), {"why": why, "seq": place.seq, "begins": begins["first"]})

    async def _identity(self, seq: int) -> tuple[str, int] | None:
        """Timeline and epoch of event `seq`, of the last archived one too; None where the log does not reach. Raises StoreError."""
        rows = await self._run("events_after", {"after": max(seq - 1, 0), "limit": 1})
        first = rows[0]["seq"] if rows else seq + 1
        if seq == 0:
            return BEGINNING if first == 1 else None
        if first == seq:
            return await self._timeline(rows[0]["epoch"]), rows[0]["epoch"]
        return await self._written_by(seq) if rows and first == seq + 1 else None

    @staticmethod
    async def _sleep() -> None:
        await asyncio.sleep(0.05)  # between two looks into the database

    async def _news(self, seq: int) -> bool:
        """Wait until there may be an event behind `seq`; False when it was silent for the keepalive's time."""
        if self._closed or self._book.seq > seq:
            await self._sleep()  # it is folded here, and yet was not found: the database is asked again, not at once
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        await asyncio.wait({future}, timeout=self._keepalive)
        self._waiting.discard(future)
        return future.done()

    async def _after(self, seq: int) -> list[Event]:
        """The next events behind `seq`, from memory where it reaches so far back. Raises StoreError, _Reset."""
        newest = self._newest
        if newest and newest[0].seq <= seq + 1:
            first = seq + 1 - newest[0].seq
            return [newest[i] for i in range(first, min(len(newest), first + _BATCH))]
        if self._book.seq <= seq:
            return []
        rows = await self._run("events_after", {"after": seq, "limit": _BATCH})
        if rows and rows[0]["seq"] != seq + 1:
            raise _Reset(_archived(seq, rows[0]["seq"]))
        return [event_of(row) for row in rows]

    async def _check(self, place: Place) -> None:
        """Raises _Reset when the log does not hold this place (R36), StoreError when that cannot be told."""
        rows = await self._run("events_after", {"after": max(place.seq - 1, 0), "limit": 1})
        first = rows[0]["seq"] if rows else place.seq
        if first > place.seq + 1:
            raise _Reset(_archived(place.seq, first))
        if place.seq == 0:
            return  # all that there ever was is in the log
        if not rows:
            raise _Reset(f"the log does not reach to event {place.seq}: the database went back in time")
        if place.epoch is None:
            return
        here = await self._identity(place.seq)
        if here != (place.timeline, place.epoch):
            named = event_id(place.timeline or "", place.epoch, place.seq)
            raise _Reset(
                f"event {place.seq} is {event_id(*here, place.seq) if here else 'none'} in this log, not {named}"
            )

    async def _timeline(self, epoch: int) -> str:
        """The timeline of the term that wrote under this epoch. Raises StoreError."""
        if epoch not in self._terms:
            await self._read_terms()
        return self._terms.setdefault(epoch, ("0", 0))[0]

    async def _written_by(self, seq: int) -> tuple[str, int] | None:
        """Timeline and epoch of an event that is in no part of the log any more, from the terms. Raises StoreError."""
        await self._read_terms()
        began = [epoch for epoch, (_, before) in self._terms.items() if before < seq]
        return (self._terms[max(began)][0], max(began)) if began else None

    async def _read_terms(self) -> None:
        self._terms = {row["epoch"]: (row["timeline"].upper(), row["seq"]) for row in await self._run("timelines", {})}

    async def _run(self, name: str, parameters: dict[str, Any]) -> list[Row]:
        if not self._connection.is_open:
            await self._connection.open(deadline=2.0)
        return await self._connection.run(name, parameters, deadline=2.0)
