"""The book as it stood at one event, written down and read again: a replica that starts need not fold the whole log. Pure.

Every attribute of the book is written but those named in `TRANSIENT`, and every field of what it holds, so that what is added to
either is in the next checkpoint without a word here. A value of a type that this page does not know is an error when it is written.
`form` names attributes and fields: a checkpoint of another form is not read, because nobody can say what a field that is missing
would have held.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import cache, partial
from typing import Any

from engine.book import Book
from engine.digest import fingerprint, written
from engine.order import Order
from engine.position import Break, Execution, Position

TRANSIENT = frozenset({"observers", "_digests", "dirty", "leaving", "projected", "left"})
"""Not of the state: who listens, the digests of the last moments, and what the tables may lack. A checkpoint is written where the
tables stand at its event or beyond, so that nothing is lacking."""

_ENTITIES = (Order, Execution, Position, Break)
_LEVEL = 6  # of compression


class BadCheckpoint(Exception):
    """What was read is no whole checkpoint of this form, or what it holds is not what its digest says. The book is unchanged."""


def form() -> str:
    """Eight hex digits for the names of all that a checkpoint of this version holds."""
    names = [sorted(_kept(Book())), [[_name_of(kind), *_fields(kind)] for kind in _ENTITIES]]
    return hashlib.blake2b(json.dumps(names).encode(), digest_size=4).hexdigest()


def _kept(book: Book) -> dict[str, Any]:
    return {name: value for name, value in vars(book).items() if name not in TRANSIENT}


def _fields(kind: type[Any]) -> list[str]:
    return [f.name for f in fields(kind)]


def _name_of(kind: type[Any]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def dump(book: Book) -> bytes:
    """The book's state, compressed. Raises TypeError for a value of an unknown type."""
    writer = _Writer()
    state = {name: writer.value(value) for name, value in _kept(book).items()}
    told = {"form": form(), "state": state, "kinds": writer.kinds, "objects": writer.objects}
    return zlib.compress(json.dumps(told, separators=(",", ":")).encode(), _LEVEL)


def load(book: Book, data: bytes, digest: str) -> None:
    """Let `book` stand where the dumped one stood; `digest` as `engine.digest.written` gave it. Its observers stay.

    Raises BadCheckpoint; the book is then as it was.
    """
    stand(book, read(data, digest))


def stand(book: Book, state: dict[str, Any]) -> None:
    """Let `book` stand where `read` says. Its observers stay."""
    book.reset()
    vars(book).update(state)


def read(data: bytes, digest: str) -> dict[str, Any]:
    """The attributes of the book that was dumped; touches no other, so that a thread may do it. Raises BadCheckpoint."""
    with _no_collection():
        return _read(data, digest)


def _read(data: bytes, digest: str) -> dict[str, Any]:
    try:
        told = json.loads(zlib.decompress(data))
        if told["form"] != form():
            raise BadCheckpoint(f"its form is {told['form']}, this version's is {form()}")
        reader = _Reader(told["kinds"], told["objects"])
        state = {name: reader.value(value) for name, value in told["state"].items()}
        counted = written(state["digest"])
    except (zlib.error, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, ImportError) as error:
        raise BadCheckpoint(f"it cannot be read: {type(error).__name__}: {error}") from error
    if counted != digest:
        raise BadCheckpoint(f"its digest is {counted}, not {digest}")
    if wrong := next((o for o in reader.objects if isinstance(o, _ENTITIES) and o.fingerprint != fingerprint(o)), None):
        raise BadCheckpoint(f"the fingerprint of {type(wrong).__name__} in it is not that of its fields")
    return state


class _Writer:
    """Values as JSON; what JSON has not is `[tag, ...]`, and an object is written once, however many names it has."""

    def __init__(self) -> None:
        self.kinds: list[list[str]] = []  # of objects: the type's name, then its fields'
        self.objects: list[list[Any]] = []
        self._kind_at: dict[type[Any], int] = {}
        self._object_at: dict[int, int] = {}

    def value(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if isinstance(value, Enum):
            return ["enum", _name_of(kind), value.value]
        if kind is Decimal:
            return ["decimal", str(value)]
        if kind is datetime:
            return ["time", value.astimezone(UTC).isoformat()]
        if kind in _MAPS:
            return [_MAPS[kind], *([self.value(key), self.value(held)] for key, held in value.items())]
        if kind in _SEQUENCES:
            return [_SEQUENCES[kind], *map(self.value, value)]
        if kind is array:
            return ["array", value.typecode, value.tolist()]
        if is_dataclass(value) and kind.__module__.startswith("engine."):
            return ["object", self._place(value)]
        raise TypeError(f"a checkpoint cannot hold a {kind.__name__}")

    def _place(self, held: Any) -> int:
        place = self._object_at.get(id(held))
        if place is None:
            kind = type(held)
            if kind not in self._kind_at:
                self._kind_at[kind] = len(self.kinds)
                self.kinds.append([_name_of(kind), *_fields(kind)])
            row = [self._kind_at[kind], *(self.value(getattr(held, f.name)) for f in fields(kind))]
            place = self._object_at[id(held)] = len(self.objects)
            self.objects.append(row)
        return place


_MAPS: dict[type[Any], str] = {dict: "map", OrderedDict: "ordered"}
_SEQUENCES: dict[type[Any], str] = {tuple: "tuple", list: "list", set: "set", frozenset: "frozenset"}
_MADE_OF: dict[str, Callable[[Iterable[Any]], Any]] = {name: kind for kind, name in _SEQUENCES.items()}


class _Reader:
    """The inverse. Raises BadCheckpoint where a type has other fields now, and what Python raises for what is no such text."""

    def __init__(self, kinds: list[list[str]], objects: list[list[Any]]) -> None:
        types = [_type_of(name) for name, *_ in kinds]
        for kind, (name, *names) in zip(types, kinds, strict=True):
            if _fields(kind) != names:
                raise BadCheckpoint(f"{name} has other fields in this version")
        self.objects: list[Any] = []
        self._by_tag: dict[str, Callable[..., Any]] = {
            "object": self.objects.__getitem__,
            "decimal": Decimal,
            "time": datetime.fromisoformat,
            "enum": lambda name, value: _type_of(name)(value),
            "array": array,
            "map": lambda *pairs: dict(self._pairs(pairs)),
            "ordered": lambda *pairs: OrderedDict(self._pairs(pairs)),
            **{tag: partial(self._sequence, made) for tag, made in _MADE_OF.items()},
        }
        for which, *values in objects:
            self.objects.append(types[which](*[self.value(v) if type(v) is list else v for v in values]))

    def value(self, told: Any) -> Any:
        return self._by_tag[told[0]](*told[1:]) if type(told) is list else told

    def _pairs(self, pairs: Iterable[list[Any]]) -> Iterator[tuple[Any, Any]]:
        return ((self.value(key), self.value(held)) for key, held in pairs)

    def _sequence(self, made: Callable[[Iterable[Any]], Any], *items: Any) -> Any:
        return made(map(self.value, items))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hundreds of thousands of objects that all stay: looking for garbage among them again and again doubles the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@cache
def _type_of(name: str) -> type[Any]:
    module, _, kind = name.partition(":")
    if not module.startswith("engine."):
        raise BadCheckpoint(f"it names {name}")
    found: type[Any] = getattr(importlib.import_module(module), kind)
    return found
