"""The schedule: the same for the same seed, nothing beside what it excludes, each fault in its turn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.catalogue import CATALOGUE
from tests.chaos.schedule import (
    FIRST_AFTER,
    GAP,
    LATEST_LAG,
    BadSchedule,
    Plan,
    cards,
    dump,
    excludes,
    load,
    rounds,
    schedule,
    told,
)


@dataclass(frozen=True)
class Fake:
    name: str
    kind: str
    lasts: float = 1.0
    leader: str = "stays"
    alone: bool = False


CHOICES = [
    Fake("leader-killed", "process", 0.1, "changes"),
    Fake("standby-killed", "process"),
    Fake("takeover-dies", "process", 5.0, "changes", alone=True),
    Fake("postgres-away", "postgres", 3.0, "may"),
    Fake("leader-and-postgres-killed", "mixed", 4.0, "changes"),
    Fake("etcd-away", "etcd", 6.0),
    Fake("gateway-killed", "broker", 3.0),
    Fake("switchover", "operator", 1.0, "changes"),
    Fake("pause", "operator", 2.0),
]
some = st.lists(st.sampled_from(CHOICES), min_size=1, unique=True)
seeds = st.integers(min_value=0, max_value=10**9)


@given(seed=seeds, choices=some, data=st.data())
def test_same_seed_draws_the_same_rounds_in_whatever_order_the_choices_come(
    seed: int, choices: list[Fake], data: st.DataObject
) -> None:
    other = data.draw(st.permutations(choices))
    assert list(islice(rounds(seed, choices), 5)) == list(islice(rounds(seed, other), 5))


@given(seed=seeds, choices=some)
def test_no_two_faults_overlap_that_exclude_each_other(seed: int, choices: list[Fake]) -> None:
    by_name = {one.name: one for one in choices}
    for plan in islice(rounds(seed, choices), 8):
        for stroke in plan.strokes:
            first, *others = stroke.acts
            assert len(others) <= 1
            for second in others:
                assert not excludes(by_name[first.name], by_name[second.name])
                assert 0.0 <= second.lag <= LATEST_LAG


@given(seed=seeds, choices=some)
def test_every_fault_has_its_turn_before_the_cards_are_dealt_again(seed: int, choices: list[Fake]) -> None:
    deal = sorted(one.name for one in choices for _ in range(cards(one)))
    firsts = [stroke.acts[0].name for plan in islice(rounds(seed, choices), 12) for stroke in plan.strokes]
    for start in range(0, len(firsts) - len(deal) + 1, len(deal)):
        assert sorted(firsts[start : start + len(deal)]) == deal


def test_what_is_quickly_over_comes_more_often() -> None:
    assert [cards(one) for one in CHOICES if one.name in ("leader-killed", "takeover-dies", "etcd-away")] == [3, 1, 1]


@given(seed=seeds, choices=some, short=st.floats(1, 600), more=st.floats(0, 600))
def test_a_shorter_schedule_is_the_beginning_of_a_longer_one(
    seed: int, choices: list[Fake], short: float, more: float
) -> None:
    one, two = schedule(seed, short, choices), schedule(seed, short + more, choices)
    assert one
    assert two[: len(one)] == one
    assert [plan.number for plan in two] == list(range(1, len(two) + 1))


@given(seed=seeds, choices=some)
def test_a_schedule_comes_back_from_its_file_as_it_was(seed: int, choices: list[Fake]) -> None:
    plans = schedule(seed, 200, choices)
    assert load('{"op": "run"}\n' + dump(plans)) == plans


def test_pauses_between_strokes_are_drawn_and_within_their_bounds() -> None:
    plans = schedule(3, 3600, CHOICES)
    after = [stroke.after for plan in plans for stroke in plan.strokes[1:]]
    assert {plan.strokes[0].after for plan in plans} == {FIRST_AFTER}
    assert GAP[0] <= min(after) < 1.0
    assert 2.5 < max(after) <= GAP[1]
    whole = [stroke.whole for plan in plans for stroke in plan.strokes[1:]]
    assert all(plan.strokes[0].whole for plan in plans)
    assert 0.65 < sum(whole) / len(whole) < 0.85, "most meet a whole pair, some do not"


def test_two_at_once_happen_and_operators_act_during_faults() -> None:
    strokes = [stroke for plan in schedule(3, 3600, CHOICES) for stroke in plan.strokes]
    pairs = Counter(tuple(act.name for act in stroke.acts) for stroke in strokes if len(stroke.acts) == 2)
    assert 0.15 < sum(pairs.values()) / len(strokes) < 0.5
    assert pairs["leader-killed", "pause"]
    assert pairs["postgres-away", "switchover"]
    assert not pairs["leader-killed", "switchover"], "there would be no leader to hand over"


def test_different_seeds_draw_different_rounds() -> None:
    assert len({next(rounds(seed, CHOICES)) for seed in range(50)}) == 50


def test_a_round_reads_as_lines() -> None:
    plan: Plan = next(rounds(7, CHOICES))
    lines = told(plan)
    assert lines[0] == f"round 1 (orders drawn from {plan.seed})"
    assert len(lines) == 1 + len(plan.strokes)
    assert all(act.name in "\n".join(lines) for act in plan.acts)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no round"),
        ('{"op": "run"}\n', "no round"),
        ("x\n", "line 1"),
        ('{"op": "plan"}\n', "line 1"),
        ("3\n", "line 1"),
    ],
)
def test_a_file_that_is_no_schedule_is_refused_with_a_sentence(text: str, why: str) -> None:
    with pytest.raises(BadSchedule, match=why):
        load(text)


def test_the_whole_catalogue_can_be_dealt() -> None:
    plans = schedule(1, 4 * 3600, list(CATALOGUE.values()))
    assert {act.name for plan in plans for act in plan.acts} == set(CATALOGUE)
    assert all(CATALOGUE[act.name].lasts >= 0 for plan in plans for act in plan.acts)
