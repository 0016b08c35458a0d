"""What the docs show of the code, made from the code: `python -m tests.docs_tool` compares, with `--write` it writes.

A block stands between `<!-- made: NAME -->` and `<!-- end -->` in a page; everything around it is written by hand.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import api_paths, openapi
from engine.family import TABLE as FAMILY_TABLE
from engine.order import FINAL, TRANSITIONS, State
from ha import paths
from ha.role import diagram
from reconcile.table import TABLE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_BLOCK = re.compile(r"(<!-- made: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)


def order_diagram() -> str:
    """An order's states as a Mermaid diagram; an event that changes no state is left out, the table has it."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for state, row in TRANSITIONS.items():
        for kind, to in row.items():
            if to is not state:
                arrows.setdefault((state, to), []).append(kind.value)
    lines = [
        "stateDiagram-v2",
        "    [*] --> QUEUED: order_accepted",
        "    [*] --> SENDING: order_accepted with its licence",
    ]
    return "\n".join([*lines, *(f"    {a} --> {b}: {', '.join(kinds)}" for (a, b), kinds in arrows.items())])


def order_transitions() -> str:
    """The table of `engine.order`: one row for each state, one entry for each kind of event that it takes."""
    rows = ["| state | final | event → next state |", "|---|---|---|"]
    for state in State:
        moves = ", ".join(f"`{kind.value}` → {to}" for kind, to in TRANSITIONS.get(state, {}).items())
        rows.append(f"| {state} | {'yes' if state in FINAL else ''} | {moves} |")
    return "\n".join(rows)


def reconciliation_table() -> str:
    """The rows of `reconcile.table`, in the order in which they are looked up."""
    rows = ["| case | verdict | acts | what and why |", "|---|---|---|---|"]
    words = {"NOW": "at once", "SEEN_TWICE": "when seen twice", "AT_LAST": "at last"}
    rows += [f"| `{row.name}` | {row.verdict} | {words[row.acts.name]} | {row.says} |" for row in TABLE]
    return "\n".join(rows)


def family_table() -> str:
    """The rows of `engine.family`: every one that fits is carried out."""
    rows = ["| case | what is done | when and why |", "|---|---|---|"]
    rows += [f"| `{row.name}` | {row.act} | {row.says} |" for row in FAMILY_TABLE]
    return "\n".join(rows)


def http_paths() -> str:
    """Every path that is served, as the rooms' tables describe it."""
    rows = ["| method and path | role | what |", "|---|---|---|"]
    tables = (api_paths.OPERATIONS, paths.OPERATIONS, openapi.OPERATIONS)
    for (method, path), operation in sorted(
        (found for table in tables for found in table.items()), key=lambda found: (found[0][1], found[0][0])
    ):
        what = operation.summary.replace("|", "\\|")
        rows.append(f"| `{method} {path}` | {operation.role or ''} | {what} |")
    return "\n".join(rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "role-machine": lambda: f"```mermaid\n{diagram()}\n```",
    "order-machine": lambda: f"```mermaid\n{order_diagram()}\n```",
    "order-transitions": order_transitions,
    "reconciliation-table": reconciliation_table,
    "family-table": family_table,
    "http-paths": http_paths,
}


def made(text: str) -> str:
    """A page's text with every block as the code has it now. Raises KeyError for a block that nobody makes."""
    return _BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match['name']]()}\n{match[4]}", text)


def blocks_of(text: str) -> list[str]:
    """The names of the blocks in a page."""
    return [match["name"] for match in _BLOCK.finditer(text)]


def marks(kind: str) -> dict[int, set[str]]:
    """Tests by the number in their `@pytest.mark.KIND(number)`: `tests/unit/test_x.py::test_y`."""
    found: dict[int, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for number in _numbers(node, kind):
                    found.setdefault(number, set()).add(f"{path.relative_to(ROOT).as_posix()}::{node.name}")
    return found


def _numbers(node: ast.FunctionDef | ast.AsyncFunctionDef, kind: str) -> list[int]:
    texts = (ast.unparse(decorator) for decorator in node.decorator_list)
    return [int(number) for text in texts for number in re.findall(rf"pytest\.mark\.{kind}\((\d+)\)", text)]


def names_in(path: Path) -> set[str]:
    """Functions, classes, methods (`Class.method` and `method`) and constants of a Python file."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
            found |= methods | {f"{node.name}.{name}" for name in methods}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def main(arguments: Sequence[str]) -> int:
    """0 when all pages are as the code has it (with `--write`: always), 1 when one is not, 2 for wrong use."""
    if set(arguments) - {"--write"}:
        print("usage: python -m tests.docs_tool [--write]")
        return 2
    stale = [path for path in DOCS.rglob("*.md") if made(path.read_text()) != path.read_text()]
    for path in stale:
        print(f"{path.relative_to(ROOT)} is {'written' if arguments else 'not as the code has it'}")
        if arguments:
            path.write_text(made(path.read_text()))
    return 1 if stale and not arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
