"""etcd3 works with current protobuf because we choose its form, before anybody loads it."""

from __future__ import annotations

import os
import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PROTOCOL_BUFFERS")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_the_form_is_chosen_by_us_whatever_the_user_set() -> None:
    done = run("import os; os.environ['PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION'] = 'upb'; import ha.lease_etcd")
    assert done.returncode == 0, done.stderr


def test_protobuf_loaded_before_in_another_form_is_refused_with_a_sentence() -> None:
    done = run("import google.protobuf.message; import google.protobuf.descriptor; import ha.lease_etcd")
    assert done.returncode == 1
    assert "something imported google.protobuf before ha.lease_etcd did" in done.stderr


def test_no_warning_reaches_the_user() -> None:
    done = run("import warnings; warnings.simplefilter('error'); import ha.lease_etcd")
    assert done.returncode == 0, done.stderr
