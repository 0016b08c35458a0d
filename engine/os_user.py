"""Who runs a command on this machine, for the audit of what is done without a replica."""

from __future__ import annotations

import getpass
import os
import socket


def os_user() -> str:
    """The name of the user of this process, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def host() -> str:
    """The name of this machine."""
    return socket.gethostname()
