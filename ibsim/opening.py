"""Whether the exchange is open: by the clock, always, or as somebody at the control port says. Pure."""

from datetime import datetime

from ibsim.contracts import Instrument
from ibsim.hours import Hours
from ibsim.orders import Order


class Opening:
    """The trading hours of stocks and options; futures and currencies are always open."""

    def __init__(self, hours: Hours | None = None) -> None:
        self.hours = hours
        self.by_hand: bool | None = None
        """Open or closed, whatever the clock says; None = by the clock."""
        self.closed_at = 0.0
        self.next_change: float | None = None
        self._was_open: bool | None = None
        self._settled = False

    def set_by_hand(self, is_open: bool | None) -> None:
        """Opens or closes the exchange, or leaves it to the clock again; `change` then says what happened."""
        self.by_hand = is_open
        self._settled = False

    def is_open(self, now: float) -> bool:
        """Whether regular trading is on."""
        if self.by_hand is not None:
            return self.by_hand
        return self.hours is None or self.hours.is_open(now)

    def binds(self, instrument: Instrument) -> bool:
        """Whether these hours are this instrument's."""
        return instrument.smart

    def lets(self, order: Order, now: float) -> bool:
        """Whether this order may be in the market now."""
        return self.is_open(now) or not self.binds(order.instrument) or order.outside

    def change(self, now: float) -> str:
        """`open` or `close` once, when it has opened or closed since the last call; else empty."""
        if self._settled and (self.next_change is None or now < self.next_change):
            return ""
        self._settled = True
        is_open = self.is_open(now)
        was_open, self._was_open = self._was_open, is_open
        self.next_change = self.hours.next_change(now) if self.hours is not None and self.by_hand is None else None
        if was_open is None or was_open == is_open:
            return ""
        if is_open:
            return "open"
        self.closed_at = now
        return "close"

    def warning(self, order: Order, now: float) -> str:
        """The text of 399 for an order that waits for the opening."""
        what = order.instrument
        text = f"Order Message:\n{order.side} {order.quantity:f} {what.symbol} {what.primary_exchange}.{what.trading_class}"
        if self.hours is None or self.by_hand is not None:
            return f"{text}\nWarning: your order will not be placed at the exchange until it opens"
        at = datetime.fromtimestamp(self.hours.next_opening(now), self.hours.zone)
        return (
            f"{text}\nWarning: your order will not be placed at the exchange until {at:%Y-%m-%d %H:%M:%S} {at.tzinfo}"
        )
