"""The faults that are switched on, and their parameters. Pure."""

from collections.abc import Mapping
from typing import Any

Parameters = dict[str, Any]

FAULTS: dict[str, Parameters] = {
    "link_down": {"resubmit": True, "data_lost": False},
    "mute": {},
    "freeze": {},
    "half_open": {},
    "drop_acks": {"next": 1},
    "lose_orders": {"next": 1},
    "delay": {"ms": 100},
    "reject": {"next": 1, "code": 201},
    "close_sessions": {"client_id": None, "session": None},
}
"""Every fault with its parameters' defaults. One with `next` wears off after so many orders."""

ONCE = frozenset({"close_sessions"})
"""Faults that happen at once and are not switched on."""


class FaultError(ValueError):
    """The fault or its parameters do not exist."""


class Faults:
    """Which faults are on."""

    def __init__(self) -> None:
        self.active: dict[str, Parameters] = {}

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
            kind = int if defaults[key] is None else type(defaults[key])
            if type(value) is not kind:
                raise FaultError(f"{name}: {key} must be of type {kind.__name__}")
            if kind is int and value < 0:
                raise FaultError(f"{name}: {key} must not be negative")
        parameters = {**defaults, **given}
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
        parameters = self.active.get(name)
        if parameters is None:
            return None
        if "next" in parameters:
            if parameters["next"] <= 1:
                del self.active[name]
            if parameters["next"] < 1:
                return None
            parameters = {**parameters, "next": parameters["next"] - 1}
            if name in self.active:
                self.active[name] = parameters
        return parameters

    def milliseconds(self, name: str) -> int:
        """The `ms` of a fault, 0 while it is off."""
        return int(self.active.get(name, {}).get("ms", 0))
