"""Fixtures for tests with real parts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.pg_fixture import Postgres, Urls, running_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The embedded PostgreSQL of this session."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def urls(postgres_server: Postgres) -> Urls:
    """An empty, migrated database."""
    return postgres_server.fresh()
