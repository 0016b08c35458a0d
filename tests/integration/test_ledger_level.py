"""R22 with a real database: who raises the ledger's level, when it is refused, and what a replica below it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from engine.events import LEDGER_LEVEL
from engine.migrate import MigrationError, migrate
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import IDENTITY, Urls
from tests.integration.replica_fixture import replica, settings_for
from tests.integration.sim_fixture import Sim, sim_process


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    async with sim_process() as running:
        yield running


def set_level(urls: Urls, level: int) -> None:
    with psycopg.connect(urls.owner, autocommit=True) as owner:
        owner.execute("UPDATE ledger.identity SET ledger_level = %s", (level,))


def level_of(urls: Urls) -> int:
    with psycopg.connect(urls.owner, autocommit=True) as owner:
        [(level,)] = owner.execute("SELECT ledger_level FROM ledger.identity").fetchall()
    return int(level)


def epoch_in(urls: Urls) -> int:
    with psycopg.connect(urls.owner, autocommit=True) as owner:
        [(epoch,)] = owner.execute("SELECT epoch FROM ledger.epoch").fetchall()
    return int(epoch)


@pytest.mark.rule(22)
def test_fresh_database_starts_at_the_newest_level_and_a_migrated_one_stays_where_it_is(urls: Urls) -> None:
    assert level_of(urls) == LEDGER_LEVEL
    set_level(urls, 1)
    assert migrate(urls.owner, urls.adapter, IDENTITY).level == 1
    assert level_of(urls) == 1


@pytest.mark.rule(22)
def test_level_is_not_raised_while_a_replica_is_connected_that_cannot_read_it(urls: Urls) -> None:
    set_level(urls, 1)
    with (
        psycopg.connect(urls.adapter, application_name="adapter-tail:b"),
        pytest.raises(MigrationError, match="cannot read events of level 2: adapter-tail:b"),
    ):
        migrate(urls.owner, urls.adapter, IDENTITY, raise_level=True)
    assert level_of(urls) == 1


@pytest.mark.rule(22)
async def test_level_is_raised_under_a_running_leader_of_this_version(urls: Urls, sim: Sim, tmp_path: Path) -> None:
    set_level(urls, 1)
    with replica(tmp_path / "a", settings_for(urls, sim.port), "--single") as a:
        await asyncio.to_thread(a.until_leads)
        answer = a.get("/health")
        assert answer is not None
        assert any("adapter migrate --raise-level" in sentence for sentence in answer.json["warnings"])
        migrated = await asyncio.to_thread(migrate, urls.owner, urls.adapter, IDENTITY, raise_level=True)
        assert migrated.level == level_of(urls) == LEDGER_LEVEL
        assert a.end() == 0


@pytest.mark.rule(22)
async def test_standby_below_the_ledgers_level_does_not_campaign(urls: Urls, sim: Sim, tmp_path: Path) -> None:
    with replica(tmp_path / "a", settings_for(urls, sim.port), "--single") as a:
        await asyncio.to_thread(a.until_leads)
        set_level(urls, LEDGER_LEVEL + 1)
        with psycopg.connect(urls.owner, autocommit=True) as owner:  # what ends the term: another epoch is present
            owner.execute("UPDATE ledger.epoch SET epoch = epoch + 5")
        sentence = f"The ledger is at level {LEDGER_LEVEL + 1}, this version reads up to {LEDGER_LEVEL}"
        await asyncio.to_thread(until, lambda: sentence in a.said(), "it says why it does not lead")
        await asyncio.to_thread(
            until, lambda: (h := a.get("/health")) is not None and h.json["state"] == "STANDBY", "it stands by"
        )
        answer = a.get("/readyz")
        assert answer is not None
        assert answer.status == 503
        assert any(sentence in reason for reason in answer.json["reasons"])
        assert epoch_in(urls) == 6


@pytest.mark.rule(22)
async def test_kind_of_a_higher_level_is_written_when_the_level_is_raised_and_not_before(
    urls: Urls, sim: Sim, tmp_path: Path
) -> None:
    """An operator's halt counts at once; the log, which another version may be reading, gets its note later."""

    def noted() -> list[str]:
        with psycopg.connect(urls.adapter, autocommit=True) as db:
            rows = db.execute("SELECT payload ->> 'command' FROM ledger.event WHERE event_type = 'operator_command'")
            return [str(command) for (command,) in rows.fetchall()]

    set_level(urls, 1)
    with replica(tmp_path / "a", settings_for(urls, sim.port), "--single") as a:
        await asyncio.to_thread(a.until_leads)
        halted = await asyncio.to_thread(ask, a.url, "POST", "/api/v1/cluster/halt", {"reason": "level"})
        assert halted.status == 202
        order = {"client_order_id": "k", "symbol": "IBM", "side": "BUY", "quantity": "1", "order_type": "MKT"}
        refused = await asyncio.to_thread(ask, a.url, "POST", "/api/v1/orders", order)
        assert refused.problem == "halted"
        assert noted() == []
        await asyncio.to_thread(migrate, urls.owner, urls.adapter, IDENTITY, raise_level=True)
        await asyncio.to_thread(until, lambda: noted() == ["halt", "raise-level"], "both are noted, in their order")
