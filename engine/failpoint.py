"""Named points on an order's way and of a takeover, where a test can hold the race open or end the process.

Nothing happens at a point unless `FAILPOINTS` names it: `hit` is then an empty function. The setting is a list of
`POINT=ACTION` separated by `;`. Actions: `kill` (SIGKILL to this process), `stop` (SIGSTOP), `sleep:SECONDS` (blocks the
whole process, as a frozen one does), `raise`. An action may be followed by `@N`: only the N-th passage counts.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

POINTS = (
    "submit.before_commit",  # an intent is validated, nothing is durable
    "commit.before_send",  # the statement is about to leave for PostgreSQL
    "commit.after_answer",  # durable, the book does not know it yet
    "submit.before_write",  # the licence is committed, the bytes are not written
    "submit.after_write",  # the bytes are written, the client has no answer
    "inbound.before_commit",  # broker evidence seen, not durable
    "takeover.won",  # the lease is ours, the epoch is not
    "takeover.claimed",  # the epoch is ours, the broker session is not
    "takeover.admitted",  # the broker session is ours, nothing is collected
    "takeover.collected",  # the snapshot is complete, nothing is repaired
    "takeover.repaired",  # the repair is committed, the gate is shut
    "takeover.leading",  # the gate is open
    "stepdown.gate_shut",  # the gate is shut, the session is up
    "lease.renew",  # the renewing thread is about to ask; `raise` ends this thread alone
)


class FailpointError(Exception):
    """Raised at a point whose action is `raise`."""


@dataclass(slots=True)
class _Armed:
    action: str
    argument: float
    passage: int | None
    passed: int = 0

    def pass_by(self, point: str) -> None:
        self.passed += 1
        if self.passage is not None and self.passed != self.passage:
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.action == "sleep":
            time.sleep(self.argument)
        else:
            raise FailpointError(point)


def _nothing(point: str) -> None:
    """The failpoint of production."""


_hit: Callable[[str], None] = _nothing


def hit(point: str) -> None:
    """Pass the named point."""
    _hit(point)


def arm(setting: str) -> None:
    """Arm the points that `setting` names; an empty setting disarms all. Raises ValueError with a sentence."""
    global _hit  # noqa: PLW0603 - one switch for the process, set once at start
    armed = dict(map(_parse, filter(None, setting.split(";"))))

    def armed_hit(point: str) -> None:
        if (action := armed.get(point)) is not None:
            action.pass_by(point)

    _hit = armed_hit if armed else _nothing


def _parse(item: str) -> tuple[str, _Armed]:
    point, _, rest = item.strip().partition("=")
    if point not in POINTS:
        raise ValueError(f"FAILPOINTS names {point!r}; there are: {', '.join(POINTS)}")
    action, _, passage = rest.partition("@")
    name, _, argument = action.partition(":")
    if name not in ("kill", "stop", "sleep", "raise") or (passage and not passage.isdigit()):
        raise ValueError(f"FAILPOINTS: {item!r} is not POINT=kill|stop|sleep:SECONDS|raise[@N]")
    try:
        seconds = float(argument) if argument else 0.0
    except ValueError:
        raise ValueError(f"FAILPOINTS: {argument!r} in {item!r} is not a number of seconds") from None
    return point, _Armed(name, seconds, int(passage) if passage else None)
