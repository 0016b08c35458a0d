"""Where settings come from: the environment, before it `.env`, and for a secret the file that `NAME_FILE` names."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_settings import DotEnvSettingsSource

from ha.config_model import Settings
from ha.config_names import REFUSED, WITHOUT_EFFECT, near
from ha.config_rules import Finding
from ha.redact import escape_controls, one_line

ALIASES = {"POSTGRES_URL": "DATABASE_URL", "SECRET_KEY": "API_SECRET_KEY"}
# Names of the command line alone; here only so that they are not taken for a slip.
CLI_NAMES = frozenset({"ADAPTER_URL", "ADAPTER_TOKEN"})


def _is_secret(annotation: Any) -> bool:
    return "SecretStr" in repr(annotation)


FIELDS = tuple(name.upper() for name in Settings.model_fields if name != "warnings")
SECRETS = frozenset(name for name in FIELDS if _is_secret(Settings.model_fields[name.lower()].annotation))
_SECRET_NAMES = SECRETS | {alias for alias, name in ALIASES.items() if name in SECRETS}
KNOWN = frozenset(FIELDS) | ALIASES.keys() | REFUSED.keys() | WITHOUT_EFFECT.keys() | CLI_NAMES
_PREFIXES = tuple({name.split("_")[0] + "_" for name in KNOWN if "_" in name})
_OURS = ("TWS_", "LEASE_", "ADAPTER_")


@dataclass
class Given:
    """What was found: values by environment name, the name under which each was given, and what is to be said."""

    values: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, name: str, sentence: str) -> None:
        self.findings.append(Finding((name,), sentence))


def collect(env: Mapping[str, str], dotenv: Path | None) -> Given:
    """Everything that `env` and the file `dotenv` (None: no file) say. An empty value counts as not set."""
    given = Given()
    from_file = _dotenv(dotenv, given) if dotenv else {}
    merged = {name: value for name, value in {**from_file, **env}.items() if value.strip()}
    merged |= _secret_files(merged, given)
    for name in FIELDS:
        if name in merged:
            given.values[name], given.origin[name] = merged[name], name
    for alias, name in ALIASES.items():
        if alias not in merged:
            continue
        if given.values.setdefault(name, merged[alias]) != merged[alias]:
            given.refuse(name, f"{alias} and {name} are both set and differ: {alias} is an alias, remove it.")
        given.origin.setdefault(name, alias)
    _remark_names(merged, from_file.keys(), given)
    return given


def _dotenv(path: Path, given: Given) -> dict[str, str]:
    try:
        mode = path.stat().st_mode
        found = DotEnvSettingsSource(Settings, env_file=path, case_sensitive=True).env_vars
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        given.refuse(path.name, f"{path} cannot be read: {error}.")
        return {}
    values = {name: value for name, value in found.items() if value is not None}
    held = sorted(name for name in _SECRET_NAMES if values.get(name, "").strip())
    if held and mode & stat.S_IROTH:
        given.refuse(path.name, f"{path} holds {', '.join(held)} and can be read by others: chmod 600 {path}")
    return values


def _secret_files(merged: Mapping[str, str], given: Given) -> dict[str, str]:
    read: dict[str, str] = {}
    for name in sorted(_SECRET_NAMES):
        if (path := merged.get(f"{name}_FILE")) is None:
            continue
        if name in merged:
            given.refuse(name, f"{name} and {name}_FILE are both set: keep one of them.")
            continue
        try:
            secret, mode = Path(path).read_text(encoding="utf-8").rstrip("\r\n"), Path(path).stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            given.refuse(name, f"{name}_FILE={one_line(path)} cannot be read: {reason}.")
            continue
        if mode & stat.S_IROTH:
            given.refuse(name, f"{name}_FILE={one_line(path)} can be read by others: chmod 600 {one_line(path)}")
        elif not secret:
            given.refuse(
                name, f"{name}_FILE={one_line(path)} is empty: write the secret into it, or remove {name}_FILE."
            )
        else:
            read[name] = secret
    return read


def _remark_names(merged: Mapping[str, str], in_file: Any, given: Given) -> None:
    for name, value in sorted(merged.items()):
        if name in REFUSED:
            given.refuse(name, f"{name}={one_line(value)} is not used: {REFUSED[name]}.")
        elif name in WITHOUT_EFFECT:
            given.warnings.append(f"{name} has no effect: {WITHOUT_EFFECT[name]}.")
        elif name not in KNOWN and name.removesuffix("_FILE") not in _SECRET_NAMES:
            _remark_unknown(name, name in in_file, given)


def _remark_unknown(name: str, in_file: bool, given: Given) -> None:
    shown = escape_controls(name)
    if name.removesuffix("_FILE") in FIELDS and name.endswith("_FILE"):
        plain = name.removesuffix("_FILE")
        given.refuse(name, f"{shown} is no setting: only a secret may come from a file; set {plain}.")
    elif (in_file or name.startswith(_PREFIXES)) and (meant := near(name, KNOWN)):
        given.refuse(name, f"{shown} is no setting: did you mean {meant}?")
    elif in_file or name.startswith(_OURS):
        given.warnings.append(f"{shown} is no setting of the adapter and has no effect.")


def unfit_files(paths: Mapping[str, Path | None]) -> Iterator[Finding]:
    """A finding for each file that is missing, unreadable, or (a name that ends in KEY) readable by others."""
    for name, path in paths.items():
        if path is None:
            continue
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(path.stat().st_mode)
                file.read(1)
        except OSError as error:
            yield Finding((name,), f"{name}={path} cannot be read: {error.strerror}.")
        else:
            if name.endswith("KEY") and mode & stat.S_IROTH:
                yield Finding((name,), f"{name}={path} can be read by others: chmod 600 {path}")
