"""etcd3's generated messages need protobuf's pure-Python form from version 4 on; this chooses it, in time."""

from __future__ import annotations

import importlib
import os
import sys

_SETTING = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
_MODULE = "google.protobuf.internal.api_implementation"


def choose_pure_python() -> None:
    """Make protobuf load in its pure-Python form, for this process and its children.

    Raises ImportError with a sentence when protobuf was loaded before, in another form: too late to choose.
    """
    os.environ[_SETTING] = "python"
    if _MODULE in sys.modules:
        require_pure_python()


def require_pure_python() -> None:
    """Raise ImportError with a sentence unless protobuf is in its pure-Python form."""
    form = importlib.import_module(_MODULE).Type()
    if form != "python":
        raise ImportError(
            f"protobuf was loaded in its {form} form, with which etcd3 cannot work: something imported "
            f"google.protobuf before ha.lease_etcd did; import ha.lease_etcd first, or set {_SETTING}=python"
        )
