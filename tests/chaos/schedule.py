"""Which faults strike, and when: drawn from a seed, round by round. Pure.

The same seed with the same choices gives the same schedule, for a year as for a minute: a shorter one is the beginning of
a longer one. Faults are dealt as cards are, so that each has its turn before any comes a second time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Protocol

SHORT = 5.0  # seconds
STROKES = (4, 6)  # a round
GAP = (0.5, 3.0)  # seconds for which a stroke lets the pair lead before it
FIRST_AFTER = 1.5  # seconds of orders that a round begins with
ROUND_ENDS = 12.0  # seconds, roughly: the last fault heals, the books become equal, the judge reads
WHOLE = 0.75  # of all strokes meet a pair with a healthy standby, the others may come before there is one again
TWO_AT_ONCE = 0.4  # of all strokes
OPERATOR = "operator"
BY_HAND = 0.5  # of all second faults are something that an operator does, where there is such a thing
LATEST_LAG = 3.0  # seconds
SAME_MOMENT = 0.3  # of all pairs
# only one fault at a time may end or stop these: what has ended already cannot be ended again
_PARTS = frozenset({"postgres", "gateway", "both"})


class BadSchedule(ValueError):
    """A recorded schedule that cannot be played; the message says what is wrong with it."""


class Choice(Protocol):
    """What the schedule knows of a fault; the catalogue's entries are such."""

    @property
    def name(self) -> str:
        """The fault's name, with words between dashes."""

    @property
    def kind(self) -> str:
        """What is broken."""

    @property
    def lasts(self) -> float:
        """Roughly, seconds until it is over."""

    @property
    def leader(self) -> str:
        """`changes` when the leader falls by it."""

    @property
    def alone(self) -> bool:
        """True when nothing else may strike beside it."""


@dataclass(frozen=True, slots=True)
class Act:
    """One fault: `seed` draws its own parameters; it strikes `lag` seconds after its stroke began."""

    name: str
    seed: int
    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class Stroke:
    """One fault, or two that overlap, so many seconds after the pair has a leader again; with `whole`, and a healthy
    standby too."""

    after: float
    acts: tuple[Act, ...]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """One round. `seed` draws its orders and its market."""

    number: int
    seed: int
    strokes: tuple[Stroke, ...]

    @property
    def acts(self) -> list[Act]:
        """All faults, in order."""
        return [act for stroke in self.strokes for act in stroke.acts]


def excludes(one: Choice, two: Choice) -> bool:
    """Whether these two must not overlap: the second would find nothing left to break, or keep the first from biting."""
    shared = _PARTS & set(one.name.split("-")) & set(two.name.split("-"))
    both_fell = one.leader == two.leader == "changes"
    return one.alone or two.alone or one.kind == two.kind or both_fell or bool(shared)


def cards(choice: Choice) -> int:
    """How often a fault comes in one deal: what is quickly over, and leaves room for others, comes more often."""
    return 1 if choice.alone or choice.lasts > SHORT else 3


def rounds(seed: int, choices: Sequence[Choice]) -> Iterator[Plan]:
    """Rounds without end, numbered from 1. Raises ValueError when there is nothing to choose from."""
    if not choices:
        raise ValueError("no fault to choose from")
    rng = random.Random(seed)
    deck: list[Choice] = []
    number = 0
    while True:
        number += 1
        strokes = []
        for place in range(rng.randint(*STROKES)):
            if not deck:
                deck = [choice for choice in sorted(choices, key=lambda one: one.name) for _ in range(cards(choice))]
                rng.shuffle(deck)
            after = FIRST_AFTER if place == 0 else round(rng.uniform(*GAP), 1)
            whole = place == 0 or rng.random() < WHOLE
            strokes.append(Stroke(after, tuple(_acts(rng, deck.pop(), choices)), whole))
        yield Plan(number, rng.randrange(1_000_000), tuple(strokes))


def _acts(rng: random.Random, first: Choice, choices: Sequence[Choice]) -> Iterator[Act]:
    yield Act(first.name, _seed(rng))
    beside = sorted((one for one in choices if not excludes(first, one)), key=lambda choice: choice.name)
    if beside and rng.random() < TWO_AT_ONCE:
        by_hand = [one for one in beside if one.kind == OPERATOR]
        second = rng.choice(by_hand if by_hand and rng.random() < BY_HAND else beside)
        lag = 0.0 if rng.random() < SAME_MOMENT else round(rng.uniform(0.0, min(LATEST_LAG, max(0.5, first.lasts))), 1)
        yield Act(second.name, _seed(rng), lag)


def _seed(rng: random.Random) -> int:
    return rng.randrange(1_000_000)


def schedule(seed: int, seconds: float, choices: Sequence[Choice]) -> list[Plan]:
    """The rounds that begin within so many seconds, by what each fault lasts roughly."""
    lasts = {choice.name: choice.lasts for choice in choices}
    begins = 0.0

    def in_time(plan: Plan) -> bool:
        nonlocal begins
        began, begins = begins, begins + planned_seconds(plan, lasts)
        return began < seconds

    return list(takewhile(in_time, rounds(seed, choices)))


def planned_seconds(plan: Plan, lasts: Mapping[str, float]) -> float:
    """Roughly how long a round takes. A fault that `lasts` does not name takes no time."""
    strokes = (s.after + max(act.lag + lasts.get(act.name, 0.0) for act in s.acts) for s in plan.strokes)
    return sum(strokes) + ROUND_ENDS


def told(plan: Plan) -> list[str]:
    """The round for a person, a line each."""
    lines = [f"round {plan.number} (orders drawn from {plan.seed})"]
    for stroke in plan.strokes:
        first, *others = stroke.acts
        soon = "" if stroke.whole else ", standby or not,"
        line = f"  after {stroke.after:4.1f} s{soon}  {first.name} ({first.seed})"
        lines.append(line + "".join(f"  and {act.lag:.1f} s later {act.name} ({act.seed})" for act in others))
    return lines


def dump(plans: Iterable[Plan]) -> str:
    """The rounds as JSON lines."""
    return "".join(json.dumps(as_json(plan)) + "\n" for plan in plans)


def as_json(plan: Plan) -> dict[str, object]:
    """One round as JSON values."""
    return {"op": "plan"} | asdict(plan)


def load(text: str) -> list[Plan]:
    """The rounds of a file that `dump` or a run wrote; lines that are no plan are passed over. Raises BadSchedule."""
    plans = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            entry = json.loads(line)
            if entry.get("op") == "plan":
                strokes = (Stroke(**{**s, "acts": tuple(Act(**act) for act in s["acts"])}) for s in entry["strokes"])
                plans.append(Plan(entry["number"], entry["seed"], tuple(strokes)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadSchedule(f"line {number} is no part of a schedule: {error}") from error
    if not plans:
        raise BadSchedule("there is no round in it")
    return plans
