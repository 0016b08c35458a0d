"""The benchmark of the order path runs, and says what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench import failover

ROOT = Path(__file__).parents[2]


def test_an_order_is_measured_beside_a_bare_commit_and_a_bare_round_trip(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench.orders", "accepted", "--count", "20", "--results", str(results)],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    figures = json.loads(results.read_text())["orders_accepted"]
    for what in ("order_ms", "bare_commit_ms", "bare_http_ms"):
        assert figures[what]["n"] == 20
        assert 0 < figures[what]["p50"] <= figures[what]["max"]
    assert figures["ratio"]["p50"] > 0
    assert "ratio.p50" in run.stdout


def test_figures_of_one_part_leave_those_of_the_others(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    failover.keep("one", {"n": 1}, results)
    failover.keep("two", {"n": 2}, results)
    assert json.loads(results.read_text()) == {"one": {"n": 1}, "two": {"n": 2}}
