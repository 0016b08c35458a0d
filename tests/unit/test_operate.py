"""What a hand-over does when something fails on its way: it goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.auth import Access
from engine.commit import Outcome
from engine.permit import Permit
from engine.store import Connection, Refused, StoreError, Unknown
from ha.commands import Commands
from ha.operate import Operate, OperateRules


class Leader:
    """A leader whose database ends the last proof of a flush with `error`."""

    def __init__(self, error: StoreError) -> None:
        self._error = error
        self.permit, self.me = Permit(), SimpleNamespace(name="a", instance="i")
        self.desk, self.takeover = SimpleNamespace(unacknowledged={}), SimpleNamespace(committer=self)
        self.handed_over: list[str] = []

    async def commit(self, _drafts: Any) -> tuple[Outcome, tuple[()], str]:
        return Outcome.COMMITTED, (), ""

    async def prove_now(self) -> None:
        raise self._error

    def hand_over(self, reason: str, _stand_back: float) -> None:
        self.handed_over.append(reason)


class Line:
    """The connection to the other replica."""

    heard = SimpleNamespace(words={"name": "b", "instance": "j"})

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    async def tell(self, words: dict[str, Any]) -> None:
        self.told.append(words)


@pytest.mark.parametrize("error", [Unknown("server closed the connection"), Refused("PA001", "fenced")])
async def test_a_hand_over_goes_on_when_the_database_goes_away_during_its_flush(error: StoreError) -> None:
    """Its gate is shut already: a leader that stopped here would lead with a gate that nobody opens."""
    leader: Any = Leader(error)
    watch: Any = SimpleNamespace(link=Line())
    await Operate(leader, watch, Access(()), Commands(Connection("", "x")), OperateRules()).hand_over("a test")
    assert [words["to"] for words in watch.link.told] == ["j"]
    assert leader.handed_over == ["handing over to b: a test"]
