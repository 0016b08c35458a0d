"""The whole schema read out of PostgreSQL's catalogs: as one list to compare, and as engine/migrations/schema.sql to read.

`python -m tests.schema_tool --write` (`make schema`) applies all migrations to a fresh server and writes the file. The first part
of the log is named by the month in which it was made; in the file it is event_2001_01, which the first look renames.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

SCHEMA = Path(__file__).parents[1] / "engine" / "migrations" / "schema.sql"
FIRST = "event_2001_01"
_HEAD = """-- The whole schema, as all migrations applied give it. Generated: change it by a migration, then run `make schema`.
-- A test compares what it makes with what the migrations make, catalog by catalog. `adapter migrate` gives the adapter's role its
-- rights; they are not here, because the role's name is a setting.

CREATE SCHEMA ledger;
"""

_TABLES = """
SELECT c.oid::regclass::text, c.relkind::text, c.relispartition, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)
  FROM pg_class c WHERE relnamespace = 'ledger'::regnamespace AND relkind IN ('r', 'p') ORDER BY c.relispartition, 1"""
_COLUMNS = """
SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(d.adbin, d.adrelid)
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_CONSTRAINTS = """
SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE conrelid = %s::regclass AND contype <> 'n' ORDER BY contype = 'c', conname"""
_INDEXES = """
SELECT i.indexrelid::regclass::text, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') FROM pg_index i
 WHERE i.indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid) ORDER BY 1"""
_TRIGGERS = """
SELECT tgname::text, pg_get_triggerdef(oid), tgenabled::text, tgparentid <> 0 FROM pg_trigger
 WHERE tgrelid = %s::regclass AND NOT tgisinternal ORDER BY 1"""
_FUNCTIONS = """
SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), coalesce(p.proacl::text, '') FROM pg_proc p
 WHERE pronamespace = 'ledger'::regnamespace ORDER BY 1"""
_RIGHTS = """
SELECT c.oid::regclass::text, coalesce(c.relacl::text, '') FROM pg_class c
 WHERE relnamespace = 'ledger'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"""
_ROWS = {
    "schema_version": "version_num", "alembic_version": "version_num", "epoch": "epoch", "proof": "epoch, seq, digest, state",
    "projection": "seq", "log_part": "part, month::text, from_seq",
}  # fmt: skip


def catalogs(owner: psycopg.Connection[Any]) -> list[str]:
    """Everything that the schema consists of, a line each, the first part under a fixed name."""
    found: list[str] = []
    for table, *kind in owner.execute(_TABLES).fetchall():
        found.append(f"table {table} {kind}")
        found += [f"{table} column {row}" for row in owner.execute(_COLUMNS, (table,)).fetchall()]
        found += [f"{table} constraint {row}" for row in owner.execute(_CONSTRAINTS, (table,)).fetchall()]
        found += [f"{table} index {row}" for row in owner.execute(_INDEXES, (table,)).fetchall()]
        found += [f"{table} trigger {row}" for row in owner.execute(_TRIGGERS, (table,)).fetchall()]
    found += [f"function {row}" for row in owner.execute(_FUNCTIONS).fetchall()]
    found += [f"rights {row}" for row in owner.execute(_RIGHTS).fetchall()]
    for table, columns in _ROWS.items():
        rows = owner.execute(f"SELECT {columns} FROM ledger.{table}").fetchall()  # type: ignore[call-overload]
        found += [f"{table} row {row}" for row in rows]
    return [_first(line) for line in found]


def _first(text: str) -> str:
    text = re.sub(r"event_[0-9]{4}_[0-9]{2}", FIRST, text)
    return re.sub(r"'[0-9]{4}-[0-9]{2}-01'", "'2001-01-01'", text)


def schema_sql(owner: psycopg.Connection[Any]) -> str:
    """The file's text: statements that make this schema in an empty database, as its owner."""
    tables, out, after = owner.execute(_TABLES).fetchall(), [_HEAD], []
    for table, _, _, key, bound in tables:
        columns = [
            f"    {name} {kind}{' DEFAULT ' + default if default else ''}{' NOT NULL' if needed else ''}"
            for name, kind, needed, default in owner.execute(_quoted(_COLUMNS), (table,)).fetchall()
        ]
        partitioned = f" PARTITION BY {key}" if key else ""
        out.append(f"CREATE TABLE {table} (\n" + ",\n".join(columns) + f"\n){partitioned};")
        out += [
            f"ALTER TABLE {table} ADD CONSTRAINT {name} {text};"
            for name, text in owner.execute(_CONSTRAINTS, (table,)).fetchall()
        ]
        out += [f"{text};" for _, text in owner.execute(_INDEXES, (table,)).fetchall()]
        out.append("")
        if bound:
            after.append(f"ALTER TABLE ledger.event ATTACH PARTITION {table} {bound};")
    for name, text, rights in owner.execute(_FUNCTIONS).fetchall():
        out.append(f"{text.rstrip()};")
        if rights and "{=" not in rights and ",=" not in rights:
            out.append(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC;")
        out.append("")
    enabled = []
    for table, *_ in tables:
        for name, text, state, copied in owner.execute(_TRIGGERS, (table,)).fetchall():
            if not copied:
                (out if table == "ledger.event" else after).append(f"{text};")
            if state == "A":
                enabled.append(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};")
    out += ["", *_rows(owner), "", *after, "", *enabled]
    return _first("\n".join(out) + "\n")


def _quoted(query: str) -> str:
    return query.replace("attname::text", "quote_ident(attname)")


def _rows(owner: psycopg.Connection[Any]) -> list[str]:
    """What is in the tables from the start. Written before the fence is put up."""
    found = []
    for table, columns in _ROWS.items():
        names = columns.replace("::text", "")
        for row in owner.execute(f"SELECT {columns} FROM ledger.{table}").fetchall():  # type: ignore[call-overload]
            values = ", ".join(sql.Literal(value).as_string(owner) for value in row)
            found.append(f"INSERT INTO ledger.{table} ({names}) VALUES ({values});")
    return found


def main() -> int:
    """Write the file, or with no option print it."""
    from tests.integration.pg_fixture import running_postgres

    with running_postgres() as server, psycopg.connect(server.fresh().owner) as owner:
        text = schema_sql(owner)
    if "--write" in sys.argv[1:]:
        SCHEMA.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
