"""Which orders a run of traffic places and when: drawn from a seed, with time as a number. Pure.

Arrivals keep their schedule whatever the answers do (open loop), for a client that waits for its answer before it
sends the next order stops asking exactly when the adapter is in trouble.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from .model import OrderRequest, Side

CENT = Decimal("0.01")
LARGEST_NET = 40  # shares by which the immediate orders of one symbol may lean to one side, and the resting ones
RESTING_SHARE = 0.5  # of the limit orders: placed away from the market, the others cross it
CANCEL_AFTER = (0.2, 3.0)  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What the traffic is made of. Shares are between 0 and 1; `prices` are the market's when the run starts.

    Raises ValueError for a share or rate out of range, no symbol, or a limit order's symbol without a price.
    """

    rate: float
    seconds: float
    symbols: tuple[str, ...]
    prices: Mapping[str, Decimal]
    limit_share: float = 0.5
    cancel_share: float = 0.15

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ValueError("traffic needs at least one symbol")
        if self.rate <= 0 or self.seconds <= 0:
            raise ValueError(f"rate {self.rate:g}/s and {self.seconds:g} s: both must be above 0")
        if not 0 <= self.limit_share <= 1 or not 0 <= self.cancel_share <= 1:
            raise ValueError("limit and cancel share must be between 0 and 1")
        missing = [symbol for symbol in self.symbols if symbol not in self.prices]
        if missing and self.limit_share > 0:
            raise ValueError(f"limit orders need a start price of {', '.join(missing)}")


@dataclass(frozen=True, slots=True)
class Planned:
    """One order: `at` seconds after the start; cancelled `cancel_after` seconds after its answer, or never."""

    at: float
    request: OrderRequest
    cancel_after: float | None


def plan(mix: Mix, *, seed: int, run: str) -> Iterator[Planned]:
    """The run's orders in rising order of time. The same seed draws the same orders; `run` keeps their keys apart."""
    rng = random.Random(seed)
    net: dict[tuple[str, bool], int] = defaultdict(int)
    # of all orders, only those that rest can be cancelled with effect: their share is raised accordingly
    resting = mix.limit_share * RESTING_SHARE
    cancelled = min(1.0, mix.cancel_share / resting) if resting else 0.0
    for number in range(int(mix.rate * mix.seconds)):
        at = (number + rng.uniform(0.0, 0.5)) / mix.rate
        symbol = rng.choice(mix.symbols)
        quantity = rng.randint(1, 10)
        limit = rng.random() < mix.limit_share
        rests = limit and rng.random() < RESTING_SHARE
        side = _side(rng, net[symbol, rests])
        net[symbol, rests] += quantity if side == "BUY" else -quantity
        request = OrderRequest(
            client_order_id=f"t{seed}-{run}-{number:06d}",
            symbol=symbol,
            side=side,
            quantity=Decimal(quantity),
            order_type="LMT" if limit else "MKT",
            limit_price=_price(rng, mix.prices[symbol], side, rests) if limit else None,
        )
        yield Planned(at, request, rng.uniform(*CANCEL_AFTER) if rests and rng.random() < cancelled else None)


def _side(rng: random.Random, net: int) -> Side:
    """Either side, but never one that lets the position lean further than it may."""
    if abs(net) >= LARGEST_NET:
        return "SELL" if net > 0 else "BUY"
    return rng.choice(("BUY", "SELL"))


def _price(rng: random.Random, market: Decimal, side: Side, rests: bool) -> Decimal:
    """Away from the market by 0.3 to 3 per cent, or through it by 1 per cent."""
    away = Decimal(rng.randint(30, 300)) / 10_000 if rests else Decimal("-0.01")
    return (market * (1 - away if side == "BUY" else 1 + away)).quantize(CENT)
