"""A database that goes back in time while orders live at the broker and clients retry their keys (R18, R19, G9).

Restored from a backup, failed over to a copy that lacks the last moments, or replaced by an empty one: nothing is sent twice, and
what was lost is found again at the broker. The judge reads the broker's journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.etcd_fixture import Cluster, etcd_cluster
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import Urls
from tests.integration.restore_fixture import ORDERS, Copied, Pair, dump, empty, restore, running_pair
from tests.integration.sim_fixture import Sim, sim_process

pytestmark = [pytest.mark.timeout(180), pytest.mark.rule(18), pytest.mark.rule(19), pytest.mark.guarantee(9)]


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    async with sim_process() as running:
        yield running


@pytest.fixture
def etcd() -> Iterator[Cluster]:
    with etcd_cluster(1) as cluster:
        yield cluster


@pytest.fixture
def copied() -> Iterator[Copied]:
    with tempfile.TemporaryDirectory(prefix="pa-copy-", dir="/tmp") as place:
        made = Copied(Path(place))
        try:
            yield made
        finally:
            made.close()


class Story:
    """One life of a pair after another, on one broker."""

    def __init__(self, sim: Sim, etcd: Cluster, directory: Path) -> None:
        self.sim, self.etcd, self.directory = sim, etcd, directory
        self.promised: dict[str, dict[str, Any]] = {}

    def pair(self, urls: Urls) -> contextlib.AbstractContextManager[Pair]:
        """The pair lives once more."""
        return running_pair(urls, self.sim.port, self.sim.control, self.etcd, self.directory, self.promised)


@pytest.fixture
def story(sim: Sim, etcd: Cluster, tmp_path: Path) -> Story:
    return Story(sim, etcd, tmp_path)


def found_again(pair: Pair) -> None:
    """Everything is known again, and every retry is answered with the order that is there."""
    pair.check()
    for oid in list(pair.promised):
        answer = pair.retry(oid)
        assert (answer.status, answer.json["id"]) == (200, oid), answer.content
    reused = dict(next(iter(pair.promised.values())), quantity="7")
    assert ask(pair.leader().url, "POST", ORDERS, reused).status == 409
    pair.place()
    pair.check()


async def told(story: Callable[[], None]) -> None:
    """Run it beside the stand-in's event loop."""
    await asyncio.to_thread(story)


async def test_restored_from_last_nights_backup_while_both_replicas_stand_still(story: Story, urls: Urls) -> None:
    def run() -> None:
        kept = story.directory / "ledger.dump"
        with story.pair(urls) as pair:
            pair.some_orders()
            dump(urls, kept)
            pair.some_orders()
        restore(urls, kept)
        with story.pair(urls) as pair:
            pair.look_at_it()
            found_again(pair)

    await told(run)


async def test_restored_under_a_running_pair(story: Story, urls: Urls) -> None:
    def run() -> None:
        kept = story.directory / "ledger.dump"
        with story.pair(urls) as pair:
            pair.some_orders()
            dump(urls, kept)
            pair.some_orders()
            restore(urls, kept)
            pair.look_at_it()
            found_again(pair)

    await told(run)


async def test_failed_over_to_a_copy_that_lacks_the_last_orders(story: Story, copied: Copied) -> None:
    def run() -> None:
        with story.pair(copied.urls) as pair:
            pair.some_orders()
            copied.fall_behind()
            pair.some_orders()
            copied.fail_over()
            pair.look_at_it()
            found_again(pair)

    await told(run)


async def test_failed_over_to_a_copy_that_lacks_nothing_goes_on_by_itself(story: Story, copied: Copied) -> None:
    def run() -> None:
        with story.pair(copied.urls) as pair:
            pair.some_orders()
            pair.leader()
            copied.fall_behind()  # what comes after this are proofs of epoch, and nothing that anybody was promised
            copied.fail_over()
            until(pair.leader, "it leads again")
            found_again(pair)

    await told(run)


@pytest.mark.parametrize("etcd_too", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_replaced_by_an_empty_database(story: Story, urls: Urls, etcd_too: bool) -> None:
    """With an empty etcd too, nobody but the broker remembers that there ever was an order: that is enough to hold everything."""

    def run() -> None:
        with story.pair(urls) as pair:
            pair.some_orders()
        empty(urls)
        with contextlib.ExitStack() as stack:
            if etcd_too:
                story.etcd = stack.enter_context(etcd_cluster(1))
                for name in ("a", "b"):
                    for file in (story.directory / name).iterdir():
                        file.unlink()
            pair = stack.enter_context(story.pair(urls))
            pair.look_at_it()
            found_again(pair)

    await told(run)
