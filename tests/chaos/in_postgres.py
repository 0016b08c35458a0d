"""Faults of PostgreSQL: an answer to COMMIT that is lost, a lock that is waited for, a full disk; see faults.py."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import psycopg

from ha.demo.fetch import Fetch, FetchFailed
from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.disk import flag
from tests.chaos.faults import DidNotBite, now
from tests.chaos.links import Way
from tests.chaos.preload import NO_COMPILER, compiler

_HEAD = "SELECT coalesce(max(seq), 0) FROM ledger.event"
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid() "
    "AND datname = current_database()"
)


async def asked(on: Cluster, query: str) -> int:
    """One number, as the adapter's own role, past every link. Raises psycopg.Error."""
    url = str(on.pair.info()["database_url"])
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=5, autocommit=True) as db:
        row = await (await db.execute(query)).fetchone()
        assert row is not None
        return int(row[0])


async def _locked(on: Cluster) -> psycopg.AsyncConnection:
    """The owner's connection, in a transaction that every write of an event waits for. Raises psycopg.Error."""
    url = str(on.pair.info()["migrate_database_url"])
    owner = await psycopg.AsyncConnection.connect(url, connect_timeout=5)
    await owner.execute("LOCK TABLE ledger.event IN SHARE ROW EXCLUSIVE MODE")
    return owner


@dataclass(frozen=True, slots=True)
class CommitUnanswered:
    """The leader's connection to PostgreSQL is cut while it commits: what it says arrives, the answers do not, and then the
    connection is reset."""

    within: float = 3.0

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        [link] = on.links.of(f"{leader}-postgres")
        try:
            async with asyncio.timeout(self.within), Fetch() as fetch:
                async with await _locked(on) as owner:  # else the first answer that is lost may be that to a proof
                    while not await asked(on, _WAITING):
                        await asyncio.sleep(0.02)
                    await on.links.cut([link], [Way.BACK])
                    at = now()
                    await owner.rollback()
                while True:
                    known = (await fetch.any_status(f"{on.urls[leader]}/health"))[1]["tail"]["seq"]
                    if (head := await asked(on, _HEAD)) > known:
                        break
            await on.links.refuse([link])
        except (TimeoutError, FetchFailed):
            raise DidNotBite("nothing was committed while answers were lost") from None
        finally:
            await on.links.mend([link])
        evidence = f"{leader} has committed event {head} and knows of {known}"
        return Bite("connection cut during COMMIT", at, evidence, None, now())


@dataclass(frozen=True, slots=True)
class LockWait:
    """Somebody's transaction holds a lock on the event log that every write waits for, for so many seconds."""

    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        await on.paired()
        most = 0
        async with await _locked(on) as owner:
            at = now()
            end = asyncio.get_running_loop().time() + self.seconds
            while asyncio.get_running_loop().time() < end:
                most = max(most, await asked(on, _WAITING))
                await asyncio.sleep(0.05)
            await owner.rollback()
        if not most:
            raise DidNotBite("nobody waited for the lock")
        return Bite(f"lock on the log for {self.seconds:g} s", at, f"{most} statements waited for it", None, now())


@dataclass(frozen=True, slots=True)
class FullDisk:
    """PostgreSQL's disk is full for so many seconds: no file of it can grow."""

    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        if compiler() is None:
            raise DidNotBite(NO_COMPILER)
        await on.paired()
        log, file = on.directory / "log" / "postgres.log", flag(on.directory)
        before, at = log.stat().st_size, now()
        try:
            file.touch()
            await asyncio.sleep(self.seconds)
        finally:
            file.unlink()
        with log.open("rb") as said:
            said.seek(before)
            refused = said.read().count(b"No space left on device")
        if not refused:
            raise DidNotBite("PostgreSQL never missed the space")
        return Bite(
            f"disk full for {self.seconds:g} s", at, f"PostgreSQL missed the space {refused} times", None, now()
        )
