"""The launcher of a whole cluster: the local pair's own machinery (supervisor, guardian, releaser) with more parts, elsewhere.

Nothing outlives it: every part is ended by its pid, and if the process that runs this is killed, the guardian and the
kernel's parent-death signal end them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ha.local import build, etcd, opening, secret
from ha.local.pair import LocalPair, Replica
from ha.local.parts import REPLICAS, Layout, Part
from ha.local.ports import Ports
from ha.local.process import Child, Spec, become_subreaper
from ha.local.supervise import Event
from ha.local.watchdog import Watchdog
from tests.chaos.parts import MEMBERS, etcd_part, relay_part, status
from tests.chaos.wiring import Wiring

WATCHED = "CHAOS_WATCHED"
"""A setting of a replica: at its next start a watchdog looks after it, as systemd's does."""
_BEFORE_THE_REST = (REPLICAS, ("release", "gateway", "relay"), MEMBERS)


class Whole(LocalPair):
    """As LocalPair, with three members of etcd (`e1` to `e3`), the `relay` and what the wiring adds."""

    def __init__(
        self,
        directory: Path,
        wiring: Wiring,
        *,
        ports: Ports,
        env: Mapping[str, str],
        part_env: dict[str, dict[str, str]],
        on_event: Callable[[Event], None],
    ) -> None:
        super().__init__(directory, ports=ports, env=env, part_env=part_env, on_event=on_event, ready_within=90.0)
        self.wiring = wiring
        self.supervisor.restart |= {*MEMBERS, "relay", "links"}

    @property
    def replicas(self) -> list[Replica]:
        """See LocalPair."""
        pids = self._pids()
        return [Replica(name, self.wiring.url(name), pids.get(name)) for name in REPLICAS]

    async def _start(self) -> None:
        (self.directory / "log").mkdir(parents=True, exist_ok=True)
        await self._lock.acquire()
        secrets = secret.load(self.directory)
        env = {**self.env, **self._guard.mark}
        become_subreaper()
        self._guard.start()
        up = self.supervisor.bring_up
        await opening.together(*(up(part) for part in self.wiring.first_parts(env)))
        self.wiring.wire()
        chosen = opening.choose(self.directory, self.ports, env, secrets)
        if (server := self.wiring.server(self.directory, self.ports, env)) is not None:
            chosen = replace(chosen, server=server)
        part_env = _Settings(self.wiring, chosen.urls.adapter, self.part_env)
        layout = opening.layout(self.directory, self.ports, chosen, env=env, part_env=part_env, commands=self._commands)
        self._layout = layout
        binary = await asyncio.to_thread(etcd.find)
        members = [etcd_part(binary, self.directory, env, one, self.wiring.members) for one in self.wiring.members]
        relay = [] if self.wiring.relay is None else [relay_part(self.directory, env, self.wiring.relay)]
        await opening.together(
            *(up(self._placed(part)) for part in members),
            *(up(part) for part in (*relay, build.gateway_part(layout), build.release_part(layout, self._releaser))),
            self._database(layout, chosen),
        )
        await opening.together(*(up(self._replica(layout, name)) for name in REPLICAS))
        self._ready = True

    def _placed(self, part: Part) -> Part:
        """The part on its host."""
        plain: Callable[[], Spec] = part.spec
        part.spec = lambda: self.wiring.on_its_host(part.name, plain())
        return part

    def _replica(self, layout: Layout, name: str) -> Part:
        watchdog = _WhenAsked(layout.run_dir(name), self._silent)
        part = self._placed(build.replica_part(layout, name, self._releaser, watchdog))

        async def ready(_: Child) -> bool:
            answer = await status(f"{self.wiring.url(name)}/livez")
            return answer is not None and answer[0] == 200

        part.ready = ready
        return part

    async def stop(self) -> None:
        """See LocalPair. The hosts, with all that is left on them, end before PostgreSQL does."""
        self._ready = False
        for names in _BEFORE_THE_REST:
            await self.supervisor.end(names)
        others = [name for name in self.supervisor.parts if name != "postgres"]
        await self.supervisor.end(others)
        await super().stop()


class _WhenAsked(Watchdog):
    """Most faults stop replicas on purpose, so that a watchdog looks after a replica only where its settings ask for one."""

    def open(self, env: Mapping[str, str]) -> dict[str, str]:
        """See Watchdog."""
        return super().open(env) if env.get(WATCHED) else {}

    def attach(self, child: Child) -> None:
        """See Watchdog."""
        if self._socket is not None:
            super().attach(child)


class _Settings(Mapping[str, Mapping[str, str]]):
    """The wiring's settings of each part, under those that the tests change; read anew at every start."""

    def __init__(self, wiring: Wiring, database_url: str, changed: Mapping[str, Mapping[str, str]]) -> None:
        self._wired = {name: wiring.settings(name, database_url) for name in REPLICAS}
        self._wired["release"] = {"ETCD_ENDPOINTS": ",".join(one.endpoint for one in wiring.members)}
        self._changed = changed

    def __getitem__(self, part: str) -> dict[str, str]:
        return {**self._wired.get(part, {}), **self._changed.get(part, {})}

    def __iter__(self) -> Iterator[str]:
        return iter({*self._wired, *self._changed})

    def __len__(self) -> int:
        return len({*self._wired, *self._changed})
