"""The whole pair on one machine, as a value: `async with LocalPair(dir) as pair`, and as the command `adapter up`.

The order of the start is that of need: etcd, PostgreSQL and the gateway beside each other, the schema, the replicas.
The order of the end is the reverse. The launcher waits for every child by its pidfd, inherits their orphans, and has a
guardian for the case that it is killed itself (guardian.py).
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.clock import boottime
from ha.local import build, etcd, opening, postgres, secret
from ha.local.database import DatabaseRefused
from ha.local.guard import DirectoryInUse, Guard, Lock
from ha.local.guardian import kill_leftovers
from ha.local.parts import REPLICAS, Commands, Layout, Part
from ha.local.ports import Ports
from ha.local.probe import PartFailed
from ha.local.process import Child, become_subreaper, reap_orphans
from ha.local.releaser import Releaser
from ha.local.supervise import Event, Supervisor
from ha.local.watchdog import Watchdog

_OTHERS = ("etcd", "postgres", "gateway", "release")
_CANNOT = (
    PartFailed,
    DirectoryInUse,
    DatabaseRefused,
    etcd.EtcdMissing,
    opening.PortsBusy,
    postgres.PostgresMissing,
    postgres.AccountMissing,
    secret.SecretsRefused,
    OSError,
)


class StartFailed(Exception):
    """The pair did not come up, and nothing of it is left running; the message says which part, and why."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as it runs now; its pid changes with every restart, None = it has ended."""

    name: str
    url: str
    pid: int | None


class LocalPair:
    """etcd, PostgreSQL, the stand-in gateway and two replicas, started, watched and ended from one event loop.

    `on_event` hears, in the loop's own turn, what happens to a part. `restart` = whether a replica that dies is started
    again; the other parts always are (`supervisor.restart` holds the names and may be changed). `part_env` adds settings
    for one part by its name (`a`, `b`, `gateway`, `etcd`) and is read at every start of that part. `watchdog` = whether a
    replica that gives no sign of life for the setting WATCHDOG is killed, as systemd does; who freezes replicas on purpose
    leaves it off. Start the pair in a thread that stays until `stop`; its process becomes a subreaper.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ports: Ports | None = None,
        restart: bool = True,
        watchdog: bool = False,
        env: Mapping[str, str] | None = None,
        part_env: dict[str, dict[str, str]] | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
        commands: Commands | None = None,
        ready_within: float = 60.0,
    ) -> None:
        """Starts and writes nothing. `env` = the caller's environment, `os.environ` if left out."""
        self.directory = Path(os.path.realpath(directory))
        self.ports = ports or Ports()
        self.part_env = part_env if part_env is not None else {}
        self.first_leader = ""  # who led when the pair became ready
        self.env = dict(os.environ if env is None else env)
        self.on_event = on_event
        self._watchdog = watchdog
        self._commands = commands or Commands()
        self._ready_within = ready_within
        self._layout: Layout | None = None  # once the database is chosen
        self._ready = False
        self._lock = Lock(self.directory)
        self._releaser = Releaser(self._released)
        self._guard = Guard(self.directory, self._lock, self._children)
        self.supervisor = Supervisor(self._guard, self._event, {*_OTHERS, *(REPLICAS if restart else ())})

    async def start(self) -> None:
        """Start everything; returns when one replica leads and the other is ready.

        Raises StartFailed, or passes a cancellation on; in both cases all that was started has ended.
        """
        try:
            async with asyncio.timeout(self._ready_within):
                await self._start()
        except TimeoutError:
            lacking = await opening.lacking(self.supervisor.parts.values(), self.ports)
            await self.stop()
            raise StartFailed(f"the pair is not ready after {self._ready_within:g} s{lacking}") from None
        except _CANNOT as error:
            await self.stop()
            raise StartFailed(str(error)) from error
        except BaseException:
            await self.stop()
            raise

    @property
    def replicas(self) -> list[Replica]:
        """Both replicas as they are now."""
        pids = self._pids()
        return [Replica(name, f"http://127.0.0.1:{getattr(self.ports, name)}", pids.get(name)) for name in REPLICAS]

    def info(self) -> dict[str, Any]:
        """What `adapter up --json` prints; only once started. Holds the database's passwords."""
        assert self._layout is not None, "not started"
        pids = self._pids()
        gateway = {"host": "127.0.0.1", "port": self.ports.gateway, "control": f"http://127.0.0.1:{self.ports.control}"}
        return {
            "ready": self._ready,
            "replicas": [asdict(replica) for replica in self.replicas],
            "gateway": {**gateway, "pid": pids.get("gateway")},
            "database_url": self._layout.urls.adapter,
            "migrate_database_url": self._layout.urls.owner,
            "etcd": [f"127.0.0.1:{self.ports.etcd}"],
            "dir": str(self.directory),
            "pid": os.getpid(),
            "pids": pids,
        }

    async def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a living part (`a`, `b`, `gateway`, `etcd`, `postgres`, `release`); returns its pid.

        After SIGKILL it returns when the process has ended. Raises LookupError if there is no such part, or none that
        lives.
        """
        part = self.supervisor.parts.get(name)
        if part is None or part.child is None or part.child.code is not None:
            raise LookupError(f"{name} is not running")
        child = part.child
        child.send(number)
        if number == signal.SIGKILL:
            await child.wait()
        return child.pid

    def kill_all(self) -> None:
        """SIGKILL to every part at once, for the impatient; `stop` then has little left to do."""
        self.supervisor.kill_all()

    async def stop(self) -> None:
        """End everything in order and wait for it: replicas, gateway, etcd, PostgreSQL. Once more does nothing."""
        self._ready = False
        for names in (REPLICAS, ("release", "gateway"), ("etcd",), ("postgres",)):
            await self.supervisor.end(names)
        await self.supervisor.close()
        if self._lock.held:
            await asyncio.to_thread(kill_leftovers, self._guard.token, self.directory / "postgres")
            reap_orphans()
            await self._guard.dismiss()
            (self.directory / "pair.json").unlink(missing_ok=True)
            self._lock.release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self) -> None:
        (self.directory / "log").mkdir(parents=True, exist_ok=True)
        await self._lock.acquire()
        opening.turn_logs(self.directory / "log")
        secrets = secret.load(self.directory)
        env = {**self.env, **self._guard.mark}
        chosen = opening.choose(self.directory, self.ports, env, secrets)
        opening.refuse_busy(self.ports, embedded=chosen.server is not None)
        become_subreaper()
        self._guard.start()
        layout = opening.layout(
            self.directory, self.ports, chosen, env=env, part_env=self.part_env, commands=self._commands
        )
        self._layout = layout
        up = self.supervisor.bring_up
        await opening.together(
            self._etcd(layout),
            self._database(layout, chosen),
            up(build.gateway_part(layout)),
            up(build.release_part(layout, self._releaser)),
        )
        await opening.together(*(up(self._replica(layout, name)) for name in REPLICAS))
        self.first_leader = await opening.roles(
            layout, [child for child in self.supervisor.children() if child.name in REPLICAS]
        )
        self._ready = True
        self._write()

    def _replica(self, layout: Layout, name: str) -> Part:
        watched = Watchdog(layout.run_dir(name), self._silent) if self._watchdog else None
        return build.replica_part(layout, name, self._releaser, watched)

    def _silent(self, child: Child, why: str) -> None:
        """A replica that hangs keeps its broker session: killed, it is released and started anew like any that died (R12)."""
        self._event(Event("failed", child.name, child.pid, f"watchdog: {why}, killed"))
        child.send(signal.SIGKILL)

    async def _etcd(self, layout: Layout) -> None:
        binary = await asyncio.to_thread(etcd.find)
        self._event(Event("note", "etcd", None, f"{binary} ({binary.path})"))
        await self.supervisor.bring_up(build.etcd_part(layout, binary))

    async def _database(self, layout: Layout, chosen: opening.Database) -> None:
        if chosen.server is None:
            await chosen.give_role(layout)
        else:
            await chosen.server.prepare(chosen.secrets)
            secret.keep(self.directory, chosen.secrets)
            await self.supervisor.bring_up(build.postgres_part(chosen.server))
        began = boottime()
        await opening.migrate(layout)
        self._event(Event("ready", "migrate", None, f"{boottime() - began:.1f} s"))

    def _children(self) -> list[Child]:
        return self.supervisor.children()

    def _pids(self) -> dict[str, int]:
        pids = {child.name: child.pid for child in self.supervisor.children()}
        return pids | ({"guardian": self._guard.pid} if self._guard.pid is not None else {})

    def _write(self) -> None:
        secret.write_private(self.directory / "pair.json", jsonlib.dumps(self.info()) + "\n", durable=False)

    def _event(self, event: Event) -> None:
        self.on_event(event)
        if self._ready and event.kind in ("restarted", "ended"):
            try:
                self._write()
            except OSError as error:  # a full disk must not keep the launcher from its work
                self.on_event(Event("failed", "pair.json", None, str(error)))

    def _released(self, run_dir: Path, answer: dict[str, Any] | None) -> None:
        if answer is None:
            told = "not known to be given back: it may live until its time is over"
        else:
            told = f"{answer.get('outcome')} in {answer.get('ms')} ms ({answer.get('reason')})"
        self._event(Event("released", run_dir.name, None, told))


def up(dir: Path, *, json: bool, port_base: int | None, restart: bool = True) -> int:
    """`adapter up`: start a pair in `dir`, say where it is, stay until SIGINT or SIGTERM. Returns the exit code.

    0 = it ran and has ended in order, 1 = it did not come up (nothing is left of it), 2 = wrong usage.
    """
    from ha.local.console import up as show

    return show(dir, json=json, port_base=port_base, restart=restart)
