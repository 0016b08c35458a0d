"""No setting is accepted and then forgotten: each is read by the code, or its page says that it has no effect yet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ha import config_model
from ha.config_model import Settings
from ha.config_names import FOR_OTHERS, NOT_YET
from ha.config_read import FIELDS
from ha.config_types import allowed

ROOT = Path(__file__).parents[2]
# What these read of a setting is its form, or its relation to another one.
_ABOUT_SETTINGS = {"config_docs.py", "config_model.py", "config_names.py", "config_read.py", "config_types.py"}


def attributes(tree: ast.AST, of: set[str]) -> Iterator[str]:
    """The attributes that are read of a variable with one of these names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in of:
            yield node.attr


@cache
def derived() -> dict[str, set[str]]:
    """The settings that each property of `Settings` is made from."""
    tree = ast.parse(Path(config_model.__file__).read_text())
    model = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    return {
        node.name: {name.upper() for name in attributes(node, {"self"})} & set(FIELDS)
        for node in model.body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(d) == "property" for d in node.decorator_list)
    }


def read_by(path: Path) -> set[str]:
    """The settings that a module reads: of `settings`, and of `s` in the rules, whose findings stop a start."""
    names = {"settings", "s"} if path.name == "config_rules.py" else {"settings"}
    found: set[str] = set()
    for name in attributes(ast.parse(path.read_text()), names):
        found |= derived().get(name, {name.upper()})
    return found & set(FIELDS)


def only_one_value(name: str) -> bool:
    """Settings that refuse all values but one need no reader."""
    return allowed(Settings.model_fields[name.lower()]) == "true"


def unread() -> list[str]:
    modules = [path for path in ROOT.glob("ha/**/*.py") if path.name not in _ABOUT_SETTINGS]
    known = set().union(*map(read_by, modules)) | NOT_YET.keys() | FOR_OTHERS
    return [name for name in FIELDS if name not in known and not only_one_value(name)]


def test_every_setting_is_read_or_said_to_have_no_effect_yet() -> None:
    assert unread() == []


def test_what_is_said_to_have_no_effect_has_none() -> None:
    modules = [path for path in ROOT.glob("ha/**/*.py") if path.name not in _ABOUT_SETTINGS | {"config_rules.py"}]
    assert set().union(*map(read_by, modules)) & (NOT_YET.keys() | FOR_OTHERS) == set()
    assert NOT_YET.keys() | FOR_OTHERS <= set(FIELDS)


def test_the_check_finds_a_setting_that_nobody_reads(tmp_path: Path) -> None:
    """The check itself: a name in a text, or an attribute of something else, is no reader."""
    module = tmp_path / "module.py"
    module.write_text('def f(settings, rules):\n    "lease_ttl"\n    return rules.watchdog, settings.database_dsn\n')
    assert read_by(module) == {"DATABASE_URL", "POSTGRES_PASSWORD"}
