"""What a leader tends to its term by, as `ha.from_settings` makes it from the settings. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TendRules:
    """Seconds; `same_id`: whether an order in doubt is repeated under its own order id where it may be (R1)."""

    ack_timeout: float = 2.0
    ack_deadline: float = 5.0
    reconcile_deadline: float = 5.0
    reconcile_every: float = 30.0
    same_id: bool = False
