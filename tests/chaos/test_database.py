"""A database that fails over to a copy which lacks its last moments, while orders flow (R18, R19, G9)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from ha.demo.broker_record import parse_reference
from ha.demo.history import fold, read_lines
from ha.local.postgres import DATABASE
from tests.chaos.check import Bite, quiet_strikes
from tests.chaos.traffic import Load, finished, flowing
from tests.integration.etcd_fixture import etcd_cluster
from tests.integration.pair_fixture import ask, until
from tests.integration.restore_fixture import Copied, Host, Pair, running_pair
from tests.integration.sim_fixture import Sim, sim_process

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]
PRICES = {"AAPL": Decimal(190), "MSFT": Decimal(415), "IBM": Decimal(185)}


@contextlib.asynccontextmanager
async def pair_on_a_copied_database(place: Path, sim: Sim) -> AsyncIterator[tuple[Pair, Copied]]:
    """A pair whose database has a copy; everything has ended afterwards."""
    with contextlib.ExitStack() as stack:

        def start() -> tuple[Pair, Copied]:
            copied = Copied(place)
            stack.callback(copied.close)
            etcd = stack.enter_context(etcd_cluster(1))
            pair = stack.enter_context(running_pair(copied.urls, sim.port, sim.control, etcd, place / "pair", {}))
            pair.leader()
            return pair, copied

        try:
            yield await asyncio.to_thread(start)
        finally:
            rest = stack.pop_all()
            await asyncio.to_thread(rest.close)


def head(host: Host) -> int:
    """The last event that this host has."""
    with host.connect(DATABASE) as connection:
        [[seq]] = connection.execute("SELECT max(seq) FROM ledger.event").fetchall()
        return int(seq)


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
            async with flowing(load, urls, PRICES, record, place / "traffic.log", 3) as traffic:
                await asyncio.sleep(1.5)
                await asyncio.to_thread(copied.fall_behind)
                await asyncio.sleep(1.0)
                at, lacks = datetime.now(UTC), head(copied.primary) - head(copied.copy)
                await asyncio.to_thread(copied.fail_over)
                await asyncio.to_thread(pair.look_at_it)
                await asyncio.sleep(1.5)
                traffic.send(signal.SIGTERM)
                await finished(traffic)
            history = fold(read_lines(record.read_text(encoding="utf-8")))
            assert lacks > 0
            assert not list(
                quiet_strikes([Bite("failover to a lagging copy", at, f"it lacks {lacks} events")], history)
            )
            entries = await sim.journal()
            taken = Counter(parse_reference(one["order_ref"]).id for one in entries if one["kind"] == "order")  # type: ignore[union-attr]
            assert not [one for one, times in taken.items() if times > 1], "sent twice"

            def known() -> None:
                leader = pair.leader()
                for order in taken:
                    assert ask(leader.url, "GET", f"/api/v1/orders/{order}").status == 200, order
                made = sorted(one["exec_id"] for one in entries if one["kind"] == "execution")

                def booked() -> list[str]:
                    rows, after = [], 0
                    while page := ask(leader.url, "GET", f"/api/v1/executions?limit=200&after={after}").json:
                        rows += page["executions"]
                        if (after := page["next"]) is None:
                            break
                    return sorted(row["exec_id"] for row in rows)

                with contextlib.suppress(pytest.fail.Exception):
                    until(lambda: booked() == made, "every execution is booked once", 20.0)
                assert booked() == made

            await asyncio.to_thread(known)
            before = [one for one in entries if one["kind"] == "order" and datetime.fromisoformat(one["at"]) < at]
            assert len(taken) > len(before) > 40, "orders before it, and after it"
