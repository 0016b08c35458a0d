"""The schema's versions, as the names of the steps tell them, are those that Alembic will apply."""

from __future__ import annotations

import pytest
from alembic.script import ScriptDirectory

from engine import schema
from engine.migrate import _config
from engine.schema import known_versions, needed_version, newest_version, reached_by_pre, unfit


def test_the_names_of_the_steps_tell_what_alembic_applies() -> None:
    steps = ScriptDirectory.from_config(_config())
    assert [newest_version()] == steps.get_heads()
    assert known_versions() == sorted(step.revision for step in steps.walk_revisions())


@pytest.fixture
def three_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [("0001", "pre"), ("0002", "pre"), ("0003", "pre"), ("0004", "post"), ("0005", "pre"), ("0006", "post")]
    monkeypatch.setattr(schema, "_steps", lambda: steps)


@pytest.mark.rule(22)
@pytest.mark.usefixtures("three_pairs")
def test_pre_steps_are_applied_up_to_the_next_post_step() -> None:
    assert [reached_by_pre(v) for v in ("0001", "0002", "0003", "0004", "0005", "0006")] == [
        "0003", "0003", "0003", "0005", "0005", "0006",
    ]  # fmt: skip
    assert needed_version() == "0005"


@pytest.mark.rule(22)
@pytest.mark.usefixtures("three_pairs")
@pytest.mark.parametrize(
    ("applied", "floor", "word"),
    [
        ("0005", "0004", None),
        ("0006", "0006", None),
        ("0007", "0006", None),  # the next version's pre step: this version runs beside it
        ("0004", "0004", "run `adapter migrate`"),
        ("0008", "0008", "install the newer version"),
    ],
)
def test_a_version_runs_where_its_pre_steps_are_and_no_later_post_step_is(
    applied: str, floor: str, word: str | None
) -> None:
    said = unfit(applied, floor)
    assert (said is None) if word is None else (said is not None and word in said)
