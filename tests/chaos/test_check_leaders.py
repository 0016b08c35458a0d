"""The checks of who leads against facts that are known to be bad: what they must catch, they catch."""

from __future__ import annotations

import pytest

from ha.demo.scene import Glimpse
from ha.demo.silence import Kill, Silence
from tests.chaos.check_factory import World, at, glimpse, the_problem


@pytest.mark.check("two_leaders")
@pytest.mark.rule(12)
def test_two_leaders_for_longer_than_a_second_are_found_and_measured(world: World) -> None:
    world.probes = [probe for probe in world.probes if probe.replica == "b"]
    for ms in range(0, 2400, 100):
        world.probe("a", ms, 200)
    assert the_problem(world) == "two replicas answered 200 on /leader for 1098 to 1102 ms"
    [overlap] = world.examined().overlaps
    assert overlap.began == at(1200)


@pytest.mark.rule(12)
def test_two_leaders_for_less_than_a_second_are_counted_and_are_no_problem(world: World) -> None:
    world.probes = [probe for probe in world.probes if probe.replica == "b"]
    for ms in range(0, 1500, 100):
        world.probe("a", ms, 200)
    examined = world.examined()
    assert examined.problems == []
    assert [overlap.certain_ms for overlap in examined.overlaps] == [198.0]


@pytest.mark.rule(12)
def test_one_answer_of_each_at_the_same_time_may_be_an_overlap_and_is_not_certain(world: World) -> None:
    world.probes = []
    world.probe("a", 0, 200, took=100)
    world.probe("b", 50, 200, took=100)
    [overlap] = world.examined().overlaps
    assert (overlap.certain_ms, overlap.most_ms) == (0.0, 50.0)


def test_leading_again_after_a_pause_is_no_overlap_with_the_leader_of_the_pause(world: World) -> None:
    world.probes = []
    for ms, a, b in ((0, 200, 503), (100, 503, 200), (200, None, 200), (300, 503, 503), (400, 200, 503)):
        world.probe("a", ms, a)
        world.probe("b", ms, b)
    assert world.examined().overlaps == []


@pytest.mark.check("not_one_leader")
@pytest.mark.parametrize("leaders", [(), ("a", "b")])
def test_any_number_of_leaders_but_one_after_healing_is_found(world: World, leaders: tuple[str, ...]) -> None:
    world.leaders = leaders
    assert the_problem(world).startswith(f"after healing {len(leaders)} replicas answered 200 on /leader")


@pytest.mark.check("not_whole")
@pytest.mark.guarantee(7)
@pytest.mark.parametrize(
    ("name", "seen", "said"),
    [
        ("a", None, "after healing a does not answer"),
        ("b", glimpse("LEADING", gate_open=False, reasons=("link",)), "after healing the gate of b is shut: link"),
        (
            "b",
            glimpse("HOLDING", healthy=False, complaints=("held",)),
            "after healing b is HOLDING and not healthy: held",
        ),
        ("a", glimpse("STANDBY", healthy=False), "after healing a is STANDBY and not healthy: no reason given"),
    ],
    ids=["no answer", "gate", "holding", "standby"],
)
def test_a_pair_that_is_not_whole_after_healing_is_found(
    world: World, name: str, seen: Glimpse | None, said: str
) -> None:
    world.standing[name] = seen
    assert the_problem(world) == said


@pytest.mark.check("books_differ")
@pytest.mark.guarantee(8)
def test_books_that_differ_at_the_same_event_are_found_and_those_at_different_ones_are_not_compared(
    world: World,
) -> None:
    world.standing["a"] = glimpse("STANDBY", digest="d2", seq=39)
    assert world.examined().problems == []
    world.standing["a"] = glimpse("STANDBY", digest="d2")
    assert the_problem(world) == "at event 40 the book of a has the digest d2, that of b d1"


@pytest.mark.check("silence_without_end")
@pytest.mark.guarantee(7)
def test_a_silence_beyond_the_budget_or_without_an_end_is_found(world: World) -> None:
    kill = Kill("a", "http://a", at(980))
    world.silences = [Silence(kill, 40_100.0, 300.0)]
    assert the_problem(world) == "nothing reached the broker for 40.1 s after a fell silent"
    world.silences = [Silence(kill, None, None)]
    assert world.examined().problems == []  # nobody asked for an order late enough to see its end
    world.entries.append({"op": "place", "kind": "invoke", "client_order_id": "late", "at": at(41_000).isoformat()})
    assert the_problem(world) == "nothing reached the broker any more after a fell silent"
