"""What `ha.operate` and `ha.health` serve, for the description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from engine.openapi import LIMIT, Operation, Operations, Parameter
from engine.view_models import BreakAnswer, Moment, Strict
from ha.body import MAX_REASON
from ha.role import State

Text = Annotated[str, Field(max_length=MAX_REASON)]


class Reason(Strict):
    """Why; it is kept with what was done."""

    reason: Text | None = None


class Halt(Reason):
    """The body of `POST /cluster/halt`."""

    cancel_open: bool = False


class Switchover(Reason):
    """The body of `POST /cluster/switchover`."""

    to: Annotated[str | None, Field(description="The replica that is to lead; null = the other one.")] = None
    force: Annotated[bool, Field(description="Although orders are in doubt, or a restart of the gateway is near.")] = (
        False
    )


class Resolution(Strict):
    """The body of `POST /breaks/{id}`."""

    resolution: Annotated[
        str, Field(min_length=1, max_length=64, description="For an order in doubt: dead, adopt or send_again.")
    ]
    reason: Annotated[
        str, Field(min_length=1, max_length=MAX_REASON, pattern=r"\S", description="Why; the log keeps it.")
    ]
    perm_id: Annotated[int | None, Field(ge=1, description="With adopt: of the broker's order that it is.")] = None
    force: Annotated[bool, Field(description="Accept a new gateway that has not shown that it is ours.")] = False


class Reconcile(Reason):
    """The body of `POST /cluster/reconcile`."""

    dry_run: Annotated[bool, Field(description="Say what would be done, and write nothing.")] = False


class Ruled(Strict):
    """One difference between the ledger and the broker, and what its row of the table says."""

    row: str
    verdict: Literal["repair", "adopt", "hold", "ignore"]
    about: str
    what: str
    ours: dict[str, Any]
    broker: dict[str, Any]
    writes: list[str]
    waits: bool


class Reconciled(BaseModel):
    """What one reconciliation found; the figures only where it was not a dry run."""

    dry_run: bool
    verdict: str
    why: str | None = None
    missing: list[str]
    rounds: int | None = None
    repaired: int | None = None
    held: int | None = None
    elapsed_ms: float | None = None
    plan: list[Ruled]


class Wish(BaseModel):
    """What is wished now."""

    paused: bool | None = None
    halted: bool | None = None
    reason: str | None = None
    by: str
    seen_by: str | None = None
    still_out: list[str] | None = None


class HandingOver(Strict):
    """A hand-over that is under way."""

    from_: Annotated[str, Field(alias="from", serialization_alias="from")]
    to: str | None
    reason: str


class Alive(Strict):
    """The event loop runs."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether this replica does its role's job, and why not."""

    ready: bool
    role: str
    reasons: list[str]


class InRole(BaseModel):
    """Whether this replica has that role."""

    role: str
    state: State
    epoch: int
    reasons: list[str] | None = None


class HealthAnswer(BaseModel):
    """The whole picture of one replica."""

    status: Literal["ok", "unhealthy"]
    reasons: list[str]
    role: str
    state: State
    name: str
    instance: str
    pid: int
    cluster: str
    epoch: int
    single: bool
    term_started_at: Moment | None
    lease_trust_ms: int
    gate: dict[str, Any]
    gateway: dict[str, Any]
    database: dict[str, Any]
    etcd: dict[str, Any]
    tail: dict[str, Any]
    breaks: int
    paused: bool
    halted: bool
    warnings: list[str]
    version: str
    uptime_ms: int


class ReplicaRow(BaseModel):
    """One replica, as the one that answers knows it."""

    name: str | None
    url: str | None
    role: str | None
    state: State | None
    healthy: bool
    lag_ms: int | None
    version: str | None


class ClusterAnswer(BaseModel):
    """The pair."""

    leader: str | None
    epoch: int
    paused: bool
    halted: bool
    replicas: list[ReplicaRow]
    wishes: dict[str, Any]


class TermRow(BaseModel):
    """One term, with what each phase of its takeover cost."""

    epoch: int
    kind: Literal["start", "failover", "switchover"]
    reason: str
    from_: Annotated[str | None, Field(alias="from", serialization_alias="from")]
    to: str
    at: Moment
    detect_ms: float | None
    acquire_ms: float | None
    claim_ms: float | None
    fence_ms: float | None
    connect_ms: float | None
    reconcile_ms: float | None
    first_order_ms: float | None
    total_ms: float | None
    repaired: int | None
    held: int | None


class History(Strict):
    """Terms, newest first."""

    history: list[TermRow]


_CLUSTER = "/api/v1/cluster"
_PICTURE = {200: HealthAnswer, 429: HealthAnswer, 503: HealthAnswer}
_LAG = Parameter("lag", "How far behind it may be: 1s, 500ms.")

OPERATIONS: Operations = {
    ("POST", f"{_CLUSTER}/switchover"): Operation(
        "Hand the lead over to the other replica.", "operator", {202: HandingOver}, (409, 412, 503), Switchover,
        body_required=False,
    ),
    ("POST", f"{_CLUSTER}/pause"): Operation(
        "No automatic failover until resumed.", "operator", {202: Wish}, (503,), Reason, body_required=False,
    ),
    ("POST", f"{_CLUSTER}/resume"): Operation(
        "Automatic failover again.", "operator", {202: Wish}, (503,), Reason, body_required=False,
    ),
    ("POST", f"{_CLUSTER}/halt"): Operation(
        "No new orders; the answer names what is still out.", "operator", {202: Wish}, (409, 503), Halt, body_required=False,
    ),
    ("POST", f"{_CLUSTER}/unhalt"): Operation(
        "New orders again.", "operator", {202: Wish}, (409, 503), Reason, body_required=False,
    ),
    ("POST", f"{_CLUSTER}/reconcile"): Operation(
        "Compare the ledger with the broker, and repair.", "operator", {200: Reconciled}, (422, 503), Reconcile,
        body_required=False,
    ),
    ("POST", "/api/v1/breaks/{id}"): Operation(
        "An operator's word on a difference.", "operator", {200: BreakAnswer}, (404, 409, 412, 422, 503, 504), Resolution,
    ),
    ("GET", "/livez"): Operation("200 while the event loop runs.", None, {200: Alive}),
    ("GET", "/readyz"): Operation("200 if this replica does its role's job.", None, {200: Ready, 503: Ready}),
    ("GET", "/leader"): Operation("200 only from the leader.", None, {200: InRole, 503: InRole}),
    ("GET", "/standby"): Operation(
        "200 only from a standby that is near the head.", None, {200: InRole, 503: InRole}, (400,), query=(_LAG,),
    ),
    ("GET", "/health"): Operation("200 leader, 429 standby, 503 not healthy.", None, _PICTURE),
    ("GET", "/api/v1/health"): Operation("The same as /health.", None, _PICTURE),
    ("GET", "/metrics"): Operation("Metrics for Prometheus.", None, {200: None}, media="text/plain"),
    ("GET", _CLUSTER): Operation("The pair, as this replica knows it.", "viewer", {200: ClusterAnswer}),
    ("GET", "/api/v1/history"): Operation(
        "Terms, newest first, with what each phase cost.", "viewer", {200: History}, (422, 503), query=(LIMIT,),
    ),
}  # fmt: skip
