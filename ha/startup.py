"""What must be true of the database before a replica joins: each thing that is not gets a sentence and a command."""

from __future__ import annotations

from collections.abc import Sequence

from engine.events import LEDGER_LEVEL
from engine.schema import unfit
from engine.store import Connection, Row, hosts_of
from ha.config import Settings
from ha.tail import level_sentence


class NotFit(Exception):
    """The replica must not start; one sentence per line."""


async def check_database(settings: Settings) -> list[str]:
    """Compare the database with this version and these settings: sentences about what is allowed and yet a risk.

    Raises NotFit, or StoreError when it does not answer.
    """
    assert settings.database_dsn is not None
    connection = Connection(settings.database_dsn, f"adapter-check:{settings.replica_name}")
    await connection.open()
    try:
        [there] = await connection.run("schema_is_there")
        if not there["there"]:
            raise NotFit(
                "The database is not migrated; run `adapter migrate` (with MIGRATE_DATABASE_URL of the owner's role)."
            )
        [floor] = await connection.run("schema_floor")
        [applied] = await connection.run("schema_applied") if there["in_pairs"] else [floor]
        [me] = await connection.run("who_am_i")
        identity = await connection.run("identity")
    finally:
        await connection.close()
    wrong = unfit(str(applied["version_num"]), str(floor["version_num"]))
    sentences = [wrong] if wrong else []
    sentences += role_sentences(me) + identity_sentences(identity[0] if identity else None, settings)
    if sentences:
        raise NotFit("\n".join(sentences))
    return failover_sentences(settings.database_dsn, me) + level_sentences(int(identity[0]["ledger_level"]))


def failover_sentences(dsn: str, me: Row) -> list[str]:
    """R18: several hosts mean a failover of the database, and one that is not synchronous forgets its last commits."""
    hosts = hosts_of(dsn)
    if len(hosts) < 2 or me["synchronous_standby_names"]:
        return []
    return [
        f"A database failover can lose orders: DATABASE_URL names {len(hosts)} hosts and the server waits for no other one. Set "
        "synchronous_standby_names in PostgreSQL. What a failover lost is noticed, and holds everything until an operator looks."
    ]


def role_sentences(me: Row) -> list[str]:
    """What is wrong with the role and the server's settings (R10, R18)."""
    found = []
    if me["is_owner"]:
        found.append(
            f"DATABASE_URL connects as {me['me']}, which owns the ledger or may act as its owner {me['owner']}: it could take the "
            "fence away. Give DATABASE_URL a role of its own and run `adapter migrate` with MIGRATE_DATABASE_URL of the owner's."
        )
    if me["in_recovery"]:
        found.append("DATABASE_URL leads to a server that is a replica; add target_session_attrs=read-write to it.")
    if me["fsync"] != "on" or me["synchronous_commit"] in ("off", "local"):
        found.append(
            f"PostgreSQL runs with fsync={me['fsync']} and synchronous_commit={me['synchronous_commit']}: a commit could be lost "
            "after it was answered. Set fsync = on and synchronous_commit = on."
        )
    return found


def identity_sentences(row: Row | None, settings: Settings) -> list[str]:
    """What in the settings differs from what the database belongs to (R14)."""
    if row is None:
        return ["The database has no identity; run `adapter migrate`."]
    found = [level_sentence(row["ledger_level"])] if row["ledger_level"] > LEDGER_LEVEL else []
    for name, ours, theirs in (
        ("CLUSTER_NAME", settings.cluster_name, row["cluster"]),
        ("TWS_CLIENT_ID", settings.tws_client_id, row["client_id"]),
        ("TWS_GATEWAY_ID", settings.gateway_id, row["gateway_id"]),
    ):
        if ours != theirs:
            found.append(
                f"{name} is {ours!r}, this database was set up with {theirs!r}; set {name}={theirs} or use another database."
            )
    return found


def level_sentences(level: int) -> list[str]:
    """R22: what this version would do and does not, while the other replica may not be able to read it."""
    if level >= LEDGER_LEVEL:
        return []
    return [
        f"The ledger is at level {level}, this version writes up to {LEDGER_LEVEL}: what is new in it is refused. When both "
        "replicas are of this version, run `adapter migrate --raise-level`."
    ]


def account_sentence(trading_mode: str, accounts: Sequence[str]) -> str | None:
    """What is wrong with the accounts that a session names, or None: paper accounts begin with D (DU, DF), live ones do not."""
    wrong = [account for account in accounts if account.startswith("D") is not (trading_mode == "paper")]
    if not wrong:
        return None
    other = "live" if trading_mode == "paper" else "paper"
    return (
        f"TRADING_MODE={trading_mode}, but the gateway's account {wrong[0]} is a {other} one: point TWS_HOST and TWS_PORT at the "
        f"{trading_mode} gateway, or set TRADING_MODE={other} if that is meant."
    )
