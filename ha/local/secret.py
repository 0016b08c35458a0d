"""The pair's own passwords: random, made once, in DIR/secrets that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path


class SecretsRefused(Exception):
    """DIR/secrets cannot be used; the message says what mends it."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The passwords of the two database roles. `fresh` = made just now: neither a file nor a database knows them yet."""

    owner: str
    adapter: str
    fresh: bool


def load(directory: Path) -> Secrets:
    """The secrets of DIR, or fresh ones if there are none. Raises SecretsRefused if others can read or have broken them."""
    path = directory / "secrets"
    try:
        file = path.open(encoding="ascii")
    except FileNotFoundError:
        return Secrets(secrets.token_urlsafe(24), secrets.token_urlsafe(24), fresh=True)
    except PermissionError:
        raise SecretsRefused(f"{path} cannot be read by this user; start as its owner, or with another --dir") from None
    with file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise SecretsRefused(f"{path} can be read by others; mend it with  chmod 600 {path}")
        try:
            found = json.load(file)
            return Secrets(str(found["owner"]), str(found["adapter"]), fresh=False)
        except (ValueError, KeyError, TypeError):
            raise SecretsRefused(f"{path} is damaged; remove it, and new passwords are set at the next start") from None


def keep(directory: Path, made: Secrets) -> None:
    """Write fresh secrets to DIR/secrets, once the database knows them: a start that was interrupted makes new ones."""
    if made.fresh:
        write_private(directory / "secrets", json.dumps({"owner": made.owner, "adapter": made.adapter}))


def write_private(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace `path` by `text` in one step, readable by its owner only; `durable` = also after a loss of power."""
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with open(
        os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    partial.rename(path)
