"""Where a replica that knows nothing begins to read the log: at the latest checkpoint that it can read, else at the first event.

A checkpoint that cannot be read is told and passed over while the log is whole. Once its first months are archived there is no
other way to begin: then the replica says so, and does not campaign.
"""

from __future__ import annotations

import asyncio

from loguru import logger

from engine import checkpoint
from engine.book import Book
from engine.digest import DIGEST_VERSION
from engine.store import Connection

_WITHIN = 30.0  # seconds for the answer: it may be of many megabytes


class NoBeginning(ValueError):
    """The first events are archived, and no checkpoint here can be read by this version. The text is a sentence."""


async def begin(book: Book, connection: Connection, head: int) -> None:
    """Bring an empty book to the latest checkpoint at or before `head`, if there is one. Raises NoBeginning, StoreError."""
    why = await stand_at_checkpoint(book, connection, head)
    if why is None:
        logger.info("the book stands at event {}, from a checkpoint", book.seq)
    elif (first := await log_begins(connection)) > 1:
        raise NoBeginning(
            f"The log begins at event {first}, older ones are archived, and this version can read no checkpoint ({why}). "
            "Run `adapter rebuild --checkpoint --archive DIR` with the directory of the archive."
        )


async def stand_at_checkpoint(book: Book, connection: Connection, at_most: int) -> str | None:
    """Bring an empty book to the latest checkpoint at or before `at_most` that can be read. None when it stands there, else why
    it stands at none; the book is then as it was. Raises StoreError."""
    bad: list[str] = []
    wanted = {"form": checkpoint.form(), "digest_version": DIGEST_VERSION, "at_most": at_most}
    while rows := await connection.run("last_checkpoint", wanted, _WITHIN):
        try:
            state = await asyncio.to_thread(checkpoint.read, rows[0]["state"], rows[0]["digest"])
            checkpoint.stand(book, state)
        except checkpoint.BadCheckpoint as error:
            bad.append(f"the one at event {rows[0]['seq']} is bad: {error}")
            logger.error("a checkpoint is passed over: {}", bad[-1])
            wanted["at_most"] = rows[0]["seq"] - 1
        else:
            return None
    return "; ".join(bad) or "there is none of its form from which the log goes on"


async def log_begins(connection: Connection) -> int:
    """The first event that the log still has, 1 for an empty log. Raises StoreError."""
    [row] = await connection.run("log_begins")
    return int(row["first"])
