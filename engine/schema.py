"""Which schema versions this code knows, read off the names of the migration steps: a replica need not load Alembic for it."""

from __future__ import annotations

from pathlib import Path

_STEPS = Path(__file__).parent / "migrations" / "versions"

NEW_GATEWAY = "new_gateway"
"""Key of the control table: the gateway has changed, and no operator has confirmed yet that the old one is off (R14)."""


def known_versions() -> list[str]:
    """Every version, oldest first; the steps are named rNNNN_(pre|post)_NAME.py."""
    return sorted(step.name[1:5] for step in _STEPS.glob("r[0-9][0-9][0-9][0-9]_*.py"))


def newest_version() -> str:
    """The version that this code was written for."""
    return known_versions()[-1]
