"""What can go wrong on an order's way, as values that an answer over HTTP is made of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request: its name and the sentence that says what is allowed."""

    field: str
    message: str


@dataclass(slots=True)
class Problem(Exception):
    """A refusal that a client can act on; rendered as `application/problem+json`.

    `status` 503 promises that nothing was written; 504 says that the outcome is unknown and that the same key may be
    retried safely. `kind` becomes the stable URN `urn:adapter:KIND`.
    """

    status: int
    kind: str
    title: str
    detail: str
    errors: list[FieldError] = field(default_factory=list)
    retry_after: int | None = None

    def __str__(self) -> str:
        return f"{self.status} {self.kind}: {self.detail}"


def invalid(*errors: FieldError) -> Problem:
    """422: fields that cannot be what they are; nothing was written."""
    names = ", ".join(sorted({e.field for e in errors}))
    return Problem(422, "invalid-order", "The order is not valid", f"Correct these fields: {names}.", list(errors))


def unavailable(kind: str, detail: str, retry_after: int = 1) -> Problem:
    """503: nothing was written, try again (the same key, either replica)."""
    return Problem(503, kind, "Not accepted now", detail, retry_after=retry_after)


def unknown_outcome(detail: str) -> Problem:
    """504: the commit's answer was lost. Unknown stays unknown (G6)."""
    return Problem(504, "outcome-unknown", "Outcome unknown", detail, retry_after=1)


class IllegalTransition(Exception):
    """A state machine met an event that its table does not have in this state. Names role, state and event."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine}: no transition from {state} on {event}")
        self.machine, self.state, self.event = machine, state, event
