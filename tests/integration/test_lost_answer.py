"""R20: after a lost answer the outcome is unknown until the repeat is answered; that it is refused says nothing of the first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from engine.book import Book
from engine.commit import Committer, Outcome
from tests.integration.pg_fixture import Urls
from tests.integration.test_fence import committer, session_closed

pytestmark = [pytest.mark.rule(20), pytest.mark.timeout(60)]


def written(urls: Urls) -> int:
    with psycopg.connect(urls.owner) as owner:
        row = owner.execute("SELECT count(*) FROM ledger.event").fetchone()
        assert row is not None
        return int(row[0])


def lose_an_answer(writer: Committer, then: Callable[[], Awaitable[None]]) -> None:
    """The next insert is committed and its answer lost; `then` happens before it is repeated."""
    connection: Any = writer._connection
    execute = connection._execute

    async def lose(*args: Any) -> Any:
        if args[1] != "append":
            return await execute(*args)
        await execute(*args)
        connection._execute = execute
        await then()
        raise psycopg.OperationalError("the connection was cut during COMMIT")

    connection._execute = lose


async def test_order_whose_repeat_is_refused_is_of_unknown_outcome(urls: Urls) -> None:
    writer = await committer(urls, Book(), [])
    connection: Any = writer._connection

    async def cancel_the_repeat() -> None:
        execute = connection._execute

        async def cancelled(*args: Any) -> Any:
            if args[1] == "append":
                connection._execute = execute
                raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
            return await execute(*args)

        connection._execute = cancelled

    lose_an_answer(writer, cancel_the_repeat)
    before = written(urls)
    outcome, _, why = await writer.commit([session_closed()])
    assert written(urls) == before + 1, "it was committed all the same"
    assert outcome is Outcome.UNKNOWN, why
    await writer.close()


async def test_reopened_connection_ends_nobody_who_has_the_old_number_now(urls: Urls) -> None:
    """A server that was started again gives its process numbers out anew."""
    writer = await committer(urls, Book(), [])
    with psycopg.connect(urls.adapter, application_name="adapter-tail:level 2:b", autocommit=True) as other:

        async def restarted() -> None:
            writer._connection.backend_pid = other.info.backend_pid

        lose_an_answer(writer, restarted)
        outcome, _, why = await writer.commit([session_closed()])
        assert outcome is Outcome.COMMITTED, why
        assert other.execute("SELECT 1").fetchone() == (1,), "it is still there"
    await writer.close()
