"""One statement on a connection of libpq, without a task, a cursor or a thread: sent, waited for on the event loop, read to its
end.

It knows libpq's calls by name and imports no client library; `engine.store` hands it the connection and judges what comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def exchange(pgconn: Any, send: Callable[[], None], deadline: float) -> list[Any]:
    """Let `send` give one statement to `pgconn` (idle, not blocking); all results that the server answers, up to its last word.

    Raises TimeoutError after `deadline` seconds, and what libpq raises when the connection breaks. Then, and when it is cancelled,
    the statement may still be running: the connection must be closed by the caller.
    """
    loop, descriptor, results = asyncio.get_running_loop(), pgconn.socket, list[Any]()
    answer: asyncio.Future[None] = loop.create_future()

    def fail(error: BaseException) -> None:
        if not answer.done():
            answer.set_exception(error)

    def read() -> None:
        try:
            pgconn.consume_input()
            while not answer.done() and not pgconn.is_busy():
                if (result := pgconn.get_result()) is not None:
                    results.append(result)
                else:  # a commit's refusal may follow the rows: only this is the end
                    answer.set_result(None)
        except Exception as error:  # noqa: BLE001 - the caller is the one who knows libpq's errors
            fail(error)

    def write() -> None:
        try:
            if pgconn.flush() == 0:
                loop.remove_writer(descriptor)
        except Exception as error:  # noqa: BLE001 - as above
            fail(error)

    send()
    if pgconn.flush() != 0:  # more than the socket takes at once
        loop.add_writer(descriptor, write)
    loop.add_reader(descriptor, read)
    late = loop.call_later(deadline, lambda: fail(TimeoutError()))
    try:
        await answer
    finally:
        late.cancel()
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)
    return results


async def readable(descriptor: int) -> None:
    """Wait until there is something to read, or the end of it."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        loop.remove_reader(descriptor)
        if not came.done():
            came.set_result(None)

    loop.add_reader(descriptor, read)
    try:
        await came
    finally:
        loop.remove_reader(descriptor)
