"""Field layouts of messages: a table is read and written by the same description. Pure.

A layout is a sequence of parts. A string holds plain fields, separated by blanks: `name`, `name=default` (the default is
written where the message's author gave no value), `name@169` (from server version 169), `name@<177` (below it),
`name@163-163` (exactly). `When` holds fields that follow only if an earlier field says so, `Repeat` a count and that many
groups. A layout is compiled once per server version, so that reading and writing never look at version gates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MAX_GROUPS = 1000
"""No message of the protocol repeats a group more often; a larger count is not the protocol."""

Values = Mapping[str, Any]


class LayoutError(ValueError):
    """The fields are not the message that they claim to be."""


@dataclass(frozen=True, slots=True, eq=False)
class When:
    """Parts that are present only if `test` holds for the value of the field `name`, read before."""

    name: str
    test: Callable[[str], bool]
    parts: tuple["Part", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """A count, then that many groups; the value `name` is a list of dictionaries.

    `chosen`, if given, picks a group's parts by its first field, which is then named `kind`.
    """

    name: str
    parts: tuple["Part", ...] = ()
    chosen: Mapping[str, tuple["Part", ...]] | None = None


Part = str | When | Repeat


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The fields of one message, without its message id."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    names: tuple[str, ...]
    defaults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Branch:
    name: str
    default: str
    test: Callable[[str], bool]
    program: "_Program"


@dataclass(frozen=True, slots=True)
class _Loop:
    name: str
    program: "_Program"
    chosen: Mapping[str, "_Program"] | None


_Program = tuple[_Run | _Branch | _Loop, ...]


def layout(*parts: Part) -> Layout:
    """A layout of these parts."""
    return Layout(parts)


class _Compiled:
    """A layout at one server version: its program, and its typical shape.

    A message is typical when every group is empty and every condition turns out as it does by default: then it is one run
    of fields. Nearly all are, and they are read and written without going through the program.
    """

    __slots__ = ("_conditions", "_groups", "_index", "_names", "_template", "program")

    def __init__(self, described: Layout, version: int) -> None:
        self.program = _compile(described.parts, version, {})
        self._names: list[str] = []
        self._template: list[str] = []
        self._index: dict[str, int] = {}
        self._groups: list[str] = []
        self._conditions: list[tuple[str, Callable[[str], bool], bool]] = []
        self._flatten(self.program)

    def _flatten(self, program: _Program) -> None:
        for step in program:
            if isinstance(step, _Run):
                for name, default in zip(step.names, step.defaults, strict=True):
                    self._add(name, default)
            elif isinstance(step, _Loop):
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


def _compile(parts: Sequence[Part], version: int, defaults: dict[str, str]) -> _Program:
    program: list[_Run | _Branch | _Loop] = []
    for part in parts:
        if isinstance(part, str):
            pairs = [pair for token in part.split() if (pair := _plain(token, version))]
            defaults.update(pairs)
            if pairs:
                program.append(_Run(tuple(name for name, _ in pairs), tuple(default for _, default in pairs)))
        elif isinstance(part, When):
            program.append(
                _Branch(part.name, defaults.get(part.name, ""), part.test, _compile(part.parts, version, defaults))
            )
        else:
            cases = part.chosen
            chosen = None if cases is None else {key: _compile(sub, version, {}) for key, sub in cases.items()}
            program.append(_Loop(part.name, _compile(part.parts, version, {}), chosen))
    return tuple(program)


def _plain(token: str, version: int) -> tuple[str, str] | None:
    token, _, gate = token.partition("@")
    name, _, default = token.partition("=")
    if gate.startswith("<"):
        served = version < int(gate[1:])
    elif "-" in gate:
        low, high = gate.split("-")
        served = int(low) <= version <= int(high)
    else:
        served = not gate or version >= int(gate)
    return (name, default) if served else None


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


def _read(program: _Program, fields: Sequence[str], at: int, values: dict[str, Any]) -> int:
    for step in program:
        if isinstance(step, _Run):
            end = at + len(step.names)
            if end > len(fields):
                raise LayoutError(f"field {step.names[len(fields) - at]} is missing")
            values.update(zip(step.names, fields[at:end], strict=True))
            at = end
        elif isinstance(step, _Branch):
            if step.test(values[step.name]):
                at = _read(step.program, fields, at, values)
        else:
            at = _read_loop(step, fields, at, values)
    return at


def _read_loop(step: _Loop, fields: Sequence[str], at: int, values: dict[str, Any]) -> int:
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


def _write(program: _Program, values: Values, out: list[str]) -> None:
    get = values.get
    for step in program:
        if isinstance(step, _Run):
            out.extend(map(get, step.names, step.defaults))
        elif isinstance(step, _Branch):
            if step.test(get(step.name, step.default)):
                _write(step.program, values, out)
        else:
            groups = get(step.name, ())
            out.append(str(len(groups)))
            for group in groups:
                _write(step.program, group, out)
                if step.chosen is not None:
                    _write(step.chosen[group["kind"]], group, out)
