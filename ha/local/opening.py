"""The steps of a start that have an order: the database before the schema, the schema before the replicas."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ha.local import database, postgres
from ha.local.parts import REPLICAS, Commands, Layout, Part, migrate_spec
from ha.local.ports import Ports, busy
from ha.local.probe import PartFailed, answers, get
from ha.local.process import Child, run
from ha.local.secret import Secrets, keep

_MIGRATE_WITHIN = 60.0
_EVERY = 0.02
_LOG_LIMIT = 5_000_000
_PLAIN_LOGS = ("etcd", "postgres", "gateway", "release", "migrate", "guardian", "database")


class PortsBusy(Exception):
    """Ports that the pair needs are taken; the message has a line for each, with its holder."""


@dataclass(frozen=True, slots=True)
class Database:
    """Which database a pair uses. With `server` it is the embedded one; else the caller's, `one_url` = by one URL."""

    urls: database.Urls
    secrets: Secrets
    server: postgres.Server | None
    one_url: bool = False

    async def give_role(self, layout: Layout) -> None:
        """With one URL of the caller's: make the adapter's role. Raises PartFailed."""
        if self.one_url:
            await database.second_role(self.urls.owner, self.secrets, layout.directory, layout.env)
            keep(layout.directory, self.secrets)


def choose(directory: Path, ports: Ports, env: Mapping[str, str], secrets: Secrets) -> Database:
    """The database that the environment names, else the embedded one. Starts nothing, raises what those raise."""
    adapter, owner = database.named(env)
    if adapter is None:
        server = postgres.Server(directory, ports, env)
        urls = database.Urls(server.url(postgres.OWNER, secrets.owner), server.url(postgres.ADAPTER, secrets.adapter))
        return Database(urls, secrets, server)
    if owner is None:
        second = database.with_user(adapter, postgres.ADAPTER, secrets.adapter)
        return Database(database.Urls(adapter, second), secrets, None, one_url=True)
    return Database(database.Urls(owner, adapter), secrets, None)


def layout(
    directory: Path,
    ports: Ports,
    chosen: Database,
    *,
    env: Mapping[str, str],
    part_env: Mapping[str, Mapping[str, str]],
    commands: Commands,
) -> Layout:
    """Where everything is. PG… variables of the caller go on only to the caller's own database."""
    kept = env if chosen.server is None else {k: v for k, v in env.items() if not re.fullmatch(r"PG[A-Z]+", k)}
    return Layout(directory, ports, chosen.urls, kept, part_env, commands)


def refuse_busy(ports: Ports, *, embedded: bool) -> None:
    """Raise PortsBusy if anything listens where the pair is to; PostgreSQL's port counts only if it is `embedded`."""
    wanted = {name: port for name, port in ports.named().items() if embedded or name != "postgres"}
    taken = busy(wanted)
    if taken:
        lines = [f"port {holder.port} ({name}) is in use by {holder}" for name, holder in taken.items()]
        raise PortsBusy("\n".join([*lines, "nothing was started; --port-base N moves all ports to N+1 and above"]))


async def migrate(layout: Layout) -> None:
    """Bring the database to this code's schema, as its owner. Raises PartFailed."""
    spec = migrate_spec(layout)
    try:
        child = await run(spec, seconds=_MIGRATE_WITHIN)
    except TimeoutError:
        raise PartFailed("migrate", f"is not done after {_MIGRATE_WITHIN:g} s", "", str(spec.log)) from None
    if child.code != 0:
        raise PartFailed("migrate", f"ended: {child.how_it_ended()}", child.last_lines(), str(spec.log))


async def roles(layout: Layout, replicas: list[Child]) -> str:
    """The leader's name, when one replica answers 200 on /leader and the other on /readyz. Raises PartFailed."""
    while (leader := await _leader(layout)) is None:
        for child in replicas:
            if child.code is not None:
                raise PartFailed(child.name, f"ended: {child.how_it_ended()}", child.last_lines(), str(child.spec.log))
        await asyncio.sleep(_EVERY)
    return leader


async def _leader(layout: Layout) -> str | None:
    """The one that leads while all others are ready, else None."""
    leading = [name for name in REPLICAS if await answers(getattr(layout.ports, name), "/leader")]
    others = [name for name in REPLICAS if name not in leading]
    if not leading or not all([await answers(getattr(layout.ports, name), "/readyz") for name in others]):
        return None
    return leading[-1]


async def lacking(parts: Iterable[Part], ports: Ports) -> str:
    """What keeps a pair from being ready: the parts that are not up, what the replicas say, the last lines of each."""
    shown = []
    for part in parts:
        if part.child is None or (part.wanted and part.name not in REPLICAS):
            continue
        answer = await get(getattr(ports, part.name), "/readyz") if part.name in REPLICAS else None
        said = f"/readyz {answer.status} {answer.body[:500].decode(errors='replace')}" if answer else "not up"
        lines = "".join(f"\n      {line}" for line in part.child.last_lines(4).splitlines())
        shown.append(f"\n  {part.name}: {said.strip()}{lines}")
    return "".join(shown)


def turn_logs(logs: Path) -> None:
    """Lay large logs of earlier runs aside, one generation: nothing else bounds what the programs print."""
    for path in [*logs.glob("*.out"), *(logs / f"{name}.log" for name in _PLAIN_LOGS)]:
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.replace(f"{path}.1")


async def together(*work: Coroutine[None, None, object]) -> None:
    """Do all of it at the same time; the first failure ends the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
