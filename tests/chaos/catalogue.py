"""Every fault that a scenario can ask for, by name: what it takes, in which form of the cluster, with random parameters.

A random scheduler draws from here, and so do the tests that strike each one once. `make` draws all that is random from the
generator it is given, so that a seed gives the same faults again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.chaos import listed_parts, listed_ways
from tests.chaos.entry import Entry, Form, Kind, Leader, Need, why_not

__all__ = ["CATALOGUE", "Entry", "Form", "Kind", "Leader", "Need", "possible", "why_not"]


def _by_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        assert entry.name not in found, entry.name
        found[entry.name] = entry
    return found


CATALOGUE: Mapping[str, Entry] = _by_name([*listed_parts.entries(), *listed_ways.entries()])


def possible(form: Form, kinds: Iterable[Kind] = tuple(Kind)) -> list[Entry]:
    """The entries of these kinds that this form of the cluster and this machine can strike, in order."""
    missing, wanted = {need for need in Need if why_not(need) is not None}, set(kinds)
    return [one for one in CATALOGUE.values() if form in one.forms and one.kind in wanted and not one.needs & missing]
