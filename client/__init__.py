"""What a strategy imports: a client that knows both replicas and keeps its keys. Imports nothing of the adapter."""

from .adapter import AdapterClient
from .errors import (
    AdapterError,
    Conflict,
    FieldError,
    Invalid,
    Malformed,
    NotAccepted,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    Problem,
    Refused,
    RevisionPassed,
    Unavailable,
    Unfinished,
    UnreadableAnswer,
)
from .model import Break, Execution, Order, OrderRequest, Position
from .outcome import Attempt, Kind

__all__ = [
    "AdapterClient",
    "AdapterError",
    "Attempt",
    "Break",
    "Conflict",
    "Execution",
    "FieldError",
    "Invalid",
    "Kind",
    "Malformed",
    "NotAccepted",
    "NotFound",
    "NotPermitted",
    "Order",
    "OrderRequest",
    "OutcomeUnknown",
    "Position",
    "Problem",
    "Refused",
    "RevisionPassed",
    "Unavailable",
    "Unfinished",
    "UnreadableAnswer",
]
