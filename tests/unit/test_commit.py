"""The writer of the log, on a connection that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.book import Book
from engine.commit import PREPARED, Committer, Outcome
from engine.events import LEDGER_LEVEL, Draft, Kind


class Answers:
    """A connection: proofs are answered at once, an append when `answer` is set. `said`: what went out, in order."""

    is_open = True

    def __init__(self) -> None:
        self.said: list[str] = []
        self.answer = asyncio.Event()

    async def tag(self, _name: str) -> None: ...

    async def close(self) -> None: ...

    async def run(
        self, name: str, parameters: Mapping[str, Any] | None = None, deadline: float = 3.0
    ) -> list[dict[str, Any]]:
        await asyncio.ensure_future(self._executed(name))  # as the real one: the statement leaves in a task of its own
        return [{
            "now": datetime.now(UTC), "control": {}, "level": LEDGER_LEVEL, "commands": [], "system": "1", "timeline": "1",
            "head": 0,
        }]  # fmt: skip

    async def _executed(self, name: str) -> None:
        if name == "append":
            self.said.append("sent")
            await self.answer.wait()


@pytest.fixture
async def writing() -> AsyncIterator[tuple[Answers, Committer]]:
    """A committer that has begun."""
    connection = Answers()
    committer = Committer(connection, "a", "i", 1, Book(), on_fenced=print, on_proof=lambda _: None)  # type: ignore[arg-type]
    await committer.open()
    yield connection, committer
    await committer.close()


def draft(session: int) -> Draft:
    return Draft(
        Kind.SESSION_OPENED, {"session": session, "next_valid_id": 1, "accounts": []}, datetime(2026, 1, 2, tzinfo=UTC)
    )


async def test_what_can_be_done_meanwhile_is_done_behind_the_send_and_before_the_answer(
    writing: tuple[Answers, Committer],
) -> None:
    connection, committer = writing

    def done(outcome: Outcome, *_: object) -> None:
        connection.said.append(outcome.value)
        ended.set()

    def meanwhile() -> None:
        connection.said.append("meanwhile")
        connection.answer.set()

    ended = asyncio.Event()
    committer.submit([draft(1)], done, meanwhile)
    await asyncio.wait_for(ended.wait(), 5)
    assert connection.said == ["sent", "meanwhile", "committed"]


@pytest.mark.rule(8)
async def test_answer_that_came_late_says_nothing_of_the_databases_clock_where_a_prompt_one_did() -> None:
    connection, now, takes = Answers(), [100.0], [2.0, 0.1, 0.6]
    ahead = {2.0: 7.0, 0.1: 5.0, 0.6: 9.0}  # what each answer seems to say, in seconds

    async def run(_name: str, _said: object = None, deadline: float = 3.0) -> list[dict[str, Any]]:
        [row] = await Answers.run(connection, "prove")
        now[0] += takes[0]
        return [row | {"now": datetime.now(UTC) + timedelta(seconds=ahead[takes.pop(0)])}]

    connection.run = run  # type: ignore[method-assign, assignment]
    committer = Committer(
        connection, "a", "i", 1, Book(), on_fenced=print, on_proof=lambda _: None, clock=lambda: now[0]  # type: ignore[arg-type]
    )  # fmt: skip
    seen = []
    for _ in range(3):
        await committer.prove_now()
        assert committer.database_offset is not None
        seen.append(round(committer.database_offset, 1))
    assert seen == [7.0, 5.0, 5.0]


async def test_a_large_group_does_not_wait_for_what_could_be_done_meanwhile(writing: tuple[Answers, Committer]) -> None:
    connection, committer = writing
    many, called = PREPARED + 3, list[int]()
    ended = asyncio.Event()
    for number in range(1, many + 1):
        last = number == many
        committer.submit(
            [draft(number)], lambda *_, last=last: ended.set() if last else None, lambda n=number: called.append(n)
        )
    while not called:
        await asyncio.sleep(0)
    connection.answer.set()
    await asyncio.wait_for(ended.wait(), 5)
    assert called == list(range(1, PREPARED + 1))


async def test_last_word_of_a_term_comes_behind_what_was_in_flight_and_is_folded(
    writing: tuple[Answers, Committer],
) -> None:
    connection, committer = writing
    committer.submit([draft(1)], lambda outcome, *_: connection.said.append(outcome.value))
    while not connection.said:
        await asyncio.sleep(0)
    committer.stop()
    asyncio.get_running_loop().call_later(0.05, connection.answer.set)
    await committer.leave_word(lambda: [draft(committer._book.session + 1)], 5.0)
    assert connection.said == ["sent", "committed", "sent"]
    assert committer._book.session == 2


async def test_last_word_that_cannot_be_written_is_left_unsaid_in_its_time(writing: tuple[Answers, Committer]) -> None:
    _, committer = writing
    committer.stop()
    await asyncio.wait_for(committer.leave_word(lambda: [draft(1)], 0.05), 5)
    assert committer._book.session == 0
    await committer.leave_word(list, 5.0)


async def test_last_word_is_not_waited_for_where_the_database_is_known_to_be_away(
    writing: tuple[Answers, Committer],
) -> None:
    connection, committer = writing
    committer.submit([draft(1)], lambda *_: None)
    while not connection.said:  # the statement leaves, and its answer never comes
        await asyncio.sleep(0)
    connection.is_open = False
    committer.stop()
    await asyncio.wait_for(committer.leave_word(lambda: [draft(2)], 5.0), 0.5)
    assert connection.said == ["sent"]
