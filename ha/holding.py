"""Waiting for an operator: a break that holds everything ends only by a person's word (R14, R16, R18)."""

from __future__ import annotations

import asyncio

from engine.book import Book
from engine.events import Event, Kind


async def until_resolved(book: Book, break_id: str) -> None:
    """Return when the break is resolved, at once when it is already."""
    resolved = asyncio.Event()

    def look(event: Event) -> None:
        if event.kind == Kind.BREAK_RESOLVED and event.payload["id"] == break_id:
            resolved.set()

    book.observers.append(look)
    try:
        if break_id in book.open_breaks:
            await resolved.wait()
    finally:
        book.observers.remove(look)
