"""R14: a hold because the gateway has changed is known as such, also when the gateway has changed once more since."""

from __future__ import annotations

import pytest

from ha.claim import new_gateway_sentence, speaks_of_new_gateway

pytestmark = pytest.mark.rule(14)


@pytest.mark.parametrize(("was", "becomes"), [("alpha", "beta"), ("beta", "gamma"), ("a: confirm that b", "c")])
def test_each_such_hold_demands_the_proof_whichever_change_it_is_about(was: str, becomes: str) -> None:
    assert speaks_of_new_gateway(new_gateway_sentence({"was": was, "is": becomes}))


@pytest.mark.parametrize(
    "why", [None, "", "the gateway did not answer", "the log ends at event 4, 9 were seen here", 7]
)
def test_no_other_hold_demands_it(why: object) -> None:
    assert not speaks_of_new_gateway(why)
