"""Each client library has one door, and what calls itself pure is: read from the syntax trees of every room."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("engine", "ha", "reconcile", "ibsim", "client")
OURS = ("engine", "ha", "reconcile")
MODULES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
}

DOORS = {
    "ib_async": {"engine/broker_ib.py"},
    "eventkit": {"engine/broker_ib.py"},
    "etcd3": {"ha/lease_etcd.py"},
    "grpc": {"ha/lease_etcd.py"},
    "psycopg": {"engine/store.py", "engine/migrate.py"},
    "sqlalchemy": {"engine/migrate.py"},
    "alembic": {"engine/migrate.py"},
    "aiohttp.web": {"engine/http.py"},
}
"""Who may import what in our rooms; the steps of the migrations are Alembic's own files."""

IMPURE = frozenset(
    {
        "asyncio", "concurrent", "logging", "loguru", "multiprocessing", "os", "requests", "select", "signal", "socket",
        "subprocess", "threading", "time", "urllib3", "aiohttp", "httpx", *(name.split(".")[0] for name in DOORS),
    }
)  # fmt: skip
"""What a pure module does not import: it decides, somebody else acts, waits, logs and looks at the clock."""


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in the file, in functions too: `from aiohttp import web` is `aiohttp.web`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in ("import_module", "__import__") and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def of(name: str, library: str) -> bool:
    return name == library or name.startswith(f"{library}.")


@pytest.mark.parametrize("library", DOORS)
def test_library_has_one_door(library: str) -> None:
    users = {
        path
        for path, tree in MODULES.items()
        if path.startswith(OURS)
        and not path.startswith("engine/migrations/")
        and any(of(name, library) for name in imports(tree))
    }
    assert users <= DOORS[library], f"{library} has another door"


def test_doors_are_open() -> None:
    """Otherwise the test above could not fail."""
    for library in ("ib_async", "etcd3", "grpc", "psycopg", "alembic", "aiohttp.web"):
        for path in DOORS[library]:
            if library != "alembic" or path == "engine/migrate.py":
                assert any(of(name, library) for name in imports(MODULES[path])), (path, library)


def pure_modules() -> list[str]:
    """Modules whose docstring says so in the word `Pure`."""
    return sorted(path for path, tree in MODULES.items() if re.search(r"\bPure\b", ast.get_docstring(tree) or ""))


def test_modules_that_call_themselves_pure_are_many() -> None:
    assert {"engine/order.py", "engine/permit.py", "ha/role.py", "reconcile/plan.py", "ibsim/book.py"} <= set(
        pure_modules()
    )


@pytest.mark.parametrize("path", pure_modules())
def test_pure_module_imports_nothing_that_acts(path: str) -> None:
    found = {name for name in imports(MODULES[path]) if name.split(".")[0] in IMPURE}
    assert not found, f"{path} calls itself pure and imports {', '.join(sorted(found))}"


@pytest.mark.parametrize("path", pure_modules())
def test_pure_module_takes_time_as_an_argument(path: str) -> None:
    """No call of a clock: `utcnow()`, `boottime()`, `datetime.now()`, `date.today()`."""
    clocks = {"utcnow", "boottime", "now", "today", "monotonic", "perf_counter", "time_ns"}
    for node in ast.walk(MODULES[path]):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in clocks, f"{path}:{node.lineno} looks at a clock"
