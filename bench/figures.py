"""Figures from samples: percentiles, ratios between things measured in one run, rows of a table. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Spread = dict[str, float]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of them do not exceed, by the nearest rank. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> Spread:
    """Count, median, 99th percentile and maximum, in the values' own unit; empty for none."""
    if not values:
        return {}
    found = {"p50": statistics.median(values), "p99": percentile(values, 0.99), "max": max(values)}
    return {"n": float(len(values)), **{name: round(value, 3) for name, value in found.items()}}


def ratio(whole: float, *parts: float) -> float | None:
    """`whole` over the sum of `parts`, None where that is nothing."""
    below = sum(parts)
    return round(whole / below, 2) if below > 0 else None


def compared(whole: Sequence[float], *parts: Sequence[float]) -> dict[str, float | None]:
    """How many times the cost of all `parts` together `whole` has, at the median and at the 99th percentile."""
    if not whole or not all(parts):
        return {"p50": None, "p99": None}
    return {
        "p50": ratio(statistics.median(whole), *(statistics.median(part) for part in parts)),
        "p99": ratio(percentile(whole, 0.99), *(percentile(part, 0.99) for part in parts)),
    }


def per_second(moments: Sequence[float]) -> float:
    """How many a second came, between the first and the last of these (seconds); 0 for fewer than two."""
    if len(moments) < 2:
        return 0.0
    return round((len(moments) - 1) / max(max(moments) - min(moments), 1e-9), 1)


def rows(figures: Mapping[str, Any], under: str = "") -> list[tuple[str, str]]:
    """Nested figures as rows of a table: `latency_ms.p50`, and the value as text; None is a dash."""
    found: list[tuple[str, str]] = []
    for name, value in figures.items():
        path = f"{under}.{name}" if under else name
        if isinstance(value, Mapping):
            found += rows(value, path)
        else:
            found.append((path, "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)))
    return found
