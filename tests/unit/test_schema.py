"""The schema's versions, as the names of the steps tell them, are those that Alembic will apply."""

from __future__ import annotations

from alembic.script import ScriptDirectory

from engine.migrate import _config
from engine.schema import known_versions, newest_version


def test_the_names_of_the_steps_tell_what_alembic_applies() -> None:
    steps = ScriptDirectory.from_config(_config())
    assert [newest_version()] == steps.get_heads()
    assert known_versions() == sorted(step.revision for step in steps.walk_revisions())
