"""`adapter migrate`: bring the database to this version's schema, as its owner.

One transaction under a `lock_timeout`, never without the fence's trigger (R22). The owner's URL is MIGRATE_DATABASE_URL; the
adapter's own role (DATABASE_URL) owns nothing, so that it cannot take the fence away (R10).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from engine.events import LEDGER_LEVEL
from engine.schema import NEW_GATEWAY, known_versions, newest_version

_HERE = Path(__file__).parent / "migrations"


class MigrationError(Exception):
    """The database cannot be migrated as asked; the text is a sentence that says what to change. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a database belongs to (R14): written once, compared at every start."""

    cluster: str
    gateway_id: str
    client_id: int


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.set_main_option("path_separator", "os")
    return config


def migrate(owner_url: str, adapter_url: str, identity: Identity, *, new_gateway: bool = False) -> str:
    """Apply all steps and grants; returns the schema version. Raises MigrationError with a sentence; then nothing changed.

    `owner_url` must be of another role than `adapter_url` and may create a schema in the database. `new_gateway`: the gateway may
    be another one than before; the next leader then holds everything until an operator confirms that the old one is off (R14).
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
            _apply(connection, role, identity, new_gateway)
    except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        raise MigrationError(f"The database refused the migration: {str(error).splitlines()[0]}") from error
    finally:
        engine.dispose()
    return newest_version()


def _apply(connection: sqlalchemy.Connection, role: str, identity: Identity, new_gateway: bool) -> None:
    run = connection.exec_driver_sql
    run("SET LOCAL lock_timeout = '3s'")
    there = run("SELECT to_regclass('ledger.alembic_version') IS NOT NULL").scalar()
    present = run("SELECT version_num FROM ledger.alembic_version").scalar() if there else None
    if present is not None and present not in known_versions():
        raise MigrationError(
            f"The database is at schema {present}, newer than this version's {newest_version()}; install the newer version."
        )
    if not there:  # Alembic keeps its version table inside the schema, so the schema comes first
        if run("SELECT to_regnamespace('ledger') IS NOT NULL").scalar():
            raise MigrationError(
                "The database holds a schema 'ledger' that is not ours; use another database or drop it."
            )
        run("CREATE SCHEMA ledger")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    _write_identity(connection, identity, new_gateway)
    _grant(connection, role)


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
    ]
    for statement in statements:
        raw.execute(statement)


def summary(version: str, identity: Identity) -> str:
    """One line for people and logs."""
    return json.dumps({"schema": version, "cluster": identity.cluster, "client_id": identity.client_id})
