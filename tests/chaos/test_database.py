"""A database that fails over to a copy which lacks its last moments, while orders flow (R18, R19, G9)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from ha.demo.collect import Reader, Settled
from ha.demo.fetch import Fetch, FetchFailed
from ha.demo.history import fold, read_lines
from ha.demo.scene import Glimpse, Scene
from ha.local.postgres import DATABASE
from tests.chaos.check import CHECKS, Bite, Facts, our_orders
from tests.chaos.cluster import INTENT_AGE
from tests.chaos.evidence import claims, database_log
from tests.chaos.traffic import Load, finished, flowing, moving_market
from tests.integration.etcd_fixture import etcd_cluster
from tests.integration.pg_fixture import IDENTITY
from tests.integration.restore_fixture import Copied, Host, Pair, running_pair
from tests.integration.sim_fixture import Sim, sim_process

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]
PRICES = {"AAPL": Decimal(190), "MSFT": Decimal(415), "IBM": Decimal(185)}
RESTS_WITHIN = 20.0  # seconds
_THEN = {"unlicensed", "stale_sends", "not_in_the_log"}  # checks of what was in the log at some time


@contextlib.asynccontextmanager
async def pair_on_a_copied_database(place: Path, sim: Sim) -> AsyncIterator[tuple[Pair, Copied]]:
    """A pair whose database has a copy; everything has ended afterwards."""
    with contextlib.ExitStack() as stack:

        def start() -> tuple[Pair, Copied]:
            copied = Copied(place)
            stack.callback(copied.close)
            etcd = stack.enter_context(etcd_cluster(1))
            ages = {f"MAX_INTENT_AGE_{kind}": str(INTENT_AGE) for kind in ("LMT", "MKT")}
            pair = stack.enter_context(
                running_pair(copied.urls, sim.port, sim.control, etcd, place / "pair", {}, **ages)
            )
            pair.leader()
            return pair, copied

        try:
            yield await asyncio.to_thread(start)
        finally:
            rest = stack.pop_all()
            await asyncio.to_thread(rest.close)


@contextlib.asynccontextmanager
async def seen(urls: dict[str, str]) -> AsyncIterator[Scene]:
    """What both replicas say of themselves, again and again while the body runs."""
    scene = Scene(names=tuple(urls))

    async def look(fetch: Fetch) -> None:
        while True:
            for name, url in urls.items():
                try:
                    scene.see(datetime.now(UTC), name, Glimpse.read(*await fetch.any_status(f"{url}/health")))
                except FetchFailed:
                    scene.see(datetime.now(UTC), name, None)
            await asyncio.sleep(0.1)

    async with Fetch() as fetch:
        looking = asyncio.create_task(look(fetch))
        try:
            yield scene
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking


def url(host: Host) -> str:
    """Its database, as its superuser."""
    return f"postgresql://postgres@127.0.0.1:{host.port}/{DATABASE}"


async def judged(pair: Pair, sim: Sim, record: Path, copied: Copied, bite: Bite) -> list[str]:
    """Everything that both halves of the judge find when the pair is at rest.

    The old host still has what the copy lacks: licences of what the broker took, and orders that were answered 2xx and did not
    reach the broker any more. These are gone, as R19 says, and everything was held until somebody had looked. No other order is.
    """
    urls = dict(zip("ab", (one.url for one in pair.both), strict=True))
    history = await asyncio.to_thread(lambda: fold(read_lines(record.read_text(encoding="utf-8"))))
    async with seen(urls) as scene:
        settled: Settled = await Reader(urls, sim.control, record, scene, since=0).settle(RESTS_WITHIN)
    journal, log = await sim.journal(), database_log(url(copied.copy))
    before = await asyncio.to_thread(lambda: database_log(url(copied.old_host())))
    facts = Facts(
        history=history, journal=journal, log=log, probes=(), bites=[bite],
        client_id=IDENTITY.client_id, intent_age=INTENT_AGE, in_doubt=settled.verdict.in_doubt,
        leaders=[one for one in (scene.leader(),) if one], before=before, standing=scene.glimpses,
        claims=claims(url(copied.copy)),
    )  # fmt: skip
    there = {(row.seq, row.epoch, row.order_id) for row in log}
    lost = [row for row in before if (row.seq, row.epoch, row.order_id) not in there]
    assert lost, "the copy lacked nothing"
    with_lost = replace(facts, log=[*lost, *log])
    taken = {one.taken.reference.id for one in our_orders(journal, IDENTITY.client_id) if one.taken.reference}
    gone = {row.order_id for row in lost if row.kind == "order_accepted"} - taken - {row.order_id for row in log}
    verdict = replace(settled.verdict, lost=[one for one in settled.verdict.lost if one.order_id not in gone])
    found = [*verdict.problems(), *settled.notes]
    for check in CHECKS:
        found += check.finds(with_lost if check.name in _THEN else facts)
    return found


@pytest.mark.slow  # without load it is in tests/integration/test_database_goes_back.py
@pytest.mark.rule(18)
@pytest.mark.rule(19)
@pytest.mark.guarantee(4)
@pytest.mark.guarantee(5)
@pytest.mark.guarantee(9)
async def test_a_failover_to_a_lagging_copy_under_load_sends_nothing_twice_and_finds_again_what_the_broker_has() -> (
    None
):
    with tempfile.TemporaryDirectory(prefix="pa-copy-", dir="/tmp") as directory:
        place = Path(directory)
        async with sim_process() as sim, pair_on_a_copied_database(place, sim) as (pair, copied):
            record = place / "history.jsonl"
            urls = [one.url for one in pair.both]
            load = Load(rate=30.0, seconds=90.0, settle=6.0)
            async with (
                moving_market(sim.control, PRICES, 3),
                flowing(load, urls, PRICES, record, place / "traffic.log", 3) as traffic,
            ):
                await asyncio.sleep(1.5)
                await asyncio.to_thread(copied.fall_behind)
                await asyncio.sleep(1.0)
                at = datetime.now(UTC)
                await asyncio.to_thread(copied.fail_over)
                await asyncio.to_thread(pair.look_at_it)
                await asyncio.sleep(1.5)
                traffic.send(signal.SIGTERM)
                await finished(traffic)
            bite = Bite("failover to a lagging copy", at, "what it lacks is counted below")
            assert not await judged(pair, sim, record, copied, bite)
            taken = our_orders(await sim.journal(), IDENTITY.client_id)
            before = [one for one in taken if one.taken.at < at]
            assert len(taken) > len(before) > 40, "orders before it, and after it"
