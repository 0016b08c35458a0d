"""A command's attempts: at each member, once more than there are members, never beyond the deadline."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ha.etcd_calls import Calls, repeat
from ha.etcd_members import EtcdError, Verdict


class Script:
    """Fails as the script says, one second per attempt, then answers."""

    def __init__(self, *verdicts: Verdict, members: int = 3) -> None:
        self.members = members
        self.now = 100.0
        self.limits: list[float] = []
        self._verdicts = list(verdicts)

    def call(self, limit: float) -> str:
        self.limits.append(limit)
        self.now += 1
        if self._verdicts:
            verdict = self._verdicts.pop(0)
            raise EtcdError(verdict, f"failure {len(self.limits)}")
        return "answer"

    def run(self, *, limit: float = 1.0, within: float = 50.0) -> Any:
        return repeat(cast(Calls, self), self.call, limit=limit, deadline=self.now + within, clock=lambda: self.now)


def test_each_member_is_asked_and_one_of_them_twice() -> None:
    assert Script(*[Verdict.LEAVE] * 3).run() == "answer"
    script = Script(*[Verdict.LEAVE] * 9)
    with pytest.raises(EtcdError, match="failure 4"):
        script.run()


def test_a_token_that_ended_is_renewed_even_with_a_single_member() -> None:
    assert Script(Verdict.TOKEN, members=1).run() == "answer"


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.NO_LEASE, Verdict.EXISTS])
def test_what_another_member_would_say_too_is_not_asked_again(verdict: Verdict) -> None:
    script = Script(verdict)
    with pytest.raises(EtcdError) as caught:
        script.run()
    assert caught.value.verdict is verdict
    assert len(script.limits) == 1


def test_no_attempt_is_longer_than_the_time_that_is_left_and_none_begins_after_it() -> None:
    script = Script(*[Verdict.LEAVE] * 9)
    with pytest.raises(EtcdError):
        script.run(limit=1.0, within=1.5)
    assert script.limits == [1.0, 0.5]
