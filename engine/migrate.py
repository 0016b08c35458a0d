"""`adapter migrate`: bring the database to this version's schema, as its owner.

One transaction under a `lock_timeout`, never without the fence's trigger (R22). The owner's URL is MIGRATE_DATABASE_URL; the
adapter's own role (DATABASE_URL) owns nothing, so that it cannot take the fence away (R10).

Steps come in pairs (`engine.schema`): `migrate` applies what both versions run on, `migrate(post=True)` the rest, and only that
lets the older version start no more. `ledger.schema_version` says what was applied, `ledger.alembic_version` (the name by which
the first versions look) how new a replica must be.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from engine.events import LEDGER_LEVEL
from engine.os_user import host, os_user
from engine.schema import NEW_GATEWAY, known_versions, needed_version, newest_version, reached_by_pre

_COMMAND = sql.SQL("ledger.give_command(text, text, jsonb, text, text, text, text, jsonb)")
_HERE = Path(__file__).parent / "migrations"


class MigrationError(Exception):
    """The database cannot be migrated as asked; the text is a sentence that says what to change. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a database belongs to (R14): written once, compared at every start."""

    cluster: str
    gateway_id: str
    client_id: int


@dataclass(frozen=True, slots=True)
class Migrated:
    """Where a migration left the ledger: the schema's version, and the level of events that are written (R22)."""

    version: str
    level: int


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.set_main_option("path_separator", "os")
    return config


def migrate(
    owner_url: str,
    adapter_url: str,
    identity: Identity,
    *,
    new_gateway: bool = False,
    post: bool = False,
    raise_level: bool = False,
) -> Migrated:
    """Apply steps and grants; returns where that left the ledger. Raises MigrationError with a sentence; then nothing changed.

    A new database gets all steps. Else the `pre` steps that come before the next `post` step are applied; with `post` all of them:
    both replicas must run this version by then, or stand still.

    `owner_url` must be of another role than `adapter_url` and may create a schema in the database. `new_gateway`: the gateway may
    be another one than before; the next leader then holds everything until an operator confirms that the old one is off (R14).
    `raise_level`: a rollout's last step, from which on this version's new kinds of events are written (R22); refused while a
    replica is connected that could not read them.
    """
    role = str(conninfo_to_dict(adapter_url).get("user") or "")
    if not role:
        raise MigrationError("DATABASE_URL names no user; name the adapter's role in it, it is given its rights here.")
    if role == conninfo_to_dict(owner_url).get("user"):
        raise MigrationError(
            f"DATABASE_URL and MIGRATE_DATABASE_URL are of the same role {role!r}; the adapter must not own its fence. "
            "Create a second role, give it to DATABASE_URL, and migrate again."
        )
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(owner_url, connect_timeout=10),
        poolclass=sqlalchemy.NullPool,
    )
    try:
        with engine.begin() as connection:
            version = _apply(connection, role, identity, new_gateway=new_gateway, post=post)
            level = _level(connection, role, raise_level=raise_level)
    except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        raise MigrationError(f"The database refused the migration: {str(error).splitlines()[0]}") from error
    finally:
        engine.dispose()
    return Migrated(version, level)


def _apply(connection: sqlalchemy.Connection, role: str, identity: Identity, *, new_gateway: bool, post: bool) -> str:
    run = connection.exec_driver_sql
    run("SET LOCAL lock_timeout = '3s'")
    present = _present(connection)
    target = newest_version() if post or present is None else reached_by_pre(present)
    if target < needed_version():
        raise MigrationError(
            f"The database is at schema {present}, and step {_after(target)} on the way to this version is for when no older "
            "version runs any more: stop both replicas and run `adapter migrate --post`."
        )
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, target)
    if target == newest_version():
        run("DELETE FROM ledger.alembic_version")
        run("INSERT INTO ledger.alembic_version VALUES (%s)", (target,))
    if present not in (None, target):
        _note(connection, "migrate --post" if post else "migrate", {"from": present, "to": target})
    _write_identity(connection, identity, new_gateway)
    _grant(connection, role)
    return target


def _note(connection: sqlalchemy.Connection, what: str, details: Mapping[str, object]) -> None:
    """For the audit: the next leader notes it in the log."""
    connection.exec_driver_sql(
        "SELECT ledger.give_command(%s, NULL, NULL, %s || ' as ' || current_user, '', %s, %s, %s::jsonb)",
        (what, os_user(), host(), str(uuid.uuid4()), json.dumps(details)),
    )


def _present(connection: sqlalchemy.Connection) -> str | None:
    """The last step applied, None for a new database, in which the schema is made now. Raises MigrationError."""
    run = connection.exec_driver_sql
    if not run("SELECT to_regclass('ledger.alembic_version') IS NOT NULL").scalar():
        # Alembic keeps its version table inside the schema, so the schema comes first
        if run("SELECT to_regnamespace('ledger') IS NOT NULL").scalar():
            raise MigrationError(
                "The database holds a schema 'ledger' that is not ours; use another database or drop it."
            )
        run("CREATE SCHEMA ledger")
        run("CREATE TABLE ledger.alembic_version (version_num varchar(32) PRIMARY KEY)")
    floor = run("SELECT version_num FROM ledger.alembic_version").scalar()
    if floor is not None and floor not in known_versions():
        raise MigrationError(
            f"The database is at schema {floor}, newer than this version's {newest_version()}; install the newer version."
        )
    if not run("SELECT to_regclass('ledger.schema_version') IS NOT NULL").scalar():
        run("CREATE TABLE ledger.schema_version (version_num varchar(32) PRIMARY KEY)")
        if floor is not None:
            run("INSERT INTO ledger.schema_version VALUES (%s)", (floor,))
    applied = run("SELECT version_num FROM ledger.schema_version").scalar()
    if applied is not None and applied not in known_versions():
        raise MigrationError(
            f"The database has step {applied}, newer than this version's {newest_version()}; let the newer version migrate."
        )
    return None if applied is None else str(applied)


def _after(version: str) -> str:
    return next(known for known in known_versions() if known > version)


def _write_identity(connection: sqlalchemy.Connection, identity: Identity, new_gateway: bool) -> None:
    row = connection.exec_driver_sql("SELECT cluster, gateway_id, client_id FROM ledger.identity").first()
    if row is None:
        connection.exec_driver_sql(
            "INSERT INTO ledger.identity (cluster, gateway_id, client_id, ledger_level) VALUES (%s, %s, %s, %s)",
            (identity.cluster, identity.gateway_id, identity.client_id, LEDGER_LEVEL),
        )
        return
    if row[0] != identity.cluster:
        raise MigrationError(
            f"This database belongs to cluster {row[0]!r}, CLUSTER_NAME says {identity.cluster!r}; order ids derive from the name, "
            "so it cannot change. Use the database of this cluster."
        )
    if row[2] != identity.client_id:
        raise MigrationError(
            f"This database was set up for clientId {row[2]}, TWS_CLIENT_ID says {identity.client_id}. Orders can be cancelled "
            "only by the clientId that placed them: set it back."
        )
    if row[1] != identity.gateway_id and not new_gateway:
        raise MigrationError(
            f"This database was set up for gateway {row[1]!r}, the settings say {identity.gateway_id!r}. Set TWS_GATEWAY_ID back; "
            "or, if it is another gateway now, stop both replicas, switch the old gateway off, and run "
            "`adapter migrate --new-gateway`."
        )
    if row[1] != identity.gateway_id:
        connection.exec_driver_sql("UPDATE ledger.identity SET gateway_id = %s", (identity.gateway_id,))
        connection.exec_driver_sql(
            "INSERT INTO ledger.control (key, value, by) VALUES (%s, jsonb_build_object('was', %s::text, 'is', %s::text), "
            "current_user) ON CONFLICT (key) DO UPDATE SET value = ledger.control.value || jsonb_build_object('is', %s::text)",
            (NEW_GATEWAY, row[1], identity.gateway_id, identity.gateway_id),
        )
        _note(connection, "new-gateway", {"from": row[1], "to": identity.gateway_id})


def _level(connection: sqlalchemy.Connection, role: str, *, raise_level: bool) -> int:
    """The ledger's level, raised to this version's when asked for (R22)."""
    run = connection.exec_driver_sql
    present = int(run("SELECT ledger_level FROM ledger.identity").scalar() or 0)
    if present > LEDGER_LEVEL:
        raise MigrationError(
            f"The ledger is at level {present}, this version reads up to {LEDGER_LEVEL}; install the newer version."
        )
    if not raise_level or present == LEDGER_LEVEL:
        return present
    connected = run(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND usename = %s", (role,)
    ).scalars()
    if old := sorted(name for name in connected if (reads := reads_level(name)) is not None and reads < LEDGER_LEVEL):
        raise MigrationError(
            f"A replica is connected that cannot read events of level {LEDGER_LEVEL}: {', '.join(old)}. Install this version on "
            "both replicas first, then raise the level."
        )
    run("UPDATE ledger.identity SET ledger_level = %s", (LEDGER_LEVEL,))
    _note(connection, "raise-level", {"from": present, "to": LEDGER_LEVEL})
    return LEDGER_LEVEL


def reads_level(application_name: str) -> int | None:
    """The ledger level that the replica behind this connection reads, None for a connection that is no replica's own."""
    kind, *parts = application_name.split(":")
    if kind not in ("adapter-tail", "adapter-writer"):
        return None
    named = parts[1 if kind == "adapter-writer" else 0 :][:1]
    found = re.fullmatch(r"level ([0-9]+)", named[0]) if named else None
    return int(found[1]) if found else 1


def _grant(connection: sqlalchemy.Connection, role: str) -> None:
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    me = sql.Identifier(role)
    statements: list[sql.SQL | sql.Composed] = [
        sql.SQL("GRANT USAGE ON SCHEMA ledger TO {}").format(me),
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO {}").format(me),
        sql.SQL("GRANT INSERT ON ledger.event TO {}").format(me),
        sql.SQL("GRANT UPDATE ON ledger.proof, ledger.term, ledger.projection TO {}").format(me),
        sql.SQL(
            "GRANT INSERT, UPDATE, DELETE ON ledger.orders, ledger.executions, ledger.positions, ledger.breaks TO {}"
        ).format(me),
        sql.SQL("GRANT INSERT, UPDATE, DELETE ON ledger.control TO {}").format(me),
        sql.SQL("REVOKE ALL ON FUNCTION ledger.claim(bigint, bigint, jsonb) FROM PUBLIC"),
        sql.SQL("GRANT EXECUTE ON FUNCTION ledger.claim(bigint, bigint, jsonb) TO {}").format(me),
        sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(_COMMAND),
        sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(_COMMAND, me),
        sql.SQL("GRANT EXECUTE ON FUNCTION ledger.close_part(bigint, date, bigint) TO {}").format(me),
        sql.SQL("GRANT EXECUTE ON FUNCTION ledger.end_rebuild() TO {}").format(me),
    ]
    for statement in statements:
        raw.execute(statement)


def summary(migrated: Migrated, identity: Identity) -> str:
    """One line for people and logs."""
    return json.dumps({
        "schema": migrated.version, "cluster": identity.cluster, "client_id": identity.client_id,
        "ledger_level": migrated.level, "newest_ledger_level": LEDGER_LEVEL,
    })  # fmt: skip
