"""The embedded PostgreSQL by itself: whole or not at all, new passwords, and a second role on the caller's database."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from ha.local import build, database, postgres, probe, secret
from ha.local.ports import Ports
from ha.local.postgres import Server
from ha.local.probe import PartFailed
from ha.local.process import spawn

_SUPER = ("ALTER ROLE {owner} CREATEROLE", "DROP OWNED BY {adapter}", "DROP ROLE {adapter}")


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[None]:
    part = build.postgres_part(server)
    child = spawn(part.spec())
    try:
        await probe.until(lambda: part.ready(child), child, 30)
        yield
    finally:
        await child.stop(*part.stop)


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    yield
    shutil.rmtree(tmp_path)  # a database is too large to keep


@pytest.fixture
async def server(tmp_path: Path) -> Server:
    made = Server(tmp_path, Ports.free(), os.environ)
    await made.prepare(secret.load(tmp_path))
    return made


def login(url: str) -> str:
    with psycopg.connect(url) as db:
        row = db.execute("SELECT current_user").fetchone()
        assert row is not None
        return str(row[0])


def status_of(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


async def test_an_interrupted_first_start_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    server, made = Server(tmp_path, Ports.free(), os.environ), secret.load(tmp_path)
    await server.prepare(made)
    async with running(server):
        assert login(server.url(postgres.OWNER, made.owner)) == postgres.OWNER


async def test_new_secrets_are_set_on_old_data(tmp_path: Path, server: Server) -> None:
    renewed = secret.load(tmp_path)  # the first ones were never kept
    await server.prepare(renewed)
    async with running(server):
        assert login(server.url(postgres.ADAPTER, renewed.adapter)) == postgres.ADAPTER


async def test_a_server_killed_with_9_starts_again(tmp_path: Path) -> None:
    server, made = Server(tmp_path, Ports.free(), os.environ), secret.load(tmp_path)
    await server.prepare(made)
    child = spawn(server.spec())
    await probe.until(lambda: server.ready(child.pid), child, 30)
    await child.stop()  # no step: SIGKILL
    async with running(server):
        assert login(server.url(postgres.OWNER, made.owner)) == postgres.OWNER


async def test_data_that_cannot_be_used_are_named_with_the_servers_own_words(tmp_path: Path, server: Server) -> None:
    (server.data / "PG_VERSION").write_text("9.1\n")
    with pytest.raises(PartFailed, match=r"(?s)postgres ended: exit code 1.*9\.1"):
        async with running(server):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_as_root_the_server_is_another_user_even_below_a_directory_closed_to_it(
    tmp_path: Path, server: Server
) -> None:
    assert os.stat(tmp_path).st_mode & 0o007 == 0, "the test needs a closed directory above the data"
    part = build.postgres_part(server)
    child = spawn(part.spec())
    try:
        await probe.until(lambda: part.ready(child), child, 30)
        status = status_of(child.pid)
        assert set(status["Uid"].split()) == {str(server.data.stat().st_uid)} != {"0"}
        assert status["CapEff"] == f"{1 << 2:016x}", "it may pass through directories, and nothing else"
    finally:
        await child.stop(*part.stop)


async def _superuser(server: Server, made: secret.Secrets, *statements: str) -> None:
    await server._single_user(server.data, statements, made)


@pytest.mark.rule(10)
async def test_with_one_url_the_adapters_role_is_made_and_is_not_the_owner(tmp_path: Path) -> None:
    server, made = Server(tmp_path, Ports.free(), os.environ), secret.load(tmp_path)
    await server.prepare(made)
    await _superuser(server, made, *_SUPER)
    async with running(server):
        url = server.url(postgres.OWNER, made.owner)
        theirs = secret.Secrets("", "its-password", fresh=True)
        for secrets in (theirs, secret.Secrets("", "its-password", fresh=False)):  # a second start finds it
            urls = await database.second_role(url, secrets, tmp_path, os.environ)
            assert (login(urls.adapter), login(urls.owner)) == (postgres.ADAPTER, postgres.OWNER)


async def test_a_role_that_somebody_else_made_is_left_alone(tmp_path: Path) -> None:
    server, made = Server(tmp_path, Ports.free(), os.environ), secret.load(tmp_path)
    await server.prepare(made)
    async with running(server):
        url = server.url(postgres.OWNER, made.owner)
        with pytest.raises(PartFailed, match=r"(?s)the role adapter exists already.*MIGRATE_DATABASE_URL"):
            await database.second_role(url, secret.Secrets("", "other", fresh=True), tmp_path, os.environ)
        assert login(server.url(postgres.ADAPTER, made.adapter)) == postgres.ADAPTER
