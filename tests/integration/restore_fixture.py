"""A pair whose database goes back in time: what was asked of it, what the broker has, and the tools that take it back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from engine.migrate import migrate
from ha.local.postgres import ADAPTER, DATABASE, OWNER, account, binaries
from ha.local.process import Child, Spec, run, spawn
from tests.integration.etcd_fixture import Cluster, free_ports
from tests.integration.pair_fixture import Answer, ask, until
from tests.integration.pg_fixture import IDENTITY, Urls
from tests.integration.replica_fixture import Replica, replica, settings_for

T = TypeVar("T")
ORDERS = "/api/v1/orders"
_numbers = itertools.count(1)


class Pair:
    """Two replicas, the orders that clients were promised, and the stand-in that they went to."""

    def __init__(self, a: Replica, b: Replica, control: str, promised: dict[str, dict[str, Any]]) -> None:
        self.both, self._control, self.promised = (a, b), control, promised

    def state(self, one: Replica) -> str | None:
        """A replica's state, None while it does not answer."""
        answer = one.get("/health")
        return None if answer is None else str(answer.json["state"])

    def leader(self, state: str = "LEADING", patience: float = 40.0) -> Replica:
        """The replica in this state, with its gate open where it leads."""

        def found() -> Replica | None:
            for one in self.both:
                if self.state(one) == state and (state != "LEADING" or one.get("/readyz").status == 200):  # type: ignore[union-attr]
                    return one
            return None

        return until(found, state, patience)

    def place(self, **fields: Any) -> dict[str, Any]:
        """An order that a client was promised (201), and that is at the broker by now."""
        body = {
            "client_order_id": f"kept-{next(_numbers)}", "symbol": "AAPL", "side": "BUY", "quantity": "1",
            "order_type": "LMT", "limit_price": "1.00",
        } | fields  # fmt: skip
        if body["order_type"] == "MKT":
            del body["limit_price"]
        answer = until(lambda: self._accepted(body), "the order is accepted", 40.0)
        oid, ends = answer.json["id"], "FILLED" if body["order_type"] == "MKT" else "WORKING"
        self.promised[oid] = body
        until(lambda: self.leader().get(f"{ORDERS}/{oid}").json["state"] == ends, f"the order is {ends}")  # type: ignore[union-attr]
        return answer.json  # type: ignore[no-any-return]

    def _accepted(self, body: dict[str, Any]) -> Answer | None:
        """The answer of a leader that accepted it, None where it is to be asked for once more under the same key."""
        answer = ask(self.leader().url, "POST", ORDERS, body)
        assert answer.status in (200, 201, 503, 504), answer.content
        return answer if answer.status in (200, 201) else None

    def cancel(self, oid: str) -> None:
        """Cancel it, and see it cancelled."""
        leader = self.leader()
        assert ask(leader.url, "DELETE", f"{ORDERS}/{oid}").status == 202
        until(lambda: ask(leader.url, "GET", f"{ORDERS}/{oid}").json["state"] == "CANCELLED", "it is cancelled")

    def some_orders(self) -> None:
        """Some that rest, one that fills, one that is cancelled."""
        self.place()
        self.place(symbol="MSFT")
        self.place(symbol="IBM", order_type="MKT", quantity="3")
        self.cancel(self.place(symbol="MSFT")["id"])

    # ---- afterwards

    def hold(self) -> dict[str, Any]:
        """The open break that holds everything; its holder refuses new orders."""
        holder = self.leader("HOLDING")
        fresh = {"client_order_id": "too-early", "symbol": "AAPL", "side": "BUY", "quantity": "1", "order_type": "MKT"}
        refused = ask(holder.url, "POST", ORDERS, fresh)
        assert (refused.status, refused.problem) == (503, "held")
        open_ones = [b for b in ask(holder.url, "GET", "/api/v1/breaks").json["breaks"] if not b["resolved_at"]]
        [held] = [b for b in open_ones if b["kind"] == "everything"]
        return held  # type: ignore[no-any-return]

    def look_at_it(self) -> None:
        """An operator has looked: orders flow again."""
        held = self.hold()
        path = f"/api/v1/breaks/{held['id']}"
        answer = ask(self.leader("HOLDING").url, "POST", path, {"resolution": "looked", "reason": "compared with TWS"})
        assert answer.status == 200, answer.content
        self.leader()

    def broker(self, path: str) -> Any:
        """What the stand-in says."""
        answer = ask(self._control, "GET", path)
        assert answer.status == 200
        return answer.json

    def retry(self, oid: str) -> Answer:
        """The client asks for the same order again."""
        return ask(self.leader().url, "POST", ORDERS, self.promised[oid])

    def check(self) -> None:
        """Nothing was sent twice, every order is known again, every execution booked once, and positions agree."""
        leader = self.leader()
        entries = self.broker("/journal?after=0")["entries"]
        taken = [entry["order_ref"].rsplit(".", 1)[1] for entry in entries if entry["kind"] == "order"]
        assert sorted(taken) == sorted(self.promised), "each promised order reached the broker, once"
        for oid in self.promised:
            found = ask(leader.url, "GET", f"{ORDERS}/{oid}")
            assert found.status == 200, (oid, found.content)
        made = sorted(entry["exec_id"] for entry in entries if entry["kind"] == "execution")
        booked = ask(leader.url, "GET", "/api/v1/executions?limit=1000").json["executions"]
        assert sorted(one["exec_id"] for one in booked) == made
        ours = {p["symbol"]: p["quantity"] for p in ask(leader.url, "GET", "/api/v1/positions").json["positions"]}
        theirs = {p["symbol"]: p["quantity"] for p in self.broker("/positions")["positions"]}
        assert {s: q for s, q in ours.items() if q != "0"} == {s: q for s, q in theirs.items() if q != "0"}


@contextlib.contextmanager
def running_pair(
    urls: Urls,
    gateway_port: int,
    control: str,
    etcd: Cluster,
    directory: Path,
    promised: dict[str, dict[str, Any]],
    **settings: str,
) -> Iterator[Pair]:
    """Two replicas on this database; ended afterwards. `promised` goes on from an earlier life."""
    shared = {"ETCD_ENDPOINTS": ",".join(etcd.endpoints), "ONE_MACHINE": "true"} | settings
    with (
        replica(directory / "a", settings_for(urls, gateway_port, "a", **shared)) as a,
        replica(directory / "b", settings_for(urls, gateway_port, "b", **shared)) as b,
    ):
        yield Pair(a, b, control, promised)
        for one in (a, b):
            one.send(signal.SIGTERM)


# ---- the ways back


def dump(urls: Urls, to: Path) -> None:
    """What a nightly backup makes: pg_dump of the ledger."""
    subprocess.run(
        [str(binaries() / "pg_dump"), "--format=custom", "--schema=ledger", f"--file={to}", urls.owner],
        check=True, timeout=60,
    )  # fmt: skip


def restore(urls: Urls, dumped: Path) -> None:
    """What an operator does with it: the schema is dropped and read back, in one transaction."""
    sql = subprocess.run(
        [str(binaries() / "pg_restore"), "--file=-", str(dumped)], check=True, timeout=60, capture_output=True, text=True
    ).stdout  # fmt: skip
    script = "BEGIN;\nDROP SCHEMA ledger CASCADE;\n" + sql + "\nCOMMIT;\n"
    command = [str(binaries() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", urls.owner]
    subprocess.run(command, input=script, check=True, timeout=60, text=True, stdout=subprocess.DEVNULL)


def empty(urls: Urls) -> None:
    """A new database under the same name: nothing but what `adapter migrate` makes."""
    with psycopg.connect(urls.owner) as owner:
        owner.execute("DROP SCHEMA ledger CASCADE")
    migrate(urls.owner, urls.adapter, IDENTITY)


_SUPER = "postgres"


class Host:
    """One PostgreSQL host of a pair of them, as a child; it is killed at the end."""

    def __init__(self, data: Path, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.data, self.port, self._loop = data, port, loop
        self._child: Child | None = None

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(90)

    def _spec(self, name: str, *options: str) -> Spec:
        place, log = self.data.parent, self.data.parent / f"{self.data.name}.log"
        bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        return Spec(name, (str(binaries() / name), *options), bare, place, log, signal.SIGQUIT, account(place / "none"))

    def tool(self, name: str, *options: str) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        child = self._do(run(self._spec(name, *options), "", 60.0))
        assert child.code == 0, child.last_lines()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
                   "wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on", "shared_buffers": "32MB",
                   "io_method": "sync"}  # fmt: skip
        spec = self._spec("postgres", "-D", str(self.data), *(f"-c{name}={value}" for name, value in options.items()))

        async def started() -> Child:
            return spawn(spec)

        self._child = self._do(started())
        until(self._answers, "PostgreSQL answers", 60)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        return False

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """As its superuser."""
        url = f"postgresql://{_SUPER}@127.0.0.1:{self.port}/{database}"
        return psycopg.connect(url, autocommit=True, connect_timeout=5)

    def one(self, query: str) -> Any:
        """The first column of the first row."""
        with self.connect() as connection:
            [row] = connection.execute(query).fetchall()
            return row[0]

    def kill(self) -> None:
        """The host is gone, with all its connections."""
        if self._child is not None:
            self._do(self._child.stop((signal.SIGQUIT, 30.0)))  # `immediate`: no flush, no goodbye to a copy
            self._child = None


class Copied:
    """A primary and a copy that follows it; the copy can fall behind, and then take its place."""

    def __init__(self, directory: Path) -> None:
        first, second = free_ports(2)
        directory.chmod(0o777)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.primary = Host(directory / "first", first, self._loop)
        self.copy = Host(directory / "second", second, self._loop)
        self._old: Host | None = None
        self.primary.tool(
            "initdb", "-D", str(self.primary.data), f"--username={_SUPER}", "--auth=trust", "--encoding=UTF8"
        )
        self.primary.start()
        with self.primary.connect() as connection:
            for statement in (
                f"CREATE ROLE {OWNER} LOGIN",
                f"CREATE ROLE {ADAPTER} LOGIN",
                f"CREATE DATABASE {DATABASE} OWNER {OWNER}",
            ):
                connection.execute(statement)
        source = f"postgresql://{_SUPER}@127.0.0.1:{first}"
        self.copy.tool("pg_basebackup", "-D", str(self.copy.data), "-R", "-X", "stream", "-c", "fast", "-d", source)
        self.copy.start()
        self.urls = Urls(self._url(OWNER), self._url(ADAPTER))
        migrate(self.urls.owner, self.urls.adapter, IDENTITY)

    def _url(self, role: str) -> str:
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.copy.port}"
        return f"postgresql://{role}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def fall_behind(self) -> None:
        """Wait until the copy has everything, then let it take in nothing more."""
        head = self.primary.one("SELECT pg_current_wal_lsn()")
        until(lambda: self.copy.one(f"SELECT pg_last_wal_replay_lsn() >= '{head}'"), "the copy has caught up")
        with self.copy.connect() as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        until(lambda: self.copy.one("SELECT count(*) FROM pg_stat_wal_receiver") == 0, "the copy follows no more")

    def fail_over(self) -> None:
        """The primary is gone and the copy takes its place, without what it never got."""
        self.primary.kill()
        with self.copy.connect() as connection:
            connection.execute("SELECT pg_promote()")

    def old_host(self) -> Host:
        """The one that failed, once more, where no replica looks for it: it has what the copy lacks."""
        [port] = free_ports(1)
        self._old = Host(self.primary.data, port, self._loop)
        self._old.start()
        return self._old

    def close(self) -> None:
        """End all."""
        for host in filter(None, (self.primary, self.copy, self._old)):
            host.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
