"""One cluster for all scenarios of a form, replaced when one of them has left it broken."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos import namespaces
from tests.chaos.check_factory import world  # noqa: F401  (a fixture of the tests of the checks)
from tests.chaos.cluster import Cluster, NotHealed
from tests.chaos.parts import NO_HAPROXY, haproxy, lacking, needed_parts

OLD = 12_000
"""Entries of the broker's journal, of about 4,000 orders, after which the next scenario gets a fresh cluster: a takeover asks
for the whole day, and what these tests are about is no long one."""


class Keeper:
    """Hands out a whole pair. What a failed scenario leaves is thrown away, or laid under `CHAOS_KEEP` if that is set."""

    def __init__(self, place: Path, *, hosts: bool = False) -> None:
        self._place, self._hosts = place, hosts
        self._number = 0
        self._present: Cluster | None = None

    async def whole(self) -> Cluster:
        """A pair with a leader, a healthy standby, and contracts that nothing holds."""
        if self._present is not None:
            try:
                await self._present.symbols()
                entries = int((await self._present.broker("GET", "/journal?after=1000000000"))["seq"])
            except NotHealed:
                entries = OLD
            if entries >= OLD:
                await self.discard()
        if self._present is None:
            self._number += 1
            cluster = Cluster(self._place / f"pair{self._number}", hosts=self._hosts)
            await cluster.start()
            self._present = cluster
        return self._present

    async def discard(self) -> None:
        """End the present pair, if there is one."""
        cluster, self._present = self._present, None
        if cluster is not None:
            await cluster.stop(keep=os.environ.get("CHAOS_KEEP"))


@asynccontextmanager
async def keeping(*, hosts: bool = False) -> AsyncIterator[Keeper]:
    """A keeper; no process and no file of it is left behind."""
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    keeper = Keeper(place, hosts=hosts)
    try:
        yield keeper
    finally:
        await keeper.discard()
        shutil.rmtree(place)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def keeper() -> AsyncIterator[Keeper]:
    """What lives as long as the scenarios on one host run."""
    async with keeping() as keeper:
        yield keeper


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def host_keeper() -> AsyncIterator[Keeper]:
    """What lives as long as the scenarios on several hosts run."""
    if (reason := namespaces.why_not()) is not None:
        lacking(reason)
    if haproxy() is None:
        lacking(NO_HAPROXY)
    async with keeping(hosts=True) as keeper:
        yield keeper


@pytest_asyncio.fixture(loop_scope="package")
async def cluster(keeper: Keeper, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A whole pair; after a test that failed the next one gets another pair."""
    async with _lent(keeper, request) as whole:
        yield whole


@pytest_asyncio.fixture(loop_scope="package")
async def linked(cluster: Cluster) -> Cluster:
    """A whole pair whose links can be cut."""
    if (reason := needed_parts()) is not None:
        lacking(reason)
    return cluster


@pytest_asyncio.fixture(loop_scope="package")
async def hosts(host_keeper: Keeper, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A whole pair, each replica and each member of etcd on a host of its own."""
    async with _lent(host_keeper, request) as whole:
        yield whole


@asynccontextmanager
async def _lent(keeper: Keeper, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    failed_before = request.session.testsfailed
    yield await keeper.whole()
    if request.session.testsfailed > failed_before or os.environ.get("CHAOS_KEEP_ALL"):
        await keeper.discard()
