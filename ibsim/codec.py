"""Messages as fields, read and written by their layouts. Pure.

A layout is compiled once for each server version, so that reading and writing never look at version gates.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ibsim.layout import Branch, Layout, LayoutError, Loop, Program, Run, compile_parts

MAX_GROUPS = 1000
"""No message of the protocol repeats a group more often; a larger count is not the protocol."""

Values = Mapping[str, Any]


class _Compiled:
    """A layout at one server version: its program, and its typical shape.

    A message is typical when every group is empty and every condition turns out as it does by default: then it is one run
    of fields. Nearly all are, and they are read and written without going through the program.
    """

    __slots__ = ("_conditions", "_groups", "_index", "_names", "_template", "program")

    def __init__(self, described: Layout, version: int) -> None:
        self.program = compile_parts(described.parts, version, {})
        self._names: list[str] = []
        self._template: list[str] = []
        self._index: dict[str, int] = {}
        self._groups: list[str] = []
        self._conditions: list[tuple[str, Callable[[str], bool], bool]] = []
        self._flatten(self.program)

    def _flatten(self, program: Program) -> None:
        for step in program:
            if isinstance(step, Run):
                for name, default in zip(step.names, step.defaults, strict=True):
                    self._add(name, default)
            elif isinstance(step, Loop):
                self._groups.append(step.name)
                self._add(step.name, "0")
            elif step.name not in self._groups:
                holds = step.test(step.default)
                self._conditions.append((step.name, step.test, holds))
                if holds:
                    self._flatten(step.program)

    def _add(self, name: str, default: str) -> None:
        self._index[name] = len(self._names)
        self._names.append(name)
        self._template.append(default)

    def read(self, fields: Sequence[str]) -> dict[str, Any] | None:
        """The values of a typical message, None if it is not typical."""
        if len(fields) != len(self._names):
            return None
        values: dict[str, Any] = dict(zip(self._names, fields, strict=True))
        for name, test, holds in self._conditions:
            if test(values[name]) is not holds:
                return None
        for name in self._groups:
            if values[name] not in ("0", ""):
                return None
            values[name] = []
        return values

    def write(self, values: Values) -> list[str] | None:
        """The fields of a typical message, None if it is not typical."""
        for name, test, holds in self._conditions:
            if name in values and test(values[name]) is not holds:
                return None
        for name in self._groups:
            if values.get(name):
                return None
        out, at = self._template.copy(), self._index.get
        for name, value in values.items():
            place = at(name)
            if place is not None and value.__class__ is str:
                out[place] = value
        return out


@lru_cache(maxsize=4096)
def _compiled(described: Layout, version: int) -> _Compiled:
    return _Compiled(described, version)


def read(described: Layout, version: int, fields: Sequence[str]) -> dict[str, Any]:
    """The values of a message by field name: strings, and lists of dictionaries for repeated groups.

    Raises LayoutError when a field is missing, left over, or a count is not a number within limits.
    """
    compiled = _compiled(described, version)
    typical = compiled.read(fields)
    if typical is not None:
        return typical
    values: dict[str, Any] = {}
    end = _read(compiled.program, fields, 0, values)
    if end != len(fields):
        raise LayoutError(f"{len(fields) - end} fields left over after {end}")
    return values


def _read(program: Program, fields: Sequence[str], at: int, values: dict[str, Any]) -> int:
    for step in program:
        if isinstance(step, Run):
            end = at + len(step.names)
            if end > len(fields):
                raise LayoutError(f"field {step.names[len(fields) - at]} is missing")
            values.update(zip(step.names, fields[at:end], strict=True))
            at = end
        elif isinstance(step, Branch):
            if step.test(values[step.name]):
                at = _read(step.program, fields, at, values)
        else:
            at = _read_loop(step, fields, at, values)
    return at


def _read_loop(step: Loop, fields: Sequence[str], at: int, values: dict[str, Any]) -> int:
    if at >= len(fields):
        raise LayoutError(f"the count of {step.name} is missing")
    text = fields[at] or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= MAX_GROUPS):
        raise LayoutError(f"the count of {step.name} is {text[:20]!r}")
    groups: list[dict[str, Any]] = []
    at += 1
    for _ in range(int(text)):
        group: dict[str, Any] = {}
        at = _read(step.program, fields, at, group)
        if step.chosen is not None:
            program = step.chosen.get(group["kind"])
            if program is None:
                raise LayoutError(f"{step.name} of kind {group['kind'][:20]!r}")
            at = _read(program, fields, at, group)
        groups.append(group)
    values[step.name] = groups
    return at


def write(described: Layout, version: int, values: Values) -> list[str]:
    """The fields of a message in wire order; a value that is not given is written as its default."""
    compiled = _compiled(described, version)
    typical = compiled.write(values)
    if typical is not None:
        return typical
    out: list[str] = []
    _write(compiled.program, values, out)
    return out


def _write(program: Program, values: Values, out: list[str]) -> None:
    get = values.get
    for step in program:
        if isinstance(step, Run):
            out.extend(map(get, step.names, step.defaults))
        elif isinstance(step, Branch):
            if step.test(get(step.name, step.default)):
                _write(step.program, values, out)
        else:
            groups = get(step.name, ())
            out.append(str(len(groups)))
            for group in groups:
                _write(step.program, group, out)
                if step.chosen is not None:
                    _write(step.chosen[group["kind"]], group, out)
