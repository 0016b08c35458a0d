"""The whole log for a process beside the pair: parts in the database and parts in files, read in order and folded.

It reads and writes as the owner of the tables (MIGRATE_DATABASE_URL), under the present epoch, which it only names: it never
claims one. A claim in between is met as a refusal, and then the epoch is read again.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import checkpoint
from engine.book import Book
from engine.digest import DIGEST_VERSION, differs, written
from engine.events import Event, event_of
from engine.os_user import host, os_user
from engine.store import LOCK_TIMEOUT, Connection, Refused, Row
from ha import archive_files as files
from ha.beginning import stand_at_checkpoint

BATCH = 2000
PATIENCE = 30
"""How often a lock that others hold is asked for, a fifth of a second apart."""

_ANY = 2**63 - 1

KEPT = 3
"""Checkpoints of one form that stay; the oldest goes first."""

Progress = Callable[[str], None]


class LedgerProblem(Exception):
    """It cannot be done; the text is a sentence that says why. What was done before it stands."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the log. `last_seq` None: the open one."""

    name: str
    month: str
    from_seq: int
    last_seq: int | None
    archived: bool
    sha256: str | None
    digest: str | None


class Log:
    """The log behind one open connection of the owner, with the directory of its archive, if one was named."""

    def __init__(self, connection: Connection, archive: Path | None, say: Progress = lambda _: None) -> None:
        self._connection, self._archive, self._say = connection, archive, say

    def empty_book(self) -> Book:
        """A book that lets go of what the replicas let go of."""
        return Book()

    async def run(self, name: str, parameters: Mapping[str, Any] | None = None, deadline: float = 60.0) -> list[Row]:
        """One statement. Raises StoreError."""
        return await self._connection.run(name, parameters, deadline)

    async def note(self, command: str, **details: object) -> None:
        """For the audit: who does this beside the pair, and from where; the leader notes it in the log. Raises StoreError."""
        [role] = await self.run("whoami")
        await self.run("command", {
            "command": command, "key": None, "value": None, "by": f"{os_user()} as {role['me']}", "reason": "", "remote": host(),
            "correlation_id": str(uuid.uuid4()), "details": json.dumps(details),
        })  # fmt: skip

    async def parts(self) -> list[Part]:
        """All that ever were, oldest first."""
        return [
            Part(
                r["part"],
                r["month"],
                r["from_seq"],
                r["last_seq"],
                r["archived_at"] is not None,
                r["sha256"],
                r["digest"],
            )
            for r in await self.run("log_parts")
        ]

    async def named(self, name: str, parameters: Mapping[str, Any]) -> list[Row]:
        """A write under the present epoch, tried again while others hold the lock or when the epoch moved. Raises StoreError."""
        for attempt in range(PATIENCE):
            [present] = await self.run("epoch")
            await self.run("name_epoch", {"epoch": present["epoch"]})
            try:
                return await self.run(name, {**parameters, "epoch": present["epoch"]})
            except Refused as refused:
                if attempt == PATIENCE - 1 or not (refused.fenced or refused.sqlstate == LOCK_TIMEOUT):
                    raise
            await asyncio.sleep(0.2)
        raise AssertionError

    async def events(self, after: int, last: int) -> AsyncIterator[Event]:
        """Events after `after` up to `last`. Raises LedgerProblem, BadArchive, StoreError."""
        for part in await self.parts():
            if part.archived and part.last_seq is not None and part.last_seq > after < last:
                [me] = await self.run("identity")
                for event in self._from_file(part, me["cluster"]):
                    if after < event.seq <= last:
                        yield event
                after = min(part.last_seq, last)
        while rows := await self.run("log_rows", {"after": after, "last": last, "limit": BATCH}):
            for row in rows:
                yield event_of(row)
            after = rows[-1]["seq"]

    def _from_file(self, part: Part, cluster: str) -> Any:
        if self._archive is None:
            raise LedgerProblem(
                f"Events {part.from_seq} to {part.last_seq} are archived: name the directory of their files with --archive DIR."
            )
        return files.events(self._archive, files.read_manifest(self._archive, part.name, cluster), part.sha256)

    async def fold(self, book: Book, last: int, each: Callable[[Event], None] = lambda _: None) -> None:
        """Fold `book` on to event `last`; `each` is told of every event after it was folded."""
        async for event in self.events(book.seq, last):
            book.apply(event)
            each(event)
            if event.seq % 500 == 0:
                self._say(f"folded up to event {event.seq} of {last}")
                await asyncio.sleep(0)
        if book.seq < last:
            raise LedgerProblem(f"The log ends at event {book.seq}; event {last} is missing.")

    async def book_before(self, seq: int) -> Book:
        """A book that stands before event `seq`: from the last checkpoint that can be read, else from the first event."""
        book = self.empty_book()
        await stand_at_checkpoint(book, self._connection, seq - 1)
        await self.fold(book, seq - 1)
        return book

    async def checkpoint_beyond(self, seq: int) -> int | None:
        """Where the latest checkpoint stands that was read just now, if that is at or beyond event `seq`. Raises StoreError."""
        book = self.empty_book()
        await stand_at_checkpoint(book, self._connection, _ANY)
        return book.seq if book.seq >= seq else None

    async def keep_checkpoint(self, book: Book, *, anew: bool = False) -> Row | None:
        """Fold `book` on to the leader's last proof, compare digests, and keep it as a checkpoint; what was kept.

        None when nothing was written yet or, unless `anew`, one that can be read stands there already. Raises LedgerProblem when
        the digests differ or the tables that people query stay behind.
        """
        [proof] = await self.run("proof")
        seq = proof["seq"]
        if seq == 0 or seq < book.seq or (not anew and await self.checkpoint_beyond(seq)):
            return None
        await self._tables_at(seq)
        await self.fold(book, seq)
        ours = written(book.digest)
        if differs(book.digest, proof["digest"]):
            raise LedgerProblem(
                f"At event {seq} the folded log has the digest {ours}, the leader's proof says {proof['digest']}: no checkpoint "
                "was written. Run `adapter rebuild --verify`."
            )
        kept = {
            "seq": seq, "form": checkpoint.form(), "digest_version": DIGEST_VERSION, "digest": ours,
            "state": checkpoint.dump(book),
        }  # fmt: skip
        await self.named("keep_checkpoint", kept)
        await self.named("forget_checkpoints", {"form": checkpoint.form(), "kept": KEPT})
        return {"seq": seq, "digest": ours, "bytes": len(kept["state"])}

    async def _tables_at(self, seq: int) -> None:
        for _ in range(PATIENCE):
            [row] = await self.run("projected")
            if row["seq"] >= seq:
                return
            self._say(f"waiting for the tables: they stand at event {row['seq']} of {seq}")
            await asyncio.sleep(0.2)
        raise LedgerProblem(
            f"The tables that people query stand at event {row['seq']}, the log at {seq}: start the pair, its leader writes them; "
            "or run `adapter rebuild`."
        )
