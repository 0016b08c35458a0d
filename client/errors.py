"""What a call on the adapter can end with, beside an answer.

Refused, not accepted and unknown are three different things and never one another:

* `Refused`: a replica answered 4xx. This request was not carried out, and repeating it will not help.
* `NotAccepted`: until the deadline nobody took it, and every attempt is known to have written nothing.
* `OutcomeUnknown`: at least one attempt may have been written. Ask again with the same key; that is always safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One entry of a problem's `errors`: the field's name and what is wrong with it."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An `application/problem+json` body; `type` is a stable URN such as `urn:adapter:not-leader`."""

    status: int
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    errors: tuple[FieldError, ...] = ()

    def __str__(self) -> str:
        fields = "; ".join(f"{error.field}: {error.message}" for error in self.errors)
        words = [str(self.status), self.title, self.detail, f"({fields})" if fields else "", f"[{self.type}]"]
        return " ".join(word for word in words if word)


def read_problem(status: int, body: Mapping[str, Any] | None) -> Problem:
    """The problem that an error answer states; fields that it lacks stay empty."""
    if body is None:
        return Problem(status)
    listed = body.get("errors")
    errors = tuple(
        FieldError(str(entry.get("field", "")), str(entry.get("message", "")))
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict)
    )
    return Problem(
        status=status,
        type=str(body.get("type") or "about:blank"),
        title=str(body.get("title") or ""),
        detail=str(body.get("detail") or ""),
        errors=errors,
    )


class AdapterError(Exception):
    """Whatever this client raises about an answer or the lack of one."""


class UnreadableAnswer(AdapterError):
    """An answer that is not what the interface promises: no JSON, or a field missing or of the wrong kind."""


class Unavailable(AdapterError):
    """A read that no replica answered before the deadline."""


class Refused(AdapterError):
    """A replica answered 4xx: the request was not carried out. `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status


class Malformed(Refused):
    """400, 413: the request could not be read."""


class NotPermitted(Refused):
    """401, 403: no token, or a role that may not."""


class NotFound(Refused):
    """404: the leader has no such order."""


class Conflict(Refused):
    """409: the key is taken by another body, or the order is final."""


class RevisionPassed(Refused):
    """412: the order has a newer revision than the one that was to be changed."""


class Invalid(Refused):
    """422: refused by validation or risk; `problem.errors` names the fields."""


_BY_STATUS: Mapping[int, type[Refused]] = {
    400: Malformed,
    401: NotPermitted,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    412: RevisionPassed,
    413: Malformed,
    422: Invalid,
}


def refusal(problem: Problem) -> Refused:
    """The error that belongs to a 4xx answer."""
    return _BY_STATUS.get(problem.status, Refused)(problem)


class Unfinished(AdapterError):
    """A write whose deadline passed. `key` is its client_order_id (for a cancel or modify the order's id)."""

    def __init__(self, sentence: str, *, key: str, attempts: int, last: Problem | str | None) -> None:
        super().__init__(f"{sentence}: {key} after {attempts} attempts, last answer: {last or 'none'}")
        self.key = key
        self.attempts = attempts
        self.last = last


class NotAccepted(Unfinished):
    """Nobody took it before the deadline, and nothing was written."""

    def __init__(self, *, key: str, attempts: int, last: Problem | str | None) -> None:
        super().__init__("not accepted, nothing was written", key=key, attempts=attempts, last=last)


class OutcomeUnknown(Unfinished):
    """It may have been written. Repeat it with the same key, or look for the key; never under a new key."""

    def __init__(self, *, key: str, attempts: int, last: Problem | str | None) -> None:
        super().__init__("the outcome is unknown", key=key, attempts=attempts, last=last)
