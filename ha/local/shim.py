"""The last step before a child of the launcher becomes its program; run as a file, never imported by it.

    python -I -S shim.py PARENT_PID DEATH_SIGNAL UID:GID|- PROGRAM [ARGUMENT...]

It asks the kernel for DEATH_SIGNAL when the launcher's thread ends, drops root where the program refuses to run as
root (PostgreSQL), and executes the program. A separate program, because code between fork and exec in a process that
has threads (a live display, a test runner) can hang on a lock that another thread held.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 4
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8
COULD_NOT_START = 126  # the exit code of a shell for a program that it found and could not execute

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int) -> None:
    """prctl(2); raises OSError."""
    padded = [ctypes.c_ulong(n) for n in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(ctypes.c_int(option), *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}): {os.strerror(ctypes.get_errno())}")


def set_capabilities(capabilities: int) -> None:
    """Make `capabilities` (a bit mask below 2**32) all that this thread has and may hand on; raises OSError."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(capabilities, capabilities, capabilities, 0, 0, 0)
    if _libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")


def permitted() -> int:
    """The mask of the capabilities that this process may use."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def drop_root(uid: int, gid: int, paths: list[str]) -> None:
    """Become `uid`:`gid` and keep no privilege but, at need, the one to pass through directories closed to others.

    The checkout, or the directory of the data, may lie under a closed home such as /root. Opening that to everybody for
    PostgreSQL's sake would be the wrong repair; the process keeps CAP_DAC_READ_SEARCH instead (CAP_DAC_OVERRIDE where a
    container withholds it), and only if one of `paths` cannot be reached without. Raises OSError.
    """
    had = permitted()
    kept = next((cap for cap in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if had >> cap & 1), None)
    if had >> CAP_SETPCAP & 1:
        # The change of user leaves the capabilities alone, and access(2) counts the one that is kept: PostgreSQL looks
        # for its own binaries with it.
        prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    else:
        kept = None  # the change of user takes them all
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if kept is None or _reachable_without(kept, paths):
        set_capabilities(0)
        return
    set_capabilities(1 << kept)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept)


def _reachable_without(kept: int, paths: list[str]) -> bool:
    """Whether `paths` can be read with no capability at all; `kept` stays permitted, to be taken up again."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(0, 1 << kept, 0, 0, 0, 0)
    if _libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")
    return all(os.access(path, os.R_OK | os.X_OK) for path in paths)


def main(arguments: list[str]) -> None:
    """Replace this process by the program; returns only by SystemExit with a sentence on stderr."""
    parent, death_signal, account, *program = arguments
    try:
        if account != "-":
            uid, gid = map(int, account.split(":"))
            drop_root(uid, gid, [program[0], os.getcwd()])
        # After the change of user, which clears it.
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != int(parent):
            return  # the launcher ended before it could be asked for
        os.execv(program[0], program)
    except OSError as error:
        who = (
            "" if account == "-" else f" as user id {account.partition(':')[0]} (as a plain user there is no such step)"
        )
        print(f"cannot start {program[0]}{who}: {error}", file=sys.stderr)
        raise SystemExit(COULD_NOT_START) from None


if __name__ == "__main__":
    main(sys.argv[1:])
