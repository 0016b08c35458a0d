"""The way to the gateway, and what is seen there: no dial and no fence agent without a commit and a lease (R13), no older epoch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.broker import Admitted, InUse, Unreachable
from ha.fence import Dropped
from ha.lease import Held, Unknown
from ha.phase import TermOver
from ha.role import On
from ha.takeover import Rules, Takeover
from ha.term import Phases, Term
from tests.unit.book_factory import ACCOUNT, CLIENT
from tests.unit.desk_factory import Scene

HELD = Held(1, 2, 1e12)


class Dialler:
    """A takeover before a gateway that gives these answers, and a lease that gives those. `did` is what happened, in order."""

    def __init__(self, answers: list[Any], lease: list[Any] | None = None) -> None:
        self.did: list[str] = []
        self.scene = scene = Scene()
        verified = lease or []

        async def prove() -> None:
            self.did.append("commit")

        async def connect(_: float) -> Any:
            self.did.append("dial")
            return answers.pop(0)

        async def verify() -> Any:
            self.did.append("lease")
            return verified.pop(0) if verified else HELD

        async def drop(**_: object) -> Dropped:
            self.did.append("agent")
            return Dropped()

        scene.committer.prove_now, scene.committer.control = prove, {}  # type: ignore[attr-defined]
        scene.wire.connect, scene.wire.abort = connect, lambda: None  # type: ignore[method-assign]
        scene.permit.session = None
        port: Any = SimpleNamespace(verify=verify, trust_left=lambda _: 1.0)
        agent: Any = SimpleNamespace(drop_old_session=drop)
        nobody: Any = SimpleNamespace(epoch=5)
        self.takeover = Takeover(
            scene.ledger.book, scene.permit, scene.desk, scene.inbound, scene.wire, port, nobody, agent, nobody, CLIENT,
            Rules(), on_fenced=lambda _: None,
        )  # fmt: skip
        self.takeover.committer = scene.committer  # type: ignore[assignment]

    def admitted(self) -> Admitted:
        return Admitted(self.scene.ledger.book.order_id_floor, (ACCOUNT,))


@pytest.mark.rule(13)
async def test_every_dial_and_every_use_of_the_agent_follows_a_commit() -> None:
    dialler = Dialler([InUse("326", "127.0.0.1:1"), Unreachable("refused"), Admitted(1, (ACCOUNT,))])
    assert await dialler.takeover.connect() is On.ADMITTED
    assert dialler.did == [
        "commit", "lease", "dial", "commit", "agent", "commit", "lease", "dial", "commit", "lease", "dial",
    ]  # fmt: skip


@pytest.mark.rule(13)
async def test_no_session_is_opened_while_the_lease_is_not_verified() -> None:
    dialler = Dialler([Admitted(1, (ACCOUNT,))], [Unknown("etcd is away"), Unknown("etcd is away")])
    assert await dialler.takeover.connect() is On.ADMITTED
    assert dialler.did == ["commit", "lease", "commit", "lease", "commit", "lease", "dial"]


@pytest.mark.rule(18)
@pytest.mark.parametrize(("shown", "over"), [(4, False), (5, False), (6, True)])
def test_an_epoch_at_the_broker_above_ours_ends_the_term_to_be_claimed_above(shown: int, over: bool) -> None:
    takeover = Dialler([]).takeover
    takeover.term = Term("a", 5, Phases())
    if not over:
        takeover.claim_above(shown)
        return
    with pytest.raises(TermOver, match="claiming above it"):
        takeover.claim_above(shown)
    assert takeover._tail.epoch == shown  # what the next claim goes above
