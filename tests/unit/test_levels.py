"""R22: kinds of events are written only from their ledger level on, and no replica that cannot read them is left behind."""

from __future__ import annotations

import pytest

from engine import events
from engine.book import Book
from engine.commit import Committer, Outcome
from engine.events import LEDGER_LEVEL, LEVELS, Kind, above
from engine.fold import FOLDS
from engine.migrate import reads_level
from engine.store import Connection, tail_name, writer_name
from ha.startup import identity_sentences, level_sentences
from tests.unit.book_factory import NOON

FIRST_RELEASE = 22  # kinds


@pytest.mark.rule(22)
def test_every_kind_has_a_level_that_this_version_writes_and_a_fold() -> None:
    assert set(LEVELS) == set(Kind)
    assert set(LEVELS.values()) <= set(range(1, LEDGER_LEVEL + 1))
    assert set(FOLDS) == set(Kind)


def test_kinds_of_the_first_level_stay_what_the_first_release_reads() -> None:
    assert sum(level == 1 for level in LEVELS.values()) == FIRST_RELEASE


@pytest.mark.rule(22)
def test_kind_above_the_ledgers_level_is_named_with_the_command_that_admits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEVELS, Kind.ORDER_CHANGED, 2)
    assert above(2, [Kind.ORDER_CHANGED, Kind.EXECUTION]) is None
    assert above(1, [Kind.EXECUTION]) is None
    why = above(1, [Kind.EXECUTION, Kind.ORDER_CHANGED])
    assert why is not None
    assert "order_changed needs level 2" in why
    assert "execution" not in why
    assert "adapter migrate --raise-level" in why


@pytest.mark.rule(22)
def test_group_with_a_kind_above_the_level_is_refused_and_the_others_of_its_commit_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LEVELS, Kind.SESSION_CLOSED, 2)
    nothing = Connection("postgresql://nobody@nowhere/none", "nothing")
    committer = Committer(nothing, "a", "i", 1, Book(), on_fenced=print, on_proof=print, level=1)
    said: list[tuple[Outcome, str]] = []
    opened = events.Draft(Kind.SESSION_OPENED, {"session": 1, "next_valid_id": 1, "accounts": []}, NOON)
    closed = events.Draft(Kind.SESSION_CLOSED, {"session": 1}, NOON)
    for drafts in ([opened], [opened, closed]):
        committer.submit(drafts, lambda outcome, _events, why: said.append((outcome, why)))
    kept = committer._foldable(list(committer._queue))
    assert [group.drafts for group in kept] == [[opened]]
    [(outcome, why)] = said
    assert outcome is Outcome.REFUSED
    assert "session_closed needs level 2" in why


def test_connection_tells_which_level_its_replica_reads() -> None:
    for name in (tail_name("a"), writer_name(7, "a")):
        assert reads_level(name) == LEDGER_LEVEL
    for old in ("adapter-tail:a", "adapter-writer:7:a", "adapter-tail"):
        assert reads_level(old) == 1
    for other in ("adapter-read:a", "adapter-listen:a", "psql", ""):
        assert reads_level(other) is None


@pytest.mark.rule(22)
def test_replica_starts_on_a_lower_level_with_a_warning_and_not_on_a_higher_one() -> None:
    assert level_sentences(LEDGER_LEVEL) == []
    [warning] = level_sentences(LEDGER_LEVEL - 1)
    assert "adapter migrate --raise-level" in warning
    row = {"cluster": "c", "client_id": 1, "gateway_id": "g", "ledger_level": LEDGER_LEVEL + 1}

    class Given:
        cluster_name, tws_client_id, gateway_id = "c", 1, "g"

    [refusal] = identity_sentences(row, Given())  # type: ignore[arg-type]
    assert "install the newer version" in refusal
    assert identity_sentences(row | {"ledger_level": 1}, Given()) == []  # type: ignore[arg-type]
