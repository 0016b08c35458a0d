"""The report: everything that was found is said, on a hundred columns, with or without a terminal, and as JSON."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from ha.demo.booking import Misbooked, PositionRow
from ha.demo.findings import EpochFall, Finding, InDoubt, Twin
from ha.demo.judge import Verdict
from ha.demo.report import WIDTH, Report, as_json, failovers, render
from ha.demo.silence import Kill, Silence

START = datetime(2026, 1, 2, 10, 0, 0, tzinfo=UTC)
KILLS = [Kill("a", "http://a", START + timedelta(seconds=8)), Kill("b", "http://b", START + timedelta(seconds=16))]

GOOD = Verdict(
    asked=601,
    answered=600,
    refused=1,
    not_accepted=0,
    unknown=0,
    taken=598,
    unsent={"EXPIRED": 2},
    lost=[],
    duplicated=[],
    phantom=[],
    contradicted=[],
    sent_while_held=[],
    twins=[],
    executions_made=410,
    executions_booked=410,
    unbooked=[],
    positions=[PositionRow("AAPL", Decimal(10), Decimal("10.0"), Decimal(10))],
    in_doubt=[],
    epochs={1: 200, 2: 200, 3: 198},
    epoch_falls=[],
    silences=[Silence(KILLS[0], 312.4, 201.0), Silence(KILLS[1], 298.0, None)],
)
FINDING = Finding("IDIDIDIDIDIDIDID", "t1-r-000007", "WORKING in the ledger, never taken by the broker")


def row(epoch: int, seconds: float, kind: str = "failover", **fields: Any) -> dict[str, Any]:
    at = (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
    return {"epoch": epoch, "kind": kind, "reason": "lease released", "at": at, "total_ms": 250 + epoch} | fields


HISTORY = [row(3, 16.2, first_order_ms=None), row(2, 8.2, detect_ms=12), row(1, -5, kind="start")]


def report(verdict: Verdict = GOOD, **fields: Any) -> Report:
    settings: dict[str, Any] = {
        "verdict": verdict,
        "history": HISTORY,
        "seed": 42,
        "rate": 20.0,
        "seconds": 30.0,
        "took_seconds": 38.2,
        "directory": "/tmp/demo",
        "traffic": {"p50_ms": 3.1, "p99_ms": 250.0, "longest_ms": 312.0},
    }
    return Report(**(settings | fields))


def text_of(shown: Report, terminal: bool = False) -> str:
    out = io.StringIO()
    render(shown, Console(file=out, width=WIDTH, force_terminal=terminal, highlight=False))
    return out.getvalue()


def test_a_good_run_is_said_to_be_fine_with_its_seed() -> None:
    shown = report()
    text = text_of(shown)
    assert shown.ok
    assert "FINE" in text
    assert "NOT FINE" not in text
    assert "seed 42" in text
    assert "410 booked, 410 made" in text
    assert "2 EXPIRED" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_is_wider_than_a_hundred_columns(terminal: bool) -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text_of(report(), terminal)).splitlines()
    assert max(len(line) for line in lines) <= WIDTH


def test_a_pipe_gets_neither_colour_nor_lines() -> None:
    text = text_of(report())
    assert "\x1b" not in text
    assert text.isascii()


def test_each_kill_stands_beside_the_failover_that_it_caused() -> None:
    found = failovers(report())
    assert [(failover.kill.name, (failover.row or {}).get("epoch")) for failover in found] == [("a", 2), ("b", 3)]
    text = text_of(report())
    assert "312" in text
    assert "252" in text


def test_a_kill_without_a_failover_after_it_gets_no_row_of_another() -> None:
    found = failovers(report(history=[row(2, 7.9), row(3, 16.2)]))
    assert [(failover.row or {}).get("epoch") for failover in found] == [None, 3]
    assert "not in the history" in text_of(report(history=[]))


BAD = {
    "lost": [FINDING],
    "duplicated": [FINDING],
    "phantom": [FINDING],
    "contradicted": [FINDING],
    "sent_while_held": [FINDING],
    "twins": [Twin("IDIDIDIDIDIDIDID", (1, 2), cancelled=False, reported=True)],
    "unbooked": [Misbooked("0001.7", "AAPL", "missing in the ledger")],
    "positions": [PositionRow("AAPL", Decimal(10), Decimal(10), Decimal(9), ("b7",))],
}


@pytest.mark.parametrize("kind", list(BAD))
def test_every_kind_of_defect_makes_the_run_not_fine_and_is_named(kind: str) -> None:
    verdict = replace(GOOD, **{kind: BAD[kind]})
    shown = report(verdict)
    assert not shown.ok
    assert as_json(shown)["ok"] is False
    text = text_of(shown)
    assert "NOT FINE: 1 " in text
    assert "/tmp/demo" in text
    assert {"twins": "NOT CANCELLED", "unbooked": "0001.7", "positions": "DIFFER, break b7"}.get(
        kind, "t1-r-000007"
    ) in text


def test_a_run_that_did_not_come_to_rest_is_not_fine_and_says_why() -> None:
    shown = report(notes=["the standby's book differs from the leader's at the same sequence number"])
    assert not shown.ok
    assert "book differs" in text_of(shown)


def test_an_order_in_doubt_is_listed_with_its_break_and_is_no_error() -> None:
    verdict = replace(
        GOOD,
        in_doubt=[
            InDoubt("IDIDIDIDIDIDIDID", "t1-r-000007", "AAPL", ("b7",), "never taken"),
            InDoubt("IDIDIDIDIDIDIDIE", None, "AAPL", (), "live"),
        ],
    )
    text = text_of(report(verdict))
    assert report(verdict).ok
    assert "t1-r-000007 (IDIDIDIDIDIDIDID) AAPL: break b7; at the broker: never taken" in text
    assert "NO OPEN BREAK" in text


def test_a_fallen_epoch_is_shown() -> None:
    text = text_of(report(replace(GOOD, epoch_falls=[EpochFall("pa.TAGA.1.X", 1, 2)])))
    assert "pa.TAGA.1.X: epoch 1 after epoch 2" in text


def test_of_many_cases_the_first_are_shown_and_the_rest_counted() -> None:
    text = text_of(report(replace(GOOD, lost=[FINDING] * 20)))
    assert text.count("t1-r-000007") == 8
    assert "and 12 more" in text


def test_the_json_has_everything_and_is_json() -> None:
    verdict = replace(GOOD, positions=BAD["positions"], lost=[FINDING] * 20)
    told = json.loads(json.dumps(as_json(report(verdict))))
    assert told["ok"] is False
    assert len(told["verdict"]["lost"]) == 20
    assert told["verdict"]["positions"][0] == {
        "symbol": "AAPL",
        "journal": "10",
        "broker": "10",
        "ledger": "9",
        "break_ids": ["b7"],
        "agree": False,
    }
    assert [failover["silence_broker_ms"] for failover in told["failovers"]] == [312.4, 298.0]
    assert told["failovers"][0]["history"]["epoch"] == 2
    assert told["verdict"]["epochs"] == {"1": 200, "2": 200, "3": 198}
