"""An operator's request body: one JSON object with known fields. Pure."""

from __future__ import annotations

from typing import Any

from engine.errors import FieldError, invalid
from engine.http import Request


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
