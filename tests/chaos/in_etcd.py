"""Faults of what etcd keeps: a lease revoked, everything wiped, everything as it was a while ago; see faults.py."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import Any

from ha.etcd_access import leader_key
from ha.local.parts import CLUSTER
from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.faults import DidNotBite, now
from tests.chaos.parts import MEMBERS
from tests.integration.etcd_fixture import etcd_binary

_LIMIT = 15.0


async def etcdctl(on: Cluster, *words: str) -> str:
    """What etcd's own command says. Raises DidNotBite with its complaint."""
    endpoints = ",".join(member.endpoint for member in on.wiring.members)
    env = {**os.environ, "ETCDCTL_API": "3", "no_proxy": "*"}
    argv = [str(etcd_binary("etcdctl")), "--endpoints", endpoints, *words]
    done = await asyncio.to_thread(
        subprocess.run, argv, env=env, capture_output=True, text=True, check=False, timeout=_LIMIT
    )
    if done.returncode != 0:
        raise DidNotBite(f"etcdctl {words[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout


async def leader_row(on: Cluster) -> tuple[int, dict[str, Any] | None]:
    """etcd's revision, and the leader key's row with its `lease` and `value`, None where there is none."""
    answer = json.loads(await etcdctl(on, "get", leader_key(CLUSTER), "-w", "json"))
    rows = answer.get("kvs", [])
    return int(answer["header"]["revision"]), rows[0] if rows else None


@dataclass(frozen=True, slots=True)
class RevokeLease:
    """Somebody revokes the leader's lease in etcd."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        _, row = await leader_row(on)
        if row is None:
            raise DidNotBite("nobody has the leader key")
        lease, at = f"{int(row['lease']):x}", now()
        await etcdctl(on, "lease", "revoke", lease)
        _, after = await leader_row(on)
        if after is not None and after["lease"] == row["lease"]:
            raise DidNotBite(f"lease {lease} is still there")
        holder = json.loads(base64.b64decode(row["value"])).get("name", leader)
        return Bite("the leader's lease is revoked", at, f"lease {lease} of {holder} is gone", leader)


@dataclass(frozen=True, slots=True)
class WipeEtcd:
    """All members lose their data at once and begin anew, as an operator's mistake leaves them: revisions restart, and
    nobody has the lease."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        (before, _), at = await leader_row(on), now()
        async with _all_away(on):
            for name in MEMBERS:
                shutil.rmtree(on.directory / "etcd" / name)
        after, _ = await leader_row(on)
        if after >= before:
            raise DidNotBite(f"etcd was at revision {before} and is at {after}")
        return Bite("etcd wiped", at, f"revision {before} became {after}", leader, now())


@dataclass(frozen=True, slots=True)
class RestoreEtcd:
    """All members are put back to what they were so many seconds ago, from a snapshot: revisions go back, and the lease of
    then is there once more."""

    seconds: float

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        leader = await on.paired()
        snapshot = on.directory / "etcd" / f"snapshot-{now():%H%M%S%f}"
        first = on.wiring.members[0].endpoint
        env = {**os.environ, "ETCDCTL_API": "3", "no_proxy": "*"}
        argv = [str(etcd_binary("etcdctl")), "--endpoints", first, "snapshot", "save", str(snapshot)]
        await asyncio.to_thread(subprocess.run, argv, env=env, check=True, capture_output=True, timeout=_LIMIT)
        saved, _ = await leader_row(on)
        await asyncio.sleep(self.seconds)
        (before, _), at = await leader_row(on), now()
        async with _all_away(on):
            peers = ",".join(f"{one.name}=http://{one.host}:{one.peer}" for one in on.wiring.members)
            for one in on.wiring.members:
                place = on.directory / "etcd" / one.name
                shutil.rmtree(place)
                await etcdctl(
                    on, "snapshot", "restore", str(snapshot), f"--data-dir={place}", f"--name={one.name}",
                    f"--initial-cluster={peers}", f"--initial-cluster-token={on.directory.name}",
                    f"--initial-advertise-peer-urls=http://{one.host}:{one.peer}",
                )  # fmt: skip
        after, _ = await leader_row(on)
        evidence = f"revision {before} became {after}, of the snapshot {saved}"
        if saved >= before:
            raise DidNotBite(f"nothing was written to etcd since the snapshot: {evidence}")
        return Bite(f"etcd put back by {self.seconds:g} s", at, evidence, leader, now())


class _all_away:
    """Every member is killed for the time of the body, and started again."""

    def __init__(self, on: Cluster) -> None:
        self._on = on

    async def __aenter__(self) -> None:
        supervisor = self._on.pair.supervisor
        supervisor.restart -= set(MEMBERS)
        for name in MEMBERS:
            await self._on.pair.kill(name, signal.SIGKILL)

    async def __aexit__(self, *_unused: object) -> None:
        supervisor = self._on.pair.supervisor
        try:
            await asyncio.gather(*(supervisor.respawn(name) for name in MEMBERS))
        finally:
            supervisor.restart |= set(MEMBERS)
