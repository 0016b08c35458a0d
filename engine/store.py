"""The one door to PostgreSQL (psycopg 3). Thin: it runs named statements and says how they ended.

Three outcomes, never two: done, refused (the server said no: nothing is written), unknown (the answer was lost). A caller
that meets Unknown repeats the same insert (R20); it never reads to find out.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from engine.events import LEDGER_LEVEL
from engine.exchange import exchange, readable

FENCED = "PA001"
EPOCH_MOVED = "PA002"
LOCK_TIMEOUT = "55P03"
HOLE = "PA003"
OTHER_EVENTS = "PA005"
_ENDED_BY_SERVER = ("57P01", "57P02", "57P03", "57P05")  # the backend was ended: what it was doing is unknown
_KEEPALIVE = {
    "connect_timeout": "3", "keepalives_idle": "2", "keepalives_interval": "1", "keepalives_count": "2",
    "tcp_user_timeout": "3000",
}  # fmt: skip

Row = dict[str, Any]


class StoreError(Exception):
    """A statement did not end well; one of the two below."""


@dataclass(slots=True)
class Refused(StoreError):
    """The server refused: nothing was written. `sqlstate` says why."""

    sqlstate: str
    message: str

    @property
    def fenced(self) -> bool:
        """Whether the refusal is fence 2's: this writer's epoch is not the present one (G1)."""
        return self.sqlstate == FENCED

    def __str__(self) -> str:
        return f"{self.message} ({self.sqlstate})"


@dataclass(slots=True)
class Unknown(StoreError):
    """The answer did not come: the statement may or may not have been committed."""

    message: str

    def __str__(self) -> str:
        return self.message


def named_queries(text: str) -> dict[str, str]:
    """Statements by the name in their `-- name:` line."""
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


QUERIES = named_queries((Path(__file__).parent / "queries.sql").read_text())


def numbered(query: str) -> tuple[bytes, tuple[str, ...]]:
    """A statement with psycopg's `%(name)s` as PostgreSQL's own `$1`, `$2`, and the names in that order."""
    names = tuple(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
    for number, name in enumerate(names, start=1):
        query = query.replace(f"%({name})s", f"${number}")
    return query.replace("%%", "%").encode(), names


DIRECT = {name: numbered(QUERIES[name]) for name in ("append", "prove", "pulse", "events_after", "project")}
"""What is run for every order, or several times a second: prepared once on a connection, and run past psycopg's cursors, which
cost more than twice as much. Parameters are whole numbers, text or None."""


def hosts_of(url: str) -> list[str]:
    """The hosts that a connection may go to, one or several."""
    return str(conninfo_to_dict(url).get("host") or "").split(",")


class Connection:
    """One connection in autocommit: each statement is one transaction and one round trip."""

    def __init__(self, url: str, application_name: str) -> None:
        self._url = make_conninfo(url, **(_KEEPALIVE | {"application_name": application_name[:63]}))
        self._connection: psycopg.AsyncConnection[Row] | None = None
        self._busy = asyncio.Lock()
        self._warning = ""
        self._prepared: set[str] = set()  # of DIRECT, on this connection
        self._loader: Any = None  # psycopg's, of a row's values
        self.backend_pid: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection looks usable; only a statement's answer proves it."""
        return self._connection is not None and not self._connection.closed

    async def open(self, deadline: float = 3.0) -> None:
        """Connect, within `deadline` seconds. Raises Unknown (nothing can have been written)."""
        await self.close()
        try:
            async with asyncio.timeout(deadline):
                connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, row_factory=dict_row, prepare_threshold=2
                )
        except (psycopg.Error, TimeoutError, OSError) as error:
            raise Unknown(f"no connection to PostgreSQL: {first_line(error)}") from error
        connection.add_notice_handler(self._noticed)
        self._connection, self.backend_pid = connection, connection.info.backend_pid
        self._prepared, self._loader = set(), Transformer(connection)

    async def tag(self, application_name: str) -> None:
        """Carry another name from now on, over reconnections too. Raises Refused, Unknown."""
        self.rename(application_name)
        await self.run("tag", {"name": application_name[:63]})

    def rename(self, application_name: str) -> None:
        """Carry another name from the next `open` on."""
        self._url = make_conninfo(self._url, application_name=application_name[:63])

    async def close(self) -> None:
        """Close; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()

    def _noticed(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warning = diagnostic.message_primary or "a warning"

    def _hang_up(self) -> None:
        """Make the statement in flight end now: shut the socket down, whatever the server does."""
        if self._connection is not None and not self._connection.closed:
            with contextlib.suppress(OSError), socket.socket(fileno=self._connection.pgconn.socket) as raw:
                try:
                    raw.shutdown(socket.SHUT_RDWR)
                finally:
                    raw.detach()

    async def run(self, name: str, parameters: Mapping[str, Any] | None = None, deadline: float = 3.0) -> list[Row]:
        """Run the named statement; the rows it answered.

        Raises Refused when the server refused (nothing written) and Unknown when the answer did not come within `deadline`
        seconds, the connection broke, or PostgreSQL warned during the commit (R20); the connection is then closed.
        """
        async with self._busy:
            if self._connection is None or self._connection.closed:
                raise Unknown("not connected to PostgreSQL")
            self._warning = ""
            try:
                rows = await self._execute(self._connection, name, parameters, deadline)
            except psycopg.Error as error:
                raise await self._judge(name, error, in_time=True, deadline=deadline) from error
            except TimeoutError as error:
                self._hang_up()
                raise await self._judge(name, psycopg.OperationalError(), in_time=False, deadline=deadline) from error
            except asyncio.CancelledError:
                self._hang_up()
                await self.close()
                raise
            if self._warning:  # a cancelled wait for the synchronous replica: committed here, perhaps nowhere else
                await self.close()
                raise Unknown(f"PostgreSQL warned while it committed: {self._warning}")
            return rows

    async def _execute(
        self, connection: psycopg.AsyncConnection[Row], name: str, parameters: Mapping[str, Any] | None, deadline: float
    ) -> list[Row]:
        """Raises psycopg.Error, and TimeoutError; then, and when it is cancelled, the statement may still be running."""
        if name not in DIRECT:
            return await self._by_cursor(connection, QUERIES[name], parameters, deadline)
        (query, names), pgconn, label = DIRECT[name], connection.pgconn, f"direct_{name}".encode()
        given = parameters or {}
        values = [None if given[key] is None else str(given[key]).encode() for key in names]
        ends = time.monotonic() + deadline
        if name not in self._prepared:
            _good(await exchange(pgconn, lambda: pgconn.send_prepare(label, query), deadline))
            self._prepared.add(name)
            deadline = max(ends - time.monotonic(), 0.0)
        result = _good(await exchange(pgconn, lambda: pgconn.send_query_prepared(label, values), deadline))
        self._loader.set_pgresult(result)
        columns = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
        rows: list[Row] = self._loader.load_rows(0, result.ntuples, lambda row: dict(zip(columns, row, strict=True)))
        return rows

    async def _by_cursor(
        self,
        connection: psycopg.AsyncConnection[Row],
        query: str,
        parameters: Mapping[str, Any] | None,
        deadline: float,
    ) -> list[Row]:
        """In a task, because psycopg answers a cancel by asking the server to cancel too, and waits for that."""

        async def execute() -> list[Row]:
            cursor = await connection.execute(query, parameters)
            return await cursor.fetchall() if cursor.description else []

        work = asyncio.ensure_future(execute())
        try:
            done, _ = await asyncio.wait({work}, timeout=deadline)
        except asyncio.CancelledError:
            self._hang_up()
            await asyncio.wait({work})
            work.exception()
            raise
        if not done:
            self._hang_up()
            await asyncio.wait({work})
            work.exception()
            raise TimeoutError
        return work.result()

    async def _judge(self, name: str, error: psycopg.Error, *, in_time: bool, deadline: float) -> StoreError:
        state = error.sqlstate
        if state is not None and state not in _ENDED_BY_SERVER and in_time:
            return Refused(state, first_line(error))
        await self.close()
        if not in_time:
            return Unknown(f"no answer to {name!r} within {deadline:g} s")
        return Unknown(first_line(error))

    async def notifications(self, channel: str) -> AsyncIterator[str]:
        """Listen on `channel` for ever; each payload is a hint only (R21), and of those that came meanwhile it is the last.

        Raises Unknown when the connection breaks.
        """
        if self._connection is None:
            raise Unknown("not connected to PostgreSQL")
        try:
            await self._connection.execute(f"LISTEN {channel}")
            pgconn = self._connection.pgconn
            while True:
                await readable(pgconn.socket)
                pgconn.consume_input()
                last = None
                while (notice := pgconn.notifies()) is not None:
                    last = notice
                if last is not None:
                    yield last.extra.decode()
        except (psycopg.Error, OSError) as error:
            await self.close()
            raise Unknown(first_line(error)) from error


def _good(results: Sequence[psycopg.pq.abc.PGresult]) -> psycopg.pq.abc.PGresult:
    """The first of these results. Raises psycopg.Error when one of them is a refusal, a commit's behind the rows too."""
    for result in results:
        if result.status not in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK):
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
    if not results:
        raise psycopg.OperationalError("the server answered nothing")
    return results[0]


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its trailing space, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def writer_name(epoch: int, replica: str) -> str:
    """The tag by which a claimant finds and ends the writers of older epochs (R11), and `migrate` the level they read (R22)."""
    return f"adapter-writer:{epoch}:level {LEDGER_LEVEL}:{replica}"


def tail_name(replica: str) -> str:
    """The name of a standby's reading connection: it tells which ledger level its version reads (R22)."""
    return f"adapter-tail:level {LEDGER_LEVEL}:{replica}"


def role_of(url: str) -> str:
    """The role that `url` names, "" where it names none."""
    return str(conninfo_to_dict(url).get("user") or "")
