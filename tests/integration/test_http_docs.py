"""Every command of docs/http-api.md, run against a single replica: its answer has the status that the page says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs_tool import DOCS
from tests.integration.pg_fixture import Postgres
from tests.integration.replica_fixture import Replica, replica, settings_for
from tests.integration.sim_fixture import sim_child

COMMANDS = re.findall(r"^(curl .*?)   # (\d{3})$", (DOCS / "http-api.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def running(postgres_server: Postgres) -> Iterator[Replica]:
    urls = postgres_server.fresh()
    with (
        tempfile.TemporaryDirectory(prefix="pa-docs-") as place,
        sim_child() as sim,
        replica(Path(place), settings_for(urls, sim.port), "--single") as made,
    ):
        yield made.until_leads()


def test_page_has_commands_and_each_names_a_status() -> None:
    lines = [line for line in (DOCS / "http-api.md").read_text().splitlines() if line.startswith("curl ")]
    assert len(lines) == len(COMMANDS) >= 10


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_commands_answer_as_the_page_says(running: Replica) -> None:
    """In the page's order: later ones speak of what earlier ones made."""
    for command, status in COMMANDS:
        words = shlex.split(command.replace("http://127.0.0.1:8081", running.url))
        running.until_leads()  # a machine that is busy shuts the gate for a moment, and the page is about an open one
        said = subprocess.run([*words, "-w", "\n%{http_code}"], capture_output=True, text=True, timeout=30, check=False)
        body, _, answered = said.stdout.rpartition("\n")
        assert answered == status, f"{command}: {body}"
