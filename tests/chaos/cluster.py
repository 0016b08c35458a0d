"""The cluster under test: three members of etcd, PostgreSQL, the relay, the stand-in gateway and two replicas.

Its roles are seen from outside, its parts armed, ended and started by name. On one host with every link under control
(`links`), or with replicas and members of etcd on hosts of their own (`network`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from ha.demo.fetch import Fetch, FetchFailed
from ha.demo.scene import Glimpse, Scene
from ha.local.parts import REPLICAS
from ha.local.ports import Ports
from ha.local.process import Child
from ha.local.supervise import Event
from tests.chaos.check import Row
from tests.chaos.evidence import claims, database_log, last_words
from tests.chaos.links import Links
from tests.chaos.namespaces import Network
from tests.chaos.parts import MEMBERS, needed_parts
from tests.chaos.whole import Whole
from tests.chaos.wiring import Hosts, Loopback

CLIENT_ID = 17
HEALS_WITHIN = 40.0  # seconds for one leader and a healthy standby after whatever happened
_LOOK_EVERY = 0.15
T = TypeVar("T")
STOCKS = ("AAPL", "AMZN", "GOOG", "IBM", "MSFT", "NVDA", "SPY", "TSLA")  # what the stand-in trades under one name only
_LEAST_SYMBOLS = 5
INTENT_AGE = 8.0
# settings of the caller's that would make the pair another one than the tests mean
_NOT_FOR_TESTS = (
    "API_SECRET_KEY", "SECRET_KEY", "ENABLE_API_AUTH", "RATE_LIMIT_PER_MINUTE", "FAILPOINTS",
    "DATABASE_URL", "MIGRATE_DATABASE_URL", "POSTGRES_URL",
)  # fmt: skip
# an order that waits for a held contract ends while the test still looks
_SETTINGS = {f"MAX_INTENT_AGE_{kind}": str(INTENT_AGE) for kind in ("LMT", "MKT")}
# on a machine that does much else the event loop waits for its turn, and a term that ends by that tests nothing here
_SETTINGS |= {"LOOP_ALLOWANCE": "0.9"}


class NotHealed(Exception):
    """The pair did not become what a scenario needs; the message says what it lacks."""


class Cluster:
    """A pair with all that it needs, in a directory of its own. `events` is what the launcher told, oldest first.

    `hosts` = replicas and members of etcd on hosts of their own; `settings` = more settings of both replicas.
    """

    def __init__(
        self,
        directory: Path,
        ports: Ports | None = None,
        *,
        hosts: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.ports = ports or Ports.free()
        self.events: list[Event] = []
        self.settings: dict[str, dict[str, str]] = {}  # by part; read at each of its starts
        env = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_TESTS}
        self.wiring = Hosts(directory, self.ports) if hosts else Loopback(directory, self.ports)
        self.token = self.wiring.token
        self.pair = Whole(
            directory, self.wiring, ports=self.ports, env=env | _SETTINGS | dict(settings or {}),
            part_env=self.settings, on_event=self._told,
        )  # fmt: skip
        self.urls = {name: self.wiring.url(name) for name in REPLICAS}
        self.client_urls = {name: self.wiring.client_url(name) for name in REPLICAS}
        self.control = f"http://127.0.0.1:{self.ports.control}"
        self.scene = Scene(names=REPLICAS)
        self.look_every = _LOOK_EVERY  # seconds; being looked at costs a replica some of its CPU
        self._epoch = 0
        self._looking: asyncio.Task[None] | None = None
        self._looked = asyncio.Condition()
        self._struck: asyncio.Event = asyncio.Event()

    @property
    def links(self) -> Links:
        """Every link. Raises LookupError where Toxiproxy is missing, or the cluster is one of hosts."""
        if not isinstance(self.wiring, Loopback) or self.wiring.links is None:
            raise LookupError(needed_parts() or "hosts have cables, not links")
        return self.wiring.links

    @property
    def network(self) -> Network:
        """The hosts. Raises LookupError for a cluster on one host."""
        if isinstance(self.wiring, Hosts):
            return self.wiring.network
        raise LookupError("this cluster is on one host")

    async def start(self) -> None:
        """Returns when paired. Raises StartFailed or NotHealed; nothing is left then."""
        await self.pair.start()
        self._looking = asyncio.create_task(self._look_for_ever(), name="looking at the pair")
        try:
            await self.paired()
        except BaseException as error:
            said = self.last_words()
            await self.stop()
            if isinstance(error, NotHealed):
                raise NotHealed(f"{error}\n{said}") from None
            raise

    async def stop(self, keep: str | None = None) -> None:
        """End everything and remove the directory; its logs and the broker's journal are laid under `keep`, if named."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        await self.pair.stop()
        if keep is not None:
            kept = Path(keep, f"{self.directory.name}-{datetime.now(UTC):%H%M%S}")
            shutil.copytree(
                self.directory, kept, ignore=shutil.ignore_patterns("postgres", "etcd", "lock", "run", "secrets")
            )
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- seen from outside

    async def paired(self, within: float = HEALS_WITHIN) -> str:
        """The leader's name, once it leads with an open gate beside a healthy standby. Raises NotHealed."""
        try:
            return await self.until(self.scene.paired, within)
        except TimeoutError:
            why = self.scene.disagreement() or "it came too late"
            raise NotHealed(f"no leader with a healthy standby within {within:g} s: {why}") from None

    async def led(self, within: float = HEALS_WITHIN) -> str:
        """The leader's name, once it leads with an open gate, whatever the other replica does. Raises NotHealed."""
        try:
            return await self.until(self.scene.leader, within)
        except TimeoutError:
            raise NotHealed(f"no leader within {within:g} s: {self.scene.disagreement()}") from None

    async def until(self, seen: Callable[[], T | None], seconds: float) -> T:
        """What `seen` returns once that is something, asked again after each look. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._looked:
            while (found := seen()) is None:
                await self._looked.wait()
            return found

    async def leaders(self) -> list[str]:
        """Who answers 200 on `/leader` now."""
        async with Fetch() as fetch:
            found = []
            for name, url in self.urls.items():
                with suppress(FetchFailed):
                    if (await fetch.any_status(f"{url}/leader"))[0] == 200:
                        found.append(name)
            return found

    def epoch(self) -> int:
        """The highest epoch that a replica told of at any look so far: one look may come too late on a busy machine."""
        return self._epoch

    async def _look_for_ever(self) -> None:
        async with Fetch(timeout=0.5) as fetch:
            while True:
                await asyncio.gather(*(self._look(fetch, name, url) for name, url in self.urls.items()))
                async with self._looked:
                    self._looked.notify_all()
                await asyncio.sleep(self.look_every)

    async def _look(self, fetch: Fetch, name: str, url: str) -> None:
        try:
            status, body = await fetch.any_status(f"{url}/health")
        except FetchFailed:
            self.scene.see(datetime.now(UTC), name, None)
        else:
            glimpse = Glimpse.read(status, body)
            self._epoch = max(self._epoch, glimpse.epoch)
            self.scene.see(datetime.now(UTC), name, glimpse)

    # ---- the broker and the database, for the judge

    async def journal(self) -> list[dict[str, Any]]:
        """The broker's whole journal. Raises FetchFailed."""
        async with Fetch(timeout=5.0) as fetch:
            entries: list[dict[str, Any]] = (await fetch.get(f"{self.control}/journal"))["entries"]
            return entries

    async def broker(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the stand-in's control port. Raises aiohttp.ClientError, TimeoutError."""
        limit = aiohttp.ClientTimeout(total=2.0)
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=False) as session,
            session.request(method, f"{self.control}{path}", json=body) as response,
        ):
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer

    async def symbols(self, most: int = 6) -> list[str]:
        """Contracts that no open break holds. Raises NotHealed when too few are left."""
        async with Fetch(token=self.token) as fetch:
            breaks = (await fetch.get(f"{self.urls[await self.paired()]}/api/v1/breaks"))["breaks"]
        held = {one["symbol"] for one in breaks if one["resolved_at"] is None}
        free = [symbol for symbol in STOCKS if symbol not in held]
        if len(free) < _LEAST_SYMBOLS:
            raise NotHealed(f"only {len(free)} contracts are not held")
        return free[:most]

    def log(self) -> list[Row]:
        """The database's whole log. Raises psycopg.Error."""
        return database_log(str(self.pair.info()["database_url"]))

    def claims(self) -> dict[int, int]:
        """The log's last event at each claim, by epoch. Raises psycopg.Error."""
        return claims(str(self.pair.info()["database_url"]))

    # ---- its parts

    def child(self, name: str) -> Child:
        """The living process of a part. Raises LookupError."""
        part = self.pair.supervisor.parts.get(name)
        if part is None or part.child is None or part.child.code is not None:
            raise LookupError(f"{name} is not running")
        return part.child

    def other(self, name: str) -> str:
        """The other replica."""
        return REPLICAS[1 - REPLICAS.index(name)]

    def living(self, names: Sequence[str] = MEMBERS) -> list[str]:
        """Those of these parts that run; of etcd's members, if none is named."""
        children = {child.name for child in self.pair.supervisor.children()}
        return [name for name in names if name in children]

    async def renew(
        self, names: Sequence[str], failpoints: Mapping[str, str], settings: Mapping[str, str] | None = None
    ) -> None:
        """End these replicas in order and start them again, each armed as `failpoints` says and with these settings;
        returns when paired.

        What a replica was armed with is forgotten when it dies: its successor is a plain one.
        """
        supervisor = self.pair.supervisor
        await supervisor.end(names)
        for name in names:
            armed = {"FAILPOINTS": failpoints[name]} if name in failpoints else {}
            self.settings[name] = armed | dict(settings or {})
        await asyncio.gather(*(supervisor.respawn(name) for name in names))
        await self.paired()

    async def death(self, names: Sequence[str], within: float, since: int = 0) -> Event:
        """The next end of one of these parts, of those that were told after the first `since` events.

        Raises TimeoutError.
        """
        async with asyncio.timeout(within):
            while True:
                for event in self.events[since:]:
                    if event.kind == "ended" and event.part in names:
                        return event
                self._struck.clear()
                await self._struck.wait()

    def _told(self, event: Event) -> None:
        self.events.append(event)
        if event.kind == "ended":
            self.settings.pop(event.part, None)
            if event.part in REPLICAS:  # whoever asks for the leader now must not be told of the dead one
                self.scene.see(datetime.now(UTC), event.part, None)
            self._struck.set()

    # ---- for a person who reads a failure

    def last_words(self, lines: int = 25) -> str:
        """The end of both replicas' logs and of what the launcher told."""
        return last_words(self.directory / "log", REPLICAS, self.events, lines)
