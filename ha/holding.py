"""Waiting for an operator: a break that holds everything ends only by a person's word (R14, R16, R18)."""

from __future__ import annotations

import asyncio

from engine.book import Book
from engine.events import Event, Kind


async def until_resolved(book: Book, break_id: str) -> None:
    """Return when the break is resolved, and no other one holds everything; at once when it is so already."""
    resolved = asyncio.Event()

    def over() -> bool:
        return break_id not in book.open_breaks and book.holds_everything is None

    def look(event: Event) -> None:
        if event.kind == Kind.BREAK_RESOLVED and over():
            resolved.set()

    book.observers.append(look)
    try:
        if not over():
            await resolved.wait()
    finally:
        book.observers.remove(look)
