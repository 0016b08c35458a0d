"""A mutant: the product with one rule switched off. The patch is a value, applied in a process, and undone again.

A patch names what it changes by its text, so that it fails where that text is no longer there: a mutant which changes nothing
would be one that nobody catches, or, worse, one that seems to be caught by whatever else is broken.
"""

from __future__ import annotations
import __future__

import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol


class NotApplicable(Exception):
    """What a patch would change is not there, or not as the patch knows it."""


class Step(Protocol):
    """One change. `apply` makes it and returns what undoes it; raises NotApplicable, and nothing is changed then."""

    def apply(self) -> Callable[[], None]:
        """Change it."""
        ...


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A function's text with `old`, which stands in it once, replaced by `new`. `name` is `function` or `Class.method`."""

    module: str
    name: str
    old: str
    new: str

    def apply(self) -> Callable[[], None]:
        """See Step."""
        owner, attribute = _owner(self.module, self.name)
        present = inspect.getattr_static(owner, attribute)
        plain = present.fget if isinstance(present, property) else getattr(present, "__func__", present)
        lines, first = inspect.getsourcelines(inspect.unwrap(plain))
        text = "".join(lines)
        if text.count(self.old) != 1:
            raise NotApplicable(f"{self.module}:{self.name} has {text.count(self.old)} times {self.old!r}")
        file = inspect.getsourcefile(inspect.unwrap(plain)) or self.module
        text, above = text.replace(self.old, self.new), 1 if text[0].isspace() else 0
        tree = ast.increment_lineno(ast.parse("if True:\n" * above + text), first - 1 - above)
        made: dict[str, Any] = {}
        code = compile(tree, file, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
        exec(code, importlib.import_module(self.module).__dict__, made)  # the product's own text, in its own module
        return _put(owner, attribute, made[attribute])


@dataclass(frozen=True, slots=True)
class Put:
    """Something else in the place of a name: `make` is given what is there."""

    module: str
    name: str
    make: Callable[[Any], Any]

    def apply(self) -> Callable[[], None]:
        """See Step."""
        owner, attribute = _owner(self.module, self.name)
        return _put(owner, attribute, self.make(getattr(owner, attribute)))


@dataclass(frozen=True, slots=True)
class Sql:
    """A function of the database, altered as soon as a migration has made it: each `old`, which stands in it, becomes `new`."""

    function: str
    changes: tuple[tuple[str, str], ...]

    def apply(self) -> Callable[[], None]:
        """See Step. What is in the schema's own file is looked at now, the database when it is migrated."""
        migrate = importlib.import_module("engine.migrate")
        text = _schema_function(self.function)
        for old, _ in self.changes:
            if text.count(old) != 1:
                raise NotApplicable(f"{self.function} has {text.count(old)} times {old!r}")
        grant = migrate._grant

        @functools.wraps(grant)
        def then_altered(connection: Any, role: str) -> None:
            grant(connection, role)
            self.alter(connection.connection.driver_connection)

        return _put(migrate, "_grant", then_altered)

    def alter(self, owner: Any) -> None:
        """Alter it in this migrated database, over a connection of the owner's; nothing where that was done before."""
        [(text,)] = owner.execute(
            "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
            "WHERE n.nspname || '.' || p.proname = %s",
            (self.function,),
        ).fetchall()
        altered = functools.reduce(lambda found, change: found.replace(*change), self.changes, text)
        if altered == text and not all(new in text for _, new in self.changes):
            raise NotApplicable(f"{self.function} in the database is not as the patch knows it")
        owner.execute(altered)


@dataclass(frozen=True, slots=True)
class InSimulation:
    """The judge of the simulation sees it under these kinds of faults. `mutation`: what its stand-ins must leave out too."""

    faults: tuple[str, ...]
    mutation: str | None = None

    def __str__(self) -> str:
        return f"simulation: {', '.join(self.faults)}"


@dataclass(frozen=True, slots=True)
class OnCluster:
    """The judge of the cluster sees it in this scenario of `tests.mutation.scenes`."""

    scene: str

    def __str__(self) -> str:
        return f"cluster: {self.scene}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One rule, switched off by `steps`. `own` are tests that carry its number and must fail; `judged`: who else must see it.

    `unseen`: why no judge can be asked although the rule is one of safety.
    """

    rule: int
    name: str
    says: str
    steps: tuple[Step, ...]
    own: tuple[str, ...]
    judged: InSimulation | OnCluster | None = None
    unseen: str = ""

    @property
    def title(self) -> str:
        """`R12 proof_never_ages`."""
        return f"R{self.rule} {self.name}"

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The rule is off while the body runs. Raises NotApplicable, with everything as it was."""
        with ExitStack() as undone:
            for step in self.steps:
                undone.callback(step.apply())
            yield


def begin(mutants: Sequence[Mutant], name: str) -> None:
    """Switch the rule off for the rest of this process's life. Raises NotApplicable, LookupError."""
    found = [one for one in mutants if one.name == name]
    if not found:
        raise LookupError(f"there is no mutant {name}")
    for step in found[0].steps:
        step.apply()


def _owner(module: str, name: str) -> tuple[Any, str]:
    """Whose attribute it is, and which."""
    owner: Any = importlib.import_module(module)
    *path, attribute = name.split(".")
    for part in path:
        owner = getattr(owner, part, None)
    if owner is None or not hasattr(owner, attribute):
        raise NotApplicable(f"{module} has no {name}")
    return owner, attribute


def _put(owner: Any, attribute: str, value: Any) -> Callable[[], None]:
    """Set it, also where another module of the product has the old one by a name of its own, or in a table."""
    before = inspect.getattr_static(owner, attribute)
    undo: list[Callable[[], None]] = [partial(setattr, owner, attribute, before)]
    setattr(owner, attribute, value)
    if inspect.isfunction(before) and inspect.ismodule(owner):
        for names in _tables_of_names():
            for name in [name for name, found in names.items() if found is before]:
                names[name] = value
                undo.append(partial(names.__setitem__, name, before))
    return lambda: [step() for step in undo] and None


def _tables_of_names() -> Iterator[dict[Any, Any]]:
    """What each loaded module of the product calls by name, and the tables in it."""
    for module in [m for name, m in sys.modules.items() if name.split(".")[0] in ("engine", "ha", "reconcile")]:
        yield module.__dict__
        yield from [found for found in list(module.__dict__.values()) if type(found) is dict]


def _schema_function(name: str) -> str:
    """The function as `engine/migrations/schema.sql` has it."""
    text = (Path(__file__).parents[2] / "engine/migrations/schema.sql").read_text()
    begins = text.find(f"FUNCTION {name}(")
    if begins < 0:
        raise NotApplicable(f"the schema has no function {name}")
    return text[begins : text.find("\n--\n", begins)]
