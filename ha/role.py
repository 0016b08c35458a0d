"""The role machine: one literal table. Pure.

Every transition that exists stands here; anything else raises with state and event. The comment of a row is the line that the
log shows when the row is taken, and the diagram in the docs is drawn from the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.errors import IllegalTransition


class State(StrEnum):
    """Where a replica stands."""

    STANDBY = "STANDBY"
    CAMPAIGNING = "CAMPAIGNING"
    CLAIMING = "CLAIMING"
    CONNECTING = "CONNECTING"
    RECONCILING = "RECONCILING"
    LEADING = "LEADING"
    HOLDING = "HOLDING"
    STEPPING_DOWN = "STEPPING_DOWN"


class On(StrEnum):
    """What happens to a replica."""

    LEADERLESS = "the leader key is free and this replica may campaign"
    SUSPECTED = "the leader was silent on both ways for too long"
    WON = "the lease is granted"
    LOST = "another replica holds the leader key, or etcd did not say"
    CLAIMED = "the epoch is ours, and the fence was proven"
    ADMITTED = "the gateway admitted us: the session before ours is dead"
    AGREED = "ledger and broker agree, or what is doubtful is parked"
    SESSION_LOST = "the broker session ended"
    MUST_HOLD = "everything must be held until an operator looks"
    RELEASED_HOLD = "an operator ended the hold"
    ENDED = "this term is over"
    QUIET = "nothing of the term is left: no session, no lease"


class Act(StrEnum):
    """What the shell carries out on a transition."""

    CAMPAIGN = "campaign"
    TAKE_OVER = "take over"
    CLAIM = "claim"
    CONNECT = "connect"
    RECONCILE = "reconcile"
    LEAD = "lead"
    HOLD = "hold"
    STEP_DOWN = "step down"
    TAIL = "tail"


@dataclass(frozen=True, slots=True)
class Row:
    """Where an event leads, what is done there, and the sentence for the log."""

    to: State
    act: Act
    comment: str


_OVER = Row(State.STEPPING_DOWN, Act.STEP_DOWN, "gate shut, session aborted; releasing the lease")

TABLE: dict[tuple[State, On], Row] = {
    (State.STANDBY, On.LEADERLESS): Row(State.CAMPAIGNING, Act.CAMPAIGN, "no leader: campaigning for the lease"),
    (State.STANDBY, On.SUSPECTED): Row(State.CAMPAIGNING, Act.TAKE_OVER, "the leader is silent: taking the key over"),
    (State.CAMPAIGNING, On.WON): Row(State.CLAIMING, Act.CLAIM, "lease won: claiming the next epoch"),
    (State.CAMPAIGNING, On.LOST): Row(State.STANDBY, Act.TAIL, "lease not won: tailing"),
    (State.CAMPAIGNING, On.ENDED): _OVER,
    (State.CLAIMING, On.CLAIMED): Row(
        State.CONNECTING, Act.CONNECT, "epoch claimed: accepting orders, taking the broker session"
    ),
    (State.CLAIMING, On.ENDED): _OVER,
    (State.CONNECTING, On.ADMITTED): Row(State.RECONCILING, Act.RECONCILE, "admitted by the gateway: reconciling"),
    (State.CONNECTING, On.MUST_HOLD): Row(State.HOLDING, Act.HOLD, "holding everything: an operator must look"),
    (State.CONNECTING, On.ENDED): _OVER,
    (State.RECONCILING, On.AGREED): Row(State.LEADING, Act.LEAD, "reconciled: the gate is open"),
    (State.RECONCILING, On.SESSION_LOST): Row(
        State.CONNECTING, Act.CONNECT, "session lost while reconciling: taking a new one"
    ),
    (State.RECONCILING, On.MUST_HOLD): Row(State.HOLDING, Act.HOLD, "holding everything: an operator must look"),
    (State.RECONCILING, On.ENDED): _OVER,
    (State.LEADING, On.SESSION_LOST): Row(
        State.CONNECTING, Act.CONNECT, "broker session lost: gate shut, taking a new one"
    ),
    (State.LEADING, On.MUST_HOLD): Row(State.HOLDING, Act.HOLD, "holding everything: an operator must look"),
    (State.LEADING, On.ENDED): _OVER,
    (State.HOLDING, On.RELEASED_HOLD): Row(
        State.CONNECTING, Act.CONNECT, "hold ended by an operator: taking a new session"
    ),
    (State.HOLDING, On.ENDED): _OVER,
    (State.STEPPING_DOWN, On.QUIET): Row(State.STANDBY, Act.TAIL, "stepped down: tailing"),
}

HAS_EPOCH = frozenset({State.CONNECTING, State.RECONCILING, State.LEADING, State.HOLDING})
"""States in which this replica is the leader: it holds lease and epoch, and accepts orders."""

IN_TERM = HAS_EPOCH | {State.CAMPAIGNING, State.CLAIMING}
"""States that end by `ENDED`."""


def after(state: State, event: On) -> Row:
    """The row for `event` in `state`. Raises IllegalTransition where the table has none."""
    try:
        return TABLE[(state, event)]
    except KeyError:
        raise IllegalTransition("role", state, event.name) from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    rows = [f"    {state} --> {row.to}: {event.name}" for (state, event), row in TABLE.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> STANDBY", *rows])
