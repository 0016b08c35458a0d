"""R22: digests carry their version, and those of two versions are not compared."""

from __future__ import annotations

import pytest

from engine.digest import DIGEST_VERSION, differs, written

pytestmark = [pytest.mark.rule(22), pytest.mark.guarantee(8)]


def test_equal_digests_do_not_differ_and_others_do() -> None:
    assert not differs(7, written(7))
    assert differs(7, written(8))


@pytest.mark.parametrize("told", [f"{DIGEST_VERSION + 1}:{7:016x}", f"{DIGEST_VERSION - 1}:{8:016x}", f"{8:016x}", "0"])
def test_a_digest_of_another_version_says_nothing(told: str) -> None:
    assert not differs(7, told)
