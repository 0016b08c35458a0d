"""The leader cuts the log by itself and tells how much room it will need."""

from __future__ import annotations

import math

import pytest

from engine.book import Book
from engine.metrics import Metrics
from ha import log_keeper
from ha.log_keeper import LogKeeper, measured
from tests.integration.pg_fixture import Urls
from tests.integration.test_fence import claim, opened
from tests.integration.test_log_months import append, parts


async def test_the_leader_closes_a_part_that_is_full_and_measures_the_log(
    urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_keeper, "LARGEST_PART", 3)
    connection = await opened(urls.adapter)
    await claim(connection, 0)
    metrics = Metrics(Book())
    keeper = LogKeeper(urls.adapter, "a", lambda: 1, metrics)
    assert b"adapter_log_bytes NaN" in metrics.text()
    await keeper.look(1)
    assert len(parts(urls.owner)) == 1
    await append(connection, 1, 2, 3)
    await keeper.look(1)
    await append(connection, 4)
    assert [(first, last) for _, first, last in parts(urls.owner)] == [(1, 3), (4, None)]
    keeper._looks = 0
    await keeper.look(1)
    assert keeper.size.log > 8192
    assert keeper.size.per_day > 0
    text = metrics.text().decode()
    for name in ("log_bytes", "tables_bytes", "ledger_growth_bytes_per_day", "ledger_forecast_bytes"):
        [line] = [line for line in text.splitlines() if line.startswith(f"adapter_{name} ")]
        assert float(line.split()[1]) > 0
    await keeper.look(7)  # a stale one: refused, told, and no more
    await connection.close()


def test_the_forecast_goes_by_the_last_weeks_pace() -> None:
    row = {"log_bytes": 1_000_000, "other_bytes": 500_000, "events": 1000, "head": 5000, "events_of_the_week": 700,
           "seconds": 7 * 86_400.0}  # fmt: skip
    size = measured(row)
    assert size.per_day == pytest.approx(100 * (1000 + 100))
    assert size.in_days(30) == pytest.approx(1_500_000 + 30 * 110_000)
    young = measured(row | {"seconds": 60.0})
    assert young.per_day == pytest.approx(700 * 1100)
    empty = measured(
        {"log_bytes": 0, "other_bytes": 1, "events": 0, "head": 0, "events_of_the_week": None, "seconds": None}
    )
    assert not math.isnan(empty.per_day)
