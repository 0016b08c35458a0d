"""The judge against histories that are known to be good and known to be bad: what it must catch, it catches."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ha.demo.broker_record import IncompleteJournal, parse_reference, read_journal, split_exec_id
from ha.demo.history import BadHistory, Outcome, fold, longest_wait_ms, read_lines
from ha.demo.judge import Evidence, Verdict, judge
from ha.demo.silence import Kill

A, B = "http://a", "http://b"
START = datetime(2026, 1, 2, 10, 0, 0, tzinfo=UTC)


def at(ms: float) -> str:
    return (START + timedelta(milliseconds=ms)).isoformat(timespec="microseconds")


def id_of(number: int) -> str:
    return "ORDER" + "ABCDEFGHIJ"[number % 10] + "AAAAAAAAA" + "ABCDEFGHIJ"[number // 10]


def ref_of(number: int, epoch: int = 1) -> str:
    return f"pa.TAGA.{epoch}.{id_of(number)}"


@dataclass
class World:
    """A pair that did everything right; each test spoils one thing."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    broker_positions: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    executions: list[dict[str, Any]] = field(default_factory=list)
    positions: list[dict[str, Any]] = field(default_factory=list)
    breaks: list[dict[str, Any]] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    since: int = 0

    def wrote(self, kind: str, ms: float, **fields: Any) -> None:
        self.journal.append({"seq": len(self.journal) + 1, "at": at(ms), "kind": kind} | fields)

    def client(self, number: int, ms: float, kind: str, *, attempt: int = 1, url: str = A, **fields: Any) -> None:
        entry = {"op": "place", "client_order_id": f"k{number}", "attempt": attempt, "url": url}
        self.entries.append(entry | {"at": at(ms), "kind": kind} | fields)

    def ledger(self, number: int, state: str, **fields: Any) -> dict[str, Any]:
        row = {"id": id_of(number), "client_order_id": f"k{number}", "state": state, "symbol": "AAPL", "seq": number}
        self.orders.append(row | {"perm_id": None, "acknowledged_at": None} | fields)
        return self.orders[-1]

    def placed(self, number: int, ms: float, *, url: str = A, status: int = 201) -> None:
        """Asked for and answered."""
        self.client(number, ms, "invoke", url=url)
        self.client(number, ms + 2, "ok", url=url, status=status, id=id_of(number), state="SENDING")

    def took(self, number: int, ms: float, *, epoch: int = 1, session: int = 1, **fields: Any) -> None:
        common = {"perm_id": 900 + number, "order_ref": ref_of(number, epoch), "symbol": "AAPL", "side": "BUY"}
        self.wrote("order", ms, session=session, **common | {"quantity": "10"} | fields)

    def filled(self, number: int, ms: float, price: str = "190.5") -> None:
        made = {"exec_id": f"0001.{number}.01", "symbol": "AAPL", "side": "BUY", "quantity": "10", "price": price}
        self.wrote("execution", ms, perm_id=900 + number, order_ref=ref_of(number), **made)
        self.executions.append(made | {"order_id": id_of(number), "client_order_id": f"k{number}", "revision": 1})

    def whole(self, number: int, ms: float, *, url: str = A, epoch: int = 1, session: int = 1) -> None:
        """Placed, taken, working at both."""
        self.placed(number, ms, url=url)
        self.took(number, ms + 4, epoch=epoch, session=session)
        self.ledger(number, "WORKING", perm_id=900 + number)

    def verdict(self) -> Verdict:
        return judge(
            Evidence(
                history=fold(self.entries),
                journal=self.journal,
                broker_positions=self.broker_positions,
                orders=self.orders,
                executions=self.executions,
                positions=self.positions,
                breaks=self.breaks,
                kills=self.kills,
                ids=self.ids,
                since=self.since,
            )
        )


@pytest.fixture
def world() -> World:
    """Orders 0 to 3: working, filled, cancelled, rejected. Order 4: refused. All at both, all booked."""
    world = World()
    world.whole(0, 0)
    world.placed(1, 50)
    world.took(1, 54)
    world.filled(1, 55)
    world.ledger(1, "FILLED", perm_id=901)
    world.placed(2, 100)
    world.took(2, 104)
    world.wrote("cancelled", 120, perm_id=902)
    world.ledger(2, "CANCELLED", perm_id=902, acknowledged_at=at(105))
    world.placed(3, 150)
    world.took(3, 154)
    world.wrote("rejected", 155, perm_id=903)
    world.ledger(3, "REJECTED", perm_id=903)
    world.client(4, 200, "invoke")
    world.client(4, 201, "refused", status=422)
    world.broker_positions = [{"account": "DU1", "symbol": "AAPL", "quantity": "10"}]
    world.positions = [{"account": "DU1", "symbol": "AAPL", "quantity": "10.0"}]
    return world


def test_a_history_in_which_all_is_well_is_found_well(world: World) -> None:
    verdict = world.verdict()
    assert verdict.problems() == []
    assert verdict.ok
    assert (verdict.asked, verdict.answered, verdict.refused, verdict.taken) == (5, 4, 1, 4)
    assert (verdict.executions_made, verdict.executions_booked) == (1, 1)
    assert verdict.epochs == {1: 4}
    assert json.loads(json.dumps(verdict.as_json()))["positions"][0]["agree"] is True


# --- lost


@pytest.mark.check("lost")
@pytest.mark.guarantee(3)
@pytest.mark.parametrize("state", ["QUEUED", "SENDING", "WORKING", "FILLED"])
def test_an_answered_order_that_the_broker_never_took_is_lost(world: World, state: str) -> None:
    world.placed(5, 300)
    world.ledger(5, state)
    verdict = world.verdict()
    assert [(case.order_id, case.client_order_id) for case in verdict.lost] == [(id_of(5), "k5")]
    assert not verdict.ok


@pytest.mark.guarantee(3)
def test_an_answered_order_that_the_ledger_does_not_have_is_lost(world: World) -> None:
    world.placed(5, 300)
    assert [case.client_order_id for case in world.verdict().lost] == ["k5"]


@pytest.mark.guarantee(3)
def test_an_answered_order_that_only_the_broker_has_is_lost_to_its_client(world: World) -> None:
    world.whole(5, 300)
    world.orders.pop()
    assert [case.client_order_id for case in world.verdict().lost] == ["k5"]


@pytest.mark.parametrize("state", ["EXPIRED", "CANCELLED"])
def test_an_order_that_ended_before_it_was_sent_is_not_lost(world: World, state: str) -> None:
    world.placed(5, 300)
    world.ledger(5, state)
    verdict = world.verdict()
    assert verdict.ok
    assert verdict.unsent == {state: 1}


@pytest.mark.guarantee(6)
@pytest.mark.parametrize("entry", [{"order_id": 77}, {"order_ref": ref_of(5)}])
def test_a_rejected_order_was_rejected_by_the_broker_or_it_is_lost(world: World, entry: dict[str, Any]) -> None:
    world.placed(5, 300)
    world.ledger(5, "REJECTED", broker_order_id=77)
    world.wrote("rejected", 305, order_id=76, code=200)
    assert [case.client_order_id for case in world.verdict().lost] == ["k5"]
    world.wrote("rejected", 306, code=200, **entry)
    verdict = world.verdict()
    assert verdict.ok
    assert verdict.unsent == {"REJECTED": 1}


def test_an_order_cancelled_on_evidence_that_the_broker_never_gave_is_lost(world: World) -> None:
    world.placed(5, 300)
    world.ledger(5, "CANCELLED", perm_id=905)
    assert [case.client_order_id for case in world.verdict().lost] == ["k5"]


@pytest.mark.guarantee(3)
def test_an_order_in_doubt_is_excused_by_an_open_break_that_names_it_and_by_nothing_else(world: World) -> None:
    world.placed(5, 300)
    world.ledger(5, "IN_DOUBT")
    assert len(world.verdict().lost) == 1
    world.breaks = [{"id": 7, "order_id": id_of(5), "symbol": "AAPL", "resolved_at": at(400)}]
    assert len(world.verdict().lost) == 1
    world.breaks = [{"id": 7, "order_id": id_of(0), "symbol": "AAPL", "resolved_at": None}]
    assert len(world.verdict().lost) == 1
    world.breaks = [{"id": 7, "order_id": id_of(5), "symbol": "AAPL", "resolved_at": None}]
    verdict = world.verdict()
    assert verdict.ok
    assert [(doubt.client_order_id, doubt.break_ids, doubt.at_broker) for doubt in verdict.in_doubt] == [
        ("k5", ("7",), "never taken")
    ]


# --- duplicated, twins, phantoms


@pytest.mark.check("duplicated")
@pytest.mark.guarantee(4)
def test_a_second_order_under_one_id_is_a_duplicate_even_under_another_epoch_and_session(world: World) -> None:
    world.took(0, 300, epoch=2, session=2, perm_id=990)
    verdict = world.verdict()
    assert [(case.order_id, case.client_order_id) for case in verdict.duplicated] == [(id_of(0), "k0")]
    assert not verdict.ok
    assert verdict.taken == 5


@pytest.mark.guarantee(4)
def test_a_third_order_under_one_id_counts_again(world: World) -> None:
    world.took(0, 300, perm_id=990)
    world.took(0, 310, perm_id=991)
    assert len(world.verdict().duplicated) == 2


def test_a_modification_is_no_duplicate(world: World) -> None:
    world.wrote("modify", 300, perm_id=900, order_ref=ref_of(0), quantity="5")
    assert world.verdict().ok


@pytest.mark.check("twins_missed")
@pytest.mark.rule(26)
def test_a_twin_of_the_brokers_making_is_no_duplicate_but_must_be_cancelled_and_reported(world: World) -> None:
    world.took(0, 300, perm_id=990, code="twin")
    verdict = world.verdict()
    assert verdict.duplicated == []
    assert [twin.perm_ids for twin in verdict.twins_missed] == [(900, 990)]
    assert not verdict.ok

    cancelled_only = copy.deepcopy(world)
    cancelled_only.wrote("cancelled", 320, perm_id=990)
    assert not cancelled_only.verdict().ok

    reported_only = copy.deepcopy(world)
    reported_only.breaks = [{"id": 1, "order_id": id_of(0), "symbol": "AAPL", "resolved_at": at(400)}]
    assert not reported_only.verdict().ok

    reported_only.wrote("cancelled", 320, perm_id=990)
    assert reported_only.verdict().ok


@pytest.mark.rule(26)
def test_a_twin_of_which_both_filled_leaves_nothing_to_cancel_and_must_be_reported(world: World) -> None:
    world.took(0, 300, perm_id=990, code="twin")
    for perm_id in (900, 990):
        world.wrote("execution", 310, perm_id=perm_id, order_ref=ref_of(0), exec_id=f"0007.{perm_id}.01", symbol="AAPL",
                    side="BUY", quantity="10", price="190")  # fmt: skip
    assert len(world.verdict().twins_missed) == 1
    world.breaks = [{"id": 1, "order_id": id_of(0), "symbol": "AAPL", "resolved_at": None}]
    assert world.verdict().twins_missed == []


def test_a_duplicate_beside_a_twin_is_still_a_duplicate(world: World) -> None:
    world.took(0, 300, perm_id=990, code="twin")
    world.took(0, 310, perm_id=991)
    assert len(world.verdict().duplicated) == 1


@pytest.mark.check("phantom")
def test_an_order_under_our_prefix_that_nobody_asked_for_is_a_phantom(world: World) -> None:
    world.took(6, 300)
    verdict = world.verdict()
    assert [case.order_id for case in verdict.phantom] == [id_of(6)]
    assert not verdict.ok


def test_an_order_taken_before_the_history_began_is_no_phantom_and_is_not_counted(world: World) -> None:
    world.took(6, 300)
    world.since = len(world.journal)
    world.whole(7, 400)
    verdict = world.verdict()
    assert verdict.ok
    assert (verdict.taken, verdict.epochs) == (1, {1: 1})


def test_a_reference_of_ours_that_cannot_be_read_is_a_phantom(world: World) -> None:
    world.took(6, 300, order_ref="pa.TAGA.1.short")
    assert len(world.verdict().phantom) == 1


def test_an_order_placed_by_hand_is_no_phantom_and_no_order_of_ours(world: World) -> None:
    world.took(6, 300, order_ref="")
    verdict = world.verdict()
    assert verdict.ok
    assert verdict.taken == 4


@pytest.mark.check("phantom")
@pytest.mark.parametrize(("kind", "status"), [("refused", 422), ("unavailable", 503)])
def test_an_order_at_the_broker_whose_client_was_told_no_is_a_phantom(world: World, kind: str, status: int) -> None:
    world.client(5, 300, "invoke")
    world.client(5, 301, kind, status=status)
    world.took(5, 310)
    world.ledger(5, "WORKING", perm_id=905)
    verdict = world.verdict()
    assert [case.client_order_id for case in verdict.phantom] == ["k5"]
    assert len(verdict.contradicted) == 1


def test_an_order_refused_because_its_key_was_taken_says_nothing_about_the_order_that_has_the_key(world: World) -> None:
    world.client(5, 300, "invoke")
    world.client(5, 301, "refused", status=409)
    world.took(5, 310)
    world.ledger(5, "WORKING", perm_id=905)
    assert world.verdict().ok


def test_an_order_of_unknown_outcome_may_be_at_the_broker_or_not(world: World) -> None:
    world.client(5, 300, "invoke")
    world.client(5, 310, "unknown", status=504)
    assert world.verdict().ok
    world.took(5, 310)
    world.ledger(5, "WORKING", perm_id=905)
    verdict = world.verdict()
    assert verdict.ok
    assert verdict.unknown == 1


def test_an_unanswered_order_without_a_row_is_known_by_the_id_that_the_caller_derived(world: World) -> None:
    world.client(5, 300, "invoke")
    world.took(5, 310)
    assert len(world.verdict().phantom) == 1
    world.ids = {"k5": id_of(5)}
    assert world.verdict().phantom == []


# --- holds


def in_doubt(world: World, **fields: Any) -> None:
    """Order 5 is in doubt, and its break holds AAPL from 350 ms on."""
    world.placed(5, 300)
    world.ledger(5, "IN_DOUBT")
    opened = {"id": "b5", "kind": "in_doubt", "order_id": id_of(5), "symbol": "AAPL", "opened_at": at(350)}
    world.breaks = [opened | {"resolved_at": None, "holds": True} | fields]


@pytest.mark.check("sent_while_held")
def test_an_order_sent_for_a_contract_that_a_break_holds_is_caught(world: World) -> None:
    in_doubt(world)
    world.whole(6, 840)  # taken at 844: the break is of 350, and the order may have been on its way for half a second
    assert world.verdict().ok
    world.whole(7, 860, epoch=2, session=2)
    verdict = world.verdict()
    assert [case.client_order_id for case in verdict.sent_while_held] == ["k7"]
    assert not verdict.ok
    world.breaks[0].pop("holds")
    assert len(world.verdict().sent_while_held) == 1


def test_a_hold_ends_when_its_break_is_resolved_and_binds_its_own_symbol_only(world: World) -> None:
    in_doubt(world)
    world.placed(6, 860)
    world.took(6, 864, symbol="MSFT")
    world.ledger(6, "WORKING", perm_id=906)
    assert world.verdict().ok
    world.whole(7, 960)
    assert not world.verdict().ok
    world.breaks[0]["resolved_at"] = at(400)
    world.orders[4]["state"] = "CANCELLED"
    assert world.verdict().ok
    world.breaks[0]["resolved_at"] = at(963)  # taken at 964: what waited for the word is sent at once
    assert world.verdict().ok
    world.breaks[0]["resolved_at"] = at(965)
    assert not world.verdict().ok


def test_a_break_that_holds_nothing_and_the_doubtful_order_that_surfaces_are_no_offence(world: World) -> None:
    in_doubt(world)
    world.took(5, 500, session=2)
    assert world.verdict().ok
    in_doubt(world, holds=False)
    world.whole(7, 960)
    assert world.verdict().sent_while_held == []


# --- contradictions


DENIED = {
    0: ["FILLED", "CANCELLED", "EXPIRED", "REJECTED", "SENDING", "QUEUED"],  # it works at the broker
    1: ["WORKING", "CANCELLED"],  # it is filled there
    2: ["WORKING", "FILLED"],  # it is cancelled there
    3: ["WORKING"],  # it was rejected there
}


@pytest.mark.check("contradicted")
@pytest.mark.parametrize(("number", "state"), [(number, state) for number, told in DENIED.items() for state in told])
def test_a_state_that_the_brokers_journal_denies_is_caught(world: World, number: int, state: str) -> None:
    world.orders[number]["state"] = state
    verdict = world.verdict()
    assert [case.order_id for case in verdict.contradicted] == [id_of(number)]
    assert not verdict.ok


def test_in_doubt_at_the_broker_without_an_open_break_is_caught(world: World) -> None:
    world.orders[0]["state"] = "IN_DOUBT"
    assert len(world.verdict().contradicted) == 1
    world.breaks = [{"id": "x", "order_id": id_of(0), "symbol": "AAPL", "resolved_at": None}]
    verdict = world.verdict()
    assert verdict.ok
    assert verdict.in_doubt[0].at_broker == "live"


@pytest.mark.check("contradicted")
def test_a_key_answered_under_two_ids_is_caught(world: World) -> None:
    world.client(0, 300, "ok", status=200, id=id_of(9), state="WORKING")
    assert len(world.verdict().contradicted) == 1


def test_a_row_written_for_a_client_that_was_told_nothing_was_written_is_caught(world: World) -> None:
    world.client(5, 300, "invoke")
    world.client(5, 301, "unavailable", status=503)
    assert world.verdict().ok
    world.ledger(5, "EXPIRED")
    assert len(world.verdict().contradicted) == 1


def test_of_an_order_that_moved_between_two_pages_the_newer_row_counts(world: World) -> None:
    world.orders.insert(0, world.orders[0] | {"state": "SENDING", "seq": -1})
    world.orders.append(world.orders[1] | {"state": "QUEUED", "seq": -1})
    assert world.verdict().ok


# --- executions


@pytest.mark.check("unbooked")
@pytest.mark.guarantee(5)
def test_an_execution_missing_in_the_ledger_is_caught(world: World) -> None:
    world.executions.clear()
    verdict = world.verdict()
    assert [case.exec_id for case in verdict.unbooked] == ["0001.1"]
    assert not verdict.ok


@pytest.mark.check("unbooked")
@pytest.mark.guarantee(5)
def test_an_execution_booked_twice_is_caught_even_as_another_revision(world: World) -> None:
    world.executions.append(world.executions[0] | {"exec_id": "0001.1.02"})
    assert [case.why for case in world.verdict().unbooked] == ["booked 2 times"]


@pytest.mark.guarantee(5)
@pytest.mark.parametrize(
    "wrong",
    [{"quantity": "9"}, {"price": "190.6"}, {"side": "SELL"}, {"symbol": "MSFT"}, {"order_id": id_of(0)}],
)
def test_an_execution_booked_otherwise_than_it_was_made_is_caught(world: World, wrong: dict[str, str]) -> None:
    world.executions[0] |= wrong
    assert len(world.verdict().unbooked) == 1


def test_the_same_number_written_differently_is_the_same(world: World) -> None:
    world.executions[0] |= {"quantity": "10.0", "price": "190.500"}
    assert world.verdict().ok


def test_an_execution_that_the_broker_never_made_is_caught(world: World) -> None:
    world.executions.append(world.executions[0] | {"exec_id": "0002.7.01"})
    assert [case.exec_id for case in world.verdict().unbooked] == ["0002.7"]


@pytest.mark.guarantee(5)
def test_a_correction_replaces_and_a_ledger_without_it_is_caught(world: World) -> None:
    world.wrote("correction", 400, exec_id="0001.1.02", perm_id=901, quantity="10", price="190.7")
    assert len(world.verdict().unbooked) == 1
    world.executions[0] |= {"exec_id": "0001.1.02", "price": "190.7", "revision": 2}
    assert world.verdict().ok


def test_an_older_revision_that_comes_late_does_not_undo_a_correction(world: World) -> None:
    world.wrote("correction", 400, exec_id="0001.1.02", perm_id=901, quantity="10", price="190.7")
    world.wrote("execution", 401, exec_id="0001.1.01", perm_id=901, quantity="10", price="190.5", symbol="AAPL")
    world.executions[0] |= {"exec_id": "0001.1.02", "price": "190.7"}
    assert world.verdict().ok


# --- positions


@pytest.mark.check("positions_differ")
@pytest.mark.guarantee(5)
@pytest.mark.parametrize("side", ["broker", "ledger", "journal"])
def test_a_position_that_differs_on_one_of_the_three_sides_is_caught(world: World, side: str) -> None:
    if side == "broker":
        world.broker_positions[0]["quantity"] = "11"
    elif side == "ledger":
        world.positions[0]["quantity"] = "9"
    else:
        world.took(6, 400, order_ref="", perm_id=906)
        world.wrote(
            "execution", 401, exec_id="h.1.01", perm_id=906, symbol="AAPL", side="SELL", quantity="1", price="1"
        )
    world.breaks = [
        {"id": 3, "symbol": "AAPL", "order_id": None, "resolved_at": at(500)},
        {"id": 4, "symbol": "AAPL", "order_id": None, "resolved_at": None},
        {"id": 5, "symbol": "MSFT", "order_id": None, "resolved_at": None},
    ]
    verdict = world.verdict()
    assert [(row.symbol, row.break_ids) for row in verdict.positions_differ] == [("AAPL", ("4",))]
    assert not verdict.ok


def test_a_position_that_only_one_side_has_is_caught_and_a_zero_is_not(world: World) -> None:
    world.broker_positions.append({"account": "DU1", "symbol": "MSFT", "quantity": "0"})
    assert world.verdict().ok
    world.positions.append({"account": "DU1", "symbol": "TSLA", "quantity": "1"})
    assert [row.symbol for row in world.verdict().positions_differ] == ["TSLA"]


def test_what_a_person_traded_by_hand_counts_in_the_positions_and_need_not_be_booked_by_us(world: World) -> None:
    world.took(6, 400, order_ref="", perm_id=906)
    world.wrote("execution", 401, exec_id="h.1.01", perm_id=906, symbol="AAPL", side="SELL", quantity="3", price="1")
    for positions in (world.broker_positions, world.positions):
        positions[0]["quantity"] = "7"
    assert world.verdict().ok


def test_positions_of_several_accounts_add_up(world: World) -> None:
    world.positions = [{"account": name, "symbol": "AAPL", "quantity": "5"} for name in ("DU1", "DU2")]
    assert world.verdict().ok


# --- epochs


@pytest.mark.guarantee(1)
def test_an_order_under_an_older_epoch_after_a_newer_one_is_named(world: World) -> None:
    world.whole(5, 300, epoch=3, session=2)
    assert world.verdict().epoch_falls == []
    world.whole(6, 400, epoch=2, session=2)
    world.whole(7, 500, epoch=2, session=2)
    verdict = world.verdict()
    assert [(fall.epoch, fall.after) for fall in verdict.epoch_falls] == [(2, 3), (2, 3)]
    assert verdict.epochs == {1: 4, 2: 2, 3: 1}


# --- silence


@pytest.fixture
def killed() -> World:
    """Orders every 50 ms; the leader a dies at 1000 ms; b takes orders again from 1400, accepts from 1300."""
    world = World()
    for number in range(3):
        world.whole(number, 850 + 50 * number)
    world.kills = [Kill("a", A, START + timedelta(milliseconds=1000))]
    world.placed(5, 1300, url=B)
    world.took(5, 1400, epoch=2, session=2)
    world.ledger(5, "WORKING")
    return world


@pytest.mark.guarantee(7)
def test_silence_is_measured_from_the_last_order_before_the_kill_to_the_first_after(killed: World) -> None:
    silence = killed.verdict().silences[0]
    assert (silence.broker_ms, silence.accepted_ms) == (1400 - 954, 1302 - 952)


@pytest.mark.guarantee(7)
def test_what_the_dead_leader_had_already_written_does_not_end_the_silence(killed: World) -> None:
    late = {"kind": "order", "at": at(1003), "session": 1, "perm_id": 909, "order_ref": ref_of(9)}
    killed.journal.insert(3, late | {"symbol": "AAPL", "side": "BUY", "quantity": "1"})
    for seq, entry in enumerate(killed.journal, start=1):
        entry["seq"] = seq
    assert killed.verdict().silences[0].broker_ms == 1400 - 1003


@pytest.mark.guarantee(7)
def test_an_answer_of_the_dead_leader_that_arrives_late_does_not_end_the_silence(killed: World) -> None:
    killed.client(9, 1001, "ok", url=A, status=201, id=id_of(9))
    assert killed.verdict().silences[0].accepted_ms == 1302 - 1001


@pytest.mark.guarantee(7)
def test_a_200_of_the_standby_for_a_key_that_it_knows_does_not_end_the_silence(killed: World) -> None:
    killed.client(2, 1050, "ok", url=B, status=200, id=id_of(2))
    assert killed.verdict().silences[0].accepted_ms == 1302 - 952


def test_a_silence_that_never_ended_has_no_length(killed: World) -> None:
    killed.journal.pop()
    killed.entries = [entry for entry in killed.entries if entry["client_order_id"] != "k5"]
    silence = killed.verdict().silences[0]
    assert (silence.broker_ms, silence.accepted_ms) == (None, None)


# --- what it is given


def test_a_journal_with_a_hole_is_not_judged(world: World) -> None:
    del world.journal[2]
    with pytest.raises(IncompleteJournal):
        world.verdict()


def test_references_and_execution_ids_are_read_exactly() -> None:
    reference = parse_reference("pa.ABC2.17.ABCDEFGHIJKLMNOP")
    assert reference is not None
    assert (reference.tag, reference.epoch, reference.id) == ("ABC2", 17, "ABCDEFGHIJKLMNOP")
    for other in (
        None,
        "",
        "pa.ABC2.x.ABCDEFGHIJKLMNOP",
        "pa.ABC2.17.ABCDEFGHIJKLMNOPQ",
        "xpa.ABC2.17.ABCDEFGHIJKLMNOP",
    ):
        assert parse_reference(other) is None
    assert split_exec_id("0000e0d5.67f1.01.02") == ("0000e0d5.67f1.01", 2)
    assert split_exec_id("plain") == ("plain", 0)


def test_a_reduced_order_is_filled_at_its_new_quantity() -> None:
    world = World()
    world.took(0, 0)
    world.wrote("modify", 1, perm_id=900, quantity="4")
    world.wrote("execution", 2, exec_id="e.1.01", perm_id=900, symbol="AAPL", side="BUY", quantity="4", price="1")
    record = read_journal(world.journal)
    assert record.state(900) == "filled"
    assert record.made["e.1"].order_ref == ref_of(0)


# --- the clients' record


def test_an_attempt_without_an_end_and_one_of_unknown_kind_are_unknown_and_never_refused() -> None:
    world = World()
    world.client(0, 0, "invoke")
    world.client(1, 0, "invoke")
    world.client(1, 1, "something-new")
    world.client(1, 2, "invoke", attempt=2)
    world.client(1, 3, "refused", status=422)
    world.client(2, 0, "invoke")
    world.client(2, 1, "redirect", status=307)
    world.client(2, 1, "invoke")
    world.client(2, 2, "limited", status=429)
    outcomes = {key: order.outcome for key, order in fold(world.entries).orders.items()}
    assert outcomes == {"k0": Outcome.UNKNOWN, "k1": Outcome.UNKNOWN, "k2": Outcome.NOT_ACCEPTED}


def test_one_answer_outweighs_every_unknown_attempt_before_it() -> None:
    world = World()
    world.client(0, 0, "invoke")
    world.client(0, 500, "unknown")
    world.placed(0, 700, status=200)
    history = fold(world.entries)
    assert history.orders["k0"].outcome is Outcome.ANSWERED
    assert history.accepted == []
    assert longest_wait_ms(history) == 702


def test_a_history_cut_in_the_middle_of_its_last_line_is_read_up_to_it_and_a_broken_line_is_named() -> None:
    assert read_lines('{"op": "run"}\n{"op": "pl') == [{"op": "run"}]
    assert read_lines("") == []
    with pytest.raises(BadHistory, match="line 2"):
        read_lines('{"op": "run"}\n{"op": \n{}\n')
    with pytest.raises(BadHistory, match="line 1"):
        read_lines("[]\n")


def test_cancels_are_counted_apart_from_orders() -> None:
    entries = [
        {"op": "run", "kind": "start", "at": at(0)},
        {"op": "cancel", "kind": "invoke", "attempt": 1, "client_order_id": "k0", "at": at(0)},
        {"op": "cancel", "kind": "invoke", "attempt": 2, "client_order_id": "k0", "at": at(0)},
        {"op": "cancel", "kind": "ok", "attempt": 2, "client_order_id": "k0", "at": at(0)},
    ]
    history = fold(entries)
    assert (history.cancels_asked, history.cancels_answered, history.orders) == (1, 1, {})
