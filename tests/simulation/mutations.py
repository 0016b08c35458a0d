"""Ways to break the product or its database, each of which the simulation must notice. For tests only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import engine.submit
import reconcile.plan
import reconcile.run
from engine.archive import Wanted
from engine.broker import Outgoing
from engine.commit import Committer
from engine.events import Draft, Kind
from engine.permit import Permit
from engine.store import Refused, Unknown
from ha.takeover import Takeover
from reconcile.snapshot import Snapshot
from tests.simulation.world import World


def no_epoch_fence(world: World) -> Iterator[None]:
    """The trigger lets every write through, under whatever epoch."""
    world.database.fenced = False
    yield


def fence_without_gate(world: World) -> Iterator[None]:
    """The trigger only reads the epoch: a claim does not wait for transactions in flight (R10)."""
    world.database.gated = False
    yield


def sending_is_sent_again(_world: World) -> Iterator[None]:
    """An order that was SENDING and is absent after a takeover is licensed again (against R1)."""

    def again(d: Any, view: Any) -> list[Draft]:
        order = d.order
        return [
            Draft(Kind.ORDER_UNLICENSED, {"reason": "again"}, view.now, order.id, order.subject, order.correlation_id)
        ]

    table = tuple(
        replace(row, write=again) if row.name in ("sending_absent", "sending_unproven") else row
        for row in reconcile.plan.TABLE
    )
    order = reconcile.plan._ORDER | {Kind.ORDER_UNLICENSED: 3}
    with patch.object(reconcile.plan, "TABLE", table), patch.object(reconcile.plan, "_ORDER", order):
        yield


def permit_not_checked(_world: World) -> Iterator[None]:
    """The line above the write is gone (against R2)."""
    with patch.object(Permit, "refuses_write", lambda *_: None):
        yield


def early_snapshot(_world: World) -> Iterator[None]:
    """What is reconciled with was collected before this session was admitted: on the one before it."""
    before: dict[Any, Snapshot] = {}

    async def collect(broker: Any, **options: Any) -> Snapshot:
        known = before.get(broker)
        if known is None:
            known = before[broker] = Snapshot(0, 0, engine.submit.utcnow(), engine.submit.utcnow())
        return replace(known, session=options["session"], first_unjudged_seq=options["book"].seq + 1)

    with patch.object(reconcile.run, "collect", collect):
        yield


def new_client_id(world: World) -> Iterator[None]:
    """Each replica dials under a clientId of its own: being admitted proves nothing."""
    world.own_client_ids = True
    yield


def send_before_commit(_world: World) -> Iterator[None]:
    """The bytes leave before the licence is committed."""
    submit = engine.submit.Desk._submit

    def early(self: Any, committer: Committer, drafts: Any, answers: Any) -> None:
        for draft in drafts:
            p = draft.payload
            if draft.kind is Kind.ORDER_ACCEPTED and p.get("session") is not None:
                self._broker.place(_bytes_of(self.tag, committer.epoch, draft.order_id, p))
        submit(self, committer, drafts, answers)

    with (
        patch.object(engine.submit.Desk, "_submit", early),
        patch.object(engine.submit.Desk, "_write", lambda *_, **__: True),
    ):
        yield


def _bytes_of(tag: str, epoch: int, oid: str, p: dict[str, Any]) -> Outgoing:
    return Outgoing(
        p["broker_order_id"], f"pa.{tag}.{epoch}.{oid}", p["account"], p["symbol"], p["sec_type"], p["exchange"],
        p["currency"], 0, p["side"], Decimal(p["quantity"]), p["order_type"], None, None, p["tif"], {},
    )  # fmt: skip


def lost_answer_is_no(_world: World) -> Iterator[None]:
    """A commit whose answer is lost counts as refused (unknown turned into no, against R20)."""

    async def once(self: Any, rows: str) -> None:
        started = self._clock()
        try:
            if not self._connection.is_open:
                await self._reopen()
            await self._connection.run("append", {"epoch": self.epoch, "events": rows})
        except Unknown as lost:
            raise Refused("00000", str(lost)) from lost
        self._on_proof(started)

    with patch.object(Committer, "_append_until_known", once):
        yield


def proof_never_ages(_world: World) -> Iterator[None]:
    """A leader trusts its epoch for ever (against R12)."""
    with patch.object(Permit, "proven", lambda self, _now: self.epoch is not None):
        yield


def dial_without_proof(_world: World) -> Iterator[None]:
    """No commit before an attempt to connect (against R13)."""

    async def nothing(*_: Any) -> None:
        return

    with patch("ha.takeover.prove", nothing):
        yield


def licence_outlives_session(_world: World) -> Iterator[None]:
    """A licence is good on whatever session there is (against R2)."""
    refuses = Permit.refuses_write
    with patch.object(
        Permit, "refuses_write", lambda self, licence, now: refuses(self, replace(licence, session=self.session), now)
    ):
        yield


def gate_opens_unreconciled(_world: World) -> Iterator[None]:
    """The gate is open as soon as the session is admitted."""
    opened = Takeover._opened

    async def open_at_once(self: Any, *arguments: Any) -> Any:
        event = await opened(self, *arguments)
        self._permit.shut.pop("reconciling", None)
        self._desk.work_queue()
        return event

    with patch.object(Takeover, "_opened", open_at_once):
        yield


def repeat_under_new_id(_world: World) -> Iterator[None]:
    """A client's retry of a key is taken for a new order: the id is not derived from the key (against R19)."""
    real, count = engine.submit.order_id, iter(range(10**9))
    with patch.object(engine.submit, "order_id", lambda *a: real(*a[:2], f"{a[2]}#{next(count)}")):
        yield


def failed_request_is_empty(_world: World) -> Iterator[None]:
    """A list that did not come counts as empty, and nobody wonders at what it lacks (unknown read as none, against G6 and R23)."""
    collect = reconcile.run.collect

    async def blind(*arguments: Any, **options: Any) -> Snapshot:
        return replace(await collect(*arguments, **options), missing=())

    with patch.object(reconcile.run, "collect", blind), patch.object(Snapshot, "lacks", lambda *_: []):
        yield


def what_left_is_new(_world: World) -> Iterator[None]:
    """A snapshot is compared with memory alone: what left memory counts as what the ledger never had (against G5 and R19)."""
    with patch.object(reconcile.run, "sift", lambda _book, snapshot, *_: (snapshot, Wanted())):
        yield


ALL: tuple[Callable[[World], Iterator[None]], ...] = (
    no_epoch_fence, fence_without_gate, sending_is_sent_again, permit_not_checked, early_snapshot, new_client_id,
    send_before_commit, lost_answer_is_no, proof_never_ages, dial_without_proof, licence_outlives_session,
    gate_opens_unreconciled, repeat_under_new_id, failed_request_is_empty, what_left_is_new,
)  # fmt: skip
MUTATIONS = {one.__name__: contextmanager(one) for one in ALL}
