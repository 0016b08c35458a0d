"""What a socket brings is passed on whole, in order, and in slices with a turn for everybody else between them."""

from __future__ import annotations

import asyncio
import random

import pytest

from engine.feed import FULL, SLICE, Feed


class Listener:
    """Everything that was passed on: bytes, ends, pauses."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[tuple[str, int]] = []  # the message, and how many bytes had come before it
        self.pauses: list[bool] = []
        self.feed = Feed(
            self.pieces.append, lambda m: self.ends.append((m, len(b"".join(self.pieces)))), self.pauses.append
        )


async def turns(count: int = 200) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_small_message_is_passed_on_at_once() -> None:
    listener = Listener()
    listener.feed.received(b"abc")
    assert listener.pieces == [b"abc"]


@pytest.mark.parametrize("seed", range(5))
async def test_all_bytes_come_in_order_in_slices_and_the_end_after_them(seed: int) -> None:
    chance, listener, sent = random.Random(seed), Listener(), b""
    for _ in range(10):
        piece = chance.randbytes(chance.randrange(1, 4 * SLICE))
        sent += piece
        listener.feed.received(piece)
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    listener.feed.closed("gone")
    await turns()
    assert b"".join(listener.pieces) == sent
    assert max(map(len, listener.pieces)) <= SLICE
    assert listener.ends == [("gone", len(sent))]


@pytest.mark.rule(12)
async def test_everybody_else_has_a_turn_between_two_slices() -> None:
    listener, passed = Listener(), []

    async def other() -> None:
        while True:
            passed.append(len(listener.pieces))
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    listener.feed.received(bytes(20 * SLICE))
    await turns()
    task.cancel()
    assert sorted(set(passed)) == list(range(1, 21))


async def test_too_much_pauses_the_socket_until_it_was_passed_on() -> None:
    listener = Listener()
    listener.feed.received(bytes(FULL + 2 * SLICE))
    assert listener.pauses == [True]
    await turns()
    assert listener.pauses == [True, False]


async def test_nothing_is_passed_on_after_the_cut() -> None:
    listener = Listener()
    listener.feed.received(bytes(3 * SLICE))
    listener.feed.cut()
    listener.feed.received(b"late")
    listener.feed.closed("gone")
    await turns()
    assert len(listener.pieces) == 1
    assert listener.ends == []


async def test_bytes_that_come_while_a_slice_is_passed_on_keep_their_place() -> None:
    got: list[bytes] = []

    def pass_on(piece: bytes) -> None:
        got.append(piece)
        if len(got) == 1:
            feed.received(b"second")

    feed = Feed(pass_on, lambda _m: None, lambda _p: None)
    feed.received(b"first")
    await turns()
    assert got == [b"first", b"second"]
