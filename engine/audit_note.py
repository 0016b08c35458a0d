"""Operators' commands as events of the log, for the audit. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from engine.clock import iso
from engine.events import Draft, Kind


def noted(commands: Sequence[Mapping[str, Any]], at: datetime) -> list[Draft]:
    """The events that note these rows of `ledger.command`. Pure."""
    return [
        Draft(
            Kind.OPERATOR_COMMAND,
            {
                "id": row["id"], "command": row["command"], "by": row["by"], "reason": row["reason"], "from": row["remote"],
                "asked_at": iso(datetime.fromisoformat(row["at"]).astimezone(UTC)), "details": row["details"],
            },
            at, None, row["by"], row["correlation_id"],
        )
        for row in commands
    ]  # fmt: skip
