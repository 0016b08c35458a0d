"""An operator's request body: one JSON object with known fields, and what several commands have in theirs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import FieldError, invalid
from engine.http import Request

MAX_REASON = 500
"""Characters; a longer reason is refused, never cut."""


def body_of(request: Request, allowed: set[str]) -> dict[str, Any]:
    """The body's fields, none where there is no body. Raises Problem 400 or 422."""
    body = request.json()
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise invalid(FieldError("body", "one JSON object"))
    if nul := [name for name, value in body.items() if isinstance(value, str) and "\x00" in value]:
        raise invalid(*(FieldError(name, "no NUL characters, please: PostgreSQL keeps none") for name in nul))
    if unknown := set(body) - allowed:
        raise invalid(
            *(
                FieldError(str(name)[:64], f"unknown; there are: {', '.join(sorted(allowed))}")
                for name in sorted(unknown)
            )
        )
    return body


def reason_of(body: Mapping[str, Any], *, required: bool = False) -> str:
    """The `reason`, whole; "" where there is none. Raises Problem 422, also for a blank one where one is `required`."""
    reason = body.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise invalid(FieldError("reason", f"text of at most {MAX_REASON} characters"))
    if reason is not None and len(reason) > MAX_REASON:
        raise invalid(FieldError("reason", f"at most {MAX_REASON} characters, these are {len(reason)}"))
    if required and not (reason or "").strip():
        raise invalid(FieldError("reason", f"say why, in 1 to {MAX_REASON} characters: the log keeps it"))
    return reason or ""


def flag_of(body: Mapping[str, Any], name: str) -> bool:
    """The flag `name`, false where it is left out. Raises Problem 422."""
    flag = body.get(name, False)
    if not isinstance(flag, bool):
        raise invalid(FieldError(name, "true or false"))
    return flag
