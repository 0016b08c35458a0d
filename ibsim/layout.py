"""Field layouts of messages: a table is read and written by the same description. Pure.

A layout is a sequence of parts. A string holds plain fields, separated by blanks: `name`, `name=default` (the default is
written where the message's author gave no value), `name@169` (from server version 169), `name@<177` (below it),
`name@163-163` (exactly). `When` holds fields that follow only if an earlier field says so, `Repeat` a count and that many
groups. `codec` reads and writes by layouts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


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
class Run:
    """So many plain fields in a row, at one server version."""

    names: tuple[str, ...]
    defaults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """Fields that follow if the test holds for an earlier one."""

    name: str
    default: str
    test: Callable[[str], bool]
    program: "Program"


@dataclass(frozen=True, slots=True)
class Loop:
    """A count and that many groups."""

    name: str
    program: "Program"
    chosen: Mapping[str, "Program"] | None


Program = tuple[Run | Branch | Loop, ...]


def layout(*parts: Part) -> Layout:
    """A layout of these parts."""
    return Layout(parts)


def compile_parts(parts: Sequence[Part], version: int, defaults: dict[str, str]) -> Program:
    """The parts as they are at one server version; `defaults` takes up the defaults of the fields, by name."""
    program: list[Run | Branch | Loop] = []
    for part in parts:
        if isinstance(part, str):
            pairs = [pair for token in part.split() if (pair := _plain(token, version))]
            defaults.update(pairs)
            if pairs:
                program.append(Run(tuple(name for name, _ in pairs), tuple(default for _, default in pairs)))
        elif isinstance(part, When):
            program.append(
                Branch(part.name, defaults.get(part.name, ""), part.test, compile_parts(part.parts, version, defaults))
            )
        else:
            cases = part.chosen
            chosen = None if cases is None else {key: compile_parts(sub, version, {}) for key, sub in cases.items()}
            program.append(Loop(part.name, compile_parts(part.parts, version, {}), chosen))
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
