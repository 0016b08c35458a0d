"""The settings: read from the environment, `.env` and secret files, checked as a whole, and frozen.

`python -m ha.config --markdown` prints docs/settings.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ha.config_model import Settings
from ha.config_read import FIELDS, SECRETS, Given, collect, unfit_files
from ha.config_rules import Finding, Need, findings, warnings
from ha.config_types import allowed
from ha.redact import one_line, redact

__all__ = ["ConfigError", "Need", "Settings", "load_settings"]


class ConfigError(Exception):
    """Settings that do not allow a start. `sentences` has one for each thing that is wrong, never a secret's value."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


def load_settings(env: Mapping[str, str] | None = None, *, need: Need = "run", dotenv: Path | None = None) -> Settings:
    """The settings of this process, all valid and in agreement with each other.

    Without `env`: the environment, over `.env` in the working directory. With it: this mapping alone, over the file
    `dotenv` where one is given. `need` says which settings cannot be left out: `run` a replica, `single` one without a
    pair, `migrate` the schema, `release` a lease, `cli` none. Raises ConfigError with everything that is wrong at once;
    `Settings.warnings` holds what is only odd.
    """
    if env is None:
        env, dotenv = os.environ, dotenv or Path(".env")
    given = collect(env, dotenv)
    settings, refused = _validated(given)
    wrong = given.findings + refused
    tainted = {name for finding in wrong for name in finding.names}
    files = {name.upper(): getattr(settings, name) for name in ("etcd_ca", "etcd_cert", "etcd_key")}
    wrong += [f for f in (*findings(settings, need), *unfit_files(files)) if tainted.isdisjoint(f.names)]
    if wrong:
        raise ConfigError([finding.sentence for finding in wrong])
    return settings.model_copy(update={"warnings": (*given.warnings, *warnings(settings, need))})


def _validated(given: Given) -> tuple[Settings, list[Finding]]:
    """The settings, with the default in place of each value that is refused, and what is to be said about those."""
    values: dict[str, Any] = {name.lower(): value for name, value in given.values.items()}
    refused: list[Finding] = []
    while True:
        try:
            return Settings(**values), refused
        except ValidationError as error:
            wrong = {str(detail["loc"][0]): detail for detail in error.errors(include_url=False)}
            if values.keys().isdisjoint(wrong):
                raise  # a computed default is wrong: a defect here, not in what was given
            for name in values.keys() & wrong.keys():
                values.pop(name)
                refused.append(_sentence(name.upper(), given, wrong[name].get("ctx", {}).get("error")))
            refused.sort(key=lambda finding: FIELDS.index(finding.names[0]))


def _sentence(name: str, given: Given, reason: object) -> Finding:
    said = given.origin[name] if name in SECRETS else f"{given.origin[name]}={one_line(redact(given.values[name]))}"
    words = allowed(Settings.model_fields[name.lower()])
    detail = f" ({reason})" if reason and str(reason) else ""
    return Finding((name,), f"{said} is not allowed: it must be {words}{detail}.")


if __name__ == "__main__":
    from ha.config_docs import main

    sys.exit(main(sys.argv[1:]))
