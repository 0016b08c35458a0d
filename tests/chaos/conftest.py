"""One pair for all scenarios, replaced when one of them has left it broken."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.cluster import Cluster, NotHealed


class Keeper:
    """Hands out a whole pair. What a failed scenario leaves is thrown away, or laid under `CHAOS_KEEP` if that is set."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._number = 0
        self._present: Cluster | None = None

    async def whole(self) -> Cluster:
        """A pair with a leader, a healthy standby, and contracts that nothing holds."""
        if self._present is not None:
            try:
                await self._present.symbols()
            except NotHealed:
                await self.discard()
        if self._present is None:
            self._number += 1
            cluster = Cluster(self._place / f"pair{self._number}")
            await cluster.start()
            self._present = cluster
        return self._present

    async def discard(self) -> None:
        """End the present pair, if there is one."""
        cluster, self._present = self._present, None
        if cluster is not None:
            await cluster.stop(keep=os.environ.get("CHAOS_KEEP"))


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def keeper() -> AsyncIterator[Keeper]:
    """What lives as long as the scenarios run; no process and no file of it is left behind."""
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    keeper = Keeper(place)
    try:
        yield keeper
    finally:
        await keeper.discard()
        shutil.rmtree(place)


@pytest_asyncio.fixture(loop_scope="package")
async def cluster(keeper: Keeper, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A whole pair; after a test that failed the next one gets another pair."""
    failed_before = request.session.testsfailed
    yield await keeper.whole()
    if request.session.testsfailed > failed_before or os.environ.get("CHAOS_KEEP_ALL"):
        await keeper.discard()
