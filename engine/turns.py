"""Whose order goes next when several tokens' orders wait behind one pace. Pure.

Each turn is one family's, or one single order's, of the subject that was served least recently. What nobody's turn changes is the
order of acceptance: within one subject, and within one contract of one account, whoever asked for what stands there (R9).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from engine.family import units
from engine.order import Order


def in_turn(waiting: Iterable[Order], served: Mapping[str, int]) -> Iterator[list[Order]]:
    """The families of `waiting`, which is in order of acceptance, each as its turn comes.

    `served`: subject -> a number that is the higher the later it was served; one that is not in it goes before all that are, and
    of two of these the one whose order was accepted first. Whoever takes a family raises its subject's number before asking for
    the next one; a family that is not taken costs its subject no turn, and is not given again. The work is one pass over what
    waits, and for each family given that of a heap of the subjects.
    """
    lines: dict[str, deque[tuple[int, list[Order]]]] = {}  # subject -> its families, the first one left
    ahead: dict[tuple[str, str], deque[str]] = {}  # contract -> the subjects of the families in it, the first one left
    for place, family in enumerate(units(waiting)):
        first = family[0]
        if (line := lines.get(first.subject)) is None:
            line = lines[first.subject] = deque()
        line.append((place, family))
        contract = (first.account, first.symbol)
        if (standing := ahead.get(contract)) is None:
            standing = ahead[contract] = deque()
        standing.append(first.subject)

    def may_go(subject: str) -> bool:
        """Whether nothing that was accepted before the subject's first one waits in its contract."""
        return bool(lines[subject]) and ahead[lines[subject][0][1][0].contract_key][0] == subject

    def turn_of(subject: str) -> tuple[int, int, str]:
        return served.get(subject, -1), lines[subject][0][0], subject

    ready = [turn_of(subject) for subject in lines if may_go(subject)]
    heapify(ready)
    while ready:
        subject = heappop(ready)[2]
        family = lines[subject].popleft()[1]
        standing = ahead[family[0].contract_key]
        standing.popleft()
        yield family
        if may_go(subject):
            heappush(ready, turn_of(subject))
        freed = standing[0] if standing else subject
        if freed != subject and lines[freed][0][1][0].contract_key == family[0].contract_key:
            heappush(ready, turn_of(freed))
