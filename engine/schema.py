"""Which schema versions this code knows, read off the names of the migration steps: a replica need not load Alembic for it.

Steps come in pairs (R22). A `pre` step leaves everything that the version before uses as it was: both versions run on it. A `post`
step is applied when both replicas run the new version. So the database tells two numbers: the last step that was applied, and the
floor: how new a version must be that runs on it. The floor moves with the post step, not before. Numbers leave a gap before a post
step, for the pre steps that are added before its version is released: all of a version's pre steps come before its post step.
"""

from __future__ import annotations

from pathlib import Path

_STEPS = Path(__file__).parent / "migrations" / "versions"

NEW_GATEWAY = "new_gateway"
"""Key of the control table: the gateway has changed, and no operator has confirmed yet that the old one is off (R14)."""


def _steps() -> list[tuple[str, str]]:
    return sorted((step.name[1:5], step.name.split("_")[1]) for step in _STEPS.glob("r[0-9][0-9][0-9][0-9]_*.py"))


def known_versions() -> list[str]:
    """Every version, oldest first; the steps are named rNNNN_(pre|post)_NAME.py."""
    return [number for number, _ in _steps()]


def newest_version() -> str:
    """The version that this code was written for."""
    return known_versions()[-1]


def needed_version() -> str:
    """The last `pre` step: without it this version does not run."""
    return next(number for number, kind in reversed(_steps()) if kind == "pre")


def reached_by_pre(present: str) -> str:
    """How far the steps can be applied from `present` while the version before still runs: up to the next `post` step."""
    reached = present
    for number, kind in _steps():
        if number > present:
            if kind != "pre":
                break
            reached = number
    return reached


def unfit(applied: str, floor: str) -> str | None:
    """Why this version does not run on a database with these two numbers, or None."""
    if floor > newest_version():
        return (
            f"The database is at schema {floor}, which is newer than this version's {newest_version()}; "
            "install the newer version."
        )
    if applied < needed_version():
        return f"The database is at schema {applied}, this version needs {needed_version()}; run `adapter migrate`."
    return None
