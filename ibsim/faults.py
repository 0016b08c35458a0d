"""The faults that are switched on, and their parameters. Pure: chance comes from the seed."""

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

Parameters = dict[str, Any]

FAULTS: dict[str, Parameters] = {
    # the link and the process
    "link_down": {"resubmit": True, "data_lost": False, "notice_ms": 0},
    "mute": {},
    "freeze": {},
    "delay": {"ms": 100, "most_ms": 0},
    "restart": {"down_ms": 1000, "rollback_ids": 0, "lose_ms": 0},
    "logout": {},
    "farm_down": {},
    # sessions
    "half_open": {},
    "close_sessions": {"client_id": None, "session": None, "torn": False},
    "pacing": {"limit": 50, "over": "error"},
    # orders
    "drop_acks": {"next": 1},
    "lose_orders": {"next": 1, "skip": 0},
    "hold_inside": {"next": 1, "ms": 1000, "most_ms": 0},
    "forget_untransmitted": {},
    "reject": {"next": 1, "code": 201, "skip": 0},
    "inactive": {"next": 1},
    "warn": {"next": 1, "code": 10349},
    "twin": {"next": 1, "of": "orders"},
    "pending_cancel": {"ms": 200, "fill": False, "percent": 100},
    # what is told
    "no_end": {"request": "executions"},
    "stale_orders": {},
    "duplicate_callbacks": {"percent": 100},
    "reorder_callbacks": {"percent": 100},
    "skip_statuses": {"percent": 100},
    "unknown_zone": {},
    # executions
    "correction": {"exec_id": "", "quantity": "", "price": ""},
    "midnight": {},
}
"""Every fault with its parameters' defaults. One with `next` wears off after so many orders, with `skip` so many go by before.
With `most_ms` a time is drawn between `ms` and that; 0 = it is always `ms`."""

CHOICES = {
    ("no_end", "request"): ("executions", "open_orders", "completed", "positions", "account_summary"),
    ("twin", "of"): ("orders", "changes"),
    ("pacing", "over"): ("error", "delay", "drop"),
}

_LIMITS = {"percent": (0, 100), "limit": (1, 1_000_000)}
"""The least and the most that a number may be, where it is not from 0 on."""

ONCE = frozenset({"close_sessions", "restart", "correction", "midnight"})
"""Faults that happen at once and are not switched on."""


class FaultError(ValueError):
    """The fault or its parameters do not exist."""


class Faults:
    """Which faults are on. One with `percent` strikes so often; each has its own source of chance, made of the seed."""

    def __init__(self, seed: int = 0) -> None:
        self.active: dict[str, Parameters] = {}
        self.struck: Counter[str] = Counter()
        """How often each took effect, of those that wait for something to take effect on."""
        self._chance = {name: random.Random(f"{seed} {name}") for name in FAULTS}

    def __contains__(self, name: str) -> bool:
        return name in self.active

    def switch_on(self, name: str, given: Mapping[str, Any]) -> Parameters:
        """Switches a fault on, or changes its parameters; returns them all. Raises FaultError."""
        if name not in FAULTS:
            raise FaultError(f"there is no fault {name}; there are: {', '.join(sorted(FAULTS))}")
        defaults = FAULTS[name]
        for key, value in given.items():
            if key not in defaults:
                raise FaultError(f"{name} has no parameter {key}; it has: {', '.join(defaults) or 'none'}")
            _check(name, key, value, defaults[key])
        parameters = {**defaults, **given}
        if 0 < parameters.get("most_ms", 0) < parameters["ms"]:
            raise FaultError(f"{name}: most_ms must be 0 or at least ms")
        if name not in ONCE:
            self.active[name] = parameters
        return parameters

    def switch_off(self, name: str) -> Parameters | None:
        """Mends a fault; returns its parameters, None if it was not on. Raises FaultError for an unknown name."""
        if name not in FAULTS:
            raise FaultError(f"there is no fault {name}")
        return self.active.pop(name, None)

    def take(self, name: str) -> Parameters | None:
        """The parameters if the fault strikes now; one with `next` is used up by so many calls."""
        parameters = self._taken(name)
        if parameters is not None:
            self.struck[name] += 1
        return parameters

    def strikes(self, name: str) -> bool:
        """Whether the fault is on, asked where it takes effect."""
        if name not in self.active:
            return False
        self.struck[name] += 1
        return True

    def _taken(self, name: str) -> Parameters | None:
        parameters = self.active.get(name)
        if parameters is None:
            return None
        if parameters.get("skip"):
            self.active[name] = {**parameters, "skip": parameters["skip"] - 1}
            return None
        if "next" in parameters:
            left = parameters["next"] - 1
            if left <= 0:
                del self.active[name]
            else:
                self.active[name] = {**parameters, "next": left}
            return parameters if left >= 0 else None
        percent = parameters.get("percent", 100)
        if percent < 100 and self._chance[name].randrange(100) >= percent:
            return None
        return parameters

    def of(self, name: str, what: str) -> bool:
        """Whether the fault is on and is about these."""
        return bool(self.active.get(name, {}).get("of") == what)

    def milliseconds(self, name: str) -> int:
        """How long the fault lasts this time, 0 while it is off."""
        return self.drawn(name, self.active.get(name, {}))

    def drawn(self, name: str, parameters: Mapping[str, Any]) -> int:
        """How long a fault with these parameters lasts this time."""
        least, most = int(parameters.get("ms", 0)), int(parameters.get("most_ms", 0))
        return self._chance[name].randint(least, most) if most else least


def _check(name: str, key: str, value: Any, default: object) -> None:
    """Raises FaultError if a parameter's value is none of those that it may have."""
    if key in ("quantity", "price") and type(value) is int:
        value = str(value)
    kind = int if default is None else type(default)
    if type(value) is not kind:
        raise FaultError(f"{name}: {key} must be of type {kind.__name__}")
    least, most = _LIMITS.get(key, (0, 1 << 31))
    if isinstance(value, int) and kind is int and not least <= value <= most:
        raise FaultError(f"{name}: {key} must be from {least} to {most}")
    allowed = CHOICES.get((name, key))
    if allowed is not None and value not in allowed:
        raise FaultError(f"{name}: {key} must be one of {', '.join(allowed)}")
