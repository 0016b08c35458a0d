"""Checks on who leads, seen from outside, and on how the pair stands when all has healed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

from tests.chaos.facts import Facts, Probe

LONGEST_OVERLAP_MS = 1000.0  # R12: two replicas that both say that they lead stop it within a second


@dataclass(frozen=True, slots=True)
class Overlap:
    """Both replicas said that they lead, for `certain_ms` at least (0: it may be the probes' own uncertainty) and
    `most_ms` at most."""

    began: datetime
    certain_ms: float
    most_ms: float


def leader_overlaps(probes: Sequence[Probe]) -> list[Overlap]:
    """Every time for which two replicas, in unbroken rows of answers, may both have said that they lead (R12)."""
    names = sorted({probe.replica for probe in probes})
    runs = {name: _leading_runs([probe for probe in probes if probe.replica == name]) for name in names}
    found = []
    for name, other in combinations(names, 2):
        for one in runs[name]:
            for two in runs[other]:
                most = min(one[-1].answered, two[-1].answered) - max(one[0].asked, two[0].asked)
                if most > timedelta(0):
                    certain = min(one[-1].asked, two[-1].asked) - max(one[0].answered, two[0].answered)
                    found.append(Overlap(max(one[0].asked, two[0].asked), max(0.0, _ms(certain)), _ms(most)))
    return found


def _leading_runs(probes: Sequence[Probe]) -> list[list[Probe]]:
    """Probes of one replica that say "I lead" without another answer, or none, in between."""
    runs: list[list[Probe]] = []
    unbroken = False
    for probe in sorted(probes, key=lambda one: one.asked):
        if probe.leads and unbroken:
            runs[-1].append(probe)
        elif probe.leads:
            runs.append([probe])
        unbroken = probe.leads
    return runs


def two_leaders(facts: Facts) -> Iterator[str]:
    """R12: an overlap that lasts longer than the rule allows."""
    for overlap in leader_overlaps(facts.probes):
        if overlap.most_ms > LONGEST_OVERLAP_MS:
            yield f"two replicas answered 200 on /leader for {overlap.certain_ms:.0f} to {overlap.most_ms:.0f} ms"


def not_one_leader(facts: Facts) -> Iterator[str]:
    """G7: after healing exactly one replica leads."""
    if len(facts.leaders) != 1:
        yield (
            f"after healing {len(facts.leaders)} replicas answered 200 on /leader: {', '.join(facts.leaders) or 'none'}"
        )


def not_whole(facts: Facts) -> Iterator[str]:
    """G7: after healing the leader's gate is open and the other replica is a healthy standby."""
    for name, seen in facts.standing.items():
        if seen is None:
            yield f"after healing {name} does not answer"
        elif seen.state == "LEADING" and not seen.gate_open:
            yield f"after healing the gate of {name} is shut: {' '.join(seen.reasons) or 'no reason given'}"
        elif seen.state not in ("LEADING", "STANDBY") or not seen.healthy:
            yield f"after healing {name} is {seen.state} and not healthy: {' '.join(seen.complaints) or 'no reason given'}"


def books_differ(facts: Facts) -> Iterator[str]:
    """G8: at the same event both books have the same digest."""
    for (one, here), (other, there) in combinations(sorted(facts.standing.items()), 2):
        if here is not None and there is not None and here.seq == there.seq and here.digest != there.digest:
            yield f"at event {here.seq} the book of {one} has the digest {here.digest}, that of {other} {there.digest}"


def silence_without_end(facts: Facts) -> Iterator[str]:
    """G7: around each fault that silenced a leader the silence is measured, and it ends within the budget.

    One whose end nobody could see counts only where orders were asked for after the budget was over.
    """
    limit = timedelta(seconds=facts.budget)
    for silence in facts.silences:
        kill = silence.kill
        if silence.broker_ms is not None and silence.broker_ms > facts.budget * 1000:
            yield f"nothing reached the broker for {silence.broker_ms / 1000:.1f} s after {kill.name} fell silent"
        elif silence.broker_ms is None and any(o.invoked_at > kill.at + limit for o in facts.history.orders.values()):
            yield f"nothing reached the broker any more after {kill.name} fell silent"


def leading_between(probes: Sequence[Probe], begin: datetime, end: datetime) -> list[Probe]:
    """Answers 200 to questions that were asked and answered in that time."""
    return [probe for probe in probes if probe.leads and begin < probe.asked and probe.answered < end]


def _ms(span: timedelta) -> float:
    return round(span.total_seconds() * 1000, 1)
