"""engine/migrations/schema.sql is what all migrations applied give: as a text, and as what it makes."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy

from engine.migrate import _grant
from ha.local import postgres
from tests.integration.pg_fixture import OTHER, Postgres
from tests.schema_tool import SCHEMA, catalogs, schema_sql


@pytest.mark.rule(22)
def test_schema_sql_makes_what_all_migrations_make(postgres_server: Postgres) -> None:
    migrated = postgres_server.fresh()
    with psycopg.connect(migrated.owner) as owner:
        wanted = catalogs(owner)
    made = postgres_server.fresh(migrated=False)
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(made.owner))
    with engine.begin() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        raw.execute(SCHEMA.read_text())  # type: ignore[call-overload]
        _grant(connection, postgres.ADAPTER)
        found = catalogs(raw)
    engine.dispose()
    assert found == wanted
    assert len([line for line in wanted if " trigger " in line]) > 15  # it looked


@pytest.mark.skipif(OTHER is not None, reason="PostgreSQL's versions write functions out differently")
def test_schema_sql_is_as_the_migrations_have_it(postgres_server: Postgres) -> None:
    with psycopg.connect(postgres_server.fresh().owner) as owner:
        assert SCHEMA.read_text() == schema_sql(owner), "run: make schema"
