"""One statement on libpq's calls: a connection that answers as it is told to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from engine.exchange import exchange, readable
from engine.store import DIRECT, QUERIES, numbered


class Libpq:
    """The calls that `exchange` makes. What comes through `far` are the results, by a byte each; `~` is the end of them."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair()
        self._near.setblocking(False)
        self.socket = self._near.fileno()
        self._read = b""
        self.unsent = 0
        self.broken: Exception | None = None

    def flush(self) -> int:
        self.unsent -= self.unsent > 0
        return int(self.unsent > 0)

    def consume_input(self) -> None:
        if self.broken is not None:
            raise self.broken
        self._read += self._near.recv(100)

    def is_busy(self) -> int:
        return int(not self._read)

    def get_result(self) -> str | None:
        first, self._read = self._read[:1], self._read[1:]
        return None if first == b"~" else first.decode()

    def close(self) -> None:
        self._near.close()
        self.far.close()


@pytest.fixture
def libpq() -> Any:
    made = Libpq()
    yield made
    made.close()


async def watched(libpq: Libpq) -> tuple[bool, bool]:
    loop = asyncio.get_running_loop()
    return loop.remove_reader(libpq.socket), loop.remove_writer(libpq.socket)


async def test_every_result_is_read_up_to_the_servers_last_word(libpq: Libpq) -> None:
    work = asyncio.create_task(exchange(libpq, lambda: libpq.far.send(b"a"), 5.0))
    await asyncio.sleep(0.02)
    assert not work.done()  # a commit that is refused says so after its rows
    libpq.far.send(b"b~")
    assert await work == ["a", "b"]
    assert await watched(libpq) == (False, False)


async def test_what_the_socket_does_not_take_at_once_is_sent_when_it_does(libpq: Libpq) -> None:
    libpq.unsent = 3
    assert await exchange(libpq, lambda: libpq.far.send(b"a~"), 5.0) == ["a"]
    assert await watched(libpq) == (False, False)


async def test_silence_ends_with_the_deadline(libpq: Libpq) -> None:
    with pytest.raises(TimeoutError):
        await exchange(libpq, lambda: None, 0.01)
    assert await watched(libpq) == (False, False)


async def test_a_broken_connection_is_told_as_libpq_tells_it(libpq: Libpq) -> None:
    libpq.broken = OSError("server closed the connection unexpectedly")
    with pytest.raises(OSError, match="unexpectedly"):
        await exchange(libpq, lambda: libpq.far.send(b"x"), 5.0)
    assert await watched(libpq) == (False, False)


async def test_a_cancel_leaves_nothing_on_the_event_loop(libpq: Libpq) -> None:
    work = asyncio.create_task(exchange(libpq, lambda: None, 5.0))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await watched(libpq) == (False, False)


def test_parameters_are_numbered_in_the_order_in_which_they_are_named_first() -> None:
    assert numbered("SELECT %(b)s, %(a)s, %(b)s LIKE 'x%%'") == (b"SELECT $1, $2, $1 LIKE 'x%'", ("b", "a"))
    assert all(b"%(" not in text and len(names) == text.count(b"$") for text, names in DIRECT.values())
    assert DIRECT.keys() <= QUERIES.keys()


async def test_waiting_for_something_to_read_leaves_nothing_on_the_event_loop_and_reads_nothing(libpq: Libpq) -> None:
    waiting = asyncio.create_task(readable(libpq.socket))
    await asyncio.sleep(0)
    libpq.far.send(b"a")
    await waiting
    assert await watched(libpq) == (False, False)
    libpq.consume_input()
    assert libpq.get_result() == "a"
