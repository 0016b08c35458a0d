"""What the order desk goes by, and who asks it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from engine import risk


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """What the way out needs to know of the settings. Ages in seconds by order type; "" = any other type."""

    cluster: str
    limits: risk.Limits
    max_intent_age: dict[str, float]
    order_rate: float = 40.0
    order_rate_per_symbol: float = 40.0
    max_unacknowledged: int = 200


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: the token's subject and the request's correlation id, and the address that the request came from."""

    subject: str
    correlation_id: str
    remote: str = ""

    @property
    def origin(self) -> dict[str, str]:
        """What the payload of an event says of where it was asked for."""
        return {"from": self.remote} if self.remote else {}
