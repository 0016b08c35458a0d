"""A token that was good once is looked at again: its end comes, and its signature is its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from engine import auth
from engine.auth import Access
from engine.errors import Problem

SECRET = "s" * 32
NOW = 2_000_000_000


def asked(token: str) -> Any:
    """A request that shows this token."""
    return SimpleNamespace(headers={"Authorization": f"Bearer {token}"}, correlation_id="c-1", remote="127.0.0.1")


def made(secret: str = SECRET, **claims: Any) -> str:
    """A token that is good for a minute from NOW."""
    return jwt.encode({"sub": "s1", "role": "trader", "exp": NOW + 60, **claims}, secret, algorithm="HS256")


def test_token_ends_although_it_was_good_a_moment_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    access, token = Access((SECRET,)), made()
    monkeypatch.setattr(auth.time, "time", lambda: NOW)
    for _ in range(2):
        assert access.asker(asked(token), "trader").subject == "s1"
    monkeypatch.setattr(auth.time, "time", lambda: NOW + 60)
    with pytest.raises(Problem) as refused:
        access.asker(asked(token), "trader")
    assert (refused.value.status, "expired" in refused.value.detail) == (401, True)


def test_token_of_another_key_is_refused_before_and_after_a_good_one() -> None:
    access = Access((SECRET,))
    for _ in range(2):
        assert access.asker(asked(made()), "trader").subject == "s1"
        with pytest.raises(Problem):
            access.asker(asked(made("x" * 32)), "trader")


def test_key_that_was_taken_away_takes_its_tokens_with_it() -> None:
    token = made("o" * 32)
    assert Access(("n" * 32, "o" * 32)).asker(asked(token), "viewer").subject == "s1"
    with pytest.raises(Problem):
        Access(("n" * 32,)).asker(asked(token), "viewer")
