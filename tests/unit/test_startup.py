"""Sentences about a start: what must be true before a replica joins."""

from __future__ import annotations

import pytest

from ha.startup import account_sentence, failover_sentences


@pytest.mark.parametrize(
    ("mode", "accounts"),
    [
        ("paper", ["DU1"]),
        ("paper", ["DU1", "DF2"]),
        ("live", ["U1"]),
        ("live", ["F1", "U2"]),
        ("live", []),
        ("paper", []),
    ],
)
def test_accounts_of_the_mode_are_fine(mode: str, accounts: list[str]) -> None:
    assert account_sentence(mode, accounts) is None


@pytest.mark.parametrize(
    ("mode", "accounts", "named", "other"),
    [("paper", ["U1"], "U1", "live"), ("paper", ["DU1", "U2"], "U2", "live"), ("live", ["DU3"], "DU3", "paper")],
)
def test_an_account_of_the_other_mode_is_named_with_what_to_change(
    mode: str, accounts: list[str], named: str, other: str
) -> None:
    sentence = account_sentence(mode, accounts)
    assert sentence is not None
    assert f"TRADING_MODE={mode}, but the gateway's account {named} is a {other} one" in sentence


@pytest.mark.rule(18)
def test_several_hosts_without_a_synchronous_one_are_told_as_a_risk() -> None:
    two = "postgresql://u@h1:5432,h2:5432/d?target_session_attrs=read-write"
    [sentence] = failover_sentences(two, {"synchronous_standby_names": ""})
    assert sentence.startswith("A database failover can lose orders: DATABASE_URL names 2 hosts")
    assert "synchronous_standby_names" in sentence


@pytest.mark.rule(18)
def test_one_host_or_a_synchronous_copy_is_no_risk_to_tell() -> None:
    assert failover_sentences("postgresql://u@h1/d", {"synchronous_standby_names": ""}) == []
    assert failover_sentences("postgresql://u@h1,h2/d", {"synchronous_standby_names": "ANY 1 (h2)"}) == []
