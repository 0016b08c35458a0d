"""What the figures of orders in doubt are counted from: each order to the kill that ended its session, at each moment by itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.doubt_count import Kill, Note, Open, counted, felt, note_writes, summary, unanswered, windows
from tests.chaos.check import Row

START = datetime(2026, 1, 2, 10, 0, 0, tzinfo=UTC)
ORDER, OTHER = "ORDERAAAAAAAAAAA", "ORDERBBBBBBBBBBB"
KILLS = [
    Kill(START, 1, START + timedelta(seconds=0.5)),
    Kill(START + timedelta(seconds=12), 2, START + timedelta(seconds=12.5)),
]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def log(*rows: tuple[float, int, str, str, dict[str, Any]]) -> list[Row]:
    """Rows of (seconds after the first kill, epoch, kind, order, payload)."""
    return [
        Row(seq, epoch, kind, oid, payload, at(s), at(s)) for seq, (s, epoch, kind, oid, payload) in enumerate(rows, 1)
    ]


def licensed(seconds: float, epoch: int = 1, oid: str = ORDER) -> tuple[float, int, str, str, dict[str, Any]]:
    return seconds, epoch, "order_accepted", oid, {"session": epoch}


LATER = (13.0, 3, "session_opened", "", {})


def found(*rows: tuple[float, int, str, str, dict[str, Any]], journal: Sequence[dict[str, Any]] = ()) -> list[Open]:
    return unanswered(log(*rows), journal, KILLS)


def test_order_that_its_own_leader_saw_answered_was_never_open() -> None:
    assert found(licensed(-1.0), (-0.9, 1, "order_working", ORDER, {}), LATER) == []
    assert found((-1.0, 1, "order_accepted", ORDER, {}), LATER) == []  # queued: nothing was licensed
    assert found(licensed(-1.0), (-0.9, 1, "order_unlicensed", ORDER, {}), LATER) == []


def test_order_that_the_next_leader_adopts_is_open_until_then_and_never_in_doubt() -> None:
    [order] = found(licensed(-0.01), (3.0, 2, "execution", ORDER, {}))
    assert (order.kill, order.doubted_at, order.answered_at) == (0, None, at(3.0))
    rows = counted([order], KILLS, at(100))
    assert (rows["after_1_s"]["open"], rows["after_1_s"]["in_doubt"]) == (1, 0)
    assert rows["after_10_s"]["open"] == 0


def test_doubt_belongs_to_the_kill_that_ended_its_session_whatever_leads_later() -> None:
    [order] = found(
        licensed(-0.01),
        (2.0, 2, "order_in_doubt", ORDER, {}),
        (20.0, 3, "order_working", ORDER, {}),
        (21.0, 3, "execution", ORDER, {}),
    )
    assert (order.kill, order.doubted_at, order.answered_at) == (0, at(2.0), at(20.0))
    rows = counted([order], KILLS, at(100))
    assert [rows[f"after_{s}_s"]["in_doubt"] for s in (1, 10, 60)] == [0, 1, 0]
    assert rows["after_10_s"]["in_doubt_per_1000_kills"] == 500.0


def test_takeover_that_was_not_watched_for_so_long_does_not_count_for_that_moment() -> None:
    [order] = found(licensed(11.9, epoch=2), (14.0, 3, "order_in_doubt", ORDER, {}))
    rows = counted([order], KILLS, until=at(30))
    assert [rows[f"after_{s}_s"]["kills"] for s in (1, 10, 60)] == [2, 2, 0]
    assert rows["after_60_s"]["in_doubt_per_1000_kills"] is None


def test_kill_that_no_order_was_there_to_feel_does_not_count() -> None:
    orders = [(-0.9 + n / 100, 1, "order_accepted", f"ORDER{n:011d}", {}) for n in range(10)]
    one, other = felt(KILLS, log(*orders, LATER))
    assert (one.felt, other.felt) == (True, False)
    assert counted([], [one, other], at(100))["after_1_s"]["kills"] == 1


def test_operators_word_answers_nothing() -> None:
    dead = (70.0, 3, "order_cancelled", ORDER, {"reason": "operator_dead"})
    [order] = found(licensed(-0.01), (2.0, 2, "order_in_doubt", ORDER, {}), dead)
    assert order.answered_at is None
    assert counted([order], KILLS, at(100))["after_60_s"]["in_doubt"] == 1


def test_doubt_within_a_term_belongs_to_no_kill_and_is_told() -> None:
    [order] = unanswered(log(licensed(5.0, epoch=7), (6.0, 7, "order_in_doubt", ORDER, {})), [], KILLS)
    assert order.kill is None
    assert summary([order], KILLS, at(100))["in_doubt_without_a_kill"] == 1


def test_order_that_nobody_heard_of_again_is_open_at_the_end() -> None:
    [order] = found(licensed(-0.01), LATER)
    assert (order.doubted_at, order.is_open(at(100))) == (None, True)


def test_doubt_that_the_broker_took_is_told_by_name() -> None:
    taken = {"seq": 1, "kind": "order", "at": at(0.1).isoformat(), "order_ref": f"pa.TAGX.1.{ORDER}"}
    orders = found(
        licensed(-0.01), licensed(-0.01, oid=OTHER), (2.0, 2, "order_in_doubt", ORDER, {}), (2.0, 2, "order_in_doubt", OTHER, {}),
        journal=[taken],
    )  # fmt: skip
    told = summary(orders, KILLS, at(100))
    assert told["taken_and_still_open"] == [ORDER]
    assert told["after_10_s"]["of_these_taken_by_the_broker"] == 1


def test_notes_say_how_far_a_write_came_and_a_line_that_a_kill_cut_off_says_nothing() -> None:
    lines = [f"< 100 pa.TAGX.1.{ORDER}", f"> 200 pa.TAGX.1.{ORDER}", f"< 300 pa.TAGX.1.{OTHER}", "> 400 pa.TA"]
    notes = [note for line in lines if (note := Note.read(line)) is not None]
    orders = [Open(oid, 1, START) for oid in (ORDER, OTHER, "ORDERCCCCCCCCCCC")]
    note_writes(orders, notes)
    assert [order.died for order in orders] == [
        "written, lost on the way", "in the middle of the write", "committed, not written",
    ]  # fmt: skip
    orders[0].taken_at = START
    assert orders[0].died == "taken by the broker"


def test_window_is_from_a_commits_answer_to_the_write_behind_it() -> None:
    lines = ["= 1000000", f"< 1500000 pa.TAGX.1.{ORDER}", f"> 1750000 pa.TAGX.1.{ORDER}", "= 9000000"]
    assert windows(note for line in lines if (note := Note.read(line + " ")) is not None) == ([0.75], [0.25])
