"""What is counted is counted once."""

from __future__ import annotations

from decimal import Decimal

from engine.events import Kind
from engine.metrics import Metrics
from tests.unit.book_factory import Ledger


def counted(metrics: Metrics, line: str) -> Decimal:
    values = dict(row.rsplit(" ", 1) for row in metrics.text().decode().splitlines() if not row.startswith("#"))
    return Decimal(values.get(line, "0"))


def test_an_order_ends_once_whatever_comes_after_its_end() -> None:
    ledger = Ledger()
    metrics = Metrics(ledger.book)
    ledger.session(1)
    filled, cancelled = ledger.working(), ledger.working("k2", perm_id=901)
    ledger.fill(filled, "0001.01", quantity="4")
    ledger.fill(filled, "0002.01", quantity="6")
    ledger.fill(filled, "0002.02", quantity="6", price="190.40", revision=2)  # a correction
    ledger.add(Kind.ORDER_CANCELLED, cancelled, reason="cancelled")
    ledger.fill(cancelled, "0003.01", quantity="1", perm_id=901)  # crossed the cancel
    assert counted(metrics, 'adapter_orders_ended_total{state="FILLED"}') == 1
    assert counted(metrics, 'adapter_orders_ended_total{state="CANCELLED"}') == 1
    assert counted(metrics, 'adapter_orders_total{side="BUY"}') == 2


def test_a_takeover_is_counted_with_the_phases_that_are_known() -> None:
    metrics = Metrics(Ledger().book)
    metrics.took_over("failover", {"detect_ms": 75.0, "claim_ms": None, "total_ms": 250.0, "repaired": 3})
    assert counted(metrics, 'adapter_takeovers_total{kind="failover"}') == 1
    assert counted(metrics, 'adapter_takeover_phase_seconds_sum{phase="detect"}') == Decimal("0.075")
    assert counted(metrics, 'adapter_takeover_phase_seconds_count{phase="total"}') == 1
    assert counted(metrics, 'adapter_takeover_phase_seconds_count{phase="claim"}') == 0
