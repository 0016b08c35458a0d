"""An order licensed before a break is rightly sent after it; one licensed behind it is not."""

from __future__ import annotations

from datetime import UTC, datetime

from ha.demo.findings import Finding
from tests.chaos.check import Row
from tests.chaos.held import licensed_while_held

AT = datetime(2026, 1, 2, tzinfo=UTC)
FOUND = Finding("ORDER", "k1", "pa.TAGA.1.ORDER taken for AAPL, which break B1 holds")


def row(seq: int, kind: str, **payload: object) -> Row:
    return Row(seq, 1, kind, payload.pop("order", None), payload, AT, AT)  # type: ignore[arg-type]


def licence(seq: int) -> Row:
    return row(seq, "order_licensed", order="ORDER", broker_order_id=17, session=1)


def test_a_licence_behind_the_break_is_an_offence_and_one_before_it_or_after_its_end_is_none() -> None:
    broken, mended = row(5, "break_opened", id="B1"), row(9, "break_resolved", id="B1")
    assert licensed_while_held([FOUND], [broken, licence(6)]) == [FOUND]
    assert licensed_while_held([FOUND], [broken, licence(6), mended]) == [FOUND]
    assert licensed_while_held([FOUND], [licence(4), broken]) == []
    assert licensed_while_held([FOUND], [broken, mended, licence(10)]) == []
    assert licensed_while_held([FOUND], [licence(4), broken, licence(6)]) == [FOUND], "licensed anew meanwhile"


def test_what_the_log_does_not_explain_stays_an_offence() -> None:
    assert licensed_while_held([FOUND], []) == [FOUND]
    assert licensed_while_held([FOUND], [licence(4)]) == [FOUND]
